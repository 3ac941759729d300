//! A file by device and inode: the same whatever its path.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Device and inode.
pub type FileId = (u64, u64);

/// Device and inode of a directory that exists.
#[must_use]
pub fn file_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}
