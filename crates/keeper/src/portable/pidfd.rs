//! No process can be held open here: a sender of signals looks at its start time just before.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Always none.
#[must_use]
pub fn open(_pid: i32) -> Option<OwnedFd> {
    None
}

/// There is nothing to signal.
///
/// # Errors
/// Always.
pub fn send(_pidfd: impl AsFd, _signal: i32) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}
