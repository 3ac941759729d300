//! How descriptors are sent and received.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::MsgFlags;

/// Flags of `sendmsg`: never wait, and no signal where the other end is gone.
pub(crate) const SEND: MsgFlags = MsgFlags::MSG_NOSIGNAL.union(MsgFlags::MSG_DONTWAIT);
/// Flags of `recvmsg`: never wait, and no child inherits what comes.
pub(crate) const RECEIVE: MsgFlags = MsgFlags::MSG_CMSG_CLOEXEC.union(MsgFlags::MSG_DONTWAIT);

/// A descriptor that was received is close-on-exec by then.
///
/// # Errors
/// None.
pub(crate) fn settle_received(_descriptor: &OwnedFd) -> io::Result<()> {
    Ok(())
}
