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
const DUE: &str = ".devrun-set-password";

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
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
pub fn mark_due(volume: &Path, secret: &Path, so_far: Option<&str>) -> Result<(), Failure> {
    let known = due(volume).filter(|due| due.secret == secret).and_then(|due| due.so_far);
    let mark = Due { secret: secret.to_owned(), so_far: known.or_else(|| so_far.map(str::to_owned)) };
    let text = serde_json::to_vec(&mark).map_err(|error| failed("write", &volume.join(DUE), error))?;
    write_durably(volume, DUE, &text)
}

/// What the mark says, where the volume has one.
#[must_use]
pub fn due(volume: &Path) -> Option<Due> {
    serde_json::from_slice(&std::fs::read(volume.join(DUE)).ok()?).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mark_knows_what_the_data_has() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, secret) = (folder.path(), Path::new("/s/db"));
        assert_eq!(due(volume), None);
        mark_due(volume, secret, Some("first")).unwrap();
        mark_due(volume, secret, Some("second")).unwrap();
        assert_eq!(due(volume), Some(Due { secret: secret.to_owned(), so_far: Some("first".to_owned()) }));
        settle_due(volume).unwrap();
        settle_due(volume).unwrap();
        assert_eq!(due(volume), None);
        mark_due(volume, secret, None).unwrap();
        assert_eq!(due(volume).unwrap().so_far, None);
    }
}
