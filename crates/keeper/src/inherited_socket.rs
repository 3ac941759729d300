//! The listening socket that a process of devrun was started with (sd_listen_fds(3)): the receiving end of what a keeper passes.

use std::net::TcpListener;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The first listening socket that was passed to this very process; `None` where none was, and at every later call.
#[must_use]
pub fn take() -> Option<TcpListener> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS").is_none_or(|count| count == 0) {
        return None;
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    // SAFETY: whoever started this process opened descriptor 3 for it alone, as the variables say, and it is taken once.
    let socket = unsafe { OwnedFd::from_raw_fd(3) };
    // Refused where it is not open: then it must not be closed either.
    if fcntl(socket.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_err() {
        std::mem::forget(socket);
        return None;
    }
    Some(TcpListener::from(socket))
}
