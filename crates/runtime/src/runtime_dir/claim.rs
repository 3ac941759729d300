//! A state directory that was copied from another project becomes a new one.

use std::fs;
use std::io;

use super::files::replace;
use super::pointers::{RUN_POINTER, STATE, STATE_POINTER, base_of, is_ephemeral, other_owner, read_path};
use devrun_keeper::state_location::{LOCATION_FILE, StateLocation};
use devrun_model::{Failure, FailureKind, Paths};

/// Makes a state directory that was copied from another project a new one: what it says about processes, locks and directories of
/// the original is removed, data and logs stay. Returns what to tell the user.
///
/// # Errors
/// `Elsewhere` when a stack of the other project runs from this very directory.
pub fn claim(places: &Paths) -> Result<Option<String>, Failure> {
    let mut said = None;
    let pointer = places.root.join(STATE).join(STATE_POINTER);
    if let Some(target) = read_path(&pointer)
        && !is_ephemeral(places)
        && base_of(&places.state).starts_with(places.root.join(STATE))
        && StateLocation::read(&target.join(LOCATION_FILE)).is_some_and(|location| !location.is_same_project(&places.root))
    {
        let gone = fs::remove_file(&pointer).err().map(|error| format!(" ({} stays: {error})", pointer.display()));
        said = Some(format!("{} belongs to another project; it is not used{}", target.display(), gone.unwrap_or_default()));
    }
    let Some(original) = other_owner(places) else { return Ok(said) };
    let unusable = |error: io::Error| {
        format!("{} was copied from {} and cannot be changed: {error}", places.state.display(), original.display())
    };
    // Two commands may meet it at once; a keeper holds its own directory for as long as it lives.
    let folder = match fs::File::open(&places.state) {
        Ok(folder) => folder,
        Err(error) => return Ok(Some(unusable(error))),
    };
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while let Err(error) = folder.try_lock() {
        if let fs::TryLockError::Error(error) = error {
            return Ok(Some(unusable(error)));
        }
        if std::time::Instant::now() > give_up {
            return Err(Failure::new(
                FailureKind::Elsewhere,
                format!("the state directory {} is in use by the stack of {}", places.state.display(), original.display()),
            )
            .help(format!("choose another one with --state-dir DIR, or stop it: devrun -C '{}' down", original.display())));
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    if other_owner(places).is_none() {
        return Ok(said);
    }
    let renew = || {
        let files = [
            places.journal(),
            places.instance_lock(),
            places.last_state(),
            places.intents(),
            places.state.join(RUN_POINTER),
            places.state.join("ports-auto"),
            places.state.join("ports.json"),
        ];
        for file in files {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        replace(&places.state.join(LOCATION_FILE), &StateLocation::of(places)?.text())
    };
    Ok(Some(match renew() {
        Ok(()) => format!(
            "{} was copied from {}: it is treated as new, and what runs there is left alone",
            places.state.display(),
            original.display()
        ),
        Err(error) => unusable(error),
    }))
}
