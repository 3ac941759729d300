//! A copy of a directory tree: contents, modes, times, owners (as root), links and extended attributes.
//!
//! A file is cloned copy-on-write where the file system can, and copied by the kernel elsewhere; the first refusal decides for
//! the rest of the tree. Extended attributes are part of the data: S3 servers on a plain directory keep their metadata there.
//! Sockets and pipes of a server that was stopped mean nothing in a copy and are left out. Nothing of another file system is
//! copied: what is mounted inside a volume is not part of it.

use std::ffi::OsStr;
use std::fs::{File, FileTimes, Metadata, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use devrun_model::{Failure, FailureKind};

use crate::cancel::CopyCancel;
use crate::durable::failed;

/// The size of one read where the kernel cannot copy by itself: small enough that a cancel is heard soon.
const BLOCK: usize = 1 << 20;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyReport {
    /// Regular files.
    pub files: u64,
    /// Their lengths together.
    pub bytes: u64,
    /// How many of the files share their blocks with the original.
    pub cloned: u64,
}

impl CopyReport {
    /// Whether the file system made copy-on-write clones of all of them.
    #[must_use]
    pub fn is_cloned(&self) -> bool {
        self.files > 0 && self.cloned == self.files
    }
}

struct Copier<'a> {
    clones: bool,
    owners: bool,
    device: u64,
    cancel: &'a CopyCancel,
    report: CopyReport,
}

/// Copies the contents of the directory `from` into the directory `to`, which is made and must not exist. Entries of `from`
/// itself for which `skip` holds are left out.
///
/// # Errors
/// `Task`, naming the path; `Cancelled`. What was copied so far stays.
pub fn copy_tree(from: &Path, to: &Path, skip: &dyn Fn(&OsStr) -> bool, cancel: &CopyCancel) -> Result<CopyReport, Failure> {
    let metadata = std::fs::symlink_metadata(from).map_err(|error| failed("read", from, &error))?;
    if !metadata.is_dir() {
        return Err(Failure::new(FailureKind::Task, format!("{} is not a directory", from.display())));
    }
    let mut copier = Copier {
        clones: true,
        owners: rustix::process::geteuid().is_root(),
        device: metadata.dev(),
        cancel,
        report: CopyReport::default(),
    };
    copier.directory(from, to, &metadata, skip)?;
    Ok(copier.report)
}

impl Copier<'_> {
    fn directory(&mut self, from: &Path, to: &Path, metadata: &Metadata, skip: &dyn Fn(&OsStr) -> bool) -> Result<(), Failure> {
        std::fs::DirBuilder::new().mode(0o700).create(to).map_err(|error| failed("create", to, &error))?;
        let entries = std::fs::read_dir(from).map_err(|error| failed("read", from, &error))?;
        for entry in entries {
            self.cancel.check()?;
            let entry = entry.map_err(|error| failed("read", from, &error))?;
            let (name, path) = (entry.file_name(), entry.path());
            if skip(&name) {
                continue;
            }
            let below = std::fs::symlink_metadata(&path).map_err(|error| failed("read", &path, &error))?;
            let (kind, target) = (below.file_type(), to.join(&name));
            if kind.is_dir() {
                if below.dev() != self.device {
                    let reason = format!("another file system is mounted at {}", path.display());
                    return Err(Failure::new(FailureKind::Task, reason)
                        .help("declare it as a volume of its own: [volumes] NAME = { path = \"…\" }"));
                }
                self.directory(&path, &target, &below, &|_| false)?;
            } else if kind.is_symlink() {
                let link = std::fs::read_link(&path).map_err(|error| failed("read", &path, &error))?;
                std::os::unix::fs::symlink(link, &target).map_err(|error| failed("create", &target, &error))?;
                self.owner(&target, &below)?;
            } else if kind.is_file() {
                self.file(&path, &target, &below)?;
            } else if !(kind.is_socket() || kind.is_fifo()) {
                return Err(Failure::new(FailureKind::Task, format!("{} is a device and cannot be copied", path.display())));
            }
        }
        self.finish(from, to, metadata)
    }

    fn file(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> Result<(), Failure> {
        if self.clones {
            match reflink_copy::reflink(from, to) {
                Ok(()) => self.report.cloned += 1,
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(failed("read", from, &error)),
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Err(failed("copy to", to, &error)),
                Err(_) => {
                    // The file system cannot, or the two lie on different ones. What it may have left is replaced.
                    self.clones = false;
                    let _ = std::fs::remove_file(to);
                }
            }
        }
        if !self.clones {
            self.contents(from, to)?;
        }
        self.report.files += 1;
        self.report.bytes += metadata.len();
        self.finish(from, to, metadata)
    }

    /// Block by block; the kernel's own copy of a large file could not be cancelled.
    fn contents(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        let mut source = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(from)
            .map_err(|error| failed("read", from, &error))?;
        let mut target = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)
            .map_err(|error| failed("create", to, &error))?;
        loop {
            self.cancel.check()?;
            #[cfg(target_os = "linux")]
            match rustix::fs::copy_file_range(&source, None, &target, None, BLOCK * 16) {
                Ok(0) => return Ok(()),
                Ok(_) => continue,
                Err(rustix::io::Errno::INTR) => continue,
                Err(
                    rustix::io::Errno::XDEV
                    | rustix::io::Errno::INVAL
                    | rustix::io::Errno::NOSYS
                    | rustix::io::Errno::OPNOTSUPP
                    | rustix::io::Errno::PERM,
                ) => {}
                Err(error) => return Err(failed("copy to", to, &error.into())),
            }
            // Where it cannot, the rest is read and written; both files stand at the same place.
            let mut block = vec![0; BLOCK];
            let count = source.read(&mut block).map_err(|error| failed("read", from, &error))?;
            if count == 0 {
                return Ok(());
            }
            target.write_all(&block[..count]).map_err(|error| failed("write", to, &error))?;
        }
    }

    /// Extended attributes, owner, mode and times, in this order: a change of owner clears mode bits, and a write the times.
    fn finish(&self, from: &Path, to: &Path, metadata: &Metadata) -> Result<(), Failure> {
        copy_attributes(from, to)?;
        self.owner(to, metadata)?;
        std::fs::set_permissions(to, Permissions::from_mode(metadata.mode() & 0o7777))
            .map_err(|error| failed("set the mode of", to, &error))?;
        if let (Ok(modified), Ok(accessed)) = (metadata.modified(), metadata.accessed()) {
            let times = FileTimes::new().set_modified(modified).set_accessed(accessed);
            // A file that may not even be read by its owner keeps the time of the copy.
            if let Ok(file) = File::open(to) {
                file.set_times(times).map_err(|error| failed("set the times of", to, &error))?;
            }
        }
        Ok(())
    }

    fn owner(&self, to: &Path, metadata: &Metadata) -> Result<(), Failure> {
        if !self.owners {
            return Ok(());
        }
        std::os::unix::fs::lchown(to, Some(metadata.uid()), Some(metadata.gid()))
            .map_err(|error| failed("set the owner of", to, &error))
    }
}

/// `user.*` attributes; the others belong to the system.
fn copy_attributes(from: &Path, to: &Path) -> Result<(), Failure> {
    use rustix::io::Errno;
    let mut list = vec![0u8; 1 << 16];
    let length = match rustix::fs::listxattr(from, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
        Err(error) => return Err(failed("read the attributes of", from, &error.into())),
    };
    for name in list[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0u8; 1 << 16];
        let size = rustix::fs::getxattr(from, name, &mut value[..])
            .map_err(|error| failed("read the attributes of", from, &error.into()))?;
        match rustix::fs::setxattr(to, name, &value[..size], rustix::fs::XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP) => {
                let reason = format!("{} has extended attributes, and they cannot be kept in {}", from.display(), to.display());
                return Err(Failure::new(FailureKind::Task, reason)
                    .help("put the state on a file system with extended attributes: --state-dir DIR"));
            }
            Err(error) => return Err(failed("set the attributes of", to, &error.into())),
        }
    }
    Ok(())
}

/// Files and bytes below a directory; links are not followed.
///
/// # Errors
/// `Task` for what cannot be read: a copy of it would not be whole.
pub fn tree_bytes(directory: &Path) -> Result<(u64, u64), Failure> {
    let (mut files, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(directory).map_err(|error| failed("read", directory, &error))? {
        let path = entry.map_err(|error| failed("read", directory, &error))?.path();
        // A server that runs may remove files while they are looked at.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            match tree_bytes(&path) {
                Ok((more, size)) => (files, bytes) = (files + more, bytes + size),
                Err(_) if !path.exists() => {}
                Err(failure) => return Err(failure),
            }
        } else if metadata.is_file() {
            files += 1;
            bytes += metadata.len();
        }
    }
    Ok((files, bytes))
}

/// What an ordinary user can still write on the file system of a path that exists.
///
/// # Errors
/// As the file system says.
pub fn free_bytes(path: &Path) -> Result<u64, Failure> {
    let stat = rustix::fs::statvfs(path).map_err(|error| failed("look at", path, &error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether files of the one directory can be cloned into the other, tried with a file of its own. False where that is not known.
#[must_use]
pub fn can_clone(from: &Path, to: &Path) -> bool {
    let Ok(name) = crate::durable::nonce().map(|nonce| format!(".devrun-tmp-{nonce}")) else { return false };
    let (source, target) = (from.join(&name), to.join(format!("{name}-clone")));
    // A clone of an empty file may succeed anywhere.
    let cloned = std::fs::write(&source, [0u8; 4096]).is_ok() && reflink_copy::reflink(&source, &target).is_ok();
    for path in [source, target] {
        // Litter of our own at worst; it begins with a dot.
        let _ = std::fs::remove_file(path);
    }
    cloned
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_copy_has_contents_modes_links_and_attributes() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir_all(from.join("deep/er")).unwrap();
        std::fs::write(from.join("deep/er/file"), vec![7u8; 3 * BLOCK + 5]).unwrap();
        std::fs::write(from.join("empty"), "").unwrap();
        std::fs::write(from.join("left"), "out").unwrap();
        std::fs::set_permissions(from.join("empty"), Permissions::from_mode(0o640)).unwrap();
        std::fs::set_permissions(from.join("deep"), Permissions::from_mode(0o711)).unwrap();
        symlink("nowhere", from.join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        let has_attributes =
            rustix::fs::setxattr(from.join("empty"), "user.etag", b"abc", rustix::fs::XattrFlags::empty()).is_ok();
        let to = folder.path().join("to");
        let report = copy_tree(&from, &to, &|name| name == "left", &CopyCancel::default()).unwrap();
        assert_eq!((report.files, report.bytes), (2, (3 * BLOCK + 5) as u64));
        assert_eq!(std::fs::read(to.join("deep/er/file")).unwrap(), vec![7u8; 3 * BLOCK + 5]);
        assert_eq!(std::fs::metadata(to.join("empty")).unwrap().mode() & 0o777, 0o640);
        assert_eq!(std::fs::metadata(to.join("deep")).unwrap().mode() & 0o777, 0o711);
        assert_eq!(
            std::fs::metadata(to.join("empty")).unwrap().modified().unwrap(),
            std::fs::metadata(from.join("empty")).unwrap().modified().unwrap()
        );
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("nowhere"));
        assert!(!to.join("left").exists() && !to.join("socket").exists());
        if has_attributes {
            let mut value = [0u8; 8];
            let size = rustix::fs::getxattr(to.join("empty"), "user.etag", &mut value[..]).unwrap();
            assert_eq!(&value[..size], b"abc");
        }
        assert_eq!(tree_bytes(&to).unwrap(), (2, (3 * BLOCK + 5) as u64));
    }

    #[test]
    fn it_replaces_nothing_and_can_be_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("a"), "1").unwrap();
        std::fs::create_dir(folder.path().join("to")).unwrap();
        let cancel = CopyCancel::default();
        assert!(copy_tree(&from, &folder.path().join("to"), &|_| false, &cancel).is_err());
        cancel.cancel();
        let failure = copy_tree(&from, &folder.path().join("other"), &|_| false, &cancel).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cancelled);
    }
}
