//! Where a project is: known without a valid procfile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use devrun_keeper::lock;
use devrun_model::{Failure, Paths, os_text};
use devrun_runtime::ports::PortReservations;

use crate::app::shown_warnings;

/// Mode and profiles of a stack that is thrown away.
#[derive(Debug, Clone, Default)]
pub struct TemporarySelection {
    /// The mode.
    pub mode: Option<String>,
    /// The profiles.
    pub profiles: Vec<String>,
}

/// Where the project is; known without a valid procfile.
#[derive(Debug, Clone)]
pub struct Project {
    /// Procfiles in order.
    pub files: Vec<PathBuf>,
    /// What errors call its only file, where it is written by devrun itself.
    pub label: Option<&'static str>,
    /// The first one's folder.
    pub root: PathBuf,
    /// Its folders.
    pub places: Paths,
    /// Of the stack of a `run` that throws everything away: as what its procfile is read, whatever this command's own options are.
    pub temporary: Option<TemporarySelection>,
    /// `--mode` or `DEVRUN_MODE`; empty for no mode.
    pub given_mode: Option<String>,
    /// Instance name, empty for the usual one.
    pub instance: String,
    /// Our environment.
    pub env: BTreeMap<String, String>,
    /// The ports that were chosen for it by this process, set aside as long as it lives.
    pub reserved: Arc<OnceLock<PortReservations>>,
}

/// Our environment as text; a variable that is not UTF-8 cannot be passed on and is left out.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    let all = std::env::vars_os().map(|(name, value)| (os_text::from_os(&name), os_text::from_os(&value)));
    all.filter(|(name, _)| name != shown_warnings::VARIABLE).collect()
}

/// Whether a supervisor holds the project.
///
/// # Errors
/// `Config` when the lock cannot be looked at.
pub fn is_running(places: &Paths) -> Result<bool, Failure> {
    let path = places.instance_lock();
    lock::is_held(&path).map_err(|error| lock::unusable(&path, &error))
}
