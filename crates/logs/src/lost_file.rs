//! A log file that was deleted, renamed or replaced while it is written: an open file goes on taking lines that nobody can
//! read. So its name is looked at once a second while something is written, and the file is made again where it is gone.
//!
//! A link, a FIFO or a device in its place is removed and never opened; directories below the state directory are made again. Of one that became a
//! link, or that belongs to somebody else, nothing is touched: the lines are lost then, and counted. A project that was moved
//! takes its open files along, and nothing is made at the old place.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Between two looks at a file's name.
pub(crate) const LOOK_EVERY_MICROS: i64 = 500_000;

/// The directory of the logs, as it was when a file in it was opened.
#[derive(Debug)]
pub struct LogPlace {
    top: PathBuf,
    /// Device and inode of the state directory around it.
    state: Option<(u64, u64)>,
}

impl LogPlace {
    /// The directory that holds this one now is the state directory.
    #[must_use]
    pub fn of(top: &Path) -> Self {
        Self { top: top.to_owned(), state: state_of(top) }
    }

    /// Whether the open file can still be found, by its name or with the project that was moved.
    ///
    /// # Errors
    /// As the file system says, and where the state directory is gone.
    pub fn keeps(&self, path: &Path, file: &File) -> io::Result<bool> {
        let open = file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (open.dev(), open.ino()) => return Ok(true),
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Err(error),
            _ => {}
        }
        if state_of(&self.top) == self.state {
            return Ok(false);
        }
        if open.nlink() > 0 { Ok(true) } else { Err(io::Error::other("the state directory is gone")) }
    }

    /// Makes the way free for a new file: the directory of the logs and those below it are there, and neither a link nor a device
    /// has the file's name.
    ///
    /// # Errors
    /// As the file system says, and where a directory may not be used.
    pub fn clear(&self, path: &Path) -> io::Result<()> {
        let folders: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.top)).collect();
        for folder in folders.into_iter().rev() {
            match DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let meta = fs::symlink_metadata(folder)?;
            if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() {
                return Err(io::Error::other(format!("{} is not a directory of this user", folder.display())));
            }
        }
        match fs::symlink_metadata(path) {
            // A link, a FIFO, a device or a socket. A directory may hold something, and is left.
            Ok(meta) if !meta.is_file() && !meta.is_dir() => fs::remove_file(path),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn state_of(top: &Path) -> Option<(u64, u64)> {
    fs::metadata(top.parent()?).ok().map(|meta| (meta.dev(), meta.ino()))
}
