//! The system calls of a child that may still run in its parent's memory: bare ones, by `syscall`, as the place of `errno` is shared.
//! An answer below zero is the negative errno.

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::syscall::call;

/// A descriptor as the kernel takes it.
fn fd(fd: RawFd) -> usize {
    fd as usize
}

/// The signals that this process ignores (a `nohup`'s HUP, and what a keeper does not listen to) or handles. What is ignored
/// stays so at exec (execve(2)) and must not leak into a service; what is handled must not run before.
pub(crate) fn changed_signals() -> Vec<i32> {
    // The C library keeps 32 and 33 for its threads and answers nothing about them, hence the bare call. The structure is
    // the kernel's: the handler, flags, a restorer and the mask.
    let differs = |number: &i32| {
        let mut now = [0u64; 8];
        // SAFETY: a query into a buffer that is larger than the kernel's structure.
        let asked = unsafe { libc::syscall(libc::SYS_rt_sigaction, *number, std::ptr::null::<u64>(), now.as_mut_ptr(), 8usize) };
        asked == 0 && now[0] != libc::SIG_DFL as u64
    };
    all_signals().filter(differs).collect()
}

/// Every signal's number.
pub(crate) fn all_signals() -> impl Iterator<Item = i32> {
    1..=64
}

/// The highest descriptor that a child may have inherited: the kernel marks them all at once, whichever they are.
pub(crate) fn last_descriptor() -> RawFd {
    RawFd::MAX
}

/// # Safety
/// Only in a child before its exec, like everything below.
pub(crate) unsafe fn exit(code: i32) -> ! {
    loop {
        // SAFETY: a bare call that does not come back.
        unsafe { call(libc::SYS_exit_group, [code as usize, 0, 0, 0, 0]) };
    }
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn write(file: RawFd, bytes: &[u8]) -> isize {
    // SAFETY: the length is the slice's.
    unsafe { call(libc::SYS_write, [fd(file), bytes.as_ptr() as usize, bytes.len(), 0, 0]) }
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn read_byte(file: RawFd) -> isize {
    let mut byte = 0u8;
    // SAFETY: one byte on our stack.
    unsafe { call(libc::SYS_read, [fd(file), (&raw mut byte) as usize, 1, 0, 0]) }
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn close(file: RawFd) {
    // SAFETY: integers.
    unsafe { call(libc::SYS_close, [fd(file), 0, 0, 0, 0]) };
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn set_session() -> isize {
    // SAFETY: no argument.
    unsafe { call(libc::SYS_setsid, [0; 5]) }
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn change_directory(path: &CStr) -> isize {
    // SAFETY: the path ends in NUL.
    unsafe { call(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0]) }
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn set_umask(mask: u32) {
    // SAFETY: an integer.
    unsafe { call(libc::SYS_umask, [mask as usize, 0, 0, 0, 0]) };
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn own_pid() -> usize {
    // SAFETY: no argument.
    unsafe { call(libc::SYS_getpid, [0; 5]).unsigned_abs() }
}

/// Puts a duplicate in the place of another descriptor; that one survives exec.
///
/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn duplicate_to(old: RawFd, new: RawFd) -> isize {
    // SAFETY: integers.
    unsafe { call(libc::SYS_dup3, [fd(old), fd(new), 0, 0, 0]) }
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn keep_at_exec(file: RawFd) -> isize {
    // SAFETY: integers.
    unsafe { call(libc::SYS_fcntl, [fd(file), libc::F_SETFD as usize, 0, 0, 0]) }
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn take_terminal(terminal: RawFd) -> isize {
    // SAFETY: integers.
    unsafe { call(libc::SYS_ioctl, [fd(terminal), libc::TIOCSCTTY as usize, 0, 0, 0]) }
}

/// # Safety
/// As for [`exit`]; the arrays end in null pointers.
pub(crate) unsafe fn execute(program: &CStr, argv: *const *const libc::c_char, envp: *const *const libc::c_char) -> isize {
    // SAFETY: as the caller promises.
    unsafe { call(libc::SYS_execve, [program.as_ptr() as usize, argv as usize, envp as usize, 0, 0]) }
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn pause(nanoseconds: libc::c_long) {
    let pause = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
    // SAFETY: a structure on our stack.
    unsafe { call(libc::SYS_nanosleep, [(&raw const pause) as usize, 0, 0, 0, 0]) };
}

/// These to their default, and an empty mask.
///
/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn reset_signals(numbers: impl Iterator<Item = i32>) {
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

/// What a limit is (`RLIMIT_…`), where it is not changed.
///
/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn exchange_limit(which: usize, wanted: Option<libc::rlimit>) -> Result<libc::rlimit, isize> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let new = wanted.as_ref().map_or(0, |wanted| std::ptr::from_ref(wanted) as usize);
    // SAFETY: a bare call on structures of ours.
    let answer = unsafe { call(libc::SYS_prlimit64, [0, which, new, (&raw mut now) as usize, 0]) };
    if answer < 0 { Err(answer) } else { Ok(now) }
}

/// # Safety
/// As for [`exit`].
unsafe fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), isize> {
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

/// Moves this process into the group of an open directory. A refusal leaves it where it is.
///
/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn enter_cgroup(folder: RawFd) {
    // SAFETY: bare calls on constants.
    unsafe {
        let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as usize;
        let file = call(libc::SYS_openat, [fd(folder), c"cgroup.procs".as_ptr() as usize, flags, 0, 0]);
        if file >= 0 {
            call(libc::SYS_write, [file.unsigned_abs(), c"0".as_ptr() as usize, 1, 0, 0]);
            call(libc::SYS_close, [file.unsigned_abs(), 0, 0, 0, 0]);
        }
    }
}

/// Becomes the only user of a namespace: this user by these lines of `uid_map` and `gid_map`.
///
/// # Safety
/// As for [`exit`], in a child with a copy of our memory: the kernel notes in it who may look into it.
pub(crate) unsafe fn enter_user_namespace(uids: &[u8], gids: &[u8]) -> Result<(), isize> {
    // SAFETY: bare calls with integers.
    unsafe {
        // The keeper is not dumpable, under which our own files in /proc would be root's and closed to us.
        call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 1, 0, 0, 0]);
        let answer = call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0]);
        if answer < 0 { Err(answer) } else { Ok(()) }
            .and_then(|()| write_file(c"/proc/self/setgroups", b"deny"))
            .and_then(|()| write_file(c"/proc/self/uid_map", uids))
            .and_then(|()| write_file(c"/proc/self/gid_map", gids))
    }
}

/// Becomes another user for good.
///
/// # Safety
/// As for [`enter_user_namespace`].
pub(crate) unsafe fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), isize> {
    let (user, group) = (uid as usize, gid as usize);
    // SAFETY: bare calls; the group list has its own length.
    unsafe {
        for (number, arguments) in [
            (libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize, 0, 0, 0]),
            (libc::SYS_setresgid, [group, group, group, 0, 0]),
            (libc::SYS_setresuid, [user, user, user, 0, 0]),
            (libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0]),
        ] {
            let answer = call(number, arguments);
            if answer < 0 {
                return Err(answer);
            }
        }
        let (now, group_now) = (call(libc::SYS_geteuid, [0; 5]), call(libc::SYS_getegid, [0; 5]));
        if now.unsigned_abs() == user && group_now.unsigned_abs() == group { Ok(()) } else { Err(libc::EPERM as isize) }
    }
}

/// Marks every descriptor from `first` on as close-on-exec.
///
/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn close_on_exec_from(first: RawFd, _last: RawFd) -> Result<(), isize> {
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
