//! Programs that tests copy and run. While another thread of the tests starts a process, that process holds every descriptor of ours
//! until its own exec: a copy that we had open for writing may then still be open, and cannot be run (ETXTBSY). `cp` has its own.

use std::path::Path;
use std::process::Command;

/// Copies a program, with its mode.
pub fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").args([from, to]).status().expect("cp runs");
    assert!(status.success(), "cp {} {}: {status}", from.display(), to.display());
}
