//! A mark in a volume: at the next start the server's password is to be set to what the procfile says then.
//!
//! It is put there before a new secret counts and taken away after the data has the new password, so that whatever is
//! killed in between, the next start brings both together. It names the secret's file: a start by a definition that was
//! resolved before the new value counted must not take it for settled.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::durable::{failed, sync_folder, write_durably};
use crate::model::Failure;

/// The dot and the word keep it apart from what engines and users put into a volume.
const DUE: &str = ".devrun-set-password";

/// Marks the volume, durably. `secret` is the file that holds the new value.
///
/// # Errors
/// When it cannot be written.
pub fn mark_due(volume: &Path, secret: &Path) -> Result<(), Failure> {
    write_durably(volume, DUE, secret.as_os_str().as_encoded_bytes())
}

/// The secret's file, where the volume is marked.
#[must_use]
pub fn due(volume: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    std::fs::read(volume.join(DUE)).ok().map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

/// Takes the mark away.
///
/// # Errors
/// When it cannot be removed.
pub fn settle_due(volume: &Path) -> Result<(), Failure> {
    let path = volume.join(DUE);
    match std::fs::remove_file(&path) {
        Ok(()) => sync_folder(volume),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", &path, error)),
    }
}
