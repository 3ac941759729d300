//! Sentinels and intent records of tasks: work against a running server, which no rename can make whole or nothing.
//!
//! An intent is written before the work and the sentinel after it, both in the volume that the work changes, so wiping
//! the volume forgets them. Each run has a random mark: a sentinel carries the mark of the intent it sealed, so that an
//! intent left next to its own sentinel (we were killed between the two) is not taken for a later, broken run.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::durable::{failed, nonce, now, sync_folder, write_durably};
use super::staging::volume_id;
use super::task_record::{SCHEMA, TaskRecord, load};
use devrun_model::{Failure, FailureKind, Once, VolumeSpec};

/// What the volume says of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskStatus {
    /// Never done.
    Fresh,
    /// Done at this time (RFC 3339), with these inputs.
    Done {
        /// When.
        at: String,
    },
    /// Done, with other inputs.
    Changed {
        /// When.
        at: String,
    },
    /// Begun, never ended: what it did is not known.
    Indeterminate {
        /// When it began.
        since: String,
    },
}

fn paths(volume: &VolumeSpec, once: &Once) -> Result<(PathBuf, PathBuf), Failure> {
    let name = &once.name;
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) || name.starts_with(".devrun-") {
        return Err(Failure::new(FailureKind::Config, format!("{name:?} cannot name a sentinel"))
            .help("write `once = \"VOLUME/.initialized\"`: a volume, then a file's name"));
    }
    Ok((volume.path.join(name), volume.path.join(format!("{name}.intent"))))
}

fn save(volume: &VolumeSpec, path: &Path, record: &TaskRecord) -> Result<(), Failure> {
    let text = serde_json::to_vec(record).map_err(|error| failed("write", path, error))?;
    if !volume.path.is_dir() {
        let mut folder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.recursive(true).create(&volume.path).map_err(|error| failed("make", &volume.path, error))?;
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    write_durably(&volume.path, &name, &text)
}

fn remove(volume: &VolumeSpec, path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_folder(&volume.path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path, error)),
    }
}

/// Reads sentinel and intent record.
///
/// # Errors
/// When they cannot be read.
pub fn task_status(volume: &VolumeSpec, once: &Once, hash: &str) -> Result<TaskStatus, Failure> {
    let (sentinel, intent) = paths(volume, once)?;
    let data = volume_id(&volume.path);
    let of_this_data = |record: &TaskRecord| record.volume == data;
    let sealed = load(&sentinel)?.filter(of_this_data);
    let begun = load(&intent)?.filter(of_this_data);
    Ok(match (sealed, begun) {
        (sealed, Some(begun)) if sealed.as_ref().is_none_or(|sealed| sealed.run != begun.run) => {
            TaskStatus::Indeterminate { since: begun.at }
        }
        (Some(sealed), _) if sealed.inputs == hash => TaskStatus::Done { at: sealed.at },
        (Some(sealed), _) => TaskStatus::Changed { at: sealed.at },
        (None, _) => TaskStatus::Fresh,
    })
}

/// Writes the intent record, durably.
///
/// # Errors
/// When it cannot be written.
pub fn begin_task(volume: &VolumeSpec, once: &Once, hash: &str) -> Result<(), Failure> {
    let (_, intent) = paths(volume, once)?;
    let record = TaskRecord {
        devrun: SCHEMA,
        record: "intent".to_owned(),
        run: nonce()?,
        volume: volume_id(&volume.path),
        inputs: hash.to_owned(),
        at: now(),
        took_ms: None,
    };
    save(volume, &intent, &record)
}

/// Takes the intent record back after a failure that was seen to its end.
///
/// # Errors
/// When it cannot be removed.
pub fn rollback_task(volume: &VolumeSpec, once: &Once) -> Result<(), Failure> {
    let (_, intent) = paths(volume, once)?;
    remove(volume, &intent)
}

/// Writes the sentinel, durably, and removes the intent record.
///
/// # Errors
/// When it cannot be written.
pub fn commit_task(volume: &VolumeSpec, once: &Once, hash: &str, took: Duration) -> Result<(), Failure> {
    let (sentinel, intent) = paths(volume, once)?;
    let run = match load(&intent) {
        Ok(Some(begun)) => begun.run,
        // `task resolve --done` seals what was never begun, or what cannot be read any more.
        Ok(None) | Err(_) => nonce()?,
    };
    let record = TaskRecord {
        devrun: SCHEMA,
        record: "done".to_owned(),
        run,
        volume: volume_id(&volume.path),
        inputs: hash.to_owned(),
        at: now(),
        took_ms: u64::try_from(took.as_millis()).ok(),
    };
    save(volume, &sentinel, &record)?;
    remove(volume, &intent)
}

/// Forgets that the step was ever begun or done: `task resolve --rerun`, `task --force`.
///
/// # Errors
/// When the records cannot be removed.
pub fn forget_task(volume: &VolumeSpec, once: &Once) -> Result<(), Failure> {
    let (sentinel, intent) = paths(volume, once)?;
    // The sentinel first: killed in between, the step is indeterminate and not silently done.
    remove(volume, &sentinel)?;
    remove(volume, &intent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::{VolumeClass, VolumeName};

    fn volume(path: &Path) -> (VolumeSpec, Once) {
        let name = VolumeName::new("data").unwrap();
        let once = Once { volume: name.clone(), name: ".initialized".to_owned() };
        (VolumeSpec { name, class: VolumeClass::Persistent, path: path.to_owned(), placed: false }, once)
    }

    const TOOK: Duration = Duration::from_millis(7);

    /// What was done before, and what the volume must then say for hash `h`.
    #[test]
    fn every_history_has_one_standing() {
        type RecordStep = fn(&VolumeSpec, &Once);
        let begin_h: RecordStep = |v, o| begin_task(v, o, "h").unwrap();
        let seal_h: RecordStep = |v, o| commit_task(v, o, "h", TOOK).unwrap();
        let seal_old: RecordStep = |v, o| commit_task(v, o, "old", TOOK).unwrap();
        let abandon_it: RecordStep = |v, o| rollback_task(v, o).unwrap();
        let forget_it: RecordStep = |v, o| forget_task(v, o).unwrap();
        let table: &[(&[RecordStep], &str)] = &[
            (&[], "fresh"),
            (&[begin_h], "indeterminate"),
            (&[begin_h, abandon_it], "fresh"),
            (&[begin_h, seal_h], "done"),
            (&[begin_h, seal_old], "changed"),
            (&[seal_h], "done"),
            (&[begin_h, seal_h, begin_h], "indeterminate"),
            (&[begin_h, seal_h, begin_h, abandon_it], "done"),
            (&[begin_h, begin_h, seal_h], "done"),
            (&[begin_h, seal_h, forget_it], "fresh"),
            (&[begin_h, forget_it], "fresh"),
        ];
        for (index, (steps, expected)) in table.iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let (volume, once) = volume(&folder.path().join("made/by/begin"));
            for step in *steps {
                step(&volume, &once);
            }
            let word = match task_status(&volume, &once, "h").unwrap() {
                TaskStatus::Fresh => "fresh",
                TaskStatus::Done { .. } => "done",
                TaskStatus::Changed { .. } => "changed",
                TaskStatus::Indeterminate { .. } => "indeterminate",
            };
            assert_eq!(word, *expected, "row {index}");
        }
    }

    #[test]
    fn killed_between_sentinel_and_removal_of_the_intent_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, once) = volume(folder.path());
        begin_task(&volume, &once, "h").unwrap();
        let intent = std::fs::read(folder.path().join(".initialized.intent")).unwrap();
        commit_task(&volume, &once, "h", TOOK).unwrap();
        std::fs::write(folder.path().join(".initialized.intent"), intent).unwrap();
        assert!(matches!(task_status(&volume, &once, "h").unwrap(), TaskStatus::Done { .. }));
    }

    #[test]
    fn what_is_no_record_is_never_taken_for_done() {
        for bytes in [&b""[..], b"{", b"{}", b"done", b"\xff\xfe", br#"{"devrun":99}"#] {
            let folder = tempfile::tempdir().unwrap();
            let (volume, once) = volume(folder.path());
            std::fs::write(folder.path().join(".initialized"), bytes).unwrap();
            let failure = task_status(&volume, &once, "h").unwrap_err();
            assert_eq!(failure.kind, FailureKind::Task);
            assert!(failure.help.unwrap().contains("task resolve"));
            forget_task(&volume, &once).unwrap();
            assert_eq!(task_status(&volume, &once, "h").unwrap(), TaskStatus::Fresh);
        }
    }

    #[test]
    fn every_cut_of_a_sentinel_is_an_error_or_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, once) = volume(folder.path());
        commit_task(&volume, &once, "h", TOOK).unwrap();
        let whole = std::fs::read(folder.path().join(".initialized")).unwrap();
        for end in 0..whole.len() {
            std::fs::write(folder.path().join(".initialized"), &whole[..end]).unwrap();
            assert!(task_status(&volume, &once, "h").is_err(), "cut at {end}");
        }
    }

    #[test]
    fn names_cannot_leave_the_volume_or_hit_our_own_files() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, mut once) = volume(folder.path());
        for bad in ["", ".", "..", "a/b", "/etc/x", ".devrun-init.json", "x\0"] {
            once.name = bad.to_owned();
            assert_eq!(begin_task(&volume, &once, "h").unwrap_err().kind, FailureKind::Config, "{bad:?}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_sentinel_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, once) = volume(&folder.path().join("v"));
        commit_task(&volume, &once, "h", TOOK).unwrap();
        std::fs::rename(folder.path().join("v/.initialized"), folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("v/.initialized")).unwrap();
        assert!(task_status(&volume, &once, "h").is_err());
    }
}
