//! A helper program that must not outlive the process which waits for it.
//!
//! Services are the keeper's, which ends them whichever process is killed. Programs that fetch and build may run before there is a keeper; for them
//! the kernel does it.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the kernel kill the child with the *thread* that starts it (`PR_SET_PDEATHSIG`), so that thread has to wait for it. What the
/// child starts in turn is not reached.
pub fn die_with_parent(command: &mut Command) {
    signal_with_parent(command, libc::SIGKILL);
}

/// The same with another signal, for a command that may want to clean up.
pub fn signal_with_parent(command: &mut Command, signal: i32) {
    let parent = libc::pid_t::try_from(std::process::id()).unwrap_or(0);
    // SAFETY: between fork and exec, two system calls without memory of ours.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // Gone before the request was made: the signal would never come.
            if libc::getppid() != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}
