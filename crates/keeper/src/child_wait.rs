//! Waits for children without blocking.

use devrun_model::Signal;
use devrun_model::keeper::{ExitStatus, Identity};

/// Waits for one child, or for any (-1).
pub(super) fn wait(pid: i32) -> Option<(i32, ExitStatus)> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours and outlives the call.
        let found = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if found < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted {
            continue;
        }
        if found <= 0 {
            return None;
        }
        if libc::WIFEXITED(status) {
            return Some((found, ExitStatus::Code(libc::WEXITSTATUS(status))));
        }
        if libc::WIFSIGNALED(status) {
            return Some((found, ExitStatus::Signal(Signal(libc::WTERMSIG(status)))));
        }
    }
}

/// Whether a child has ended that was not waited for yet. It stays so.
pub(super) fn has_ended_child() -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: a structure of ours, for which zeroes are valid; the kernel fills it for the end of a child, or not at all.
    unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) == 0 && info.assume_init().si_pid() != 0 }
}

/// Waits for one child of ours without blocking.
#[must_use]
pub(super) fn try_wait(identity: &Identity) -> Option<ExitStatus> {
    if identity.pid <= 1 { None } else { wait(identity.pid).map(|(_, status)| status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_seen_before_it_is_waited_for() {
        let mut child = std::process::Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        // Other tests' children may end as well; this one is there until it is waited for.
        while !has_ended_child() || crate::process_list::stat(child.id().cast_signed()).unwrap().lives() {
            assert!(std::time::Instant::now() < deadline, "it ends");
            std::thread::yield_now();
        }
        assert!(has_ended_child());
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
}
