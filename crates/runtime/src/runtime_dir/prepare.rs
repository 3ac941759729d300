//! Makes the directories of a project, and removes those of a run.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::files::replace;
use super::pointers::{RUN_POINTER, STATE, STATE_OF, STATE_POINTER, base_of, is_ephemeral, line_of, read_path};
use super::private::make_private;
use devrun_keeper::state_location::{LOCATION_FILE, StateLocation};
use devrun_model::{Failure, FailureKind, Paths};

/// How often a runtime directory is made that another process removes.
const MOST_ATTEMPTS: u32 = 50;

/// Makes both directories, checks owner and mode, and writes the pointers.
///
/// # Errors
/// `Config` when a directory cannot be made or written to, belongs to somebody else, or is open to others.
pub fn prepare(places: &Paths) -> Result<(), Failure> {
    let home = places.root.join(STATE);
    let leaves_no_pointer = is_ephemeral(places) || is_closed_project(places, &home);
    if !leaves_no_pointer {
        make_private(&home, "state")?;
        // The directory ignores itself, so that no project has to be told about it.
        write_once(&home.join(".gitignore"), b"*\n")?;
    }
    make_private(&places.state, "state")?;
    let located = StateLocation::of(places).map_err(|error| cannot_write(&places.state, &error))?;
    let base = base_of(&places.state);
    if !leaves_no_pointer && !base.starts_with(&home) {
        // Only a closed directory may point elsewhere.
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).map_err(|error| cannot_write(&home, &error))?;
        if base != places.state {
            let of_base = Paths { state: base.to_path_buf(), ..places.clone() };
            let located = StateLocation::of(&of_base).map_err(|error| cannot_write(base, &error))?;
            write(&base.join(LOCATION_FILE), &located.text())?;
        }
        write(&home.join(STATE_POINTER), &line_of(base))?;
    }
    write(&places.state.join(LOCATION_FILE), &located.text())?;
    make_private(&places.logs(), "log")?;
    prepare_run(places, &located.text())?;
    write(&places.state.join(RUN_POINTER), &line_of(&places.run))
}

/// Whether the state lies elsewhere and nothing can be written to the project.
fn is_closed_project(places: &Paths, home: &Path) -> bool {
    let wanted = if home.is_dir() { home } else { &places.root };
    let closed = || nix::unistd::access(wanted, nix::unistd::AccessFlags::W_OK).is_err();
    !base_of(&places.state).starts_with(home) && closed()
}

/// Whether no pointer can lead from the project to the state, so that each command needs `--state-dir`.
#[must_use]
pub fn lacks_pointer(places: &Paths) -> bool {
    let home = places.root.join(STATE);
    let is_named = || read_path(&home.join(STATE_POINTER)).is_some_and(|named| named == base_of(&places.state));
    is_closed_project(places, &home) && !is_named()
}

/// Makes the runtime directory. A supervisor whose state directory was deleted may be removing it at this moment, as the last thing
/// that it does: then it is made again.
fn prepare_run(places: &Paths, located: &[u8]) -> Result<(), Failure> {
    let mut attempts = 0;
    loop {
        if let Some(base) = places.run.parent() {
            make_private(base, "runtime")?;
        }
        let made = make_private(&places.run, "runtime").and_then(|_| write(&places.run.join(STATE_OF), located));
        attempts += 1;
        if made.is_ok() || attempts == MOST_ATTEMPTS {
            return made;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes the runtime directory again where it was cleaned away while the stack is up: no start may fail for that.
///
/// # Errors
/// As [`prepare`].
pub fn ensure_run(places: &Paths) -> Result<(), Failure> {
    if places.run.is_dir() { Ok(()) } else { prepare(places) }
}

/// Removes what is in the runtime directory, and the directory. Only what a supervisor put there; links are not followed.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_run(places: &Paths) -> std::io::Result<()> {
    match fs::remove_dir_all(&places.run) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn write_once(path: &Path, text: &[u8]) -> Result<(), Failure> {
    if path.exists() { Ok(()) } else { write(path, text) }
}

fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let now = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).and_then(|_| fs::read(path).ok());
    if now.is_some_and(|now| now == text) {
        return Ok(());
    }
    replace(path, text).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::IsADirectory => failure.help(format!("a directory has its name; remove it: rm -r '{}'", path.display())),
        _ => failure.help(devrun_keeper::file_size_limit::write_error_help(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_directory_that_is_removed_meanwhile_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let places = Paths { root: at("p"), state: at("p/.devrun"), run: at("run/devrun/0123456789ab") };
        fs::create_dir(&places.root).unwrap();
        let (ask, asked) = std::sync::mpsc::sync_channel(0);
        std::thread::scope(|scope| {
            let places = &places;
            // A supervisor removes it once; several times in each round hit each moment of it.
            scope.spawn(move || asked.into_iter().for_each(|()| (0..20).for_each(|_| drop(remove_run(places)))));
            for round in 0..300 {
                ask.send(()).unwrap();
                let outcome = prepare(places);
                assert!(outcome.is_ok(), "round {round}: {outcome:?}");
            }
            drop(ask);
        });
    }
}
