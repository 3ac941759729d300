//! The XML that an S3 server answers with.

use percent_encoding::percent_decode_str;
use roxmltree::{Document, Node};

/// An object as a list of a bucket has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectPage {
    /// In the order of their keys.
    pub objects: Vec<ListedObject>,
    /// Asks for the next part; absent at the end.
    pub next: Option<String>,
}

fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.children().find(|child| child.tag_name().name() == name).map(|child| child.text().unwrap_or_default())
}

fn parse(text: &str) -> Result<Document<'_>, String> {
    Document::parse(text).map_err(|error| format!("the answer is not XML: {error}"))
}

/// The names of a list of buckets.
pub(super) fn buckets(text: &str) -> Result<Vec<String>, String> {
    let document = parse(text)?;
    let buckets = document.descendants().filter(|node| node.tag_name().name() == "Bucket");
    Ok(buckets.filter_map(|bucket| child(bucket, "Name")).map(str::to_owned).collect())
}

/// The part of a list of objects (ListObjectsV2).
pub(super) fn page(text: &str) -> Result<ObjectPage, String> {
    let document = parse(text)?;
    let root = document.root_element();
    // Keys may hold what XML cannot; a server that has encoded them says so.
    let is_encoded = child(root, "EncodingType") == Some("url");
    let mut page = ObjectPage::default();
    for node in root.children().filter(|node| node.tag_name().name() == "Contents") {
        let key = child(node, "Key").ok_or("an object without a key")?;
        let key = if is_encoded { decoded(key)? } else { key.to_owned() };
        let bytes = child(node, "Size").and_then(|size| size.parse().ok()).ok_or_else(|| format!("{key}: it has no size"))?;
        page.objects.push(ListedObject { key, bytes });
    }
    if child(root, "IsTruncated") == Some("true") {
        page.next = child(root, "NextContinuationToken").map(str::to_owned);
    }
    Ok(page)
}

/// A blank is a plus sign in what S3 calls url encoding.
fn decoded(text: &str) -> Result<String, String> {
    let plain = text.replace('+', " ");
    let decoded = percent_decode_str(&plain).decode_utf8().map_err(|_| format!("the key {text} is not UTF-8"))?;
    Ok(decoded.into_owned())
}

/// The tags of an object, in the order of the answer.
pub(super) fn tags(text: &str) -> Result<Vec<(String, String)>, String> {
    let document = parse(text)?;
    let tags = document.descendants().filter(|node| node.tag_name().name() == "Tag");
    Ok(tags.filter_map(|tag| Some((child(tag, "Key")?.to_owned(), child(tag, "Value")?.to_owned()))).collect())
}

/// `NoSuchKey`, where an error says it.
pub(super) fn code(text: &str) -> Option<String> {
    let document = parse(text).ok()?;
    child(document.root_element(), "Code").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_encoded_or_plain_and_lists_in_parts() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><EncodingType>url</EncodingType>
<Contents><Key>a+b%2B%0A%C3%A4/x</Key><Size>12</Size></Contents><Contents><Key>z</Key><Size>0</Size></Contents>
<IsTruncated>true</IsTruncated><NextContinuationToken>t/1=</NextContinuationToken></ListBucketResult>"#;
        let first = page(text).unwrap();
        let keys: Vec<_> = first.objects.iter().map(|object| (object.key.as_str(), object.bytes)).collect();
        assert_eq!(keys, [("a b+\nä/x", 12), ("z", 0)]);
        assert_eq!(first.next.as_deref(), Some("t/1="));
        let plain = "<ListBucketResult><Contents><Key>a+b&amp;%20</Key><Size>1</Size></Contents><IsTruncated>false</IsTruncated></ListBucketResult>";
        let last = page(plain).unwrap();
        assert_eq!((last.objects[0].key.as_str(), last.next), ("a+b&%20", None));
        for bad in ["", "<a", "<L><Contents><Key>k</Key></Contents></L>"] {
            assert!(page(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn buckets_tags_and_codes() {
        let text = "<R><Owner><ID>x</ID></Owner><Buckets><Bucket><Name>one</Name></Bucket><Bucket><Name>two</Name></Bucket></Buckets></R>";
        assert_eq!(buckets(text).unwrap(), ["one", "two"]);
        let text = "<Tagging><TagSet><Tag><Key>k</Key><Value/></Tag><Tag><Key>l</Key><Value>v w</Value></Tag></TagSet></Tagging>";
        let expected = [("k".to_owned(), String::new()), ("l".to_owned(), "v w".to_owned())];
        assert_eq!(tags(text).unwrap(), expected);
        assert_eq!(code("<Error><Code>NoSuchKey</Code></Error>").as_deref(), Some("NoSuchKey"));
        assert_eq!(code("nothing"), None);
    }
}
