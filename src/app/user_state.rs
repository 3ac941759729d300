//! What belongs to a user and to no project.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use devrun_model::{Failure, FailureKind};
use devrun_runtime::runtime_dir;

/// Its directory; `None`: the user has no home directory.
#[must_use]
pub fn directory(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("devrun"))
}

/// Makes a directory below it, `levels` deep, which the state directory itself counts as one of.
///
/// # Errors
/// `Config`, naming the directory.
pub fn make_directory(directory: &Path, levels: usize) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    runtime_dir::make_private(directory, "state")?;
    if nix::unistd::geteuid().is_root() {
        // A server that root starts as another user passes through, and sees nothing.
        for path in directory.ancestors().take(levels) {
            fs::set_permissions(path, fs::Permissions::from_mode(0o711)).map_err(|error| unusable(path, &error))?;
        }
    }
    Ok(())
}

/// For a file in it.
#[must_use]
pub fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("{} cannot be used: {error}", path.display()))
        .help("check its owner and its mode, or set XDG_STATE_HOME")
}
