//! The journal of a project, where it is the project's own.

use std::io;
use std::path::Path;

use devrun_model::{Failure, FailureKind, Paths};

use super::journal::{Journal, read};
use super::state_location;

/// The journal of a project. One that was copied from another project speaks of that one's processes, so it says nothing.
///
/// # Errors
/// `Config`, naming the file and what to do.
pub fn of_project(places: &Paths) -> Result<Journal, Failure> {
    let path = places.journal();
    let journal = read(&path).map_err(|error| unusable(&path, &error))?;
    let copied = state_location::other_owner(places, || Some(journal.clone())).is_some();
    Ok(if copied { Journal::default() } else { journal })
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let remove = if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) { "rm -r" } else { "rm" };
    Failure::new(FailureKind::Config, format!("cannot use the journal {}: {error}", path.display()))
        .help(format!("stop what still runs with `devrun down --emergency`, then: {remove} '{}'", path.display()))
}
