//! The record of a swap of volumes: what is being put in place, and where. It is a file in the state directory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use devrun_model::{Failure, FailureKind};
use serde::{Deserialize, Serialize};

use crate::durable::{failed, replace_durably};

/// The record of a swap that has begun.
pub(crate) const RECORD: &str = "restore.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What is put in place, in words: `snapshot one`.
    pub what: String,
    /// The state directory that it was written to: what lies next to or below it moves with the project.
    #[serde(default)]
    pub state: Option<PathBuf>,
    pub volumes: Vec<PathBuf>,
    pub secrets_dir: Option<PathBuf>,
    pub secrets: Vec<String>,
    /// The old contents come back.
    pub undo: bool,
}

pub(crate) fn write(state: &Path, name: &str, record: &Record) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(record)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("{name} cannot be written: {error}")))?;
    replace_durably(&state.join(name), &text)
}

pub(crate) fn read(state: &Path, name: &str) -> Result<Option<Record>, Failure> {
    let path = state.join(name);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path, &error)),
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(FailureKind::Integrity, format!("{} cannot be read: {error}", path.display()))
            .help(format!("put back what it held, or give up the data: rm {}", path.display()))
    })?;
    moved(record, state).map(Some)
}

/// A record as it holds where the state directory is now: after a move, and in a copy, the volumes and secrets next to and below it are
/// those of the new place. What lies elsewhere is left to the first project for as long as that is there.
fn moved(record: Record, state: &Path) -> Result<Record, Failure> {
    let own = state.canonicalize().map_err(|error| failed("read", state, &error))?;
    let Some(before) = record.state.clone().filter(|before| *before != own) else { return Ok(record) };
    let is_copy = exists(&before);
    let place = |path: &Path| {
        let pairs = [Some((before.as_path(), own.as_path())), before.parent().zip(own.parent())];
        let inside = pairs.into_iter().flatten().find_map(|(old, new)| path.strip_prefix(old).ok().map(|rest| new.join(rest)));
        match inside {
            Some(path) => Ok(path),
            None if is_copy => Err(Failure::new(
                FailureKind::Integrity,
                format!(
                    "the restore of {} was interrupted in {}, and {} is not this copy's",
                    record.what,
                    before.display(),
                    path.display()
                ),
            )
            .help(format!("give this volume another path here, then: rm {}", state.join(RECORD).display()))),
            None => Ok(path.to_owned()),
        }
    };
    let volumes = record.volumes.iter().map(|path| place(path)).collect::<Result<_, _>>()?;
    let secrets_dir = record.secrets_dir.as_deref().map(place).transpose()?;
    Ok(Record { state: Some(own), volumes, secrets_dir, ..record })
}

/// A volume is a directory. A link would lead to data that are not this volume's.
pub(crate) fn check_directory(volume: &Path) -> Result<(), Failure> {
    let metadata = volume.symlink_metadata().map_err(|error| failed("read", volume, &error))?;
    if metadata.is_dir() {
        return Ok(());
    }
    let kind = if metadata.is_symlink() { "a link" } else { "a file" };
    Err(Failure::new(FailureKind::Task, format!("the volume {} is {kind}, not a directory", volume.display()))
        .help("name the directory itself: [volumes.NAME] path = \"…\""))
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
