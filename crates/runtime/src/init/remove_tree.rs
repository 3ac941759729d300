//! Removal of a folder tree that follows no link and leaves no file system: every step is relative to an open folder.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Opens a folder below another one, never through a link.
pub(crate) fn open_below(parent: impl AsFd, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// The mount that an open directory lies on, where the kernel tells (Linux 5.8), else its device: a bind mount of the same
/// file system shows itself by the former alone.
pub(crate) fn mount_of(folder: impl AsFd) -> Result<u64, Errno> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::StatxFlags;
        if let Ok(found) = rustix::fs::statx(&folder, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            && found.stx_mask & StatxFlags::MNT_ID.bits() != 0
        {
            return Ok(found.stx_mnt_id);
        }
    }
    let device = rustix::fs::fstat(&folder)?.st_dev;
    #[cfg(target_os = "macos")]
    let device = i64::from(device).cast_unsigned();
    Ok(device)
}

/// Looks through a tree before anything of it is removed.
///
/// # Errors
/// `EXDEV` for a mount below it; else as the file system says.
pub(crate) fn check_mounts(folder: impl AsFd, mount: u64) -> Result<(), Errno> {
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let child = entry.file_name();
        if matches!(child.to_bytes(), b"." | b"..") || !matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            continue;
        }
        match open_below(&folder, child) {
            Ok(below) if mount_of(&below)? != mount => return Err(Errno::XDEV),
            Ok(below) => check_mounts(&below, mount)?,
            // A file of unknown kind, a link, or what was removed meanwhile.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes the folder `name` of `parent` with all it holds. A folder of another mount ends it with EXDEV: what is there is not
/// ours.
pub(crate) fn remove_below(parent: impl AsFd, name: &std::ffi::CStr) -> Result<(), Errno> {
    remove_marked(parent, name, &[])
}

/// The same, with the named files of the folder removed last: killed in the middle, what is left still carries them.
pub(super) fn remove_marked(parent: impl AsFd, name: &std::ffi::CStr, marks: &[&str]) -> Result<(), Errno> {
    let parent = parent.as_fd();
    let folder = open_below(parent, name)?;
    if mount_of(&folder)? != mount_of(parent)? {
        return Err(Errno::XDEV);
    }
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let child = entry.file_name();
        if child.to_bytes() == b"." || child.to_bytes() == b".." || marks.iter().any(|mark| mark.as_bytes() == child.to_bytes()) {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let stat = rustix::fs::statat(&folder, child, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            _ => false,
        };
        if is_folder {
            remove_below(&folder, child)?;
        } else {
            match rustix::fs::unlinkat(&folder, child, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
    for mark in marks {
        match rustix::fs::unlinkat(&folder, *mark, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_removed_and_what_they_point_to_is_not() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "x").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree/deep");
        std::fs::create_dir_all(&tree).unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("kept"), tree.join("file")).unwrap();
        let parent = std::fs::File::open(folder.path()).unwrap();
        remove_below(&parent, c"tree").unwrap();
        assert!(!folder.path().join("tree").exists());
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn marks_outlive_a_removal_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir_all(tree.join("data")).unwrap();
        std::fs::write(tree.join("mark"), "").unwrap();
        // A name of a folder cannot be unlinked as a file, which stands for a removal that ends in the middle.
        std::fs::create_dir(tree.join("broken")).unwrap();
        let parent = std::fs::File::open(folder.path()).unwrap();
        assert!(remove_marked(&parent, c"tree", &["broken", "mark"]).is_err());
        assert!(tree.join("mark").exists() && !tree.join("data").exists());
        remove_marked(&parent, c"tree", &["mark"]).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_link_in_the_place_of_the_folder_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "x").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("tree")).unwrap();
        let parent = std::fs::File::open(folder.path()).unwrap();
        assert!(remove_below(&parent, c"tree").is_err());
        assert!(outside.path().join("kept").exists());
    }
}
