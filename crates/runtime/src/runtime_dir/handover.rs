//! What of a runtime directory is given to the user that a service runs as.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::init::remove_tree::open_below;

/// Gives a service's directory below the runtime directory, with all that is in it, to the user that the service runs as. The
/// two directories above it are opened to pass through and to nothing else: no one can list them, and what lies in them is
/// closed to others by its own mode.
///
/// # Errors
/// As the file system says.
pub fn hand_over(folder: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    give(folder, uid, gid)?;
    for above in folder.ancestors().skip(1).take(2) {
        let mode = fs::metadata(above)?.permissions().mode();
        fs::set_permissions(above, fs::Permissions::from_mode(mode | 0o011))?;
    }
    Ok(())
}

/// Gives a file, or a directory with all that is in it, to another user. Links are changed themselves and never followed, and a
/// directory is given last, so that its new owner can put nothing in the way.
///
/// # Errors
/// As the file system says; `EMLINK` for a file that has other names and is not that user's already.
pub fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let parent = rustix::fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = std::ffi::CString::new(name.as_bytes())?;
    Ok(give_below(parent.as_fd(), &name, (uid, gid))?)
}

fn give_below(parent: std::os::fd::BorrowedFd<'_>, name: &std::ffi::CStr, (uid, gid): (u32, u32)) -> rustix::io::Result<()> {
    let (owner, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let folder = open_below(parent, name)?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                give_below(folder.as_fd(), entry.file_name(), (uid, gid))?;
            }
        }
        return rustix::fs::fchown(&folder, Some(owner), Some(group));
    }
    if stat.st_uid == uid && stat.st_gid == gid {
        return Ok(());
    }
    // The other name may be in a directory that is none of this service's.
    if stat.st_nlink > 1 && stat.st_uid != uid {
        return Err(rustix::io::Errno::MLINK);
    }
    rustix::fs::chownat(parent, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
}

/// The first directory on the way to `path`, itself included where it is one, that this user cannot pass through. ACLs are not
/// looked at: where they open a directory, its mode shows it.
#[must_use]
pub fn impassable(path: &Path, uid: u32, gid: u32, groups: &[u32]) -> Option<PathBuf> {
    if uid == 0 {
        return None;
    }
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut folders: Vec<&Path> = path.ancestors().collect();
    folders.reverse();
    folders
        .into_iter()
        .filter_map(|folder| fs::metadata(folder).ok().filter(fs::Metadata::is_dir).map(|meta| (folder, meta)))
        .find(|(_, meta)| {
            let bit = if meta.uid() == uid {
                0o100
            } else if meta.gid() == gid || groups.contains(&meta.gid()) {
                0o010
            } else {
                0o001
            };
            meta.mode() & bit == 0
        })
        .map(|(folder, _)| folder.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_away_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, own) = (dir.path().join("outside"), dir.path().join("own"));
        fs::create_dir_all(outside.join("sub")).unwrap();
        fs::write(outside.join("sub/file"), "x").unwrap();
        fs::create_dir_all(own.join("deep/deeper")).unwrap();
        fs::write(own.join("deep/deeper/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, own.join("deep/link")).unwrap();
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if user.is_root() {
            root_gives_what_is_its_own(dir.path(), &own, &outside);
        } else {
            assert_eq!(give(&own, 65_534, 65_534).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            give(&own, user.as_raw(), group.as_raw()).unwrap();
        }
    }

    fn root_gives_what_is_its_own(dir: &Path, own: &Path, outside: &Path) {
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        give(own, 65_534, 65_534).unwrap();
        for given in [own.to_path_buf(), own.join("deep/deeper/file"), own.join("deep/link")] {
            assert_eq!(owner(&given), 65_534, "{}", given.display());
        }
        for kept in [outside.to_path_buf(), outside.join("sub"), outside.join("sub/file")] {
            assert_eq!(owner(&kept), 0, "{}", kept.display());
        }
        // Another name of a file that is not the user's.
        fs::hard_link(outside.join("sub/file"), own.join("name")).unwrap();
        assert!(give(own, 65_534, 65_534).is_err());
        assert_eq!(owner(&outside.join("sub/file")), 0);
        // The directory itself is a link.
        std::os::unix::fs::symlink(outside, dir.join("link")).unwrap();
        give(&dir.join("link"), 65_534, 65_534).unwrap();
        assert_eq!(owner(outside), 0);
    }
}
