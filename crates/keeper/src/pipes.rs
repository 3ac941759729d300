//! Pipes between the keeper, its children and the supervisor.

use std::io;
use std::os::fd::OwnedFd;

use super::drivers::pipes;

/// Makes a pipe of which a child inherits nothing.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipes::pipe()?)
}

/// A pipe of 1 MiB carries 1.8 times what a default one does. Ordinary users may have about 64 of them, hence the steps
/// down; the default is not an error.
pub(super) fn enlarge_pipe(pipe: &OwnedFd) {
    for size in [1 << 20, 1 << 18] {
        if pipes::resize_pipe(pipe, size) {
            return;
        }
    }
}

/// Makes one end non-blocking. Each end of a pipe has its own flags, so the service's own end keeps blocking.
pub(super) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(())
}
