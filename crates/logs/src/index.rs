//! The index of a log file, read in blocks: a file may have millions of records, and only those near the line that is looked
//! at are needed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::log_stream::LogStream;
use super::rotating_log_file::RECORD;
use devrun_keeper::regular_file;

/// Records that are held at a time.
const BLOCK: u64 = 2048;

/// One piece that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRecord {
    /// Its first byte in the log file.
    pub start: u64,
    /// Microseconds since 1970.
    pub micros: i64,
    /// From where.
    pub stream: LogStream,
    /// Its lines are in envelopes (`log.format = "json"`).
    pub wrapped: bool,
    /// The start of the service that wrote it.
    pub generation: u32,
}

/// The records of one log file. An index that is missing or cannot be read has none.
#[derive(Debug)]
pub struct LogIndex {
    file: Option<File>,
    count: u64,
    /// Number of the first record of `block`.
    first: u64,
    block: Vec<IndexRecord>,
}

impl LogIndex {
    /// Opens an index; what is appended later is not seen.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let file = regular_file::open(path).ok();
        let length = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        Self { file, count: length / RECORD as u64, first: 0, block: Vec::new() }
    }

    /// Number of records.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// A record by its number.
    pub fn get(&mut self, number: u64) -> Option<IndexRecord> {
        if number >= self.count {
            return None;
        }
        if number < self.first || number >= self.first + self.block.len() as u64 {
            self.load(number.saturating_sub(BLOCK / 2));
        }
        self.block.get(usize::try_from(number.checked_sub(self.first)?).ok()?).copied()
    }

    /// Where a start of the service begins in the file; beyond every end where there is nothing of it. Starts are counted upwards.
    pub fn start_of(&mut self, generation: u32) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.read(middle, 1).first() {
                Some(record) if record.generation < generation => low = middle + 1,
                _ => high = middle,
            }
        }
        if low == self.count && self.count > 0 {
            return u64::MAX;
        }
        self.get(low).map_or(0, |record| record.start)
    }

    /// Where the first piece begins that came at this time or later (microseconds since 1970); `None` where all came before.
    pub fn first_at(&mut self, micros: i64) -> Option<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.read(middle, 1).first() {
                Some(record) if record.micros < micros => low = middle + 1,
                Some(_) => high = middle,
                None => return None,
            }
        }
        self.get(low).map(|record| record.start)
    }

    /// The record of the piece that holds this byte.
    pub fn at(&mut self, offset: u64) -> Option<IndexRecord> {
        if let (Some(first), Some(last)) = (self.block.first(), self.block.last()) {
            let whole = self.first + self.block.len() as u64 == self.count;
            if first.start <= offset && (offset < last.start || whole) {
                let next = self.block.partition_point(|record| record.start <= offset);
                return next.checked_sub(1).and_then(|at| self.block.get(at)).copied();
            }
        }
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.read(middle, 1).first() {
                Some(record) if record.start <= offset => low = middle + 1,
                Some(_) => high = middle,
                None => return None,
            }
        }
        self.get(low.checked_sub(1)?)
    }

    fn load(&mut self, first: u64) {
        self.first = first;
        self.block = self.read(first, BLOCK.min(self.count - first));
    }

    fn read(&self, first: u64, count: u64) -> Vec<IndexRecord> {
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0) * RECORD];
        match &self.file {
            Some(file) if file.read_exact_at(&mut bytes, first * RECORD as u64).is_ok() => {
                bytes.chunks_exact(RECORD).map(parse).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn parse(record: &[u8]) -> IndexRecord {
    let number = |from: usize| u64::from_le_bytes(record[from..from + 8].try_into().unwrap_or_default());
    let stream = match record[16] {
        1 => LogStream::Stderr,
        2 => LogStream::Devrun,
        _ => LogStream::Stdout,
    };
    let generation = u32::from_le_bytes(record[20..24].try_into().unwrap_or_default());
    IndexRecord { start: number(0), micros: number(8).cast_signed(), stream, wrapped: record[19] == 1, generation }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn any_offset_finds_its_record_in_either_direction() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.idx");
        let mut bytes = Vec::new();
        for number in 0..10_000u64 {
            let mut record = [0u8; RECORD];
            record[0..8].copy_from_slice(&(number * 10).to_le_bytes());
            record[8..16].copy_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&record);
        }
        bytes.extend_from_slice(b"torn");
        fs::write(&path, &bytes).unwrap();
        let mut index = LogIndex::open(&path);
        assert_eq!(index.count(), 10_000);
        let offsets = (0..14_000u32).map(|number| u64::from(number * 7));
        for offset in offsets.clone().chain(offsets.rev()) {
            assert_eq!(index.at(offset).unwrap().micros, i64::try_from((offset / 10).min(9_999)).unwrap(), "{offset}");
        }
        assert_eq!(index.get(9_999).unwrap().start, 99_990);
        assert_eq!((index.first_at(-1), index.first_at(17), index.first_at(10_000)), (Some(0), Some(170), None));
        assert_eq!(index.get(10_000), None);
        assert_eq!(LogIndex::open(&dir.path().join("absent")).at(5), None);
    }
}
