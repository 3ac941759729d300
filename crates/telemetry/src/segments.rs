//! The files that keep records: one JSON object a line, appended to the newest file, the oldest removed when there are too many. All
//! of it stays below [`SEGMENT_BYTES`] × [`MOST_SEGMENTS`], plus one request.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::TelemetryRecord;

/// A file of this size gets a successor.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Files kept.
const MOST_SEGMENTS: usize = 4;

/// Appends records.
#[derive(Debug)]
pub struct SegmentWriter {
    dir: PathBuf,
    /// The number of the newest file, the file, and its size.
    newest: Option<(u64, File, u64)>,
    segment_bytes: u64,
}

impl SegmentWriter {
    /// For the files of this directory, which is made with mode 0700.
    ///
    /// # Errors
    /// As the file system says.
    pub fn new(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned(), newest: None, segment_bytes: SEGMENT_BYTES })
    }

    /// Appends records, all of them or none.
    ///
    /// # Errors
    /// As the file system says.
    pub fn append(&mut self, records: &[TelemetryRecord]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for record in records {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        let segment_bytes = self.segment_bytes;
        let newest = match self.newest.take().filter(|(_, _, size)| *size < segment_bytes) {
            Some(newest) => newest,
            None => self.next()?,
        };
        let (number, mut file, size) = newest;
        if let Err(error) = file.write_all(&text) {
            // Half a line would spoil the next one.
            let _kept_as_it_is = file.set_len(size);
            return Err(error);
        }
        self.newest = Some((number, file, size + u64::try_from(text.len()).unwrap_or(u64::MAX)));
        Ok(())
    }

    fn named(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:08}.jsonl"))
    }

    /// Opens the newest file, or its successor where it is full, and removes what is too old.
    fn next(&mut self) -> io::Result<(u64, File, u64)> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let mut there = segments(&self.dir)?;
        let mut number = there.last().map_or(1, |(number, _)| *number);
        if there.last().is_some_and(|(_, path)| fs::metadata(path).is_ok_and(|meta| meta.len() >= self.segment_bytes)) {
            number += 1;
        }
        // What has the name and is not a file of ours is left alone.
        while fs::symlink_metadata(self.named(number)).is_ok_and(|meta| !meta.is_file()) {
            number += 1;
        }
        let path = self.named(number);
        // O_APPEND, as `set_len` moves no position.
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let size = file.metadata()?.len();
        if there.last().is_none_or(|(last, _)| *last != number) {
            there.push((number, path));
        }
        let surplus = there.len().saturating_sub(MOST_SEGMENTS);
        for (_, path) in there.drain(..surplus) {
            fs::remove_file(path)?;
        }
        Ok((number, file, size))
    }
}

/// Number and path, the oldest first. A link, which a checkout can bring, is none of them, and neither is what a linked directory has.
fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    if !fs::symlink_metadata(dir)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is a link", dir.display())));
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Of the entry itself; a FIFO would block the one that opens it.
        if !entry.file_type()?.is_file() {
            continue;
        }
        let path = entry.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jsonl")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found)
}

/// The newest records, the oldest of them first: those in the last `most_bytes` of the files. Nothing where there are none.
#[must_use]
pub fn read_recent(dir: &Path, most_bytes: u64) -> Vec<TelemetryRecord> {
    let mut left = most_bytes;
    let mut parts: Vec<Vec<TelemetryRecord>> = Vec::new();
    for (_, path) in segments(dir).unwrap_or_default().into_iter().rev() {
        if left == 0 {
            break;
        }
        // One that was removed meanwhile was too old.
        let Ok((bytes, is_cut)) = tail(&path, left) else { continue };
        left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().skip(usize::from(is_cut));
        // The last line may still be written.
        parts.push(lines.filter_map(|line| serde_json::from_str(line).ok()).collect());
    }
    parts.into_iter().rev().flatten().collect()
}

/// The end of a file, and whether that is not all of it.
fn tail(path: &Path, most: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok((bytes, skipped > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::LogEntry;
    use std::os::unix::fs::PermissionsExt;

    fn log(at_us: u64) -> TelemetryRecord {
        TelemetryRecord::Log(LogEntry {
            service: "api".to_owned(),
            at_us,
            severity: "info".to_owned(),
            body: "x".repeat(100),
            trace: String::new(),
            span: String::new(),
            attributes: Default::default(),
        })
    }

    fn moments(records: &[TelemetryRecord]) -> Vec<u64> {
        let of = |record: &TelemetryRecord| if let TelemetryRecord::Log(log) = record { log.at_us } else { 0 };
        records.iter().map(of).collect()
    }

    #[test]
    fn files_follow_one_another_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("telemetry");
        let mut writer = SegmentWriter { segment_bytes: 400, ..SegmentWriter::new(&dir).unwrap() };
        for at in 1..=40 {
            writer.append(&[log(at)]).unwrap();
        }
        // Another process goes on where this one ended.
        let mut writer = SegmentWriter { segment_bytes: 400, ..SegmentWriter::new(&dir).unwrap() };
        writer.append(&[log(41), log(42)]).unwrap();
        let files = segments(&dir).unwrap();
        assert_eq!(files.len(), MOST_SEGMENTS);
        assert_eq!(fs::metadata(&files[0].1).unwrap().permissions().mode() & 0o777, 0o600);
        let all = moments(&read_recent(&dir, u64::MAX));
        assert_eq!(all.last(), Some(&42));
        assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]) && all.len() < 20, "{all:?}");
        let few = moments(&read_recent(&dir, 500));
        assert_eq!(few.last(), Some(&42));
        assert!(few.len() < 4, "{few:?}");
        assert_eq!(read_recent(&folder.path().join("none"), 10), []);
    }

    #[test]
    fn a_line_that_is_not_whole_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::new(folder.path()).unwrap();
        writer.append(&[log(1)]).unwrap();
        let path = segments(folder.path()).unwrap().remove(0).1;
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"kind\":\"span\",\nnot JSON\n").unwrap();
        writer.append(&[log(2)]).unwrap();
        assert_eq!(moments(&read_recent(folder.path(), u64::MAX)), [1, 2]);
    }
}
