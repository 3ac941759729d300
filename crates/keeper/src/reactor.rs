//! A descriptor of ours in tokio's reactor.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits on a descriptor that must be non-blocking.
///
/// # Errors
/// When the reactor does not take it (a regular file).
pub fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the reactor may look at the descriptor until it is deregistered. `AsyncFd` owns it until then, and an `OwnedFd`
    // is the same open descriptor all its life.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
