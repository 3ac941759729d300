//! Removal of what a project keeps: never through a link, never on another mount.
//!
//! Used by `clean`, `down --volumes` and the emptying of scratch volumes. Every step is relative to an open directory, so
//! that nothing can be put in the way between the look and the removal.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::init::remove_tree::{check_mounts, mount_of, open_below, remove_below};

/// Removes a file, or a directory with all it holds. A link goes, never what it points to; a directory that is a mount point
/// is emptied and stays. What is not there is no error.
///
/// `trusted`: directories of the project. Below one of them no component of the path may be a link; the way to any other
/// path is the one that the user has written.
///
/// # Errors
/// As the file system says; `ELOOP` or `ENOTDIR` for a link on the way; `EXDEV` for something mounted inside, and then nothing
/// is removed.
pub fn remove(path: &Path, trusted: &[&Path]) -> io::Result<()> {
    match try_remove(path, trusted) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn try_remove(path: &Path, trusted: &[&Path]) -> Result<(), Errno> {
    let parent = path.parent().ok_or(Errno::INVAL)?;
    let name = c_name(path.file_name().ok_or(Errno::INVAL)?)?;
    let base = trusted.iter().copied().filter(|base| parent.starts_with(base)).max_by_key(|base| base.as_os_str().len());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = rustix::fs::open(base.unwrap_or(parent), flags, Mode::empty())?;
    for part in base.and_then(|base| parent.strip_prefix(base).ok()).into_iter().flat_map(Path::components) {
        let Component::Normal(part) = part else { return Err(Errno::INVAL) };
        folder = open_below(&folder, &c_name(part)?)?;
    }
    let stat = rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return rustix::fs::unlinkat(&folder, &name, AtFlags::empty());
    }
    let doomed = open_below(&folder, &name)?;
    check_mounts(&doomed, mount_of(&doomed)?)?;
    for entry in Dir::read_from(&doomed)? {
        let entry = entry?;
        let child = entry.file_name();
        if matches!(child.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(&doomed, child, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            remove_below(&doomed, child)?;
        } else {
            rustix::fs::unlinkat(&doomed, child, AtFlags::empty())?;
        }
    }
    match rustix::fs::unlinkat(&folder, &name, AtFlags::REMOVEDIR) {
        // A mount point; it is empty now.
        Err(Errno::BUSY) => Ok(()),
        done => done,
    }
}

fn c_name(name: &std::ffi::OsStr) -> Result<CString, Errno> {
    CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_goes_and_what_it_leads_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, state) = (dir.path().join("outside"), dir.path().join("state"));
        fs::create_dir_all(outside.join("vv")).unwrap();
        fs::write(outside.join("vv/kept"), "x").unwrap();
        fs::create_dir_all(state.join("data/plain/deep")).unwrap();
        fs::write(state.join("data/plain/deep/f"), "x").unwrap();
        symlink(&outside, state.join("data/plain/link")).unwrap();
        symlink(&outside, state.join("data/vv")).unwrap();
        for name in ["plain", "vv", "absent"] {
            remove(&state.join("data").join(name), &[&state]).unwrap();
        }
        assert_eq!(fs::read_dir(state.join("data")).unwrap().count(), 0);
        // A link on the way.
        fs::remove_dir(state.join("data")).unwrap();
        symlink(&outside, state.join("data")).unwrap();
        assert!(remove(&state.join("data/vv"), &[&state, dir.path()]).is_err());
        assert!(remove(&state.join("data/../../outside/vv"), &[&state]).is_err());
        assert!(outside.join("vv/kept").exists());
    }
}
