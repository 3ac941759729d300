//! Objects of an S3 server as one gzipped tar, `BUCKET/KEY` each, and back. Any tar reads it. What a name of a file cannot be is
//! percent-encoded there; key, metadata and tags as they are travel in a pax record, as JSON, which has no line break: the
//! library takes one in a value for its end. A bucket is a directory, and its policy travels the same way.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use devrun_model::{Failure, FailureKind};
use serde::{Deserialize, Serialize};

use crate::archive::{BLOCK, Counted, words};
use crate::cancel::CopyCancel;
use crate::durable::failed;

const BUCKET: &str = "DEVRUN.bucket";
const OBJECT: &str = "DEVRUN.object";
/// The longest part of a name: file systems take 255 bytes.
const PART: usize = 200;

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedBucket {
    /// Its name.
    pub name: String,
    /// Its policy, as JSON.
    pub policy: Option<String>,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedObject {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Its metadata, as headers.
    pub headers: Vec<(String, String)>,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// Its length.
    pub bytes: u64,
}

/// What an archive holds, in its order: a bucket comes before its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchivedItem {
    /// A bucket.
    Bucket(ArchivedBucket),
    /// An object, whose contents follow.
    Object(ArchivedObject),
}

type Target<'a> = Counted<'a, flate2::write::GzEncoder<io::BufWriter<&'a File>>>;

/// Writes an archive.
pub struct ObjectArchiveWriter<'a> {
    builder: tar::Builder<Target<'a>>,
    file: &'a File,
    name: &'a Path,
    cancel: &'a CopyCancel,
}

impl<'a> ObjectArchiveWriter<'a> {
    /// Begins one in a file that is open for writing and empty. `progress` hears how many bytes of contents went in.
    #[must_use]
    pub fn new(file: &'a File, name: &'a Path, cancel: &'a CopyCancel, progress: &'a dyn Fn(u64)) -> Self {
        let encoder = flate2::write::GzEncoder::new(io::BufWriter::with_capacity(BLOCK, file), flate2::Compression::fast());
        Self { builder: tar::Builder::new(Counted { inner: encoder, count: 0, cancel, progress }), file, name, cancel }
    }

    /// Adds a bucket.
    ///
    /// # Errors
    /// `Task`, naming the file; `Cancelled`.
    pub fn bucket(&mut self, bucket: &ArchivedBucket) -> Result<(), Failure> {
        let mut header = header(0, tar::EntryType::Directory);
        header.set_mode(0o700);
        self.entry(BUCKET, bucket, &mut header, &format!("{}/", bucket.name), &mut io::empty())
    }

    /// Adds an object, whose contents have the length that it says.
    ///
    /// # Errors
    /// `Task`, naming the file, or the object where its contents are shorter; `Cancelled`.
    pub fn object(&mut self, object: &ArchivedObject, contents: &mut dyn Read) -> Result<(), Failure> {
        let mut header = header(object.bytes, tar::EntryType::Regular);
        let mut exact = Exact { left: object.bytes, inner: contents };
        self.entry(OBJECT, object, &mut header, &file_name(&object.bucket, &object.key), &mut exact)
    }

    fn entry(
        &mut self,
        record: &str,
        what: &impl Serialize,
        header: &mut tar::Header,
        path: &str,
        contents: &mut dyn Read,
    ) -> Result<(), Failure> {
        let json = serde_json::to_vec(what)
            .map_err(|error| Failure::new(FailureKind::Internal, format!("{path} cannot be described: {error}")))?;
        let written = self.builder.append_pax_extensions([(record, json.as_slice())]);
        let written = written.and_then(|()| self.builder.append_data(header, path, contents));
        written.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Failure::new(FailureKind::Task, format!("cannot read the object {path}: {error}")),
            _ => words("write", self.name, &error, self.cancel),
        })
    }

    /// Ends it, durably.
    ///
    /// # Errors
    /// As [`Self::bucket`].
    pub fn finish(self) -> Result<(), Failure> {
        let Self { builder, file, name, cancel } = self;
        let failed = |error: io::Error| words("write", name, &error, cancel);
        let mut buffer = builder.into_inner().map_err(failed)?.inner.finish().map_err(failed)?;
        buffer.flush().map_err(failed)?;
        file.sync_all().map_err(failed)
    }
}

fn header(bytes: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getegid().as_raw()));
    header
}

/// Contents of a length that the header has said already: fewer bytes would shift everything behind them.
struct Exact<'a> {
    left: u64,
    inner: &'a mut dyn Read,
}

impl Read for Exact<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        // Whatever keeps it from being read is a matter of the object, not of the archive.
        let read = self.inner.read(&mut bytes[..most]);
        match read.map_err(|error| io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string()))? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ended {} bytes early", self.left))),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}

/// The name of an object's file: its key, with the parts encoded that no file can have.
fn file_name(bucket: &str, key: &str) -> String {
    let parts: Vec<String> = key.split('/').map(part).collect();
    format!("{bucket}/{}", parts.join("/"))
}

fn part(text: &str) -> String {
    // An empty part would be left out of a path, and these two would lead elsewhere.
    match text {
        "" => return "%".to_owned(),
        "." => return "%2E".to_owned(),
        ".." => return "%2E%2E".to_owned(),
        _ => {}
    }
    let mut encoded = String::new();
    for char in text.chars() {
        if char == '%' || char == '\\' || char.is_control() {
            let mut bytes = [0; 4];
            char.encode_utf8(&mut bytes).bytes().for_each(|byte| encoded.push_str(&format!("%{byte:02X}")));
        } else {
            encoded.push(char);
        }
    }
    let mut end = encoded.len().min(PART);
    while !encoded.is_char_boundary(end) {
        end -= 1;
    }
    encoded.truncate(end);
    encoded
}

/// An archive that is being read.
pub struct ObjectArchive<'a> {
    archive: tar::Archive<flate2::read::GzDecoder<Counted<'a, io::BufReader<File>>>>,
    name: &'a Path,
    cancel: &'a CopyCancel,
}

/// One entry.
pub struct ArchivedEntry<'a, R: Read> {
    /// What it is.
    pub item: ArchivedItem,
    /// The contents of an object.
    pub contents: tar::Entry<'a, R>,
}

impl<'a> ObjectArchive<'a> {
    /// Opens a file. `progress` hears how many bytes of it were read.
    ///
    /// # Errors
    /// `Task`, naming the file.
    pub fn open(name: &'a Path, cancel: &'a CopyCancel, progress: &'a dyn Fn(u64)) -> Result<Self, Failure> {
        let file = File::open(name).map_err(|error| failed("read", name, &error))?;
        let counted = Counted { inner: io::BufReader::with_capacity(BLOCK, file), count: 0, cancel, progress };
        Ok(Self { archive: tar::Archive::new(flate2::read::GzDecoder::new(counted)), name, cancel })
    }

    /// Its entries, in order.
    ///
    /// # Errors
    /// `Integrity` for an archive that is cut, or not one of objects.
    pub fn entries(&mut self) -> Result<impl Iterator<Item = Result<ArchivedEntry<'_, impl Read>, Failure>>, Failure> {
        let (name, cancel) = (self.name, self.cancel);
        let broken = move |error: &dyn std::fmt::Display| {
            if cancel.is_cancelled() {
                return Failure::cancelled();
            }
            Failure::new(FailureKind::Integrity, format!("cannot read the objects of {}: {error}", name.display()))
        };
        let entries = self.archive.entries().map_err(|error| broken(&error))?;
        Ok(entries.map(move |entry| {
            let mut contents = entry.map_err(|error| broken(&error))?;
            let mut item = None;
            for record in contents.pax_extensions().map_err(|error| broken(&error))?.into_iter().flatten() {
                let record = record.map_err(|error| broken(&error))?;
                match record.key() {
                    Ok(BUCKET) => item = Some(serde_json::from_slice(record.value_bytes()).map(ArchivedItem::Bucket)),
                    Ok(OBJECT) => item = Some(serde_json::from_slice(record.value_bytes()).map(ArchivedItem::Object)),
                    _ => {}
                }
            }
            let item = item.ok_or_else(|| broken(&"an entry is neither a bucket nor an object"))?;
            let item = item.map_err(|error| broken(&error))?;
            if let ArchivedItem::Object(object) = &item
                && object.bytes != contents.size()
            {
                return Err(broken(&format!("{} has another length than it should", object.key)));
            }
            Ok(ArchivedEntry { item, contents })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn object(key: &str, bytes: u64) -> ArchivedObject {
        ArchivedObject {
            bucket: "uploads".to_owned(),
            key: key.to_owned(),
            headers: vec![("content-type".to_owned(), "text/plain".to_owned()), ("x-amz-meta-who".to_owned(), "Ä\n".to_owned())],
            tags: vec![("k".to_owned(), "v w".to_owned())],
            bytes,
        }
    }

    fn written(folder: &Path, keys: &[&str]) -> PathBuf {
        let name = folder.join("objects.tar.gz");
        let file = File::create(&name).unwrap();
        let cancel = CopyCancel::default();
        let mut archive = ObjectArchiveWriter::new(&file, &name, &cancel, &|_| ());
        let policy = Some("{\"Version\":\"2012-10-17\"}".to_owned());
        archive.bucket(&ArchivedBucket { name: "uploads".to_owned(), policy }).unwrap();
        for key in keys {
            archive.object(&object(key, key.len() as u64), &mut key.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        name
    }

    #[test]
    fn keys_that_no_file_can_have_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(900);
        let keys = ["a", "a/b", "dir/", "a//b", "../../etc/passwd", "./x", "with\nbreak %41 \\", "ümläut/ß", long.as_str()];
        let name = written(folder.path(), &keys);
        let cancel = CopyCancel::default();
        let mut archive = ObjectArchive::open(&name, &cancel, &|_| ()).unwrap();
        let (mut found, mut buckets) = (Vec::new(), 0);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            match entry.item {
                ArchivedItem::Bucket(bucket) => {
                    assert!(bucket.policy.unwrap().contains("2012"));
                    buckets += 1;
                }
                ArchivedItem::Object(read) => {
                    let mut text = String::new();
                    entry.contents.read_to_string(&mut text).unwrap();
                    assert_eq!((read.clone(), text), (object(&read.key, read.key.len() as u64), read.key.clone()));
                    found.push(read.key);
                }
            }
        }
        assert_eq!((found, buckets), (keys.map(str::to_owned).to_vec(), 1));
        // Nothing of it would be written outside by another tar.
        assert_eq!(file_name("b", "../../x"), "b/%2E%2E/%2E%2E/x");
        assert_eq!(file_name("b", "d//"), "b/d/%/%");
    }

    #[test]
    fn a_cut_archive_and_contents_that_end_early_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let name = written(folder.path(), &["one", "two"]);
        let whole = std::fs::read(&name).unwrap();
        let cancel = CopyCancel::default();
        for cut in [0, 20, whole.len() / 2] {
            std::fs::write(&name, &whole[..cut]).unwrap();
            let mut archive = ObjectArchive::open(&name, &cancel, &|_| ()).unwrap();
            let read = archive.entries().and_then(|entries| {
                for entry in entries {
                    io::copy(&mut entry?.contents, &mut io::sink())
                        .map_err(|error| Failure::new(FailureKind::Integrity, error.to_string()))?;
                }
                Ok(())
            });
            assert_eq!(read.map_err(|failure| failure.kind), Err(FailureKind::Integrity), "{cut}");
        }
        let file = File::create(&name).unwrap();
        let mut archive = ObjectArchiveWriter::new(&file, &name, &cancel, &|_| ());
        let failure = archive.object(&object("k", 10), &mut &b"short"[..]).unwrap_err();
        assert!(failure.reason.contains("5 bytes early"), "{failure}");
    }
}
