//! A log file that was deleted, renamed or replaced while it is written: an open file goes on taking lines that nobody can
//! read. So its name is looked at once a second while something is written, and the file is made again where it is gone.
//!
//! A link in its place is removed and never followed; directories that are gone are made again up to the state directory. Of a
//! directory that became a link, or that belongs to somebody else, nothing is touched: the lines are lost then, and counted.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Between two looks at a file's name.
pub(super) const LOOK_EVERY_MICROS: i64 = 500_000;

/// Whether the name still leads to the open file.
pub(crate) fn is_in_place(path: &Path, file: &File) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the way free for a new file: the directories, `top` and those below it, are there, and no link has the file's name.
///
/// # Errors
/// As the file system says, and where a directory may not be used.
pub(crate) fn clear_place(top: &Path, path: &Path) -> io::Result<()> {
    let mut folders: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| folder.starts_with(top)).collect();
    // The state directory as well; a project that is gone is not made again.
    folders.extend(top.parent());
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
        Ok(meta) if meta.is_symlink() => fs::remove_file(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
