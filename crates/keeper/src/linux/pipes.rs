//! Pipes of which a child inherits nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Makes a pipe.
///
/// # Errors
/// What the system says.
pub(crate) fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
}

/// Asks for a size of a pipe in bytes. False: refused, it stays as it is.
pub(crate) fn resize_pipe(pipe: &OwnedFd, size: libc::c_int) -> bool {
    // SAFETY: an fcntl with an integer argument on an open descriptor.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, size) >= 0 }
}

/// Makes a pipe of which one descriptor is both sides: a FIFO that was opened for reading and writing does not block (fifo(7)). No
/// name is needed for it, so `near` is not used.
///
/// # Errors
/// When no pipe can be made, or `/proc` cannot be read.
pub(crate) fn two_sided_pipe(_near: &Path) -> io::Result<File> {
    let (reader, _writer) = pipe()?;
    OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{}", reader.as_raw_fd()))
}
