//! Processes held open by a descriptor, so that a signal cannot reach another one that has got the number since.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Opens a process; `None` where the kernel has no pidfds or the process is gone.
#[must_use]
pub fn open(pid: i32) -> Option<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Signals an opened process.
///
/// # Errors
/// What the system says; ESRCH when it is gone.
pub fn send(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: a system call on an open descriptor, with no pointer but the null siginfo that it allows.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            std::os::fd::AsRawFd::as_raw_fd(&pidfd.as_fd()),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
