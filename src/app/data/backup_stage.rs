//! The file of a backup before it is whole. It is locked as long as its process lives, so that what a kill has left is known by the
//! lock that is missing: the next backup into the directory removes it, and so does `devrun clean`.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use devrun_data::nonce;
use devrun_model::{Failure, FailureKind};

use crate::ui::term::say;

/// How its name begins.
const PREFIX: &str = ".devrun-tmp-backup-";

/// The file before it has its name; removed unless it gets it.
pub(super) struct BackupStage {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl BackupStage {
    /// Makes it, and removes what killed backups have left next to it.
    ///
    /// # Errors
    /// `Task` where the directory cannot be written.
    pub(super) fn new(directory: &Path) -> Result<Self, Failure> {
        // Under it a file without a lock of its own is abandoned, and not one that is just being made.
        let lock = lock(directory).map_err(|error| cannot_write(directory, &error))?;
        remove_unlocked(directory);
        let path = directory.join(format!("{PREFIX}{}", nonce()?));
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| cannot_write(&path, &error))?;
        let stage = Self { path, file };
        stage.file.lock().map_err(|error| cannot_write(&stage.path, &error))?;
        drop(lock);
        Ok(stage)
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// `Task` where there is such a file, or none can be made.
    pub(super) fn commit(self, file: &Path) -> Result<(), Failure> {
        // A link refuses to replace what somebody has put there meanwhile, as a rename does not.
        std::fs::hard_link(&self.path, file)
            .or_else(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => Err(error),
                _ => std::fs::rename(&self.path, file),
            })
            .map_err(|error| cannot_write(file, &error))
    }
}

impl Drop for BackupStage {
    fn drop(&mut self) {
        // It is gone where it was renamed.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes what killed backups have left in a directory.
pub fn remove_abandoned(directory: &Path) {
    // Without the lock some of it may be in use.
    if let Ok(_lock) = lock(directory) {
        remove_unlocked(directory);
    }
}

fn lock(directory: &Path) -> std::io::Result<File> {
    let directory = File::open(directory)?;
    directory.lock()?;
    Ok(directory)
}

fn remove_unlocked(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_stage =
            entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_stage {
            continue;
        }
        let path = entry.path();
        let opened = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
        let Ok(file) = opened else { continue };
        match file.try_lock() {
            Ok(()) if std::fs::remove_file(&path).is_ok() => {
                say(format!("removed {}, which a killed backup has left", path.display()))
            }
            // In use, or of somebody else.
            Ok(()) | Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

/// The failure to write the file of a backup.
pub(super) fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(FailureKind::Task, format!("cannot write {}: {error}", path.display()));
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::FileTooLarge => {
            failure.help("make room, or choose another place: -o FILE")
        }
        _ => failure.help("choose another place: -o FILE"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_process_holds_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let abandoned = directory.path().join(format!("{PREFIX}1"));
        let other = directory.path().join(".devrun-tmp-1");
        let held = BackupStage::new(directory.path()).unwrap();
        for path in [&abandoned, &other] {
            std::fs::write(path, "half").unwrap();
        }
        let next = BackupStage::new(directory.path()).unwrap();
        assert!(held.path.exists() && next.path.exists() && other.exists() && !abandoned.exists());
        remove_abandoned(directory.path());
        assert!(next.path.exists());
        let path = held.path.clone();
        drop(held);
        assert!(!path.exists());
    }
}
