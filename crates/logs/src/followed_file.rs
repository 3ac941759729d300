//! `log_files`: further files that a service writes itself, read as they grow. They are looked at rather than watched, as
//! a look costs two system calls and works on every file system.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use devrun_model::ServiceId;

use super::partial_line::PartialLine;

/// Between two looks.
pub const POLL_EVERY: Duration = Duration::from_millis(200);
/// What one look takes at most of one file.
const READ: u64 = 4 * 1024 * 1024;

/// One followed file.
#[derive(Debug)]
pub struct FollowedFile {
    /// Whose log it becomes: `service/name`.
    pub id: ServiceId,
    path: PathBuf,
    open: Option<(File, u64)>,
    offset: u64,
    /// A piece of a line without its end.
    pub partial_line: PartialLine,
}

impl FollowedFile {
    /// Follows from the present end; a file that is not there yet is read from its beginning.
    #[must_use]
    pub fn new(service: &ServiceId, path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let partial_line = PartialLine::default();
        let mut tail = Self { id: service.further(&name), path: path.to_path_buf(), open: None, offset: 0, partial_line };
        tail.reopen();
        tail.offset = tail.open.as_ref().and_then(|(file, _)| file.metadata().ok()).map_or(0, |meta| meta.len());
        tail
    }

    /// Opens the file that has the name now. Never a device or a pipe: opening one of those can block or act.
    fn reopen(&mut self) {
        self.offset = 0;
        self.open = std::fs::metadata(&self.path)
            .ok()
            .filter(std::fs::Metadata::is_file)
            .and_then(|_| File::open(&self.path).ok())
            .and_then(|file| file.metadata().ok().map(|meta| (meta.ino(), file)))
            .map(|(inode, file)| (file, inode));
    }

    /// What came since the last look. A file that was put in its place, or cut, is read from its beginning.
    pub fn poll(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read(&mut bytes);
        let present = std::fs::metadata(&self.path).ok().map(|meta| (meta.ino(), meta.len()));
        let known = self.open.as_ref().map(|(_, inode)| *inode);
        match present {
            Some((inode, _)) if Some(inode) != known => {
                self.reopen();
                self.read(&mut bytes);
            }
            Some((_, length)) if length < self.offset => {
                self.offset = 0;
                self.read(&mut bytes);
            }
            _ => {}
        }
        bytes
    }

    fn read(&mut self, bytes: &mut Vec<u8>) {
        let Some((file, _)) = &mut self.open else { return };
        if file.seek(SeekFrom::Start(self.offset)).is_err() {
            return;
        }
        // What could not be read now is there at the next look.
        if let Ok(count) = file.take(READ).read_to_end(bytes) {
            self.offset += count as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;
    use std::fs;

    #[test]
    fn growth_rotation_and_truncation_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        fs::write(&path, "old\n").unwrap();
        let id = ServiceId::single(&ServiceName::new("web").unwrap());
        let mut tail = FollowedFile::new(&id, &path);
        assert_eq!(tail.id.as_str(), "web/access.log");
        assert_eq!(tail.poll(), b"");
        fs::write(&path, "old\nnew\n").unwrap();
        assert_eq!(tail.poll(), b"new\n");
        fs::rename(&path, dir.path().join("access.log.1")).unwrap();
        assert_eq!(tail.poll(), b"");
        fs::write(&path, "after rotation\n").unwrap();
        assert_eq!(tail.poll(), b"after rotation\n");
        fs::write(&path, "cut\n").unwrap();
        assert_eq!(tail.poll(), b"cut\n");
        let mut absent = FollowedFile::new(&id, &dir.path().join("later"));
        assert_eq!(absent.poll(), b"");
        fs::write(dir.path().join("later"), "first\n").unwrap();
        assert_eq!(absent.poll(), b"first\n");
    }
}
