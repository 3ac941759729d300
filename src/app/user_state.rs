//! What belongs to a user and to no project.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Its directory; `None`: the user has no home directory.
#[must_use]
pub fn directory(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("devrun"))
}
