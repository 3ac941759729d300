//! A mark in a volume: at the next start the server's password is to be set to what the procfile says then.
//!
//! It is put there before a new secret counts and taken away after the data has the new password, so that whatever is
//! killed in between, the next start brings both together. It names the secret's file: a start by a definition that was
//! resolved before the new value counted must not take it for settled.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::durable::{failed, sync_folder, write_durably};
use devrun_model::Failure;

/// The dot and the word keep it apart from what engines and users put into a volume.
const MARK: &str = ".devrun-set-password";

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingPassword {
    /// The file that holds the new value.
    pub secret: PathBuf,
    /// The password that the data has, where the server asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub so_far: Option<String>,
}

/// Marks the volume, durably. A mark that is there already knows the password that the data has: what counted between that
/// renewal and this one never reached it.
///
/// # Errors
/// When it cannot be written.
pub fn mark_password_pending(volume: &Path, secret: &Path, so_far: Option<&str>) -> Result<(), Failure> {
    let known = pending_password(volume).filter(|due| due.secret == secret).and_then(|due| due.so_far);
    let mark = PendingPassword { secret: secret.to_owned(), so_far: known.or_else(|| so_far.map(str::to_owned)) };
    let text = serde_json::to_vec(&mark).map_err(|error| failed("write", &volume.join(MARK), error))?;
    write_durably(volume, MARK, &text)
}

/// What the mark says, where the volume has one.
#[must_use]
pub fn pending_password(volume: &Path) -> Option<PendingPassword> {
    serde_json::from_slice(&std::fs::read(volume.join(MARK)).ok()?).ok()
}

/// Takes the mark away.
///
/// # Errors
/// When it cannot be removed.
pub fn clear_pending_password(volume: &Path) -> Result<(), Failure> {
    let path = volume.join(MARK);
    match std::fs::remove_file(&path) {
        Ok(()) => sync_folder(volume),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", &path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mark_knows_what_the_data_has() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, secret) = (folder.path(), Path::new("/s/db"));
        assert_eq!(pending_password(volume), None);
        mark_password_pending(volume, secret, Some("first")).unwrap();
        mark_password_pending(volume, secret, Some("second")).unwrap();
        assert_eq!(
            pending_password(volume),
            Some(PendingPassword { secret: secret.to_owned(), so_far: Some("first".to_owned()) })
        );
        clear_pending_password(volume).unwrap();
        clear_pending_password(volume).unwrap();
        assert_eq!(pending_password(volume), None);
        mark_password_pending(volume, secret, None).unwrap();
        assert_eq!(pending_password(volume).unwrap().so_far, None);
    }
}
