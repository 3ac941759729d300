//! Small files that survive a loss of power, and the failures of the file system in words.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use devrun_model::{Failure, FailureKind};

/// Sixteen random hex digits, for names of stages.
///
/// # Errors
/// When the system has no randomness to give.
pub fn nonce() -> Result<String, Failure> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(FailureKind::Internal, format!("no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The wall clock: RFC 3339, UTC, six digits.
#[must_use]
pub fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// A failure of the file system. A full disk gets its advice.
pub(crate) fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(FailureKind::Task, format!("cannot {what} {}: {error}", path.display()));
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            failure.help("make room (devrun df shows what the project takes; devrun snapshot rm NAME), then try again")
        }
        ErrorKind::PermissionDenied => failure.help("run devrun as the user who owns the data; ls -la shows who that is"),
        _ => failure,
    }
}

/// Replaces a file as a whole: written next to it with mode 0600, synced, renamed over it, and the directory synced.
///
/// # Errors
/// When any of it fails; the file then is as it was.
pub fn replace_durably(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let temporary = directory.join(format!(".devrun-tmp-{}", nonce()?));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        // Only tidiness: it is a temporary file of this call.
        let _ = std::fs::remove_file(&temporary);
        return Err(failed("write", path, &error));
    }
    sync_directory(directory)
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), Failure> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| failed("sync", directory, &error))
}

/// Makes everything below a directory durable.
///
/// # Errors
/// As the file system says.
pub fn sync_file_system(directory: &Path) -> Result<(), Failure> {
    let opened = File::open(directory).map_err(|error| failed("open", directory, &error))?;
    #[cfg(target_os = "linux")]
    {
        rustix::fs::syncfs(&opened).map_err(|error| failed("sync", directory, &error.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        opened.sync_all().map_err(|error| failed("sync", directory, &error))
    }
}

/// Removes a tree; what is not there is no error. Links are removed, never followed.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Failure> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path).map_err(|error| failed("remove", path, &error)),
        Ok(_) => std::fs::remove_file(path).map_err(|error| failed("remove", path, &error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at", path, &error)),
    }
}

/// Makes a directory of mode 0700, and those above it; one that exists is left as it is.
pub(crate) fn make_private(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed("create", path, &error))
}
