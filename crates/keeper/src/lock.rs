//! File locks: the one supervisor of a project, and the locks that a service's processes inherit.
//!
//! The instance lock is close-on-exec, so that no service can hold it by accident and make "already running" lie. The
//! alive locks are the opposite: inherited on purpose, so that one refused `LOCK_EX` tells that something still lives.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::regular_file;
use devrun_model::{Failure, FailureKind};

/// The instance lock while it is held; dropping it lets go.
#[derive(Debug)]
#[must_use]
pub struct InstanceLock {
    file: File,
}

/// Why the instance lock was not taken.
#[derive(Debug)]
pub enum InstanceLockError {
    /// Another process holds it: its pid if it recorded one, for messages only.
    Held(Option<i32>),
    /// The file cannot be used.
    Failed(Failure),
}

impl fmt::Display for InstanceLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(Some(pid)) => write!(f, "process {pid} holds the lock"),
            Self::Held(None) => f.write_str("another process holds the lock"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for InstanceLockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Held(_) => None,
            Self::Failed(failure) => Some(failure),
        }
    }
}

impl InstanceLock {
    /// Takes the lock without waiting, and writes down whose it is.
    ///
    /// # Errors
    /// When another supervisor holds it, or the file cannot be made or written.
    pub fn take(path: &Path) -> Result<Self, InstanceLockError> {
        let mut lock = Self::take_without_pid(path)?;
        // Written over what is there and cut after it: some file systems take their time for a file that becomes empty.
        let write = |file: &mut File| {
            let text = format!("{}\n", std::process::id());
            file.rewind()?;
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)
        };
        write(&mut lock.file).map_err(|error| InstanceLockError::Failed(unusable(path, &error)))?;
        Ok(lock)
    }

    /// Takes the lock so that no supervisor can start, and writes nothing: for a stop, which must work on a full disk.
    ///
    /// # Errors
    /// When another supervisor holds it, or the file cannot be made.
    pub fn take_without_pid(path: &Path) -> Result<Self, InstanceLockError> {
        let failed = |error: io::Error| InstanceLockError::Failed(unusable(path, &error));
        let mut file = open(path, true).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(InstanceLockError::Held(pid));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self { file })
    }

    /// Whether the file still has a name, in the directory where it was made or elsewhere.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        // A file that cannot be asked is not known to be gone.
        self.file.metadata().map_or(true, |meta| meta.nlink() > 0)
    }

    /// Device and inode of the file.
    ///
    /// # Errors
    /// As the system says.
    pub fn file_id(&self) -> io::Result<(u64, u64)> {
        self.file.metadata().map(|meta| (meta.dev(), meta.ino()))
    }
}

impl AsFd for InstanceLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A lock file that cannot be used, with what to type.
#[must_use]
pub fn unusable(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(FailureKind::Config, format!("cannot use the lock {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::InvalidInput => {
            // Of a link only the link is removed.
            let is_directory = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
            failure.help(format!("rm{} '{}'", if is_directory { " -r" } else { "" }, path.display()))
        }
        io::ErrorKind::PermissionDenied => failure.help("run devrun as the user who started the stack"),
        _ => failure.help(crate::file_size_limit::write_error_help(error)),
    }
}

/// Whether any process holds the lock. A file that is not there is held by nobody. Two who ask at once do not take one
/// another for a holder.
///
/// # Errors
/// When the file is there and cannot be opened or locked.
pub fn is_held(path: &Path) -> io::Result<bool> {
    let file = match open(path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        // A lock can be asked for without the right to write; another mount of the file system may be writable.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => open_to_read(path)?,
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The pid that the last holder wrote into its lock file: whose lock it is as long as it is held.
#[must_use]
pub fn recorded_pid(path: &Path) -> Option<i32> {
    let mut text = String::new();
    let opened = open(path, false).or_else(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => open_to_read(path),
        _ => Err(error),
    });
    opened.ok()?.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Opens a lock file of ours without following a link; std opens everything close-on-exec.
pub fn open(path: &Path, create: bool) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    regular_file::check(OpenOptions::new().read(true).write(true).create(create).mode(0o600).custom_flags(flags).open(path))
}

fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    regular_file::check(OpenOptions::new().read(true).custom_flags(flags).open(path))
}

/// Takes the shared lock that a process is to inherit. A process that tests the lock holds it for an instant, which is waited
/// out; nothing longer is.
pub(crate) fn lock_shared(path: &Path) -> io::Result<File> {
    let file = open(path, true)?;
    for _ in 0..50 {
        match file.try_lock_shared() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EWOULDBLOCK))
}

/// Takes a shared lock on a directory, by which any process can tell that its keeper lives.
pub(crate) fn lock_directory(path: &Path) -> io::Result<File> {
    let folder = File::open(path)?;
    for _ in 0..50 {
        match folder.try_lock_shared() {
            Ok(()) => return Ok(folder),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EWOULDBLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_the_pid_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!is_held(&path).unwrap());
        let lock = InstanceLock::take(&path).unwrap();
        assert!(is_held(&path).unwrap());
        match InstanceLock::take(&path) {
            Err(InstanceLockError::Held(pid)) => assert_eq!(pid, Some(std::process::id().cast_signed())),
            other => panic!("{other:?}"),
        }
        drop(lock);
        assert!(!is_held(&path).unwrap());
        let _again = InstanceLock::take(&path).unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        let Err(InstanceLockError::Failed(failure)) = InstanceLock::take(&path) else { panic!("it was followed") };
        assert_eq!(failure.help, Some(format!("rm '{}'", path.display())));
        assert!(!folder.path().join("elsewhere").exists());
    }
}
