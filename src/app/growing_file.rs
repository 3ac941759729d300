//! The log of events as a command reads it: line by line while it grows, and through its rotation.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use devrun_keeper::regular_file;

/// Reads whole lines of a file that grows and is renamed once in a while.
pub struct GrowingFile {
    path: PathBuf,
    /// The rotated file first, then the live one from where it was left.
    begun: bool,
    inode: u64,
    offset: u64,
}

impl GrowingFile {
    /// From its beginning.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), begun: false, inode: 0, offset: 0 }
    }

    /// The lines that have come since the last call, without their ends.
    pub fn lines(&mut self) -> Vec<String> {
        let rotated = self.path.with_extension("jsonl.1");
        let mut found = Vec::new();
        if !self.begun {
            self.begun = true;
            found.extend(read(&rotated, 0).map(|(lines, _)| lines).unwrap_or_default());
        }
        let Ok(meta) = fs::metadata(&self.path) else { return found };
        if self.inode != 0 && meta.ino() != self.inode {
            // What came before it was renamed lies in the rotated file now.
            if fs::metadata(&rotated).is_ok_and(|meta| meta.ino() == self.inode) {
                found.extend(read(&rotated, self.offset).map(|(lines, _)| lines).unwrap_or_default());
            }
            self.offset = 0;
        }
        self.inode = meta.ino();
        if let Ok((lines, end)) = read(&self.path, self.offset) {
            found.extend(lines);
            self.offset = end;
        }
        found
    }
}

fn read(path: &Path, from: u64) -> std::io::Result<(Vec<String>, u64)> {
    let mut file = regular_file::open_below(path.parent().unwrap_or(path), path)?;
    if file.metadata()?.len() <= from {
        return Ok((Vec::new(), from));
    }
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect();
    Ok((lines, from + whole as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_rotation_loses_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        fs::write(dir.path().join("events.jsonl.1"), "0\n").unwrap();
        fs::write(&path, "1\n2\nhal").unwrap();
        let mut reader = GrowingFile::new(&path);
        assert_eq!(reader.lines(), ["0", "1", "2"]);
        fs::write(&path, "1\n2\nhalf\n3\n").unwrap();
        assert_eq!(reader.lines(), ["half", "3"]);
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("4\n");
        fs::write(&path, text).unwrap();
        fs::rename(&path, dir.path().join("events.jsonl.1")).unwrap();
        fs::write(&path, "5\n").unwrap();
        assert_eq!(reader.lines(), ["4", "5"]);
        assert!(reader.lines().is_empty());
    }
}
