//! One service's log file with its index, and their rotation by size and count.
//!
//! `NAME.log` holds the bytes as they came. `NAME.idx` holds a record of 24 bytes for each piece appended: where it
//! begins, when it came, from which stream. Two streams share the file, so a piece is cut at line ends: a line is never
//! torn by the other stream unless the pump no longer holds it back (it is longer than 64 KiB, or rests). A file ends with a line too, unless the
//! next line end is further than [`OVER`] behind the cap: output without line ends must not fill the disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use devrun_keeper::regular_file;
use devrun_model::{ServiceId, service::LogSpec};

use super::envelope;
use super::log_stream::LogStream;
use super::lost_file::{LOOK_EVERY_MICROS, LogPlace};

/// Bytes of one index record: offset u64, microseconds since 1970 i64, stream u8 (and 1 in the u32's last byte
/// where the piece is in envelopes), generation u32; little endian. The
/// generation counts the starts of the service over the life of its log, so that `logs --previous` needs nothing else.
pub const RECORD: usize = 24;

/// Bytes by which a file may exceed its cap so that it ends with a line.
pub const OVER: u64 = 64 * 1024;

/// Open file and index.
#[derive(Debug)]
pub struct LogFile {
    folder: PathBuf,
    name: String,
    spec: LogSpec,
    file: File,
    index: File,
    size: u64,
    last: Option<(LogStream, i64)>,
    generation: u32,
    ends_with_newline: bool,
    place: LogPlace,
    /// When the file's name was last looked at.
    looked: i64,
    /// The file is gone from its name and cannot be made again; what is written would be seen by nobody.
    gone: Option<io::Error>,
    /// By stream: its last line was given an end that had not come, so that the end is left out when it comes.
    ended_early: [bool; 3],
    /// Output that could not be written since the last success.
    lost: Option<LogLoss>,
    /// A loss that is over, until it is asked for.
    ended: Option<LogLoss>,
}

/// Output that could not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLoss {
    /// Bytes.
    pub bytes: u64,
    /// Line ends among them.
    pub lines: u64,
    /// What the system said, as "No space left on device".
    pub why: String,
}

impl LogLoss {
    /// Begins to count.
    #[must_use]
    pub fn new(error: &io::Error) -> Self {
        let why = match error.raw_os_error() {
            Some(code) => nix::errno::Errno::from_raw(code).desc().to_owned(),
            None => error.to_string(),
        };
        Self { bytes: 0, lines: 0, why }
    }
    /// Counts a piece.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
    }
}

impl std::fmt::Display for LogLoss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = if self.lines == 1 { "line" } else { "lines" };
        write!(f, "{} {lines} ({} bytes) of log output lost: {}", self.lines, self.bytes, self.why)
    }
}

/// The live log file of a service.
#[must_use]
pub fn path(folder: &Path, id: &ServiceId) -> PathBuf {
    folder.join(format!("{id}.log"))
}

fn numbered(folder: &Path, name: &str, kind: &str, number: u32) -> PathBuf {
    if number == 0 { folder.join(format!("{name}.{kind}")) } else { folder.join(format!("{name}.{kind}.{number}")) }
}

fn open(path: &Path) -> io::Result<File> {
    regular_file::append(path)
}

impl LogFile {
    /// Opens for appending.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open(folder: &Path, id: &ServiceId, spec: &LogSpec) -> io::Result<Self> {
        let name = id.as_str().to_owned();
        if let Some(parent) = folder.join(&name).parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let place = LogPlace::of(folder);
        let [file, index] =
            ["log", "idx"].map(|kind| numbered(folder, &name, kind, 0)).map(|path| place.clear(&path).and_then(|()| open(&path)));
        let (file, index) = (file?, index?);
        let size = file.metadata()?.len();
        let ends_with_newline = size == 0 || ends_with_newline(&numbered(folder, &name, "log", 0), size)?;
        let generation = last_generation(&numbered(folder, &name, "idx", 0))
            .or_else(|| last_generation(&numbered(folder, &name, "idx", 1)))
            .unwrap_or(0);
        Ok(Self {
            folder: folder.to_path_buf(),
            name,
            spec: spec.clone(),
            file,
            index,
            size,
            last: None,
            generation,
            ends_with_newline,
            ended_early: [false; 3],
            place,
            looked: 0,
            gone: None,
            lost: None,
            ended: None,
        })
    }

    /// Takes over changed settings.
    pub fn configure(&mut self, spec: &LogSpec) {
        if self.spec != *spec {
            self.spec = spec.clone();
            // The next piece may be of the other format: it gets a record of its own.
            self.last = None;
        }
    }

    /// What comes from here on belongs to a new start of the service. A start that says nothing leaves its mark too.
    pub fn begin(&mut self, micros: i64) {
        // Its first line must not become the end of a line that the start before left unfinished.
        if !self.ends_with_newline && self.file.write_all(b"\n").is_ok() {
            self.size += 1;
            self.ends_with_newline = true;
        }
        self.ended_early = [false; 3];
        self.generation = self.generation.wrapping_add(1);
        self.record(LogStream::Devrun, micros);
        self.last = None;
    }

    /// The start of the service that writes now, counted over the life of its log.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    fn record(&mut self, stream: LogStream, micros: i64) {
        let mut record = [0u8; RECORD];
        record[0..8].copy_from_slice(&self.size.to_le_bytes());
        record[8..16].copy_from_slice(&micros.to_le_bytes());
        record[16..20].copy_from_slice(&(stream as u32).to_le_bytes());
        record[19] = u8::from(self.spec.json);
        record[20..24].copy_from_slice(&self.generation.to_le_bytes());
        if self.index.write_all(&record).is_ok() {
            self.last = Some((stream, micros));
        }
    }

    /// Appends a piece. A full disk loses the piece and counts it; the service never notices.
    pub fn append(&mut self, stream: LogStream, micros: i64, bytes: &[u8]) {
        let ended_early = self.ended_early.get_mut(stream as usize).is_some_and(std::mem::take);
        let bytes = if ended_early { bytes.strip_prefix(b"\n").unwrap_or(bytes) } else { bytes };
        if bytes.is_empty() {
            return;
        }
        if micros.saturating_sub(self.looked) >= LOOK_EVERY_MICROS {
            self.looked = micros;
            self.gone = self.stay_in_place(micros).err();
        }
        if let Some(error) = self.gone.take() {
            self.lose(bytes, &error);
            self.gone = Some(error);
            return;
        }
        if self.spec.json {
            // An envelope is a line of its own.
            self.set_ended_early(stream, !bytes.ends_with(b"\n"));
            let wrapped = envelope::wrap(bytes, stream, micros);
            self.put(stream, micros, &wrapped);
        } else {
            self.put(stream, micros, bytes);
        }
    }

    /// Makes the files again whose names lead elsewhere or nowhere, and says so in the new one.
    fn stay_in_place(&mut self, micros: i64) -> io::Result<()> {
        let [log, index] = ["log", "idx"].map(|kind| numbered(&self.folder, &self.name, kind, 0));
        let is_kept = self.place.keeps(&log, &self.file)?;
        if is_kept && self.place.keeps(&index, &self.index)? {
            return Ok(());
        }
        self.place.clear(&log)?;
        self.place.clear(&index)?;
        let (file, records) = (open(&log)?, open(&index)?);
        self.last = None;
        if is_kept {
            self.index = records;
            return Ok(());
        }
        let size = file.metadata()?.len();
        // The records are those of the file that is gone.
        records.set_len(0)?;
        (self.file, self.index, self.size, self.ends_with_newline) = (file, records, size, size == 0);
        self.ended_early = [false; 3];
        if self.lost.is_none() {
            let note = format!("devrun: {} was deleted or replaced; lines written shortly before are missing\n", log.display());
            self.note(micros, note)?;
        }
        Ok(())
    }

    fn set_ended_early(&mut self, stream: LogStream, ended_early: bool) {
        if let Some(slot) = self.ended_early.get_mut(stream as usize) {
            *slot = ended_early;
        }
    }

    fn put(&mut self, stream: LogStream, micros: i64, mut bytes: &[u8]) {
        while self.size + bytes.len() as u64 > self.spec.max_size.0 {
            let at_line_end = self.size > 0 && self.ends_with_newline;
            if !at_line_end {
                let room = (self.spec.max_size.0 + OVER).saturating_sub(self.size);
                let Some((now, later)) = usize::try_from(room).ok().and_then(|room| self.cut(bytes, room)) else { break };
                self.write(stream, micros, now);
                bytes = later;
            }
            // A failed rotation keeps the old file; the size cap gives way before a line is lost.
            if self.size > 0 && self.rotate().is_err() {
                self.last = None;
                break;
            }
        }
        self.write(stream, micros, bytes);
    }

    /// Takes a piece apart that is longer than the room: behind its last line end there, or where the room ends. An envelope
    /// is never torn.
    fn cut<'b>(&self, bytes: &'b [u8], room: usize) -> Option<(&'b [u8], &'b [u8])> {
        let fits = bytes.get(..room)?;
        let at = match memchr::memrchr(b'\n', fits) {
            Some(at) => at + 1,
            None if self.spec.json => memchr::memchr(b'\n', bytes)? + 1,
            None => room,
        };
        Some(bytes.split_at(at)).filter(|(_, later)| !later.is_empty())
    }

    /// What is being lost, and what was lost until writing worked again; each end is handed out once.
    pub fn losses(&mut self) -> (Option<&LogLoss>, Option<LogLoss>) {
        (self.lost.as_ref(), self.ended.take())
    }

    /// Whether [`LogFile::losses`] has something to say.
    #[must_use]
    pub fn has_losses(&self) -> bool {
        self.lost.is_some() || self.ended.is_some()
    }

    /// Goes on counting what was lost before the file could be opened.
    pub fn lost_before(&mut self, loss: LogLoss) {
        self.lost = Some(loss);
    }

    /// Says in the file what is missing at this place.
    fn note_loss(&mut self, micros: i64) -> io::Result<()> {
        let Some(loss) = &self.lost else { return Ok(()) };
        self.note(micros, format!("devrun: {loss}\n"))?;
        self.ended = self.lost.take();
        Ok(())
    }

    /// A line of our own.
    fn note(&mut self, micros: i64, line: String) -> io::Result<()> {
        let mut note = line.into_bytes();
        if self.spec.json {
            note = envelope::wrap(&note, LogStream::Devrun, micros);
        }
        if !self.ends_with_newline && self.size > 0 {
            note.insert(0, b'\n');
        }
        self.record(LogStream::Devrun, micros);
        self.append_whole(&note).map_err(|(error, _)| error)?;
        self.last = None;
        Ok(())
    }

    /// Appends; of a piece that did not fit, the error and how much of it was kept.
    fn append_whole(&mut self, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.size += bytes.len() as u64;
                self.ends_with_newline = bytes.last() == Some(&b'\n');
                Ok(())
            }
            Err(error) => {
                // A short write may have happened: the file itself knows.
                let size = self.file.metadata().map_or(self.size, |meta| meta.len());
                let kept = usize::try_from(size.saturating_sub(self.size)).unwrap_or(0).min(bytes.len());
                if let Some(last) = kept.checked_sub(1).and_then(|at| bytes.get(at)) {
                    self.ends_with_newline = *last == b'\n';
                }
                self.size = size;
                self.last = None;
                Err((error, kept))
            }
        }
    }

    fn lose(&mut self, bytes: &[u8], error: &io::Error) {
        self.lost.get_or_insert_with(|| LogLoss::new(error)).add(bytes);
    }

    fn write(&mut self, stream: LogStream, micros: i64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.lost.is_some()
            && let Err(error) = self.note_loss(micros)
        {
            return self.lose(bytes, &error);
        }
        if let Some((other, _)) = self.last.filter(|(last, _)| *last != stream)
            && !self.ends_with_newline
            && self.file.write_all(b"\n").is_ok()
        {
            self.size += 1;
            self.set_ended_early(other, true);
        }
        // Pieces of one stream within a millisecond share a record.
        let same = self.last.is_some_and(|(last, at)| last == stream && micros - at < 1000);
        if !same {
            self.record(stream, micros);
        }
        if let Err((error, kept)) = self.append_whole(bytes) {
            self.lose(bytes.get(kept..).unwrap_or_default(), &error);
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let keep = self.spec.max_files.max(1);
        for kind in ["log", "idx"] {
            for number in (0..keep).rev() {
                let from = numbered(&self.folder, &self.name, kind, number);
                if number + 1 >= keep {
                    match fs::remove_file(&from) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                } else if from.exists() {
                    fs::rename(&from, numbered(&self.folder, &self.name, kind, number + 1))?;
                }
            }
        }
        self.file = open(&numbered(&self.folder, &self.name, "log", 0))?;
        self.index = open(&numbered(&self.folder, &self.name, "idx", 0))?;
        self.size = 0;
        self.last = None;
        self.ends_with_newline = true;
        Ok(())
    }
}

/// Whether the last byte of a file that is not empty ends a line.
fn ends_with_newline(path: &Path, size: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    regular_file::open(path)?.read_exact_at(&mut last, size - 1)?;
    Ok(last == [b'\n'])
}

/// The generation of an index's last record.
fn last_generation(index: &Path) -> Option<u32> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = regular_file::open(index).ok()?;
    let whole = file.metadata().ok()?.len() / RECORD as u64;
    file.seek(SeekFrom::Start(whole.checked_sub(1)? * RECORD as u64)).ok()?;
    let mut record = [0u8; RECORD];
    file.read_exact(&mut record).ok()?;
    Some(u32::from_le_bytes(record[20..24].try_into().ok()?))
}

/// The files of one service, oldest first: log and index.
#[must_use]
pub fn generations(folder: &Path, id: &ServiceId) -> Vec<(PathBuf, PathBuf)> {
    let name = id.as_str();
    let mut found = Vec::new();
    // What a link leads to is not ours, and may be anything.
    if regular_file::check_directories(folder, &path(folder, id)).is_err() {
        return found;
    }
    for number in 0.. {
        let log = numbered(folder, name, "log", number);
        let Ok(meta) = fs::metadata(&log) else { break };
        // What is put in a file's place later has no lines.
        if !meta.is_file() {
            continue;
        }
        found.push((log, numbered(folder, name, "idx", number)));
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::{ByteSize, ServiceName};

    #[test]
    fn rotation_keeps_the_count_with_the_live_file_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("api").unwrap());
        let spec = LogSpec { max_size: ByteSize(100), max_files: 3, ..LogSpec::default() };
        let mut log = LogFile::open(dir.path(), &id, &spec).unwrap();
        for number in 0..100 {
            log.append(LogStream::Stdout, number * 2000, format!("line {number:04}\n").as_bytes());
        }
        let files = generations(dir.path(), &id);
        assert_eq!(files.len(), 3);
        let all: String = files.iter().map(|(log, _)| fs::read_to_string(log).unwrap()).collect();
        assert!(all.ends_with("line 0099\n"), "{all}");
        assert!(files.iter().all(|(log, _)| fs::metadata(log).unwrap().len() <= 100));
    }

    #[test]
    fn a_line_cut_by_the_other_stream_gets_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("api").unwrap());
        let mut log = LogFile::open(dir.path(), &id, &LogSpec::default()).unwrap();
        log.append(LogStream::Stdout, 1, b"no end");
        log.append(LogStream::Stderr, 2, b"other\n");
        assert_eq!(fs::read_to_string(path(dir.path(), &id)).unwrap(), "no end\nother\n");
    }

    #[test]
    fn the_end_of_a_line_that_was_ended_for_another_makes_no_empty_line() {
        for (json, expected) in [(false, "Password: |oops|next"), (true, "Password: |oops|next")] {
            let dir = tempfile::tempdir().unwrap();
            let id = ServiceId::single(&ServiceName::new("api").unwrap());
            let mut log = LogFile::open(dir.path(), &id, &LogSpec { json, ..LogSpec::default() }).unwrap();
            log.append(LogStream::Stdout, 1, b"Password: ");
            log.append(LogStream::Stderr, 2, b"oops\n");
            log.append(LogStream::Stdout, 3, b"\nnext\n");
            let lines = super::super::read::lines(dir.path(), &id, &super::super::LogQuery::default()).unwrap();
            let lines: Vec<_> = lines.map(|line| String::from_utf8(line.unwrap().bytes).unwrap()).collect();
            assert_eq!(lines.join("|"), expected, "{json}");
        }
    }

    /// Sizes of the kept files, oldest first.
    fn sizes(dir: &Path, id: &ServiceId) -> Vec<u64> {
        generations(dir, id).iter().map(|(log, _)| fs::metadata(log).unwrap().len()).collect()
    }

    #[test]
    fn output_without_line_ends_is_rotated_too() {
        for piece in [1usize, 1000, 65_537, 300_000] {
            for mark in [b'\0', b'\r'] {
                let dir = tempfile::tempdir().unwrap();
                let id = ServiceId::single(&ServiceName::new("bar").unwrap());
                let cap = 100_000;
                let spec = LogSpec { max_size: ByteSize(cap), max_files: 3, ..LogSpec::default() };
                let mut log = LogFile::open(dir.path(), &id, &spec).unwrap();
                let total = if piece == 1 { 400_000 } else { 3_000_000 };
                for number in 0..total / piece {
                    log.append(LogStream::Stdout, number as i64, &vec![mark; piece]);
                }
                let sizes = sizes(dir.path(), &id);
                assert_eq!(sizes.len(), 3, "{piece}");
                assert!(sizes.iter().all(|size| *size <= cap + OVER), "{piece}: {sizes:?}");
                assert!(sizes[..2].iter().all(|size| *size == cap + OVER), "{piece}: {sizes:?}");
            }
        }
    }

    #[test]
    fn a_line_within_reach_is_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("api").unwrap());
        let spec = LogSpec { max_size: ByteSize(1000), max_files: 9, ..LogSpec::default() };
        let mut log = LogFile::open(dir.path(), &id, &spec).unwrap();
        let line = format!("{}\n", "x".repeat(60_000));
        for number in 0..3 {
            log.append(LogStream::Stdout, number, line.as_bytes());
        }
        // One piece of many lines is taken apart between them.
        log.append(LogStream::Stdout, 4, "short line\n".repeat(20_000).as_bytes());
        for (path, _) in generations(dir.path(), &id) {
            assert!(fs::read(path).unwrap().ends_with(b"\n"));
        }
        let all: Vec<u8> = generations(dir.path(), &id).iter().flat_map(|(log, _)| fs::read(log).unwrap()).collect();
        assert_eq!(all.len(), 3 * line.len() + 20_000 * 11);
    }

    #[test]
    fn a_file_that_grew_before_there_was_a_cap_is_rotated_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("old").unwrap());
        let spec = LogSpec { max_size: ByteSize(1000), max_files: 3, ..LogSpec::default() };
        File::create(path(dir.path(), &id)).unwrap().set_len(10_000_000).unwrap();
        let mut log = LogFile::open(dir.path(), &id, &spec).unwrap();
        log.append(LogStream::Stdout, 1, b"new");
        assert_eq!(sizes(dir.path(), &id), [10_000_000, 3]);
    }

    #[test]
    fn an_envelope_is_never_torn() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("api").unwrap());
        let spec = LogSpec { max_size: ByteSize(1000), max_files: 99, json: true, ..LogSpec::default() };
        let mut log = LogFile::open(dir.path(), &id, &spec).unwrap();
        log.append(LogStream::Stdout, 1, &vec![0; 300_000]);
        for (path, _) in generations(dir.path(), &id) {
            for line in fs::read(path).unwrap().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                assert!(envelope::unwrap(line).is_some_and(|line| line.len() <= 64 * 1024));
            }
        }
    }
}
