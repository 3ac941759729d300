//! Commands of devrun that are called by the command of `run --ephemeral` and `run --with`: they mean the stack of that run, as the
//! variables which the command has been given mean it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use devrun_model::Paths;
use devrun_runtime::runtime_dir;

use crate::app::project::{Project, TemporarySelection};
use crate::globals::Globals;

/// Names the state directory of the run.
const VARIABLE: &str = "DEVRUN_TEMPORARY_STACK";
const INSTANCE: &str = "DEVRUN_TEMPORARY_INSTANCE";
const MODE: &str = "DEVRUN_TEMPORARY_MODE";
const PROFILE: &str = "DEVRUN_TEMPORARY_PROFILE";
/// What `--with` makes next to that directory.
pub const PROCFILE: &str = "procfile.toml";

/// Tells the command of a run which stack is meant, and as what it was read.
pub fn tell(variables: &mut BTreeMap<String, String>, project: &Project) {
    let Some(read_as) = &project.temporary else { return };
    if project.label.is_some() {
        // It names another procfile.
        variables.remove("DEVRUN_FILE");
    }
    variables.insert(VARIABLE.to_owned(), project.places.state.display().to_string());
    variables.insert(INSTANCE.to_owned(), project.instance.clone());
    variables.insert(MODE.to_owned(), read_as.mode.clone().unwrap_or_default());
    variables.insert(PROFILE.to_owned(), read_as.profiles.join(","));
}

/// As what the procfile of the run is read.
#[must_use]
pub fn selection(env: &BTreeMap<String, String>) -> TemporarySelection {
    let given = |name: &str| env.get(name).filter(|text| !text.is_empty()).cloned();
    let profiles = given(PROFILE).map(|names| names.split(',').map(str::to_owned).collect()).unwrap_or_default();
    TemporarySelection { mode: given(MODE), profiles }
}

/// The name of the instance whose copy the run is.
#[must_use]
pub fn instance(env: &BTreeMap<String, String>) -> String {
    env.get(INSTANCE).cloned().unwrap_or_default()
}

/// The state directory of the run that this process is part of, unless another stack is named.
#[must_use]
pub fn state(globals: &Globals, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let given_here =
        globals.state_dir.as_deref().is_some_and(|dir| env.get("DEVRUN_STATE_DIR").is_none_or(|given| dir != Path::new(given)));
    let names_another = given_here || globals.instance.is_some();
    env.get(VARIABLE).filter(|_| !names_another).map(PathBuf::from)
}

/// The procfile of `run --with`: it counts where no other project is named.
#[must_use]
pub fn procfile(globals: &Globals, state: &Path) -> Option<PathBuf> {
    let file = state.parent()?.join(PROCFILE);
    let is_of_a_run = || state.file_name() == Some(OsStr::new("state")) && file.is_file();
    (globals.project_directory.is_none() && is_of_a_run()).then_some(file)
}

/// The directories of the run, if it is one of this project and still stands.
#[must_use]
pub fn places(root: &Path, state: Option<&Path>, env: &BTreeMap<String, String>) -> Option<Paths> {
    runtime_dir::ephemeral_of(root, state?, env)
}
