//! The child between fork and exec: session, limits, user, directory, descriptors, and the wait for its release.
//!
//! It runs in its parent's memory or in a copy of it (see `fork`), so it makes the calls of `child_calls` alone, writes nothing but
//! its own stack and the place of its `LISTEN_PID`, and says what failed as a step and an errno over a pipe.

use std::ffi::CString;
use std::os::fd::{AsRawFd, RawFd};

use devrun_model::keeper::RunAs;

use super::default_limits::DefaultLimits;
use super::drivers::child_calls;
use super::passed_sockets::{FIRST, PassedSockets};

/// Steps of the child by number, as they travel over the error pipe.
pub(super) const STEPS: [&str; 9] = ["session", "limits", "namespace", "user", "chdir", "fds", "tty", "exec", "release"];
const SESSION: u8 = 0;
const LIMITS: u8 = 1;
const NAMESPACE: u8 = 2;
const USER: u8 = 3;
const CHDIR: u8 = 4;
pub(super) const FDS: u8 = 5;
const TTY: u8 = 6;
pub(super) const EXEC: u8 = 7;

/// Everything that the child needs, ready before the fork.
pub(super) struct PreparedChild {
    pub(super) program: CString,
    pub(super) argv: Vec<*const libc::c_char>,
    pub(super) envp: Vec<*const libc::c_char>,
    pub(super) dir: CString,
    pub(super) umask: Option<u32>,
    pub(super) nofile: Option<u64>,
    pub(super) run_as: RunAs,
    pub(super) maps: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) stdin: RawFd,
    pub(super) stdout: RawFd,
    pub(super) stderr: RawFd,
    pub(super) terminal: Option<RawFd>,
    pub(super) lock: RawFd,
    pub(super) cgroup: Option<RawFd>,
    pub(super) release: RawFd,
    pub(super) release_writer: RawFd,
    pub(super) errors: RawFd,
    /// See [`child_calls::last_descriptor`].
    pub(super) last_descriptor: RawFd,
    pub(super) default_limits: Option<DefaultLimits>,
    pub(super) changed_signals: Vec<i32>,
    pub(super) sockets: PassedSockets,
    #[expect(dead_code, reason = "argv and envp point into these")]
    pub(super) words: Vec<CString>,
}

/// Writes a step and the errno, and ends the child.
///
/// # Safety
/// Only in a child before its exec.
pub(super) unsafe fn fail_and_exit(errors: RawFd, step: u8, errno: isize) -> ! {
    let bytes = i32::try_from(errno.unsigned_abs()).unwrap_or(libc::EIO).to_ne_bytes();
    // SAFETY: the buffer is on our stack.
    unsafe {
        child_calls::write(errors, &[step, bytes[0], bytes[1], bytes[2], bytes[3]]);
        child_calls::exit(127)
    }
}

/// The child, from fork to exec.
///
/// # Safety
/// Only in a child of ours, with everything in `p` prepared before. It may run in its parent's memory: bare system calls
/// alone, and nothing is written but what lies on its own stack, and what `PassedSockets` sets aside for it.
pub(super) unsafe fn run_child(p: &PreparedChild) -> ! {
    // SAFETY: every call below is a bare one, and every pointer leads into `p`, which the parent prepared.
    unsafe {
        child_calls::close(p.release_writer);
        if let Some(folder) = p.cgroup {
            // Refused: the tree is followed without it.
            child_calls::enter_cgroup(folder);
        }
        let answer = child_calls::set_session();
        if answer < 0 {
            fail_and_exit(p.errors, SESSION, answer);
        }
        child_calls::reset_signals(p.changed_signals.iter().copied());
        apply_limits(p);
        become_user(p);
        let answer = child_calls::change_directory(&p.dir);
        if answer < 0 {
            fail_and_exit(p.errors, CHDIR, answer);
        }
        if let Some(mask) = p.umask {
            child_calls::set_umask(mask);
        }
        set_up_descriptors(p);
        loop {
            match child_calls::read_byte(p.release) {
                1 => break,
                interrupted if interrupted == -(libc::EINTR as isize) => {}
                _ => child_calls::exit(127),
            }
        }
        let mut answer = 0;
        // A binary that was unpacked a moment ago may still be open for writing in a forked sibling.
        for _ in 0..200 {
            answer = child_calls::execute(&p.program, p.argv.as_ptr(), p.envp.as_ptr());
            if answer != -(libc::ETXTBSY as isize) {
                break;
            }
            child_calls::pause(10_000_000);
        }
        fail_and_exit(p.errors, EXEC, answer)
    }
}

/// # Safety
/// Only in a child before its exec.
unsafe fn apply_limits(p: &PreparedChild) {
    // SAFETY: as for a bare call.
    unsafe {
        if let Some(default_limits) = p.default_limits
            && let Ok(now) = child_calls::exchange_limit(libc::RLIMIT_CORE as usize, None)
        {
            // Raising it to the hard limit cannot be refused, and without a core file a service runs as well.
            let back = libc::rlimit { rlim_cur: default_limits.core.min(now.rlim_max), rlim_max: now.rlim_max };
            let _set = child_calls::exchange_limit(libc::RLIMIT_CORE as usize, Some(back));
        }
        if let Some((soft, hard)) = p.default_limits.map(|default_limits| default_limits.file_size) {
            // Lowering cannot be refused.
            let _set =
                child_calls::exchange_limit(libc::RLIMIT_FSIZE as usize, Some(libc::rlimit { rlim_cur: soft, rlim_max: hard }));
        }
        let wanted = match (p.nofile, p.default_limits.map(|default_limits| default_limits.nofile)) {
            (Some(wanted), _) => libc::rlimit { rlim_cur: wanted, rlim_max: wanted },
            (None, Some((soft, hard))) => libc::rlimit { rlim_cur: soft, rlim_max: hard },
            (None, None) => return,
        };
        let files = libc::RLIMIT_NOFILE as usize;
        if child_calls::exchange_limit(files, Some(wanted)).is_err() {
            let most = child_calls::exchange_limit(files, None).map_or(0, |now| now.rlim_max);
            if let Err(answer) =
                child_calls::exchange_limit(files, Some(libc::rlimit { rlim_cur: wanted.rlim_cur.min(most), rlim_max: most }))
            {
                fail_and_exit(p.errors, LIMITS, answer);
            }
        }
    }
}

/// # Safety
/// Only in a child before its exec, and in one with a copy of our memory: the kernel notes in it who may look into it.
unsafe fn become_user(p: &PreparedChild) {
    // SAFETY: bare system calls; the group list is the spec's own vector with its own length.
    unsafe {
        match &p.run_as {
            RunAs::Same => {}
            RunAs::Namespace { .. } => {
                let Some((uids, gids)) = &p.maps else { fail_and_exit(p.errors, NAMESPACE, libc::EINVAL as isize) };
                if let Err(answer) = child_calls::enter_user_namespace(uids, gids) {
                    fail_and_exit(p.errors, NAMESPACE, answer);
                }
            }
            RunAs::User { uid, gid, groups } => {
                if let Err(answer) = child_calls::become_user(*uid, *gid, groups) {
                    fail_and_exit(p.errors, USER, answer);
                }
            }
        }
    }
}

/// # Safety
/// Only in a child before its exec.
unsafe fn set_up_descriptors(p: &PreparedChild) {
    // SAFETY: bare calls on descriptors of a table of our own. None of them is 0, 1 or 2, as the parent keeps those open.
    unsafe {
        if let Some(terminal) = p.terminal {
            let answer = child_calls::take_terminal(terminal);
            if answer < 0 {
                fail_and_exit(p.errors, TTY, answer);
            }
        }
        for (old, new) in [(p.terminal.unwrap_or(p.stdin), 0), (p.stdout, 1), (p.stderr, 2)] {
            let answer = child_calls::duplicate_to(old, new);
            if answer < 0 {
                fail_and_exit(p.errors, FDS, answer);
            }
        }
        let mut next = FIRST;
        for socket in p.sockets.descriptors() {
            let answer = child_calls::duplicate_to(socket.as_raw_fd(), next);
            if answer < 0 {
                fail_and_exit(p.errors, FDS, answer);
            }
            next += 1;
        }
        p.sockets.write_pid(child_calls::own_pid());
        // Everything of ours is close-on-exec from the start; this is for what a library may have opened.
        if let Err(answer) = child_calls::close_on_exec_from(next, p.last_descriptor) {
            fail_and_exit(p.errors, FDS, answer);
        }
        let answer = child_calls::keep_at_exec(p.lock);
        if answer < 0 {
            fail_and_exit(p.errors, FDS, answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_their_numbers() {
        for (number, name) in
            [(SESSION, "session"), (LIMITS, "limits"), (NAMESPACE, "namespace"), (USER, "user"), (CHDIR, "chdir")]
        {
            assert_eq!(STEPS[usize::from(number)], name);
        }
        assert_eq!((STEPS[usize::from(FDS)], STEPS[usize::from(TTY)], STEPS[usize::from(EXEC)]), ("fds", "tty", "exec"));
    }
}
