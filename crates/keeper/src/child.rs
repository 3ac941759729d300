//! The child between fork and exec: session, limits, user, directory, descriptors, and the wait for its release.
//!
//! It runs in its parent's memory or in a copy of it (see `fork`), so it makes bare system calls alone, writes nothing but
//! its own stack and the place of its `LISTEN_PID`, and says what failed as a step and an errno over a pipe.

use std::ffi::CString;
use std::os::fd::{AsRawFd, RawFd};

use devrun_model::keeper::RunAs;

use super::default_limits::DefaultLimits;
use super::passed_sockets::{FIRST, PassedSockets};
use super::syscall::call;

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
    let message = [step, bytes[0], bytes[1], bytes[2], bytes[3]];
    // SAFETY: bare calls; the buffer is on our stack.
    unsafe {
        call(libc::SYS_write, [fd(errors), message.as_ptr() as usize, message.len(), 0, 0]);
        exit_child()
    }
}

/// # Safety
/// Only in a child before its exec.
unsafe fn exit_child() -> ! {
    loop {
        // SAFETY: a bare call that does not come back.
        unsafe { call(libc::SYS_exit_group, [127, 0, 0, 0, 0]) };
    }
}

/// A descriptor as the kernel takes it.
fn fd(fd: RawFd) -> usize {
    fd as usize
}

/// # Safety
/// Only in a child before its exec.
unsafe fn write_file(path: &std::ffi::CStr, bytes: &[u8]) -> Result<(), isize> {
    // SAFETY: bare calls; the path ends in NUL and the length is the slice's.
    unsafe {
        let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as usize;
        let file = call(libc::SYS_openat, [fd(libc::AT_FDCWD), path.as_ptr() as usize, flags, 0, 0]);
        if file < 0 {
            return Err(file);
        }
        let written = call(libc::SYS_write, [file.unsigned_abs(), bytes.as_ptr() as usize, bytes.len(), 0, 0]);
        call(libc::SYS_close, [file.unsigned_abs(), 0, 0, 0, 0]);
        match usize::try_from(written) {
            Ok(all) if all == bytes.len() => Ok(()),
            Ok(_) => Err(-(libc::EIO as isize)),
            Err(_) => Err(written),
        }
    }
}

/// These to their default, and an empty mask.
///
/// # Safety
/// Only in a forked child.
pub(super) unsafe fn reset_signals(numbers: impl Iterator<Item = i32>) {
    // SAFETY: bare system calls on buffers of ours; all zero is the default disposition in the kernel's structure.
    unsafe {
        let plain = [0u64; 8];
        for number in numbers {
            // KILL and STOP are refused, as they should be.
            call(libc::SYS_rt_sigaction, [fd(number), plain.as_ptr() as usize, 0, 8, 0]);
        }
        call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, plain.as_ptr() as usize, 0, 8, 0]);
    }
}

/// Marks every descriptor from `first` on as close-on-exec.
///
/// # Safety
/// Only in a child before its exec.
pub(super) unsafe fn close_on_exec_from(first: RawFd) -> Result<(), isize> {
    // SAFETY: bare calls. What is read lies inside the buffer, as far as the kernel has filled it.
    unsafe {
        let all = [fd(first), u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize, 0, 0];
        if call(libc::SYS_close_range, all) >= 0 {
            return Ok(());
        }
        // Before Linux 5.11 there is no such call or no such flag, and old seccomp profiles refuse it.
        let flags = (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) as usize;
        let list = call(libc::SYS_openat, [fd(libc::AT_FDCWD), c"/proc/self/fd".as_ptr() as usize, flags, 0, 0]);
        if list < 0 {
            return Err(list);
        }
        let list = list.unsigned_abs();
        let mut buffer = [0u64; 256];
        let result = loop {
            let filled = call(libc::SYS_getdents64, [list, buffer.as_mut_ptr() as usize, size_of_val(&buffer), 0, 0]);
            if filled <= 0 {
                break if filled < 0 { Err(filled) } else { Ok(()) };
            }
            let (start, mut at) = (buffer.as_ptr().cast::<u8>(), 0);
            while at < filled.unsigned_abs() {
                // A `linux_dirent64` (getdents64(2)): inode and offset, its length at 16, its kind, its name at 19.
                let record = start.add(at);
                if let Some(number) = decimal(record.add(19)).filter(|number| *number >= fd(first)) {
                    call(libc::SYS_fcntl, [number, libc::F_SETFD as usize, libc::FD_CLOEXEC as usize, 0, 0]);
                }
                match record.add(16).cast::<u16>().read_unaligned() {
                    0 => break,
                    length => at += usize::from(length),
                }
            }
        };
        call(libc::SYS_close, [list, 0, 0, 0, 0]);
        result
    }
}

/// The number that a name of digits is; `None` for `.` and `..`.
///
/// # Safety
/// The name ends in NUL.
unsafe fn decimal(mut name: *const u8) -> Option<usize> {
    let mut number = 0usize;
    loop {
        // SAFETY: the terminating NUL ends the walk.
        match unsafe { *name } {
            0 => return Some(number),
            digit @ b'0'..=b'9' => number = number.wrapping_mul(10).wrapping_add(usize::from(digit - b'0')),
            _ => return None,
        }
        // SAFETY: the byte before was not the NUL.
        name = unsafe { name.add(1) };
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
        call(libc::SYS_close, [fd(p.release_writer), 0, 0, 0, 0]);
        if let Some(folder) = p.cgroup {
            // Refused: the tree is followed without it.
            let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as usize;
            let file = call(libc::SYS_openat, [fd(folder), c"cgroup.procs".as_ptr() as usize, flags, 0, 0]);
            if file >= 0 {
                call(libc::SYS_write, [file.unsigned_abs(), c"0".as_ptr() as usize, 1, 0, 0]);
                call(libc::SYS_close, [file.unsigned_abs(), 0, 0, 0, 0]);
            }
        }
        let answer = call(libc::SYS_setsid, [0; 5]);
        if answer < 0 {
            fail_and_exit(p.errors, SESSION, answer);
        }
        reset_signals(p.changed_signals.iter().copied());
        apply_limits(p);
        become_user(p);
        let answer = call(libc::SYS_chdir, [p.dir.as_ptr() as usize, 0, 0, 0, 0]);
        if answer < 0 {
            fail_and_exit(p.errors, CHDIR, answer);
        }
        if let Some(mask) = p.umask {
            call(libc::SYS_umask, [mask as usize, 0, 0, 0, 0]);
        }
        set_up_descriptors(p);
        let mut byte = 0u8;
        loop {
            match call(libc::SYS_read, [fd(p.release), (&raw mut byte) as usize, 1, 0, 0]) {
                1 => break,
                interrupted if interrupted == -(libc::EINTR as isize) => {}
                _ => exit_child(),
            }
        }
        let words = [p.program.as_ptr() as usize, p.argv.as_ptr() as usize, p.envp.as_ptr() as usize, 0, 0];
        let mut answer = 0;
        // A binary that was unpacked a moment ago may still be open for writing in a forked sibling.
        for _ in 0..200 {
            answer = call(libc::SYS_execve, words);
            if answer != -(libc::ETXTBSY as isize) {
                break;
            }
            let pause = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            call(libc::SYS_nanosleep, [(&raw const pause) as usize, 0, 0, 0, 0]);
        }
        fail_and_exit(p.errors, EXEC, answer)
    }
}

/// What a limit is, where it is not changed.
///
/// # Safety
/// None beyond that of a bare call.
unsafe fn exchange_limit(which: usize, wanted: Option<libc::rlimit>) -> Result<libc::rlimit, isize> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let new = wanted.as_ref().map_or(0, |wanted| std::ptr::from_ref(wanted) as usize);
    // SAFETY: a bare call on structures of ours.
    let answer = unsafe { call(libc::SYS_prlimit64, [0, which, new, (&raw mut now) as usize, 0]) };
    if answer < 0 { Err(answer) } else { Ok(now) }
}

/// # Safety
/// Only in a child before its exec.
unsafe fn apply_limits(p: &PreparedChild) {
    // SAFETY: as for a bare call.
    unsafe {
        if let Some(default_limits) = p.default_limits
            && let Ok(now) = exchange_limit(libc::RLIMIT_CORE as usize, None)
        {
            // Raising it to the hard limit cannot be refused, and without a core file a service runs as well.
            let back = libc::rlimit { rlim_cur: default_limits.core.min(now.rlim_max), rlim_max: now.rlim_max };
            let _set = exchange_limit(libc::RLIMIT_CORE as usize, Some(back));
        }
        if let Some((soft, hard)) = p.default_limits.map(|default_limits| default_limits.file_size) {
            // Lowering cannot be refused.
            let _set = exchange_limit(libc::RLIMIT_FSIZE as usize, Some(libc::rlimit { rlim_cur: soft, rlim_max: hard }));
        }
        let wanted = match (p.nofile, p.default_limits.map(|default_limits| default_limits.nofile)) {
            (Some(wanted), _) => libc::rlimit { rlim_cur: wanted, rlim_max: wanted },
            (None, Some((soft, hard))) => libc::rlimit { rlim_cur: soft, rlim_max: hard },
            (None, None) => return,
        };
        let files = libc::RLIMIT_NOFILE as usize;
        if exchange_limit(files, Some(wanted)).is_err() {
            let most = exchange_limit(files, None).map_or(0, |now| now.rlim_max);
            if let Err(answer) = exchange_limit(files, Some(libc::rlimit { rlim_cur: wanted.rlim_cur.min(most), rlim_max: most }))
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
                // The keeper is not dumpable, under which our own files in /proc would be root's and closed to us.
                call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 1, 0, 0, 0]);
                let answer = call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0]);
                let mapped = if answer < 0 { Err(answer) } else { Ok(()) }
                    .and_then(|()| write_file(c"/proc/self/setgroups", b"deny"))
                    .and_then(|()| write_file(c"/proc/self/uid_map", uids))
                    .and_then(|()| write_file(c"/proc/self/gid_map", gids));
                if let Err(answer) = mapped {
                    fail_and_exit(p.errors, NAMESPACE, answer);
                }
            }
            RunAs::User { uid, gid, groups } => {
                let (user, group) = (*uid as usize, *gid as usize);
                for (number, arguments) in [
                    (libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize, 0, 0, 0]),
                    (libc::SYS_setresgid, [group, group, group, 0, 0]),
                    (libc::SYS_setresuid, [user, user, user, 0, 0]),
                    (libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0]),
                ] {
                    let answer = call(number, arguments);
                    if answer < 0 {
                        fail_and_exit(p.errors, USER, answer);
                    }
                }
                let (now, group_now) = (call(libc::SYS_geteuid, [0; 5]), call(libc::SYS_getegid, [0; 5]));
                if now.unsigned_abs() != user || group_now.unsigned_abs() != group {
                    fail_and_exit(p.errors, USER, libc::EPERM as isize);
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
            let answer = call(libc::SYS_ioctl, [fd(terminal), libc::TIOCSCTTY as usize, 0, 0, 0]);
            if answer < 0 {
                fail_and_exit(p.errors, TTY, answer);
            }
        }
        for (old, new) in [(p.terminal.unwrap_or(p.stdin), 0), (p.stdout, 1), (p.stderr, 2)] {
            let answer = call(libc::SYS_dup3, [fd(old), new, 0, 0, 0]);
            if answer < 0 {
                fail_and_exit(p.errors, FDS, answer);
            }
        }
        let mut next = FIRST;
        for socket in p.sockets.descriptors() {
            let answer = call(libc::SYS_dup3, [fd(socket.as_raw_fd()), fd(next), 0, 0, 0]);
            if answer < 0 {
                fail_and_exit(p.errors, FDS, answer);
            }
            next += 1;
        }
        p.sockets.write_pid(call(libc::SYS_getpid, [0; 5]).unsigned_abs());
        // Everything of ours is close-on-exec from the start; this is for what a library may have opened.
        if let Err(answer) = close_on_exec_from(next) {
            fail_and_exit(p.errors, FDS, answer);
        }
        let answer = call(libc::SYS_fcntl, [fd(p.lock), libc::F_SETFD as usize, 0, 0, 0]);
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
