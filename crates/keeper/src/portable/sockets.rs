//! How descriptors are sent and received.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::MsgFlags;

/// Flags of `sendmsg`: never wait. SIGPIPE is ignored in supervisor and keeper.
pub(crate) const SEND: MsgFlags = MsgFlags::MSG_DONTWAIT;
/// Flags of `recvmsg`: never wait.
pub(crate) const RECEIVE: MsgFlags = MsgFlags::MSG_DONTWAIT;

/// Sees to it that no child inherits a descriptor that was received.
///
/// # Errors
/// What the system says.
pub(crate) fn settle_received(descriptor: &OwnedFd) -> io::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}
