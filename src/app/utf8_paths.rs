//! Paths that must be text: plans and the journal hold them as JSON.

use std::path::{Path, PathBuf};

use devrun_model::{Failure, FailureKind, Paths};

/// Refuses paths of a project that are not UTF-8, before anything is made.
///
/// # Errors
/// `Config`, with the path.
pub fn require(files: &[PathBuf], places: &Paths) -> Result<(), Failure> {
    let mut paths = files.iter().map(PathBuf::as_path).chain([&*places.root, &*places.state, &*places.run]);
    let refused = |path: &Path| {
        Failure::new(FailureKind::Config, format!("the path {} is not valid UTF-8", path.display()))
            .help("rename the directory or file; plans and the journal hold paths as text")
    };
    paths.find(|path| path.to_str().is_none()).map_or(Ok(()), |path| Err(refused(path)))
}
