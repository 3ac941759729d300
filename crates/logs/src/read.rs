//! Reading logs back: lines of several services merged by time, from the files alone, so it works with the stack down.
//!
//! Files are read in windows (`line_reader`) and lines are handed out one by one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use devrun_keeper::regular_file;
use devrun_model::ServiceId;

use super::index::{IndexRecord, LogIndex};
use super::line_reader::{ENVELOPE, LINE, LineReader, LogLine, WINDOW, finished};
use super::rotating_log_file::{generations, path};

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

/// What the windows of all readers take together; the more there are, the smaller each is.
const WINDOWS: usize = 32 * 1024 * 1024;
/// The smallest window.
const SMALLEST: usize = 16 * 1024;

/// Whether logs may be read from a directory. One that is not there yet has none.
///
/// # Errors
/// `InvalidInput` when it is a link, which a checkout can bring, or no directory.
pub fn check_directory(folder: &Path) -> io::Result<()> {
    may_be_absent(regular_file::check_directories(folder, &folder.join("log")))
}

fn may_be_absent(checked: io::Result<()>) -> io::Result<()> {
    checked.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

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
        may_be_absent(regular_file::check_directories(folder, &path(folder, id)))?;
        let mut filter = LineFilter { generation: None, since: query.since, until: query.until };
        let mut files = VecDeque::new();
        let wanted = if query.previous { previous(folder, id).map(Some) } else { Some(query.generation) };
        if let Some(generation) = wanted {
            filter.generation = generation;
            let mut left = query.tail;
            for (log, index) in generations(folder, id).into_iter().rev() {
                let file = regular_file::open(&log)?;
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
            let file = match regular_file::open(&log) {
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

#[cfg(test)]
mod tests {
    use super::super::log_stream::LogStream;
    use super::super::rotating_log_file::LogFile;
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
}
