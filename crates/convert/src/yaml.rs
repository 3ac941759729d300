//! YAML text → a small tree in which every value knows its file and line.
//!
//! The parser works with a budget, so that a file made to explode ends in an error. Keys that stand twice are errors.
//! Merge keys and anchors are resolved here; a value that came out of an anchor keeps the line where it was written.
//! `!reset` and `!override` are the only tags that are kept, as compose gives them a meaning.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Spanned, Tagged};

use super::report::At;
use super::yaml_error;

/// What a later file says about the value of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Merging {
    /// Tables merge, lists append, scalars replace.
    #[default]
    Usual,
    /// `!reset`: gone.
    Reset,
    /// `!override`: replaces as a whole.
    Replace,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct YamlNode {
    pub value: YamlValue,
    pub at: At,
    pub merging: Merging,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum YamlValue {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<YamlNode>),
    Map(Map),
}

/// Keys in the order of the file, with their places.
pub(crate) type Map = Vec<(YamlKey, YamlNode)>;

/// A key and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct YamlKey {
    pub name: String,
    pub at: At,
}

impl YamlNode {
    /// About how many bytes it takes in memory.
    pub(crate) fn size(&self) -> usize {
        let inside = match &self.value {
            YamlValue::Text(text) => text.len(),
            YamlValue::List(list) => list.iter().map(Self::size).sum(),
            YamlValue::Map(map) => map.iter().map(|(key, value)| key.name.len() + size_of::<YamlKey>() + value.size()).sum(),
            YamlValue::Null | YamlValue::Bool(_) | YamlValue::Integer(_) | YamlValue::Float(_) => 0,
        };
        size_of::<Self>() + inside
    }
    pub(crate) fn map(&self) -> Option<&Map> {
        match &self.value {
            YamlValue::Map(map) => Some(map),
            _ => None,
        }
    }
    pub(crate) fn list(&self) -> Option<&[YamlNode]> {
        match &self.value {
            YamlValue::List(list) => Some(list),
            _ => None,
        }
    }
    pub(crate) fn get(&self, key: &str) -> Option<&YamlNode> {
        get(self.map()?, key)
    }
    /// A scalar as text; `None` for lists, maps and null.
    pub(crate) fn scalar(&self) -> Option<String> {
        match &self.value {
            YamlValue::Text(text) => Some(text.clone()),
            YamlValue::Bool(value) => Some(value.to_string()),
            YamlValue::Integer(value) => Some(value.to_string()),
            YamlValue::Float(value) => Some(value.to_string()),
            YamlValue::Null | YamlValue::List(_) | YamlValue::Map(_) => None,
        }
    }
    pub(crate) fn truth(&self) -> Option<bool> {
        match &self.value {
            YamlValue::Bool(value) => Some(*value),
            YamlValue::Text(text) => match text.as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }
    /// The scalars of a list, or the one scalar that stands in its place.
    pub(crate) fn texts(&self) -> Vec<(String, At)> {
        match &self.value {
            YamlValue::List(list) => list.iter().filter_map(|node| Some((node.scalar()?, node.at))).collect(),
            _ => self.scalar().map(|text| (text, self.at)).into_iter().collect(),
        }
    }
    /// What it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            YamlValue::Null => "nothing",
            YamlValue::Bool(_) => "a boolean",
            YamlValue::Integer(_) | YamlValue::Float(_) => "a number",
            YamlValue::Text(_) => "text",
            YamlValue::List(_) => "a list",
            YamlValue::Map(_) => "a table",
        }
    }
}

/// The value of a key.
pub(crate) fn get<'a>(map: &'a Map, key: &str) -> Option<&'a YamlNode> {
    map.iter().find(|(name, _)| name.name == key).map(|(_, node)| node)
}

/// Why a text is no YAML that we take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadYaml {
    pub line: u32,
    pub column: u32,
    pub message: String,
}

/// Larger files are refused before they are parsed.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The documents of a text, each on the lines where it stands, so that places stay right.
pub(crate) fn documents(text: &str) -> Vec<String> {
    let marks = |line: &str, mark: &str| {
        line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let mut found = Vec::new();
    let mut open = String::new();
    let mut holds = false;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let begins = marks(line, "---");
        if (begins && holds) || marks(line, "...") {
            found.push(std::mem::take(&mut open));
            open = "\n".repeat(number);
            holds = false;
        }
        if marks(line, "...") {
            open.push('\n');
            continue;
        }
        let plain = line.trim();
        holds |= begins || !(plain.is_empty() || plain.starts_with('#') || plain.starts_with('%'));
        open.push_str(line);
    }
    // What follows the last end mark is a document only if something stands there.
    if holds || found.is_empty() {
        found.push(open);
    }
    found
}

/// Parses one document.
pub(crate) fn parse(text: &str, file: u32) -> Result<YamlNode, BadYaml> {
    if text.len() > MAX_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_BYTES / 1024 / 1024);
        return Err(BadYaml { line: 1, column: 1, message });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            // Far more than any real file has; a level takes some 30 KiB of the stack in a build that is not optimised.
            max_depth: 32,
            max_nodes: 100_000,
            max_events: 400_000,
            max_total_scalar_bytes: MAX_BYTES,
            max_aliases: 5_000,
            max_merge_keys: 2_000,
            // A long file of services that share a few blocks is no bomb; the limits on replay catch those.
            enforce_alias_anchor_ratio: false,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: most_replayed(text.len()) },
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Raw>(text, options) {
        Ok(raw) => Ok(raw.node(At { file, line: 1, column: 1 })),
        Err(error) => {
            let place = error.location();
            let line = place.map_or(1, |place| number(place.line())).max(1);
            let column = place.map_or(1, |place| number(place.column())).max(1);
            // The place is given by us in front of it.
            Err(BadYaml { line, column, message: yaml_error::message(&error) })
        }
    }
}

/// How much the aliases of a text may unfold to: more for a longer one, as what services share is written somewhere. A small
/// bomb is so refused in milliseconds, where the same limit for all made it cost as much as the largest file.
fn most_replayed(bytes: usize) -> usize {
    (10_000 + 4 * bytes).min(200_000)
}

fn number(of: impl TryInto<u32>) -> u32 {
    of.try_into().unwrap_or(0)
}

struct Raw(Spanned<Tagged<RawValue>>);

enum RawValue {
    Scalar(YamlValue),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl Raw {
    fn node(self, parent: At) -> YamlNode {
        let line = number(self.0.defined.line());
        let at = if line == 0 { parent } else { At { line, column: number(self.0.defined.column()), ..parent } };
        let Tagged(value, tag) = self.0.value;
        let merging = match tag.as_deref() {
            Some("!reset") => Merging::Reset,
            Some("!override") => Merging::Replace,
            _ => Merging::Usual,
        };
        let value = match value {
            RawValue::Scalar(value) => value,
            RawValue::List(list) => YamlValue::List(list.into_iter().map(|raw| raw.node(at)).collect()),
            RawValue::Map(map) => YamlValue::Map(
                map.into_iter()
                    .map(|(key, raw)| {
                        let (line, column) = (number(key.defined.line()).max(1), number(key.defined.column()));
                        let at = At { line, column, ..at };
                        (YamlKey { name: key.value, at }, raw.node(at))
                    })
                    .collect(),
            ),
        };
        YamlNode { value, at, merging }
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = RawValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(YamlValue::Bool(value)))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(YamlValue::Integer(value.into())))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(YamlValue::Integer(value.into())))
            }
            fn visit_i128<E: de::Error>(self, value: i128) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(YamlValue::Integer(value)))
            }
            fn visit_u128<E: de::Error>(self, value: u128) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(
                    i128::try_from(value).map_or_else(|_| YamlValue::Text(value.to_string()), YamlValue::Integer),
                ))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(YamlValue::Float(value)))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(YamlValue::Text(value.to_owned())))
            }
            fn visit_string<E: de::Error>(self, value: String) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(YamlValue::Text(value)))
            }
            fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(YamlValue::Text(String::from_utf8_lossy(value).into_owned())))
            }
            fn visit_unit<E: de::Error>(self) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(YamlValue::Null))
            }
            fn visit_none<E: de::Error>(self) -> Result<RawValue, E> {
                Ok(RawValue::Scalar(YamlValue::Null))
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
                RawValue::deserialize(deserializer)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
                let mut list = Vec::new();
                while let Some(raw) = access.next_element()? {
                    list.push(raw);
                }
                Ok(RawValue::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    map.push(entry);
                }
                Ok(RawValue::Map(map))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(node: &YamlNode, path: &[&str]) -> u32 {
        path.iter().fold(node, |node, key| node.get(key).unwrap()).at.line
    }

    #[test]
    fn every_value_knows_its_line() {
        let text = "x-a: &a\n  image: one\n  list: [1, 2.5, yes, true, null]\nb:\n  <<: *a\n  image: two\n";
        let node = parse(text, 0).unwrap();
        assert_eq!(line(&node, &["b", "image"]), 6);
        assert_eq!(line(&node, &["b", "list"]), 3, "what came out of an anchor stands where it was written");
        let list = node.get("b").unwrap().get("list").unwrap().list().unwrap();
        let kinds: Vec<_> = list.iter().map(YamlNode::kind).collect();
        assert_eq!(kinds, ["a number", "a number", "text", "a boolean", "nothing"]);
    }

    #[test]
    fn tags_of_compose_are_seen() {
        let node = parse("a: !reset null\nb: !override [1]\nc: !reset {}\n", 0).unwrap();
        assert_eq!(node.get("a").unwrap().merging, Merging::Reset);
        assert_eq!(node.get("b").unwrap().merging, Merging::Replace);
        assert_eq!(node.get("c").unwrap().merging, Merging::Reset);
    }

    #[test]
    fn shared_blocks_unfold_and_small_bombs_do_not() {
        let block: String = (0..60).map(|n| format!("  k{n}: v\n")).collect();
        let services: String = (0..100).map(|n| format!("s{n}: {{ <<: *b, x: {n} }}\n")).collect();
        let node = parse(&format!("x: &b\n{block}{services}"), 0).unwrap();
        assert_eq!(node.get("s99").unwrap().get("k59").and_then(YamlNode::scalar).as_deref(), Some("v"));
        let list = |name: &str, of: &str| format!("{name}: &{name} [{}]\n", [of; 9].join(","));
        let bomb = list("a", "q") + &list("b", "*a") + &list("c", "*b") + &list("d", "*c") + &list("e", "*d");
        assert!(parse(&bomb, 0).is_err());
    }

    #[test]
    fn what_is_no_yaml_of_ours_says_where() {
        let bomb: String = std::iter::once("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned())
            .chain((1..12).map(|n| format!("a{n}: &a{n} [*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p}]\n", p = n - 1)))
            .collect();
        let deep = "[".repeat(500);
        let table: &[(&str, u32)] =
            &[("a: 1\na: 2\n", 2), ("a: [1\nb: 2\n", 2), ("a:\n\t- 1\n", 2), (&bomb, 1), (&deep, 1), ("a: *nowhere\n", 1)];
        for (text, line) in table {
            let bad = parse(text, 0).expect_err(text);
            assert!(bad.line >= 1 && !bad.message.is_empty(), "{text:.40}: {bad:?}");
            if *line > 1 {
                assert!(bad.line + 1 >= *line, "{text:.40}: {bad:?}");
            }
        }
    }
}
