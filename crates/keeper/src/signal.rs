//! Sends signals so that none reaches a stranger: through a pidfd, after the identity was checked on the opened one;
//! where there are none, right after the identity was checked.

use std::io;
use std::os::fd::OwnedFd;

pub use super::drivers::pidfd::{open, send};
use super::process_list;

/// Signals a child of ours that nobody has waited for: its number cannot belong to another.
///
/// # Errors
/// What the system says.
pub fn send_to_child(pid: i32, pidfd: Option<&OwnedFd>, signal: i32) -> io::Result<()> {
    if let Some(pidfd) = pidfd {
        match send(pidfd, signal) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {}
            other => return other,
        }
    }
    plain(pid, signal)
}

/// Signals any process whose start time is `start`: opens it, looks again, signals what was opened. True: it was sent.
#[must_use]
pub fn send_checked(pid: i32, start: u64, signal: i32) -> bool {
    let same = |pid| process_list::stat(pid).is_some_and(|stat| stat.start == start && stat.lives());
    if pid <= 1 {
        return false;
    }
    match open(pid) {
        Some(pidfd) => same(pid) && send(&pidfd, signal).is_ok(),
        // Without pidfds the window between the look and the signal is as small as it can be made.
        None => same(pid) && plain(pid, signal).is_ok(),
    }
}

fn plain(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: no memory is involved; the number is greater than 1, so neither a group nor everything is meant.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
