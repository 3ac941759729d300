//! Which project a state directory belongs to and where it lies: the record by which a copy is told from the original.
//!
//! `cp -r`, `rsync` and a backup carry `.devrun` along with a journal, locks and pointers that name the processes of the
//! original. A moved directory keeps its device and inode, and a bind mount shows the same ones under another path; a copy
//! has its own. The record is written by every start and looked at by every command before anything else is believed. A
//! second copy of it lies in the runtime directory, so that the two can be compared.

use super::file_id::{FileId, file_id};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::journal::Journal;
use crate::identity::boot_id;
use devrun_model::Paths;

/// The record's name in a state directory.
pub const LOCATION_FILE: &str = "location";
/// The format's number.
const VERSION: &str = "1";
/// No sound record is longer: two paths and some numbers.
const READ_LIMIT: u64 = 32 * 1024;

/// A directory by path, device and inode.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Directory {
    path: PathBuf,
    id: FileId,
}

/// The record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLocation {
    boot: String,
    root: Directory,
    state: Directory,
}

impl StateLocation {
    /// Describes directories that exist.
    ///
    /// # Errors
    /// As the file system says.
    pub fn of(places: &Paths) -> io::Result<Self> {
        let directory =
            |path: &Path| fs::metadata(path).map(|meta| Directory { path: path.to_path_buf(), id: (meta.dev(), meta.ino()) });
        Ok(Self { boot: boot_id().to_owned(), root: directory(&places.root)?, state: directory(&places.state)? })
    }

    /// Reads a record; `None` where there is none, or none that can be understood.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(READ_LIMIT).read_to_end(&mut bytes).ok()?;
        Self::parse(&bytes)
    }

    /// Fields that end with NUL, as a path may hold anything else.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.split(|byte| *byte == 0);
        if fields.next()? != VERSION.as_bytes() {
            return None;
        }
        let boot = std::str::from_utf8(fields.next()?).ok()?.to_owned();
        let mut directory = || {
            let (dev, ino) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
            let path = PathBuf::from(OsString::from_vec(fields.next()?.to_vec()));
            path.is_absolute().then_some(Directory { path, id: (dev.parse().ok()?, ino.parse().ok()?) })
        };
        Some(Self { boot, root: directory()?, state: directory()? })
    }

    /// As it stands in the file.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut bytes = format!("{VERSION}\0{}\0", self.boot).into_bytes();
        for directory in [&self.root, &self.state] {
            bytes.extend_from_slice(format!("{}:{}\0", directory.id.0, directory.id.1).as_bytes());
            bytes.extend_from_slice(directory.path.as_os_str().as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// The project's directory when it was written.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root.path
    }

    /// The state directory when it was written.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state.path
    }

    /// Whether it speaks of this project's state directory. One that is gone is known by its path.
    #[must_use]
    pub fn matches(&self, root: &Path, state: &Path) -> bool {
        self.is_same_project(root) && (self.state.path == state || file_id(state) == Some(self.state.id))
    }

    /// Whether it speaks of this project.
    #[must_use]
    pub fn is_same_project(&self, root: &Path) -> bool {
        if file_id(root) == Some(self.root.id) {
            return true;
        }
        // Device numbers are handed out again at every boot, and some file systems number their files as they are opened.
        self.root.path == root && (self.boot != boot_id() || numbers_change(root))
    }
}

/// The project that a state directory belongs to where that is another one: it is a copy, and what its journal, its locks and
/// its pointers say is about processes of the original.
#[must_use]
pub fn other_owner(places: &Paths, journal: impl FnOnce() -> Option<Journal>) -> Option<PathBuf> {
    if let Some(location) = StateLocation::read(&places.state.join(LOCATION_FILE)) {
        return (!location.matches(&places.root, &places.state)).then(|| location.root().to_path_buf());
    }
    // Of a version that wrote no record, or lost: then the journal says where it was written.
    let header = journal()?.header?;
    let same = header.root == places.root || (header.root_id.is_some() && header.root_id == file_id(&places.root));
    (!same).then_some(header.root)
}

/// Whether a directory of this file system may get another inode number while it is in use (statfs(2), linux/magic.h; of
/// overlayfs: "Inode properties" in its documentation).
#[cfg(target_os = "linux")]
fn numbers_change(path: &Path) -> bool {
    const FUSE: u32 = 0x6573_5546;
    const PLAN9: u32 = 0x0102_1997;
    const OVERLAY: u32 = 0x794c_7630;
    const CIFS: u32 = 0xff53_4d42;
    const SMB2: u32 = 0xfe53_4d42;
    const VBOX: u32 = 0x786f_4256;
    // The kernel's field is 32 bits wide on some processors and signed on others.
    rustix::fs::statfs(path).is_ok_and(|stat| [FUSE, PLAN9, OVERLAY, CIFS, SMB2, VBOX].contains(&(stat.f_type as u64 as u32)))
}

#[cfg(not(target_os = "linux"))]
fn numbers_change(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(base: &Path, name: &str) -> Paths {
        let root = base.join(name);
        fs::create_dir_all(root.join(".devrun")).unwrap();
        Paths { state: root.join(".devrun"), run: base.join("run"), root }
    }

    #[test]
    fn a_moved_project_is_the_same_and_a_copied_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let shop = project(dir.path(), "shop\n\u{e4}");
        let location = StateLocation::of(&shop).unwrap();
        assert_eq!(StateLocation::parse(&location.text()), Some(location.clone()));
        assert!(location.matches(&shop.root, &shop.state));
        let copy = project(dir.path(), "copy");
        assert!(!location.matches(&copy.root, &copy.state));
        let moved = dir.path().join("moved");
        fs::rename(&shop.root, &moved).unwrap();
        assert!(location.matches(&moved, &moved.join(".devrun")));
        // A copy in the place of the original.
        let instead = project(dir.path(), "shop\n\u{e4}");
        assert_eq!(location.matches(&instead.root, &instead.state), numbers_change(&instead.root));
    }

    #[test]
    fn after_a_reboot_the_path_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let shop = project(dir.path(), "shop");
        let mut location = StateLocation::of(&shop).unwrap();
        location.root.id.0 += 1;
        location.boot = "another".to_owned();
        assert!(location.matches(&shop.root, &shop.state));
        let copy = project(dir.path(), "copy");
        assert!(!location.matches(&copy.root, &copy.state));
    }

    #[test]
    fn what_is_no_record_says_nothing() {
        for bytes in [&b""[..], b"1", b"1\0b\0", b"2\0b\x001:2\0/a\x001:2\0/b\0", b"1\0b\x001:2\0a\x001:2\0/b\0", b"/s\0/r\0"] {
            assert_eq!(StateLocation::parse(bytes), None, "{bytes:?}");
        }
    }
}
