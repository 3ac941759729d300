//! Moving through logs in both directions, as a viewer does: a window of lines over the files, merged by time.
//!
//! Nothing is held but the lines of the window: what is scrolled to is read from the files at an offset, so the size of a
//! history does not decide what a viewer takes. Each service has a place of its own (file and offset), so a position can be
//! kept, written as JSON and come back to.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use devrun_keeper::regular_file;
use devrun_model::ServiceId;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use super::index::LogIndex;
use super::line_reader::{ENVELOPE, LINE, LineReader, LogLine, finished};
use super::rotating_log_file::generations;
use super::visible_text;

/// Bytes that are read at once.
const CHUNK: usize = 32 * 1024;

/// A place in the log of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Which file: a rotation renames it and keeps this.
    pub inode: u64,
    /// A byte where a line begins.
    pub offset: u64,
}

/// A place in each log. A service that is not named begins at its oldest line.
pub type LogPositions = BTreeMap<ServiceId, LogPosition>;

/// Where reading begins.
#[derive(Debug, Clone)]
pub enum ScrollStart {
    /// Before the oldest line.
    Oldest,
    /// After the newest line.
    Newest,
    /// Before the first line of this time (microseconds since 1970) or later.
    Time(i64),
    /// Where an earlier reader stood.
    At(LogPositions),
}

/// A line, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedLine {
    /// The line.
    pub line: LogLine,
    /// Its first byte.
    pub start: LogPosition,
    /// The byte after it.
    pub end: LogPosition,
}

#[derive(Debug)]
struct OpenFile {
    inode: u64,
    file: File,
    index_path: PathBuf,
    index: LogIndex,
    length: u64,
}

/// Reads the lines of one service in either direction.
#[derive(Debug)]
struct ServiceCursor {
    id: ServiceId,
    files: Vec<OpenFile>,
    at: usize,
    offset: u64,
    /// Reads on from where the last line ended.
    reader: Option<LineReader>,
    /// A piece of a file that was looked through backwards: number of the file, first byte, bytes.
    chunk: (usize, u64, Vec<u8>),
    newer: Option<PlacedLine>,
    older: Option<PlacedLine>,
}

impl ServiceCursor {
    fn new(folder: &Path, id: &ServiceId, start: &ScrollStart) -> Self {
        let mut cursor = Self {
            id: id.clone(),
            files: Vec::new(),
            at: 0,
            offset: 0,
            reader: None,
            chunk: (0, 0, Vec::new()),
            newer: None,
            older: None,
        };
        cursor.files = open_files(folder, id);
        match start {
            ScrollStart::Oldest => {}
            ScrollStart::Newest => cursor.move_to_newest(),
            ScrollStart::Time(micros) => {
                cursor.move_to_newest();
                for number in 0..cursor.files.len() {
                    if let Some(offset) = cursor.files[number].index.first_at(*micros) {
                        (cursor.at, cursor.offset) = (number, offset);
                        break;
                    }
                }
            }
            ScrollStart::At(positions) => {
                if let Some(position) = positions.get(id) {
                    cursor.go(*position);
                }
            }
        }
        cursor
    }

    fn move_to_newest(&mut self) {
        self.at = self.files.len().saturating_sub(1);
        self.offset = self.files.last().map_or(0, |file| file.length);
    }

    fn go(&mut self, position: LogPosition) {
        self.forget();
        match self.files.iter().position(|file| file.inode == position.inode) {
            Some(at) => (self.at, self.offset) = (at, position.offset.min(self.files[at].length)),
            // Rotated away: what is left begins after it.
            None => (self.at, self.offset) = (0, 0),
        }
    }

    fn forget(&mut self) {
        (self.newer, self.older, self.reader) = (None, None, None);
        self.chunk.2.clear();
    }

    fn position(&self) -> LogPosition {
        LogPosition { inode: self.files.get(self.at).map_or(0, |file| file.inode), offset: self.offset }
    }

    /// Takes notice of what was written since. False: nothing was.
    fn refresh(&mut self, folder: &Path) -> bool {
        let live = super::rotating_log_file::path(folder, &self.id);
        let now = std::fs::metadata(&live).ok().map(|meta| (meta.ino(), meta.len()));
        let known = self.files.last().map(|file| (file.inode, file.length));
        if now == known {
            return false;
        }
        let position = self.position();
        self.files = open_files(folder, &self.id);
        self.go(position);
        true
    }

    fn peek_newer(&mut self) -> Option<&PlacedLine> {
        if self.newer.is_none() {
            self.newer = self.read_newer();
        }
        self.newer.as_ref()
    }

    fn read_newer(&mut self) -> Option<PlacedLine> {
        loop {
            let number = self.at;
            let offset = self.offset;
            let file = self.files.get_mut(number)?;
            if offset >= file.length {
                if number + 1 >= self.files.len() {
                    return None;
                }
                (self.at, self.offset, self.reader) = (number + 1, 0, None);
                continue;
            }
            if self.reader.as_ref().is_none_or(|reader| reader.offset() != offset) {
                self.reader = Some(LineReader::new(file.file.try_clone().ok()?, offset, file.length, CHUNK));
            }
            let reader = self.reader.as_mut()?;
            return read_line(reader, file, &self.id);
        }
    }

    fn peek_older(&mut self) -> Option<&PlacedLine> {
        if self.older.is_none() {
            self.older = self.read_older();
        }
        self.older.as_ref()
    }

    fn read_older(&mut self) -> Option<PlacedLine> {
        let (mut number, mut end) = (self.at, self.offset);
        while end == 0 {
            number = number.checked_sub(1)?;
            end = self.files.get(number)?.length;
        }
        let start = self.line_start(number, end)?;
        let file = self.files.get_mut(number)?;
        let mut reader = LineReader::new(file.file.try_clone().ok()?, start, end, CHUNK);
        read_line(&mut reader, file, &self.id)
    }

    /// Where the line begins that ends before this byte.
    fn line_start(&mut self, number: usize, end: u64) -> Option<u64> {
        // The last byte before it is the line's own end, where it has one.
        let mut to = end - 1;
        while to > 0 {
            let (of, first, bytes) = &self.chunk;
            if *of != number || bytes.is_empty() || to <= *first || to > *first + bytes.len() as u64 {
                let from = to.saturating_sub(CHUNK as u64);
                let mut bytes = vec![0; usize::try_from(to - from).ok()?];
                self.files.get(number)?.file.read_exact_at(&mut bytes, from).ok()?;
                self.chunk = (number, from, bytes);
            }
            let (_, first, bytes) = &self.chunk;
            let part = bytes.get(..usize::try_from(to - first).ok()?)?;
            if let Some(at) = memchr::memrchr(b'\n', part) {
                return Some(first + at as u64 + 1);
            }
            to = *first;
        }
        Some(0)
    }

    fn take_newer(&mut self) -> Option<PlacedLine> {
        let line = self.newer.take().or_else(|| self.read_newer())?;
        self.offset = line.end.offset;
        self.older = Some(line.clone());
        Some(line)
    }

    fn take_older(&mut self) -> Option<PlacedLine> {
        let line = self.older.take().or_else(|| self.read_older())?;
        self.at = self.files.iter().position(|file| file.inode == line.start.inode).unwrap_or(self.at);
        self.offset = line.start.offset;
        (self.newer, self.reader) = (Some(line.clone()), None);
        Some(line)
    }
}

fn open_files(folder: &Path, id: &ServiceId) -> Vec<OpenFile> {
    let open = |(log, index): (PathBuf, PathBuf)| {
        let file = regular_file::open(&log).ok()?;
        let meta = file.metadata().ok()?;
        Some(OpenFile { inode: meta.ino(), file, index: LogIndex::open(&index), index_path: index, length: meta.len() })
    };
    generations(folder, id).into_iter().filter_map(open).collect()
}

fn read_line(reader: &mut LineReader, file: &mut OpenFile, id: &ServiceId) -> Option<PlacedLine> {
    let start = reader.offset();
    let mut record = file.index.at(start);
    if record.is_none() {
        // The index is written after the log, so that of a line just written may have come since.
        file.index = LogIndex::open(&file.index_path);
        record = file.index.at(start);
    }
    let limit = if record.is_some_and(|record| record.wrapped) { ENVELOPE } else { LINE };
    let read = reader.line(limit).ok()??;
    let end = LogPosition { inode: file.inode, offset: reader.offset() };
    Some(PlacedLine { line: finished(id, record, read), start: LogPosition { inode: file.inode, offset: start }, end })
}

/// Reads the lines of several services by time, in either direction.
#[derive(Debug)]
pub struct LogCursor {
    folder: PathBuf,
    services: Vec<ServiceCursor>,
}

impl LogCursor {
    /// Stands at a place of these services' logs.
    #[must_use]
    pub fn new(folder: &Path, ids: &[ServiceId], start: &ScrollStart) -> Self {
        let services = ids.iter().map(|id| ServiceCursor::new(folder, id, start)).collect();
        Self { folder: folder.to_path_buf(), services }
    }

    /// Where it stands.
    #[must_use]
    pub fn positions(&self) -> LogPositions {
        self.services.iter().map(|service| (service.id.clone(), service.position())).collect()
    }

    /// Takes notice of what was written since. False: nothing was.
    pub fn refresh(&mut self) -> bool {
        let mut grown = false;
        for service in &mut self.services {
            grown |= service.refresh(&self.folder);
        }
        grown
    }

    /// The next line by time.
    pub fn newer(&mut self) -> Option<PlacedLine> {
        let mut best: Option<(i64, usize)> = None;
        for (number, service) in self.services.iter_mut().enumerate() {
            if let Some(line) = service.peek_newer()
                && best.is_none_or(|(micros, _)| line.line.micros < micros)
            {
                best = Some((line.line.micros, number));
            }
        }
        self.services.get_mut(best?.1)?.take_newer()
    }

    /// The line before, by time.
    pub fn older(&mut self) -> Option<PlacedLine> {
        let mut best: Option<(i64, usize)> = None;
        for (number, service) in self.services.iter_mut().enumerate() {
            if let Some(line) = service.peek_older()
                && best.is_none_or(|(micros, _)| line.line.micros >= micros)
            {
                best = Some((line.line.micros, number));
            }
        }
        self.services.get_mut(best?.1)?.take_older()
    }

    fn place(&mut self, id: &ServiceId, position: LogPosition) {
        if let Some(service) = self.services.iter_mut().find(|service| service.id == *id) {
            service.go(position);
        }
    }
}

/// The lines that a viewer shows, and the way to those before and after them.
#[derive(Debug)]
pub struct LogWindow {
    top: LogCursor,
    bottom: LogCursor,
    lines: VecDeque<PlacedLine>,
    filter: Option<Regex>,
}

impl LogWindow {
    /// An empty window at a place. With a filter, only lines that match are shown.
    #[must_use]
    pub fn new(folder: &Path, ids: &[ServiceId], start: &ScrollStart, filter: Option<Regex>) -> Self {
        let (top, bottom) = (LogCursor::new(folder, ids, start), LogCursor::new(folder, ids, start));
        Self { top, bottom, lines: VecDeque::new(), filter }
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &PlacedLine> {
        self.lines.iter()
    }

    /// How many lines there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Adds up to `count` older lines at the top; returns how many there were.
    pub fn extend_up(&mut self, count: usize) -> usize {
        let mut added = 0;
        while added < count
            && let Some(line) = self.top.older()
        {
            if takes(self.filter.as_ref(), &line) {
                self.lines.push_front(line);
                added += 1;
            }
        }
        added
    }

    /// Adds up to `count` newer lines at the bottom; returns how many there were.
    pub fn extend_down(&mut self, count: usize) -> usize {
        let mut added = 0;
        while added < count
            && let Some(line) = self.bottom.newer()
        {
            if takes(self.filter.as_ref(), &line) {
                self.lines.push_back(line);
                added += 1;
            }
        }
        added
    }

    /// Leaves out lines at the top until at most `most` are left.
    pub fn trim_top(&mut self, most: usize) {
        while self.lines.len() > most
            && let Some(line) = self.lines.pop_front()
        {
            self.top.place(&line.line.id, line.end);
        }
    }

    /// Leaves out lines at the bottom until at most `most` are left.
    pub fn trim_bottom(&mut self, most: usize) {
        while self.lines.len() > most
            && let Some(line) = self.lines.pop_back()
        {
            self.bottom.place(&line.line.id, line.start);
        }
    }

    /// Takes notice of what was written since; a last line that had no end is read again. False: nothing was written.
    pub fn refresh(&mut self) -> bool {
        let grown = self.bottom.refresh();
        if grown {
            self.top.refresh();
            let open: Vec<PlacedLine> = self.lines.iter().filter(|line| !line.line.ended).cloned().collect();
            self.lines.retain(|line| line.line.ended);
            for line in open {
                self.bottom.place(&line.line.id, line.start);
            }
        }
        grown
    }

    /// Looks for a line that passes the filter, from here on; returns the place before it. `None`: there is none in that direction.
    #[must_use]
    pub fn find(
        folder: &Path,
        ids: &[ServiceId],
        from: &LogPositions,
        pattern: &Regex,
        filter: Option<&Regex>,
        older: bool,
    ) -> Option<LogPositions> {
        let mut cursor = LogCursor::new(folder, ids, &ScrollStart::At(from.clone()));
        loop {
            let before = if older { None } else { Some(cursor.positions()) };
            let line = if older { cursor.older()? } else { cursor.newer()? };
            if takes(filter, &line) && takes(Some(pattern), &line) {
                return Some(before.unwrap_or_else(|| cursor.positions()));
            }
        }
    }

    /// Where the first line of the window lies.
    #[must_use]
    pub fn top(&self) -> LogPositions {
        self.top.positions()
    }

    /// Where the lines after the window begin.
    #[must_use]
    pub fn bottom(&self) -> LogPositions {
        self.bottom.positions()
    }
}

fn takes(filter: Option<&Regex>, line: &PlacedLine) -> bool {
    filter.is_none_or(|filter| visible_text::matches(filter, &line.line.bytes))
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

    fn text(line: &PlacedLine) -> String {
        String::from_utf8(line.line.bytes.clone()).unwrap()
    }

    /// Two services whose lines alternate by time, in several rotated files each.
    fn written(dir: &Path, count: usize) -> Vec<ServiceId> {
        let spec = LogSpec { max_size: ByteSize(400), max_files: 99, ..LogSpec::default() };
        let ids = [id("a"), id("b")];
        let mut files: Vec<LogFile> = ids.iter().map(|id| LogFile::open(dir, id, &spec).unwrap()).collect();
        for number in 0..count {
            let name = if number % 2 == 0 { "a" } else { "b" };
            files[number % 2].append(LogStream::Stdout, number as i64 * 1000, format!("{name} line {number}\n").as_bytes());
        }
        ids.to_vec()
    }

    #[test]
    fn both_directions_give_the_same_lines_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let ids = written(dir.path(), 200);
        let mut cursor = LogCursor::new(dir.path(), &ids, &ScrollStart::Oldest);
        let forward: Vec<String> = std::iter::from_fn(|| cursor.newer()).map(|line| text(&line)).collect();
        assert_eq!(forward.len(), 200);
        assert_eq!((forward[0].as_str(), forward[199].as_str()), ("a line 0", "b line 199"));
        let mut backward: Vec<String> = std::iter::from_fn(|| cursor.older()).map(|line| text(&line)).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        // To and fro in the middle.
        for _ in 0..50 {
            cursor.newer();
        }
        let one = cursor.newer().unwrap();
        assert_eq!(cursor.older().unwrap(), one);
        assert_eq!(text(&cursor.older().unwrap()), "b line 49");
    }

    #[test]
    fn a_time_and_a_kept_place_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let ids = written(dir.path(), 200);
        let mut cursor = LogCursor::new(dir.path(), &ids, &ScrollStart::Time(101_000));
        let kept = serde_json::to_string(&cursor.positions()).unwrap();
        assert_eq!(text(&cursor.newer().unwrap()), "b line 101");
        let mut again = LogCursor::new(dir.path(), &ids, &ScrollStart::At(serde_json::from_str(&kept).unwrap()));
        assert_eq!(text(&again.older().unwrap()), "a line 100");
        assert!(LogCursor::new(dir.path(), &ids, &ScrollStart::Time(999_000)).newer().is_none());
    }

    #[test]
    fn a_window_scrolls_grows_and_filters() {
        let dir = tempfile::tempdir().unwrap();
        let ids = written(dir.path(), 100);
        let mut window = LogWindow::new(dir.path(), &ids, &ScrollStart::Newest, None);
        let shown = |window: &LogWindow| window.lines().map(text).collect::<Vec<_>>().join("|");
        assert_eq!(window.extend_up(3), 3);
        assert_eq!(shown(&window), "b line 97|a line 98|b line 99");
        window.extend_up(2);
        window.trim_bottom(3);
        assert_eq!(shown(&window), "b line 95|a line 96|b line 97");
        assert_eq!(window.extend_down(9), 2);
        window.trim_top(1);
        assert_eq!(shown(&window), "b line 99");
        window.extend_up(1);
        assert_eq!(shown(&window), "a line 98|b line 99");
        assert!(!window.refresh());

        let spec = LogSpec { max_size: ByteSize(400), max_files: 99, ..LogSpec::default() };
        let mut file = LogFile::open(dir.path(), &id("a"), &spec).unwrap();
        file.append(LogStream::Stdout, 200_000, b"half");
        assert!(window.refresh());
        window.extend_down(9);
        assert_eq!(shown(&window), "a line 98|b line 99|half");
        file.append(LogStream::Stdout, 201_000, b" and whole\nnext\n");
        assert!(window.refresh());
        window.extend_down(9);
        assert_eq!(shown(&window), "a line 98|b line 99|half and whole|next");

        let mut sevens = LogWindow::new(dir.path(), &ids, &ScrollStart::Oldest, Some(Regex::new("7$").unwrap()));
        sevens.extend_down(3);
        assert_eq!(shown(&sevens), "b line 7|b line 17|b line 27");
    }

    #[test]
    fn a_search_goes_either_way_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let ids = written(dir.path(), 100);
        let end = LogCursor::new(dir.path(), &ids, &ScrollStart::Newest).positions();
        let pattern = Regex::new("line [0-9]*5$").unwrap();
        let found = LogWindow::find(dir.path(), &ids, &end, &pattern, None, true).unwrap();
        let first = |at: &LogPositions| text(&LogCursor::new(dir.path(), &ids, &ScrollStart::At(at.clone())).newer().unwrap());
        assert_eq!(first(&found), "b line 95");
        let before = LogWindow::find(dir.path(), &ids, &found, &pattern, None, true).unwrap();
        assert_eq!(first(&before), "b line 85");
        assert_eq!(LogWindow::find(dir.path(), &ids, &before, &pattern, None, false).unwrap(), before);
        assert!(LogWindow::find(dir.path(), &ids, &end, &Regex::new("nowhere").unwrap(), None, true).is_none());
    }

    #[test]
    fn a_long_line_is_cut_in_both_directions() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = LogFile::open(dir.path(), &id("a"), &LogSpec::default()).unwrap();
        file.append(LogStream::Stdout, 1, format!("one\n{}\nlast\n", "x".repeat(3 * LINE)).as_bytes());
        let ids = [id("a")];
        let mut cursor = LogCursor::new(dir.path(), &ids, &ScrollStart::Newest);
        assert_eq!(text(&cursor.older().unwrap()), "last");
        let long = cursor.older().unwrap();
        assert!(text(&long).ends_with(&format!("[line cut: {} more bytes]", 2 * LINE)), "{}", long.line.bytes.len());
        assert_eq!(text(&cursor.older().unwrap()), "one");
        assert_eq!(text(&cursor.newer().unwrap()), "one");
        assert_eq!(cursor.newer().unwrap(), long);
    }
}
