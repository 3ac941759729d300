//! Files of devrun: only we can read them, and none is written through a link.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

pub use devrun_store::atomic_file::replace;

use super::named_path::resolve;

/// Opens a file of devrun for appending: made with mode 0600, never through a link.
///
/// # Errors
/// As the file system says.
pub fn append(path: &Path) -> io::Result<fs::File> {
    devrun_keeper::regular_file::append(path)
}

/// Writes a file that the user has named, readable by them alone. An older one is replaced; a link, and what is not a file, is
/// refused.
///
/// # Errors
/// As the file system says.
pub fn write_named(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => return Err(io::Error::other("it is a symbolic link")),
        Ok(meta) if !meta.is_file() => return Err(io::Error::other("it is not a regular file")),
        _ => {}
    }
    replace(&resolve(path)?, bytes)
}

/// Writes a file that only we can read, in place; for what lies in the runtime directory.
///
/// # Errors
/// As the file system says.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // A file left by an earlier run may have other permissions; a new inode has ours.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// An empty directory, 0700 and ours, in the place of whatever is there: what a user of an earlier run may have put into its
/// own directory can lead no file of devrun astray.
///
/// # Errors
/// As the file system says.
pub fn empty(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
