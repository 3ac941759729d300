//! A copy of a directory tree: contents, modes, times, owners (as root), links and extended attributes.
//!
//! A file is cloned copy-on-write where the file system can, and copied by the kernel elsewhere; the first refusal decides for
//! the rest of the tree. Clones are made by several threads: services are stopped meanwhile, and a database has a thousand small
//! files, each of which is some ten system calls. Extended attributes are part of the data: S3 servers on a plain directory keep their metadata there.
//! Sockets and pipes of a server that was stopped mean nothing in a copy and are left out. Nothing of another file system is
//! copied: what is mounted inside a volume is not part of it.

use std::ffi::OsStr;
use std::fs::{File, FileTimes, Metadata, Permissions};
use std::io::{Read as _, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Threads that clone files; more gain little, as they meet in the file system's journal.
const CLONERS: usize = 4;

/// A regular file or a directory, and where its copy is.
struct Entry {
    from: PathBuf,
    to: PathBuf,
}

struct Copier<'a> {
    /// Cleared by the first file that cannot be cloned.
    clones: AtomicBool,
    /// Whether owners can be set.
    owners: bool,
    device: u64,
    cancel: &'a CopyCancel,
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
    let copier =
        Copier { clones: AtomicBool::new(true), owners: rustix::process::geteuid().is_root(), device: metadata.dev(), cancel };
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    copier.directory(Entry { from: from.to_owned(), to: to.to_owned() }, skip, &mut directories, &mut files)?;
    let report = copier.files(&files)?;
    // Those within first: what is made in a directory changes its time.
    for Entry { from, to } in directories.iter().rev() {
        let source = File::open(from).map_err(|error| failed("read", from, &error))?;
        let target = File::open(to).map_err(|error| failed("open", to, &error))?;
        let metadata = source.metadata().map_err(|error| failed("look at", from, &error))?;
        copier.finish((&source, from), (&target, to), &metadata)?;
    }
    Ok(report)
}

impl Copier<'_> {
    /// Makes the directory and those in it, and lists all files.
    fn directory(
        &self,
        here: Entry,
        skip: &dyn Fn(&OsStr) -> bool,
        directories: &mut Vec<Entry>,
        files: &mut Vec<Entry>,
    ) -> Result<(), Failure> {
        let (from, to) = (here.from.clone(), here.to.clone());
        std::fs::DirBuilder::new().mode(0o700).create(&to).map_err(|error| failed("create", &to, &error))?;
        directories.push(here);
        let entries = std::fs::read_dir(&from).map_err(|error| failed("read", &from, &error))?;
        for entry in entries {
            self.cancel.check()?;
            let entry = entry.map_err(|error| failed("read", &from, &error))?;
            let (name, path) = (entry.file_name(), entry.path());
            if skip(&name) {
                continue;
            }
            let kind = entry.file_type().map_err(|error| failed("look at", &path, &error))?;
            let target = to.join(&name);
            if kind.is_dir() {
                let metadata = std::fs::symlink_metadata(&path).map_err(|error| failed("read", &path, &error))?;
                if metadata.dev() != self.device {
                    let reason = format!("another file system is mounted at {}", path.display());
                    return Err(Failure::new(FailureKind::Task, reason)
                        .help("declare it as a volume of its own: [volumes] NAME = { path = \"…\" }"));
                }
                self.directory(Entry { from: path, to: target }, &|_| false, directories, files)?;
            } else if kind.is_symlink() {
                let link = std::fs::read_link(&path).map_err(|error| failed("read", &path, &error))?;
                std::os::unix::fs::symlink(link, &target).map_err(|error| failed("create", &target, &error))?;
                if self.owners {
                    let metadata = std::fs::symlink_metadata(&path).map_err(|error| failed("read", &path, &error))?;
                    std::os::unix::fs::lchown(&target, Some(metadata.uid()), Some(metadata.gid()))
                        .map_err(|error| failed("set the owner of", &target, &error))?;
                }
            } else if kind.is_file() {
                files.push(Entry { from: path, to: target });
            } else if !(kind.is_socket() || kind.is_fifo()) {
                return Err(Failure::new(FailureKind::Task, format!("{} is a device and cannot be copied", path.display())));
            }
        }
        Ok(())
    }

    fn files(&self, files: &[Entry]) -> Result<CopyReport, Failure> {
        let mut report = CopyReport::default();
        // The first one alone tells whether there are clones; a plain copy waits for the disk, and gains nothing by threads.
        let (first, rest) = files.split_at(files.len().min(1));
        first.iter().try_for_each(|file| self.file(file, &mut report))?;
        if !self.clones.load(Ordering::Relaxed) {
            rest.iter().try_for_each(|file| self.file(file, &mut report))?;
            return Ok(report);
        }
        let has_failed = AtomicBool::new(false);
        let clone_all = |part: &[Entry]| {
            let mut report = CopyReport::default();
            for file in part {
                if has_failed.load(Ordering::Relaxed) {
                    break;
                }
                self.file(file, &mut report).inspect_err(|_| has_failed.store(true, Ordering::Relaxed))?;
            }
            Ok(report)
        };
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(CLONERS);
        // Neighbours stay together: two threads that make files in the same directory wait for each other.
        let mut parts = rest.chunks(rest.len().div_ceil(threads).max(1));
        let (mut own, clone_all) = (Vec::from_iter(parts.next()), &clone_all);
        let reports = std::thread::scope(|scope| {
            let mut others = Vec::new();
            for part in parts {
                match std::thread::Builder::new().spawn_scoped(scope, move || clone_all(part)) {
                    Ok(other) => others.push(other),
                    // The system gives no further thread.
                    Err(_) => own.push(part),
                }
            }
            let own: Vec<Result<CopyReport, Failure>> = own.into_iter().map(clone_all).collect();
            let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            own.into_iter().chain(joined).collect::<Vec<_>>()
        });
        for part in reports {
            let part = part?;
            report.files += part.files;
            report.bytes += part.bytes;
            report.cloned += part.cloned;
        }
        Ok(report)
    }

    fn file(&self, Entry { from, to }: &Entry, report: &mut CopyReport) -> Result<(), Failure> {
        self.cancel.check()?;
        let mut source = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(from)
            .map_err(|error| failed("read", from, &error))?;
        let metadata = source.metadata().map_err(|error| failed("look at", from, &error))?;
        let clone = if self.clones.load(Ordering::Relaxed) { self.cloned(&source, from, to)? } else { None };
        report.cloned += u64::from(clone.is_some());
        let target = match clone {
            Some(target) => target,
            None => {
                let mut target = create(to).map_err(|error| failed("create", to, &error))?;
                self.contents((&mut source, from), (&mut target, to))?;
                target
            }
        };
        report.files += 1;
        report.bytes += metadata.len();
        self.finish((&source, from), (&target, to), &metadata)
    }

    /// A clone of the file; `None` where the file system makes none, now and from now on.
    fn cloned(&self, source: &File, from: &Path, to: &Path) -> Result<Option<File>, Failure> {
        match clone_file(source, from, to) {
            Ok(target) => Ok(Some(target)),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(failed("read", from, &error)),
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Err(failed("copy to", to, &error)),
            Err(_) => {
                // The file system cannot, or the two lie on different ones. What it may have left is replaced.
                self.clones.store(false, Ordering::Relaxed);
                let _ = std::fs::remove_file(to);
                Ok(None)
            }
        }
    }

    /// Block by block; the kernel's own copy of a large file could not be cancelled.
    fn contents(&self, (source, from): (&mut File, &Path), (target, to): (&mut File, &Path)) -> Result<(), Failure> {
        loop {
            self.cancel.check()?;
            #[cfg(target_os = "linux")]
            match rustix::fs::copy_file_range(&*source, None, &*target, None, BLOCK * 16) {
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
    fn finish(&self, (source, from): (&File, &Path), (target, to): (&File, &Path), metadata: &Metadata) -> Result<(), Failure> {
        copy_attributes((source, from), (target, to))?;
        // What is right already is left alone: each change is one more entry in the file system's journal.
        let made = target.metadata().map_err(|error| failed("look at", to, &error))?;
        let is_owned = !self.owners || (made.uid(), made.gid()) == (metadata.uid(), metadata.gid());
        if !is_owned {
            std::os::unix::fs::fchown(target, Some(metadata.uid()), Some(metadata.gid()))
                .map_err(|error| failed("set the owner of", to, &error))?;
        }
        if !is_owned || made.mode() & 0o7777 != metadata.mode() & 0o7777 {
            target
                .set_permissions(Permissions::from_mode(metadata.mode() & 0o7777))
                .map_err(|error| failed("set the mode of", to, &error))?;
        }
        if let (Ok(modified), Ok(accessed)) = (metadata.modified(), metadata.accessed()) {
            let times = FileTimes::new().set_modified(modified).set_accessed(accessed);
            target.set_times(times).map_err(|error| failed("set the times of", to, &error))?;
        }
        Ok(())
    }
}

fn create(to: &Path) -> std::io::Result<File> {
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)
}

#[cfg(target_os = "linux")]
fn clone_file(source: &File, _from: &Path, to: &Path) -> std::io::Result<File> {
    let target = create(to)?;
    rustix::fs::ioctl_ficlone(&target, source)?;
    Ok(target)
}

#[cfg(not(target_os = "linux"))]
fn clone_file(_source: &File, from: &Path, to: &Path) -> std::io::Result<File> {
    reflink_copy::reflink(from, to)?;
    File::open(to)
}

/// `user.*` attributes; the others belong to the system.
fn copy_attributes((source, from): (&File, &Path), (target, to): (&File, &Path)) -> Result<(), Failure> {
    use rustix::io::Errno;
    let unread = |error: Errno| failed("read the attributes of", from, &error.into());
    // Mostly there are none or few; room for all would be asked of the kernel for each file.
    let mut list = vec![0u8; 512];
    let length = loop {
        match rustix::fs::flistxattr(source, &mut list[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if list.len() < 1 << 16 => list.resize(1 << 16, 0),
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
            Err(error) => return Err(unread(error)),
        }
    };
    for name in list[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0u8; 1 << 16];
        let size = rustix::fs::fgetxattr(source, name, &mut value[..]).map_err(unread)?;
        match rustix::fs::fsetxattr(target, name, &value[..size], rustix::fs::XattrFlags::empty()) {
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
