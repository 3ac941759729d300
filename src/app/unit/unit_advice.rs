//! What errors of several helpers have in common.

use std::path::Path;

use devrun_model::{Failure, FailureKind};

/// What makes the units again: the procfile has changed in a way that they do not know.
pub(super) const WRITE_UNITS: &str = "write the units again: devrun export systemd -o DIRECTORY --yes";

/// For a file or directory of the stack's runtime directory.
pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display()))
        .help(format!("check owner, mode and free space: ls -ld {0}; df -h {0}", path.parent().unwrap_or(path).display()))
}
