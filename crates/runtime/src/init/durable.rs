//! Writes that outlive a power cut, and the rename that never replaces anything.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use devrun_model::hex::hex;
use devrun_model::{Failure, FailureKind};

/// Sixteen hex digits that nobody can guess, for names of temporary files and stages.
///
/// # Errors
/// When the system has no randomness to give.
pub fn nonce() -> Result<String, Failure> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(FailureKind::Internal, format!("no randomness: {error}")))?;
    Ok(hex(&bytes))
}

/// The wall clock as the contract prints it: RFC 3339, UTC, six digits.
#[must_use]
pub fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// A failure of the file system, naming the path.
pub(super) fn failed(what: &str, path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Task, format!("cannot {what} {}: {error}", path.display()))
}

/// Makes the entries of a folder durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<(), Failure> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| failed("sync", folder, error))
}

/// Writes a whole file: a temporary file of mode 0600, fsync, rename over `name`, fsync of the folder.
///
/// # Errors
/// When any of it fails; the file then is as it was.
pub fn write_durably(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = folder.join(name);
    let temporary = folder.join(format!(".devrun-tmp-{}", nonce()?));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, &path));
    if let Err(error) = written {
        // Only our own temporary file is removed, and only as tidiness: its absence is what was wanted.
        let _ = std::fs::remove_file(&temporary);
        return Err(failed("write", &path, error));
    }
    sync_folder(folder)
}

/// Makes everything below an open folder durable: one `syncfs` where there is one, else file by file.
pub(super) fn sync_below(folder: &File, path: &Path) -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    {
        rustix::fs::syncfs(folder).map_err(|error| failed("sync", path, error))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        sync_each(path).map_err(|error| failed("sync", path, error))
    }
}

#[cfg(not(target_os = "linux"))]
fn sync_each(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_each(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Renames within one folder and refuses to replace. File systems that do not know the flag get a plain rename after a
/// look, which is safe only under the init lock.
pub(super) fn rename_new(folder: impl AsFd, from: &str, to: &str) -> Result<(), Errno> {
    let folder = folder.as_fd();
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            match rustix::fs::statat(folder, to, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(folder, from, folder, to),
                Err(error) => Err(error),
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        let opened = File::open(folder.path()).unwrap();
        assert_eq!(rename_new(&opened, "a", "b"), Err(Errno::EXIST));
        assert_eq!(rename_new(&opened, "a", "c"), Ok(()));
        assert!(folder.path().join("c").is_dir());
    }

    #[test]
    fn a_durable_write_leaves_one_file_of_mode_0600() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        write_durably(folder.path(), "x", b"1").unwrap();
        write_durably(folder.path(), "x", b"2").unwrap();
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["x"]);
        assert_eq!(std::fs::read(folder.path().join("x")).unwrap(), b"2");
        assert_eq!(std::fs::metadata(folder.path().join("x")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn stamps_have_six_digits() {
        let stamp = now();
        assert_eq!(stamp.len(), "2026-01-01T00:00:00.000000Z".len(), "{stamp}");
        assert!(stamp.ends_with('Z'), "{stamp}");
    }
}
