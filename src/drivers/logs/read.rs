//! Reading logs back: lines of several services merged by time, from the files alone, so it works with the stack down.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::ServiceId;

use super::envelope;
use super::file::{RECORD, generations, path};
use super::pump::LogStream;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Whose.
    pub id: ServiceId,
    /// From where.
    pub stream: LogStream,
    /// Microseconds since 1970.
    pub micros: i64,
    /// Without its newline.
    pub bytes: Vec<u8>,
}

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The last so many of each service.
    pub tail: Option<usize>,
    /// Not before (microseconds since 1970).
    pub since: Option<i64>,
    /// Not after.
    pub until: Option<i64>,
    /// Only those of the start before the last one.
    pub previous: bool,
}

/// How much of the end of a file is read when only the last lines are wanted; grown until there are enough.
const WINDOW: u64 = 256 * 1024;

struct Records(Vec<Record>);

struct Record {
    start: u64,
    micros: i64,
    stream: LogStream,
    wrapped: bool,
    generation: u32,
}

impl Records {
    fn read(index: &Path) -> Self {
        let bytes = fs::read(index).unwrap_or_default();
        let mut records = Vec::with_capacity(bytes.len() / RECORD);
        for record in bytes.chunks_exact(RECORD) {
            let number = |from: usize| u64::from_le_bytes(record[from..from + 8].try_into().unwrap_or_default());
            let stream = match record[16] {
                1 => LogStream::Stderr,
                2 => LogStream::Devrun,
                _ => LogStream::Stdout,
            };
            let generation = u32::from_le_bytes(record[20..24].try_into().unwrap_or_default());
            let (start, micros, wrapped) = (number(0), number(8).cast_signed(), record[19] == 1);
            records.push(Record { start, micros, stream, wrapped, generation });
        }
        Self(records)
    }
    fn at(&self, offset: u64) -> Option<&Record> {
        let next = self.0.partition_point(|record| record.start <= offset);
        next.checked_sub(1).map(|at| &self.0[at])
    }
    /// The line that begins at this byte.
    fn line(&self, id: &ServiceId, offset: u64, bytes: &[u8]) -> LogLine {
        let record = self.at(offset);
        let (micros, stream) = record.map_or((0, LogStream::Stdout), |record| (record.micros, record.stream));
        let inside = if record.is_some_and(|record| record.wrapped) { envelope::unwrap(bytes) } else { None };
        LogLine { id: id.clone(), stream, micros, bytes: inside.unwrap_or_else(|| bytes.to_vec()) }
    }
}

/// The lines of one service, oldest first.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn lines(folder: &Path, id: &ServiceId, query: &Query) -> io::Result<Vec<LogLine>> {
    let mut found: Vec<LogLine> = Vec::new();
    let mut left = query.tail;
    let wanted = if query.previous {
        match previous(folder, id) {
            Some(generation) => Some(generation),
            None => return Ok(found),
        }
    } else {
        None
    };
    for (log, index) in generations(folder, id).into_iter().rev() {
        if left == Some(0) {
            break;
        }
        let records = Records::read(&index);
        let mut lines = last_lines(&log, left, &mut |offset, bytes| {
            let line = records.line(id, offset, bytes);
            let generation = records.at(offset).map_or(0, |record| record.generation);
            let fits = wanted.is_none_or(|wanted| wanted == generation)
                && query.since.is_none_or(|since| line.micros >= since)
                && query.until.is_none_or(|until| line.micros <= until);
            fits.then_some(line)
        })?;
        left = left.map(|left| left.saturating_sub(lines.len()));
        lines.append(&mut found);
        found = lines;
    }
    Ok(found)
}

/// The generation before the last one; `None` where there was only one.
fn previous(folder: &Path, id: &ServiceId) -> Option<u32> {
    let files = generations(folder, id);
    let mut last = None;
    for (_, index) in files.iter().rev() {
        for Record { generation, .. } in Records::read(index).0.iter().rev() {
            match last {
                None => last = Some(*generation),
                // What was written before starts were counted is no start.
                Some(last) if *generation != last => return Some(*generation).filter(|generation| *generation > 0),
                Some(_) => {}
            }
        }
    }
    None
}

/// The lines of several services by time. Lines of one service keep their order whatever the clock did.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn merged(folder: &Path, ids: &[ServiceId], query: &Query) -> io::Result<Vec<LogLine>> {
    let mut all = Vec::new();
    for id in ids {
        let mut lines = lines(folder, id, query)?;
        let mut latest = i64::MIN;
        for line in &mut lines {
            latest = latest.max(line.micros);
            line.micros = latest;
        }
        all.append(&mut lines);
    }
    all.sort_by_key(|line| line.micros);
    Ok(all)
}

fn last_lines(log: &Path, tail: Option<usize>, make: &mut dyn FnMut(u64, &[u8]) -> Option<LogLine>) -> io::Result<Vec<LogLine>> {
    let mut file = File::open(log)?;
    let size = file.metadata()?.len();
    let mut window = if tail.is_some() { WINDOW.min(size) } else { size };
    loop {
        let start = size - window;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::with_capacity(usize::try_from(window).unwrap_or(0));
        (&mut file).take(window).read_to_end(&mut bytes)?;
        let mut lines = Vec::new();
        let mut offset = start;
        for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let at = offset;
            offset += line.len() as u64;
            // The first piece of a window that does not begin the file is the end of some line.
            if number == 0 && start > 0 {
                continue;
            }
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            lines.extend(make(at, line));
        }
        let enough = tail.is_none_or(|tail| lines.len() >= tail);
        if enough || start == 0 {
            if let Some(tail) = tail {
                lines.drain(..lines.len().saturating_sub(tail));
            }
            return Ok(lines);
        }
        window = (window * 4).min(size);
    }
}

/// Follows the files of several services from their present ends. Each call to `poll` gives what came since; rotation is
/// noticed by the file's inode, so nothing is lost unless more than all kept files came between two calls.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    at: BTreeMap<ServiceId, Position>,
}

/// The file is held open, so that its number cannot be given to another one meanwhile.
#[derive(Debug)]
struct Position {
    held: Option<File>,
    offset: u64,
}

impl Follower {
    /// Begins at the present ends.
    #[must_use]
    pub fn new(folder: &Path, ids: &[ServiceId]) -> Self {
        let mut follower = Self { folder: folder.to_path_buf(), at: BTreeMap::new() };
        for id in ids {
            follower.add(id, true);
        }
        follower
    }
    /// Follows one more service; from its file's end, or from the beginning.
    pub fn add(&mut self, id: &ServiceId, from_end: bool) {
        if self.at.contains_key(id) {
            return;
        }
        let held = File::open(path(&self.folder, id)).ok();
        let end = held.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        self.at.insert(id.clone(), Position { held, offset: if from_end { end } else { 0 } });
    }
    /// Whole lines that came since the last call.
    pub fn poll(&mut self) -> Vec<LogLine> {
        let mut found = Vec::new();
        for (id, position) in &mut self.at {
            // Opened first, so that a rotation in this moment cannot put one file in another's place.
            let files: Vec<(File, u64, PathBuf)> = generations(&self.folder, id)
                .into_iter()
                .filter_map(|(log, index)| {
                    let file = File::open(log).ok()?;
                    let inode = file.metadata().ok()?.ino();
                    Some((file, inode, index))
                })
                .collect();
            let held = position.held.as_ref().and_then(|file| file.metadata().ok()).map(|meta| meta.ino());
            let known = files.iter().position(|(_, inode, _)| Some(*inode) == held);
            let lost = held.is_some() && known.is_none() && !files.is_empty();
            let (before, count) = (found.len(), files.len());
            for (number, (file, _, index)) in files.into_iter().enumerate().skip(known.unwrap_or(0)) {
                let live = number + 1 == count;
                let from = if Some(number) == known { position.offset } else { 0 };
                let (lines, offset) = read_from(&file, &index, id, from, live).unwrap_or((Vec::new(), from));
                found.extend(lines);
                if live {
                    *position = Position { held: Some(file), offset };
                }
            }
            if lost {
                let micros = found.get(before).map_or(0, |line: &LogLine| line.micros);
                let bytes = b"some of its output was missed: it was rotated away before it could be shown".to_vec();
                found.insert(before, LogLine { id: id.clone(), stream: LogStream::Devrun, micros, bytes });
            }
        }
        found.sort_by_key(|line| line.micros);
        found
    }
}

fn read_from(mut file: &File, index: &Path, id: &ServiceId, from: u64, live: bool) -> io::Result<(Vec<LogLine>, u64)> {
    if file.metadata()?.len() <= from {
        return Ok((Vec::new(), from));
    }
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let records = Records::read(index);
    let mut offset = from;
    let mut lines = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") && live && line.len() < 64 * 1024 {
            break;
        }
        lines.push(records.line(id, offset, line.strip_suffix(b"\n").unwrap_or(line)));
        offset += line.len() as u64;
    }
    Ok((lines, offset))
}

#[cfg(test)]
mod tests {
    use super::super::file::LogFile;
    use super::*;
    use crate::model::{ByteSize, ServiceName, service::LogSpec};

    fn id(name: &str) -> ServiceId {
        ServiceId::single(&ServiceName::new(name).unwrap())
    }

    #[test]
    fn tail_crosses_rotated_files_and_services_merge_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec { max_size: ByteSize(64), max_files: 9, ..LogSpec::default() };
        let mut a = LogFile::open(dir.path(), &id("a"), &spec).unwrap();
        let mut b = LogFile::open(dir.path(), &id("b"), &spec).unwrap();
        for number in 0..20i64 {
            a.append(LogStream::Stdout, number * 10_000, format!("a{number:02}\n").as_bytes());
            b.append(LogStream::Stderr, number * 10_000 + 5000, format!("b{number:02}\n").as_bytes());
        }
        let query = Query { tail: Some(3), ..Query::default() };
        let lines = merged(dir.path(), &[id("a"), id("b")], &query).unwrap();
        let text: Vec<_> = lines.iter().map(|line| String::from_utf8(line.bytes.clone()).unwrap()).collect();
        assert_eq!(text, ["a17", "b17", "a18", "b18", "a19", "b19"]);
        assert_eq!(lines[1].stream, LogStream::Stderr);
        assert_eq!(lines[0].micros, 170_000);
        let all = merged(dir.path(), &[id("a")], &Query { since: Some(150_000), ..Query::default() }).unwrap();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn previous_is_the_start_before_the_last_one_also_over_reopening_and_silence() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec { max_size: ByteSize(40), max_files: 9, ..LogSpec::default() };
        let previous = || {
            let lines = lines(dir.path(), &id("a"), &Query { previous: true, ..Query::default() }).unwrap();
            lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect::<Vec<_>>().join(" ")
        };
        let mut log = LogFile::open(dir.path(), &id("a"), &spec).unwrap();
        log.begin(1);
        for number in 0..9 {
            log.append(LogStream::Stdout, number, format!("first {number}\n").as_bytes());
        }
        assert_eq!(previous(), "");
        drop(log);
        let mut log = LogFile::open(dir.path(), &id("a"), &spec).unwrap();
        log.begin(20);
        assert_eq!(previous(), (0..9).map(|number| format!("first {number}")).collect::<Vec<_>>().join(" "));
        log.append(LogStream::Stderr, 21, b"second\n");
        log.begin(30);
        log.append(LogStream::Stdout, 31, b"third\n");
        assert_eq!(previous(), "second");
        log.begin(40);
        assert_eq!(previous(), "third");
    }

    #[test]
    fn a_follower_that_was_left_behind_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec { max_size: ByteSize(20), max_files: 2, ..LogSpec::default() };
        let mut log = LogFile::open(dir.path(), &id("a"), &spec).unwrap();
        log.append(LogStream::Stdout, 1, b"old\n");
        let mut follower = Follower::new(dir.path(), &[id("a")]);
        for number in 0..50 {
            log.append(LogStream::Stdout, number, format!("new {number}\n").as_bytes());
        }
        let lines = follower.poll();
        assert_eq!(lines[0].stream, LogStream::Devrun, "{lines:?}");
        assert!(lines[0].bytes.starts_with(b"some of its output was missed"));
        assert_eq!(lines.last().unwrap().bytes, b"new 49");
        assert!(follower.poll().is_empty(), "said once");
    }

    #[test]
    fn a_follower_survives_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec { max_size: ByteSize(20), max_files: 9, ..LogSpec::default() };
        let mut log = LogFile::open(dir.path(), &id("a"), &spec).unwrap();
        log.append(LogStream::Stdout, 1, b"old\n");
        let mut follower = Follower::new(dir.path(), &[id("a")]);
        assert!(follower.poll().is_empty());
        for number in 0..10 {
            log.append(LogStream::Stdout, number, format!("new {number}\n").as_bytes());
        }
        let text: Vec<_> = follower.poll().iter().map(|line| String::from_utf8(line.bytes.clone()).unwrap()).collect();
        assert_eq!(text, (0..10).map(|number| format!("new {number}")).collect::<Vec<_>>());
        assert!(follower.poll().is_empty());
    }
}
