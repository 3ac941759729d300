//! Follows log files from their present ends, for `logs --follow` and `up`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use devrun_keeper::regular_file;
use devrun_model::ServiceId;

use super::index::LogIndex;
use super::line_reader::{ENVELOPE, LINE, LineReader, LogLine, WINDOW, finished};
use super::log_stream::LogStream;
use super::rotating_log_file::{generations, path};

/// What one call of [`LogFollower::poll`] takes at most, of one service and of all.
const POLL: usize = 1024 * 1024;
const POLL_ALL: usize = 32 * 1024 * 1024;

/// Follows the files of several services from their present ends. Each call to `poll` gives what came since; rotation is
/// noticed by the file's inode, so nothing is lost unless more than all kept files came between two calls.
#[derive(Debug)]
pub struct LogFollower {
    folder: PathBuf,
    at: BTreeMap<ServiceId, FilePosition>,
    behind: bool,
}

/// The file is held open, so that its number cannot be given to another one meanwhile.
#[derive(Debug)]
struct FilePosition {
    held: Option<File>,
    offset: u64,
    /// The end of the file when its last line had no end. What is written in pieces is not taken for a line that rests.
    unfinished: Option<u64>,
}

impl LogFollower {
    /// Begins at the present ends.
    #[must_use]
    pub fn new(folder: &Path, ids: &[ServiceId]) -> Self {
        let mut follower = Self { folder: folder.to_path_buf(), at: BTreeMap::new(), behind: false };
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
        let held = regular_file::open_below(&self.folder, &path(&self.folder, id)).ok();
        let end = held.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        self.at.insert(id.clone(), FilePosition { held, offset: if from_end { end } else { 0 }, unfinished: None });
    }
    /// Whether the last call has left something that is there already.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
    }
    /// Lines that came since the last call; of a flood, as much as one call takes. A line without an end is given when it has
    /// not grown from one call to the next, and the rest of it as a line of its own.
    pub fn poll(&mut self) -> Vec<LogLine> {
        let mut found = Vec::new();
        self.behind = false;
        let share = (POLL_ALL / self.at.len().max(1)).clamp(2 * LINE, POLL);
        for (id, position) in &mut self.at {
            // Opened first, so that a rotation in this moment cannot put one file in another's place.
            let files: Vec<(File, u64, PathBuf)> = generations(&self.folder, id)
                .into_iter()
                .filter_map(|(log, index)| {
                    let file = regular_file::open(&log).ok()?;
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
                let mut unfinished = position.unfinished.filter(|_| live);
                let read = read_from(&file, &index, id, from, live, &mut unfinished, share);
                let (lines, offset, whole) = read.unwrap_or((Vec::new(), from, true));
                found.extend(lines);
                if live || !whole {
                    *position = FilePosition { held: Some(file), offset, unfinished };
                }
                if !whole {
                    self.behind = true;
                    break;
                }
            }
            if lost {
                let micros = found.get(before).map_or(0, |line: &LogLine| line.micros);
                let bytes = b"some of its output was missed: it was rotated away before it could be shown".to_vec();
                found.insert(before, LogLine { id: id.clone(), stream: LogStream::Devrun, micros, bytes, ended: true });
            }
        }
        found.sort_by_key(|line| line.micros);
        found
    }
}

/// Lines of about `share` bytes from this offset, where the next ones begin, and whether these were all.
fn read_from(
    file: &File,
    index: &Path,
    id: &ServiceId,
    from: u64,
    live: bool,
    unfinished: &mut Option<u64>,
    share: usize,
) -> io::Result<(Vec<LogLine>, u64, bool)> {
    if file.metadata()?.len() <= from {
        return Ok((Vec::new(), from, true));
    }
    let mut index = LogIndex::open(index);
    let mut reader = LineReader::new(file.try_clone()?, from, u64::MAX, share.min(WINDOW));
    let mut lines = Vec::new();
    let mut taken = 0;
    loop {
        let start = reader.offset();
        if taken >= share {
            return Ok((lines, start, false));
        }
        let record = index.at(start);
        let limit = if record.is_some_and(|record| record.wrapped) { ENVELOPE } else { LINE };
        let Some(read) = reader.line(limit)? else { return Ok((lines, start, true)) };
        // Its end may still come.
        if !read.ended && live && read.cut == 0 && read.bytes.len() < limit {
            let end = reader.offset();
            let rests = unfinished.replace(end) == Some(end) && !record.is_some_and(|record| record.wrapped);
            if rests {
                lines.push(finished(id, record, read));
            }
            return Ok((lines, if rests { end } else { start }, true));
        }
        taken += read.bytes.len() + 1;
        lines.push(finished(id, record, read));
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::{LogQuery, lines};
    use super::super::rotating_log_file::LogFile;
    use super::*;
    use devrun_model::{ByteSize, ServiceName, service::LogSpec};

    fn id(name: &str) -> ServiceId {
        ServiceId::single(&ServiceName::new(name).unwrap())
    }

    #[test]
    fn a_follower_that_was_left_behind_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec { max_size: ByteSize(20), max_files: 2, ..LogSpec::default() };
        let mut log = LogFile::open(dir.path(), &id("a"), &spec).unwrap();
        log.append(LogStream::Stdout, 1, b"old\n");
        let mut follower = LogFollower::new(dir.path(), &[id("a")]);
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
    fn a_follower_shows_a_line_that_rests_and_then_the_rest_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(dir.path(), &id("a"), &LogSpec::default()).unwrap();
        log.append(LogStream::Stdout, 1, b"old\n");
        let mut follower = LogFollower::new(dir.path(), &[id("a")]);
        let mut poll = || {
            let lines = follower.poll().into_iter();
            lines.map(|line| (String::from_utf8(line.bytes).unwrap(), line.ended)).collect::<Vec<_>>()
        };
        log.append(LogStream::Stdout, 2, b"Pass");
        assert!(poll().is_empty(), "it may be in the middle of a write");
        log.append(LogStream::Stdout, 3, b"word: ");
        assert!(poll().is_empty());
        assert_eq!(poll(), [("Password: ".to_owned(), false)]);
        assert!(poll().is_empty(), "shown once");
        log.append(LogStream::Stdout, 4000, b"taken\nnext\n");
        assert_eq!(poll(), [("taken".to_owned(), true), ("next".to_owned(), true)]);
        let all: Vec<_> = lines(dir.path(), &id("a"), &LogQuery::default()).unwrap().map(Result::unwrap).collect();
        assert_eq!(all[1].bytes, b"Password: taken");
    }

    #[test]
    fn a_follower_survives_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec { max_size: ByteSize(20), max_files: 9, ..LogSpec::default() };
        let mut log = LogFile::open(dir.path(), &id("a"), &spec).unwrap();
        log.append(LogStream::Stdout, 1, b"old\n");
        let mut follower = LogFollower::new(dir.path(), &[id("a")]);
        assert!(follower.poll().is_empty());
        for number in 0..10 {
            log.append(LogStream::Stdout, number, format!("new {number}\n").as_bytes());
        }
        let text: Vec<_> = follower.poll().iter().map(|line| String::from_utf8(line.bytes.clone()).unwrap()).collect();
        assert_eq!(text, (0..10).map(|number| format!("new {number}")).collect::<Vec<_>>());
        assert!(follower.poll().is_empty());
    }

    #[test]
    fn a_follower_takes_a_flood_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(dir.path(), &id("a"), &LogSpec::default()).unwrap();
        let mut follower = LogFollower::new(dir.path(), &[id("a")]);
        let line = format!("{}\n", "z".repeat(99));
        log.append(LogStream::Stdout, 1, line.repeat(40_000).as_bytes());
        let (mut polls, mut count) = (0, 0);
        loop {
            let lines = follower.poll();
            assert!(lines.iter().map(|line| line.bytes.len()).sum::<usize>() <= POLL);
            (polls, count) = (polls + 1, count + lines.len());
            if !follower.is_behind() {
                break;
            }
        }
        assert_eq!((polls, count), (4, 40_000));
    }
}
