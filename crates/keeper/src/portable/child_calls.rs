//! The system calls of a forked child, by the C library: those that may be called between fork and exec (signal-safety(7), and
//! sigaction(2) on macOS). An answer below zero is the negative errno.

use std::ffi::CStr;
use std::os::fd::RawFd;

use crate::process_reader;

/// How many descriptors may have been opened since [`last_descriptor`] was asked, by other threads.
const ROOM: RawFd = 64;
/// Signals have numbers below this; the real-time signals that Linux has above are left as they are.
const SIGNALS: i32 = 32;

/// An answer of the C library with its errno.
fn answer(result: isize) -> isize {
    if result < 0 {
        -std::io::Error::last_os_error().raw_os_error().map_or(libc::EIO as isize, |errno| errno as isize)
    } else {
        result
    }
}

fn integer(result: libc::c_int) -> isize {
    answer(result as isize)
}

fn done(result: libc::c_int) -> Result<(), isize> {
    if result < 0 { Err(integer(result)) } else { Ok(()) }
}

/// The signals that this process ignores (a `nohup`'s HUP, and what a keeper does not listen to) or handles. What is ignored
/// stays so at exec (execve(2)) and must not leak into a service; what is handled must not run before.
pub(crate) fn changed_signals() -> Vec<i32> {
    let differs = |number: &i32| {
        let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a query into a structure of ours, for which zeroes are valid.
        unsafe {
            libc::sigaction(*number, std::ptr::null(), now.as_mut_ptr()) == 0 && now.assume_init().sa_sigaction != libc::SIG_DFL
        }
    };
    all_signals().filter(differs).collect()
}

/// Every signal's number.
pub(crate) fn all_signals() -> impl Iterator<Item = i32> {
    1..SIGNALS
}

/// The highest descriptor that a child may inherit. Asked before the fork, as a child can list nothing.
pub(crate) fn last_descriptor() -> RawFd {
    process_reader::last_descriptor() + ROOM
}

/// # Safety
/// Only in a child before its exec, like everything below.
pub(crate) unsafe fn exit(code: i32) -> ! {
    // SAFETY: no handler of this process runs.
    unsafe { libc::_exit(code) }
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn write(file: RawFd, bytes: &[u8]) -> isize {
    // SAFETY: the length is the slice's.
    answer(unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) })
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn read_byte(file: RawFd) -> isize {
    let mut byte = 0u8;
    // SAFETY: one byte on our stack.
    answer(unsafe { libc::read(file, (&raw mut byte).cast(), 1) })
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn close(file: RawFd) {
    // SAFETY: an integer.
    unsafe { libc::close(file) };
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn set_session() -> isize {
    // SAFETY: no argument.
    integer(unsafe { libc::setsid() })
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn change_directory(path: &CStr) -> isize {
    // SAFETY: the path ends in NUL.
    integer(unsafe { libc::chdir(path.as_ptr()) })
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn set_umask(mask: u32) {
    // SAFETY: an integer; the bits beyond a mode's are none.
    unsafe { libc::umask(mask as libc::mode_t) };
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn own_pid() -> usize {
    // SAFETY: no argument.
    unsafe { libc::getpid() }.unsigned_abs() as usize
}

/// Puts a duplicate in the place of another descriptor; that one survives exec.
///
/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn duplicate_to(old: RawFd, new: RawFd) -> isize {
    // SAFETY: integers.
    integer(unsafe { libc::dup2(old, new) })
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn keep_at_exec(file: RawFd) -> isize {
    // SAFETY: integers.
    integer(unsafe { libc::fcntl(file, libc::F_SETFD, 0) })
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn take_terminal(terminal: RawFd) -> isize {
    // SAFETY: integers. The type of the request differs from system to system.
    integer(unsafe { libc::ioctl(terminal, libc::TIOCSCTTY as _, 0) })
}

/// # Safety
/// As for [`exit`]; the arrays end in null pointers.
pub(crate) unsafe fn execute(program: &CStr, argv: *const *const libc::c_char, envp: *const *const libc::c_char) -> isize {
    // SAFETY: as the caller promises.
    integer(unsafe { libc::execve(program.as_ptr(), argv, envp) })
}

/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn pause(nanoseconds: libc::c_long) {
    let pause = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
    // SAFETY: a structure on our stack.
    unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
}

/// These to their default, and an empty mask.
///
/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn reset_signals(numbers: impl Iterator<Item = i32>) {
    // SAFETY: structures on our stack; all zero is the default disposition.
    unsafe {
        let mut plain: libc::sigaction = std::mem::zeroed();
        plain.sa_sigaction = libc::SIG_DFL;
        for number in numbers {
            // KILL and STOP are refused, as they should be.
            libc::sigaction(number, &raw const plain, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// What a limit is (`RLIMIT_…`), where it is not changed.
///
/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn exchange_limit(which: usize, wanted: Option<libc::rlimit>) -> Result<libc::rlimit, isize> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: structures of ours. The type of the number differs from system to system.
    unsafe {
        done(libc::getrlimit(which as _, &raw mut now))?;
        if let Some(wanted) = wanted {
            done(libc::setrlimit(which as _, &raw const wanted))?;
        }
    }
    Ok(now)
}

/// There are no cgroups.
///
/// # Safety
/// Always sound.
pub(crate) unsafe fn enter_cgroup(_folder: RawFd) {}

/// There are no user namespaces.
///
/// # Safety
/// Always sound.
pub(crate) unsafe fn enter_user_namespace(_uids: &[u8], _gids: &[u8]) -> Result<(), isize> {
    Err(-(libc::ENOSYS as isize))
}

/// Becomes another user for good: as root these calls set the real, the effective and the saved one.
///
/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), isize> {
    // SAFETY: integers; the group list has its own length, which is of another type on each system.
    unsafe {
        done(libc::setgroups(groups.len() as _, groups.as_ptr()))?;
        done(libc::setgid(gid))?;
        done(libc::setuid(uid))?;
        if libc::geteuid() == uid && libc::getegid() == gid && (uid == 0 || libc::setuid(0) < 0) {
            Ok(())
        } else {
            Err(-(libc::EPERM as isize))
        }
    }
}

/// Marks every descriptor from `first` to `last` as close-on-exec.
///
/// # Safety
/// As for [`exit`].
pub(crate) unsafe fn close_on_exec_from(first: RawFd, last: RawFd) -> Result<(), isize> {
    for number in first..=last {
        // SAFETY: integers. Most are not open, which is no fault.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}
