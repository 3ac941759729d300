//! The program file that this process runs, for processes that must run the same one.

use std::path::PathBuf;

/// Returns the program file. On Linux it is the very file, also when another one has taken its place since (an upgrade), or none.
#[must_use]
pub fn path() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from("/proc/self/exe");
    }
    // Without it nothing can be started, and the failure names this path.
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("devrun"))
}
