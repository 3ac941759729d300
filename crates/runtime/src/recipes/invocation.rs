//! What a recipe gives to be executed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use devrun_model::keeper::RunAs;

/// What to exec.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The executable.
    pub program: PathBuf,
    /// Its words.
    pub argv: Vec<String>,
    /// Over the service's environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub dir: PathBuf,
    /// OS identity.
    pub run_as: RunAs,
    /// Files to write, 0600, before the spawn; those of the service's own `render` are among them.
    pub files: Vec<(PathBuf, String)>,
}
