//! Takes a log file apart into lines, a window at a time, so the size of a file, or of a line in it, does not decide how much
//! memory a reader takes. A line longer than [`LINE`] is cut, and says so.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use devrun_model::ServiceId;

use super::envelope;
use super::index::IndexRecord;
use super::log_stream::LogStream;

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

/// Bytes of a line that are shown; of a longer one the rest is left out.
pub(crate) const LINE: usize = 64 * 1024;
/// An envelope holds a line of [`LINE`] bytes, of which each may take six to write.
pub(super) const ENVELOPE: usize = 8 * LINE;
/// What one reader holds of a file at most.
pub(super) const WINDOW: usize = 256 * 1024;

/// What was read of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadLine {
    pub bytes: Vec<u8>,
    /// Bytes of it that were left out.
    pub cut: u64,
    /// It has its newline.
    pub ended: bool,
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
