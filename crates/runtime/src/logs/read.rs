//! Reading logs back: lines of several services merged by time, from the files alone, so it works with the stack down.
//!
//! Files are read in windows and lines are handed out one by one, so the size of a file, or of a line in it, does not decide
//! how much memory a reader takes. A line longer than [`LINE`] is cut, and says so.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use devrun_model::ServiceId;

use super::envelope;
use super::file::{generations, path};
use super::index::{IndexRecord, LogIndex};
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
    /// Its newline has come; else more of it may follow.
    pub ended: bool,
}

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// The last so many of each service.
    pub tail: Option<usize>,
    /// Not before (microseconds since 1970).
    pub since: Option<i64>,
    /// Not after.
    pub until: Option<i64>,
    /// Only those of the start before the last one.
    pub previous: bool,
    /// Only those of this start, as [`LogPump::drain`](super::LogPump::drain) names it.
    pub generation: Option<u32>,
}

/// Bytes of a line that are shown; of a longer one the rest is left out.
pub const LINE: usize = 64 * 1024;
/// An envelope holds a line of [`LINE`] bytes, of which each may take six to write.
pub(super) const ENVELOPE: usize = 8 * LINE;
/// What one reader holds of a file at most.
const WINDOW: usize = 256 * 1024;
/// What the windows of all readers take together; the more there are, the smaller each is.
const WINDOWS: usize = 32 * 1024 * 1024;
/// The smallest window.
const SMALLEST: usize = 16 * 1024;

/// The lines of one service, oldest first.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn lines(folder: &Path, id: &ServiceId, query: &LogQuery) -> io::Result<LogLines> {
    LogLines::new(folder, id, query, WINDOW)
}

/// The lines of several services by time. Lines of one service keep their order whatever the clock did.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn merged(folder: &Path, ids: &[ServiceId], query: &LogQuery) -> io::Result<MergedLines> {
    let window = (WINDOWS / ids.len().max(1)).clamp(SMALLEST, WINDOW);
    let mut merged = MergedLines { readers: Vec::new(), heads: BinaryHeap::new() };
    for id in ids {
        merged.readers.push((LogLines::new(folder, id, query, window)?, i64::MIN, None));
        merged.advance(merged.readers.len() - 1)?;
    }
    Ok(merged)
}

/// Lines of several services. What of a file cannot be read ends the lines with the error.
#[derive(Debug)]
pub struct MergedLines {
    /// Each with the latest time it has given so far, and its next line.
    readers: Vec<(LogLines, i64, Option<LogLine>)>,
    /// Time of the next line and number of its reader.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
}

impl MergedLines {
    fn advance(&mut self, number: usize) -> io::Result<()> {
        let Some((lines, latest, head)) = self.readers.get_mut(number) else { return Ok(()) };
        *head = lines.next().transpose()?;
        if let Some(line) = head {
            *latest = line.micros.max(*latest);
            line.micros = *latest;
            self.heads.push(Reverse((*latest, number)));
        }
        Ok(())
    }
}

impl Iterator for MergedLines {
    type Item = io::Result<LogLine>;
    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((_, number)) = self.heads.pop()?;
        let line = self.readers.get_mut(number)?.2.take()?;
        Some(self.advance(number).map(|()| line))
    }
}

/// Lines of one service.
#[derive(Debug)]
pub struct LogLines {
    folder: PathBuf,
    id: ServiceId,
    files: VecDeque<LogPart>,
    window: usize,
    reader: Option<(LineReader, LogIndex)>,
    filter: LineFilter,
}

/// One of its files. Files that wait for their turn are not open, as a thousand services have thousands of them; the inode
/// finds one again that was renamed by a rotation meanwhile.
#[derive(Debug)]
struct LogPart {
    inode: u64,
    from: u64,
    /// Where it ended when the reading began: a service that goes on writing must not keep us for ever.
    end: u64,
}

#[derive(Debug)]
struct LineFilter {
    generation: Option<u32>,
    since: Option<i64>,
    until: Option<i64>,
}

impl LineFilter {
    fn takes(&self, record: Option<IndexRecord>) -> bool {
        let (micros, generation) = record.map_or((0, 0), |record| (record.micros, record.generation));
        self.generation.is_none_or(|wanted| wanted == generation)
            && self.since.is_none_or(|since| micros >= since)
            && self.until.is_none_or(|until| micros <= until)
    }
}

impl LogLines {
    fn new(folder: &Path, id: &ServiceId, query: &LogQuery, window: usize) -> io::Result<Self> {
        let mut filter = LineFilter { generation: None, since: query.since, until: query.until };
        let mut files = VecDeque::new();
        let wanted = if query.previous { previous(folder, id).map(Some) } else { Some(query.generation) };
        if let Some(generation) = wanted {
            filter.generation = generation;
            let mut left = query.tail;
            for (log, index) in generations(folder, id).into_iter().rev() {
                let file = File::open(&log)?;
                let meta = file.metadata()?;
                let mut index = LogIndex::open(&index);
                // What lies before a start need not be looked through for lines of it.
                let first = generation.map_or(0, |generation| index.start_of(generation)).min(meta.len());
                let from = match &mut left {
                    None => first,
                    Some(0) => break,
                    Some(left) => tail_start(&file, first..meta.len(), index, left, window, &filter)?,
                };
                files.push_front(LogPart { inode: meta.ino(), from, end: meta.len() });
            }
        }
        Ok(Self { folder: folder.to_path_buf(), id: id.clone(), files, window, reader: None, filter })
    }

    /// `None`: the file was rotated away.
    fn open(&self, part: &LogPart) -> io::Result<Option<(LineReader, LogIndex)>> {
        for (log, index) in generations(&self.folder, &self.id).into_iter().rev() {
            let file = match File::open(log) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            if file.metadata()?.ino() == part.inode {
                return Ok(Some((LineReader::new(file, part.from, part.end, self.window), LogIndex::open(&index))));
            }
        }
        Ok(None)
    }
}

impl Iterator for LogLines {
    type Item = io::Result<LogLine>;
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((reader, index)) = &mut self.reader else {
                let part = self.files.pop_front()?;
                match self.open(&part) {
                    Ok(opened) => self.reader = opened,
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            let start = reader.offset();
            let record = index.at(start);
            let limit = if record.is_some_and(|record| record.wrapped) { ENVELOPE } else { LINE };
            match reader.line(limit) {
                Ok(None) => self.reader = None,
                Ok(Some(_)) if !self.filter.takes(record) => {}
                Ok(Some(read)) => return Some(Ok(finished(&self.id, record, read))),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Where the last lines of a part of a file begin; `left` goes down by their number.
fn tail_start(
    file: &File,
    part: std::ops::Range<u64>,
    mut index: LogIndex,
    left: &mut usize,
    window: usize,
    filter: &LineFilter,
) -> io::Result<u64> {
    let (first, size) = (part.start, part.end);
    let mut buffer = vec![0; window];
    let mut begun = size;
    let mut end = size;
    while end > first {
        let length = (window as u64).min(end - first);
        let from = end - length;
        let bytes = buffer.get_mut(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
        file.read_exact_at(bytes, from)?;
        for at in memchr::memrchr_iter(b'\n', bytes) {
            let start = from + at as u64 + 1;
            if start == size {
                continue;
            }
            if filter.takes(index.at(start)) {
                begun = start;
                *left -= 1;
                if *left == 0 {
                    return Ok(begun);
                }
            }
        }
        end = from;
    }
    if size > first && filter.takes(index.at(first)) {
        begun = first;
        *left -= 1;
    }
    Ok(begun)
}

/// The generation before the last one; `None` where there was only one.
fn previous(folder: &Path, id: &ServiceId) -> Option<u32> {
    let files = generations(folder, id);
    let mut last = None;
    for (_, index) in files.iter().rev() {
        let mut index = LogIndex::open(index);
        for number in (0..index.count()).rev() {
            let generation = index.get(number)?.generation;
            match last {
                None => last = Some(generation),
                // What was written before starts were counted is no start.
                Some(last) if generation != last => return Some(generation).filter(|generation| *generation > 0),
                Some(_) => {}
            }
        }
    }
    None
}

/// What was read of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadLine {
    bytes: Vec<u8>,
    /// Bytes of it that were left out.
    cut: u64,
    /// It has its newline.
    ended: bool,
}

/// Takes a file apart into lines, a window at a time.
#[derive(Debug)]
pub(super) struct LineReader {
    file: File,
    /// Where the next window begins in the file.
    next: u64,
    end: u64,
    buffer: Vec<u8>,
    /// What of the buffer was handed out.
    taken: usize,
    filled: usize,
    window: usize,
}

impl LineReader {
    pub(super) fn new(file: File, from: u64, end: u64, window: usize) -> Self {
        Self { file, next: from, end, buffer: Vec::new(), taken: 0, filled: 0, window }
    }

    /// Where the next line begins.
    pub(super) fn offset(&self) -> u64 {
        self.next - (self.filled - self.taken) as u64
    }

    fn fill(&mut self) -> io::Result<bool> {
        // Made when it is needed, as most services of a large stack have short logs.
        let length = usize::try_from(self.end.saturating_sub(self.next)).unwrap_or(usize::MAX).min(self.window);
        self.buffer.resize(length, 0);
        let count = loop {
            match self.file.read_at(&mut self.buffer, self.next) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.next += count as u64;
        (self.taken, self.filled) = (0, count);
        Ok(count > 0)
    }

    /// The next line, of at most `limit` bytes; what is left of it is passed over.
    pub(super) fn line(&mut self, limit: usize) -> io::Result<Option<ReadLine>> {
        let mut line = ReadLine { bytes: Vec::new(), cut: 0, ended: false };
        let mut any = false;
        loop {
            if self.taken == self.filled && !self.fill()? {
                return Ok(any.then_some(line));
            }
            any = true;
            let rest = self.buffer.get(self.taken..self.filled).unwrap_or_default();
            let end = memchr::memchr(b'\n', rest);
            let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            let room = limit.saturating_sub(line.bytes.len()).min(piece.len());
            line.bytes.extend_from_slice(piece.get(..room).unwrap_or_default());
            line.cut += (piece.len() - room) as u64;
            self.taken += piece.len() + usize::from(end.is_some());
            if end.is_some() {
                line.ended = true;
                return Ok(Some(line));
            }
        }
    }
}

/// The line as it is shown.
pub(super) fn finished(id: &ServiceId, record: Option<IndexRecord>, read: ReadLine) -> LogLine {
    let ended = read.ended;
    let (micros, stream) = record.map_or((0, LogStream::Stdout), |record| (record.micros, record.stream));
    let inside = if record.is_some_and(|record| record.wrapped) { envelope::unwrap(&read.bytes) } else { None };
    let mut bytes = inside.unwrap_or(read.bytes);
    let mut cut = read.cut;
    if bytes.len() > LINE {
        cut += (bytes.len() - LINE) as u64;
        bytes.truncate(LINE);
    }
    if cut > 0 {
        let whole = whole_chars(&bytes);
        cut += (bytes.len() - whole) as u64;
        bytes.truncate(whole);
        bytes.extend_from_slice(format!(" … [line cut: {cut} more bytes]").as_bytes());
    }
    LogLine { id: id.clone(), stream, micros, bytes, ended }
}

/// The length without a character of UTF-8 that is torn at the end.
fn whole_chars(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(4).position(|byte| byte & 0xc0 != 0x80).map(|back| bytes.len() - 1 - back);
    match last {
        Some(at) if std::str::from_utf8(&bytes[at..]).is_err() && bytes[at] >= 0xc0 => at,
        _ => bytes.len(),
    }
}

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
        let held = File::open(path(&self.folder, id)).ok();
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
    use super::super::file::LogFile;
    use super::*;
    use devrun_model::{ByteSize, ServiceName, service::LogSpec};

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
        let query = LogQuery { tail: Some(3), ..LogQuery::default() };
        let lines: Vec<_> = merged(dir.path(), &[id("a"), id("b")], &query).unwrap().map(Result::unwrap).collect();
        let text: Vec<_> = lines.iter().map(|line| String::from_utf8(line.bytes.clone()).unwrap()).collect();
        assert_eq!(text, ["a17", "b17", "a18", "b18", "a19", "b19"]);
        assert_eq!(lines[1].stream, LogStream::Stderr);
        assert_eq!(lines[0].micros, 170_000);
        let all = merged(dir.path(), &[id("a")], &LogQuery { since: Some(150_000), ..LogQuery::default() }).unwrap();
        assert_eq!(all.count(), 5);
    }

    #[test]
    fn previous_is_the_start_before_the_last_one_also_over_reopening_and_silence() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec { max_size: ByteSize(40), max_files: 9, ..LogSpec::default() };
        let previous = || {
            let lines = lines(dir.path(), &id("a"), &LogQuery { previous: true, ..LogQuery::default() }).unwrap();
            lines.map(|line| String::from_utf8(line.unwrap().bytes).unwrap()).collect::<Vec<_>>().join(" ")
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
    fn the_lines_of_one_start_are_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec { max_size: ByteSize(200), max_files: 9, ..LogSpec::default() };
        let of = |generation: u32, tail: Option<usize>| {
            texts(dir.path(), &LogQuery { generation: Some(generation), tail, ..LogQuery::default() }).join(" ")
        };
        for start in 1..=3u32 {
            // Each run of the supervisor opens the file again.
            let mut log = LogFile::open(dir.path(), &id("a"), &spec).unwrap();
            log.begin(i64::from(start) * 100_000);
            assert_eq!((log.generation(), of(start, Some(20)).as_str()), (start, ""), "nothing was said yet");
            for number in 0..4 {
                let micros = i64::from(start) * 100_000 + i64::from(number) * 2000;
                log.append(LogStream::Stdout, micros, format!("{start}.{number}\n").as_bytes());
            }
            log.append(LogStream::Stdout, i64::from(start) * 100_000 + 9000, b"cut short");
        }
        for start in 1..=3u32 {
            let all = (0..4).map(|number| format!("{start}.{number} ")).collect::<String>() + "cut short";
            assert_eq!(of(start, None), all);
            assert_eq!(of(start, Some(20)), all);
            assert_eq!(of(start, Some(2)), format!("{start}.3 cut short"));
        }
        assert_eq!(of(4, Some(20)), "");
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

    fn texts(dir: &Path, query: &LogQuery) -> Vec<String> {
        let lines = lines(dir, &id("a"), query).unwrap();
        lines.map(|line| String::from_utf8(line.unwrap().bytes).unwrap()).collect()
    }

    #[test]
    fn a_line_over_the_limit_is_cut_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(dir.path(), &id("a"), &LogSpec::default()).unwrap();
        let long = "é".repeat(LINE);
        log.append(LogStream::Stdout, 1, format!("first\n{long}\nx{long}\nlast").as_bytes());
        let all = texts(dir.path(), &LogQuery::default());
        assert_eq!(all.len(), 4);
        assert_eq!(all[1], format!("{} … [line cut: {LINE} more bytes]", "é".repeat(LINE / 2)));
        assert_eq!(all[2], format!("x{} … [line cut: {} more bytes]", "é".repeat(LINE / 2 - 1), LINE + 2));
        assert_eq!(texts(dir.path(), &LogQuery { tail: Some(1), ..LogQuery::default() }), ["last"]);
        assert_eq!(texts(dir.path(), &LogQuery { tail: Some(2), ..LogQuery::default() }), all[2..]);
        assert_eq!(texts(dir.path(), &LogQuery { tail: Some(4), ..LogQuery::default() }), all);
        assert_eq!(texts(dir.path(), &LogQuery { tail: Some(40), ..LogQuery::default() }), all);
        assert!(texts(dir.path(), &LogQuery { tail: Some(0), ..LogQuery::default() }).is_empty());
    }

    #[test]
    fn a_window_may_end_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(dir.path(), &id("a"), &LogSpec::default()).unwrap();
        let mut expected = Vec::new();
        for number in 0..300usize {
            expected.push("y".repeat(number * number % 97));
            log.append(LogStream::Stdout, 1000 * number as i64, format!("{}\n", expected[number]).as_bytes());
        }
        for window in [1, 2, 7, 64, 5000] {
            for tail in [None, Some(1), Some(17), Some(300)] {
                let query = LogQuery { tail, ..LogQuery::default() };
                let read = LogLines::new(dir.path(), &id("a"), &query, window).unwrap();
                let read: Vec<_> = read.map(|line| String::from_utf8(line.unwrap().bytes).unwrap()).collect();
                assert_eq!(read, expected[300 - tail.unwrap_or(300)..], "{window} {tail:?}");
            }
        }
    }

    #[test]
    fn a_reader_survives_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec { max_size: ByteSize(20), max_files: 9, ..LogSpec::default() };
        let mut log = LogFile::open(dir.path(), &id("a"), &spec).unwrap();
        for number in 0..6 {
            log.append(LogStream::Stdout, number, format!("line {number}\n").as_bytes());
        }
        let mut read = lines(dir.path(), &id("a"), &LogQuery::default()).unwrap();
        assert_eq!(read.next().unwrap().unwrap().bytes, b"line 0");
        for number in 6..10 {
            log.append(LogStream::Stdout, number, format!("line {number}\n").as_bytes());
        }
        let rest: Vec<_> = read.map(|line| String::from_utf8(line.unwrap().bytes).unwrap()).collect();
        assert_eq!(rest[..5], ["line 1", "line 2", "line 3", "line 4", "line 5"]);
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
