//! The few system calls that the helpers share.

use std::ffi::CString;
use std::os::fd::RawFd;

/// Nanoseconds of CLOCK_MONOTONIC, which all processes of the machine share.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Blocks TERM, INT and CHLD's friends and returns the descriptor on which they arrive.
pub fn signals(wanted: &[i32]) -> RawFd {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in wanted {
            libc::sigaddset(&mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    }
}

/// Waits for one of the descriptors; `None` waits for ever.
pub fn poll(fds: &mut [libc::pollfd], nanoseconds: Option<u64>) {
    let time = libc::timespec { tv_sec: (nanoseconds.unwrap_or(0) / 1_000_000_000) as i64, tv_nsec: (nanoseconds.unwrap_or(0) % 1_000_000_000) as i64 };
    let time = if nanoseconds.is_some() { &raw const time } else { std::ptr::null() };
    // SAFETY: the slice and the time outlive the call.
    unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, time, std::ptr::null()) };
}

/// A descriptor to wait for input on.
pub fn input(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Writes everything; false when the reader is gone.
pub fn write(fd: RawFd, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // SAFETY: the slice outlives the call.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        if n <= 0 {
            return false;
        }
        bytes = &bytes[n as usize..];
    }
    true
}

/// One line to the file of events, in one write.
pub fn event(fd: RawFd, at: u64, kind: char, name: &str) {
    // SAFETY: no argument.
    let pid = unsafe { libc::getpid() };
    write(fd, format!("{at} {kind} {name} {pid}\n").as_bytes());
}

/// Opens for appending.
pub fn append(path: &str) -> RawFd {
    let path = CString::new(path).expect("a path");
    // SAFETY: the path outlives the call.
    unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC, 0o644) }
}

/// Starts a program as the kernel's cheapest way has it. `ready` becomes descriptor 3 of the child.
pub fn spawn(argv: &[CString], ready: Option<RawFd>) -> i32 {
    let mut pointers: Vec<*mut libc::c_char> = argv.iter().map(|word| word.as_ptr().cast_mut()).collect();
    pointers.push(std::ptr::null_mut());
    let environment: [*mut libc::c_char; 1] = [std::ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: everything passed outlives the calls; the attributes are initialised and destroyed here.
    unsafe {
        let mut actions: libc::posix_spawn_file_actions_t = std::mem::zeroed();
        let mut attributes: libc::posix_spawnattr_t = std::mem::zeroed();
        libc::posix_spawn_file_actions_init(&mut actions);
        libc::posix_spawnattr_init(&mut attributes);
        if let Some(fd) = ready {
            libc::posix_spawn_file_actions_adddup2(&mut actions, fd, 3);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::posix_spawnattr_setsigmask(&mut attributes, &none);
        libc::posix_spawnattr_setflags(&mut attributes, libc::POSIX_SPAWN_SETSIGMASK as libc::c_short);
        let failed = libc::posix_spawn(&mut pid, pointers[0], &actions, &attributes, pointers.as_ptr(), environment.as_ptr());
        libc::posix_spawn_file_actions_destroy(&mut actions);
        libc::posix_spawnattr_destroy(&mut attributes);
        assert!(failed == 0, "posix_spawn: {failed}");
    }
    pid
}

/// A descriptor that becomes readable when the process ends.
pub fn pidfd(pid: i32) -> RawFd {
    // SAFETY: plain numbers.
    unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) as RawFd }
}

/// Waits for a child that has ended, or will.
pub fn reap(pid: i32) {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    unsafe { libc::waitpid(pid, &mut status, 0) };
}

/// A pipe: read end, write end; both closed on exec.
pub fn pipe() -> (RawFd, RawFd) {
    let mut ends = [0; 2];
    // SAFETY: two descriptors are written.
    unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    (ends[0], ends[1])
}

/// Closes a descriptor.
pub fn close(fd: RawFd) {
    // SAFETY: the caller owns it.
    unsafe { libc::close(fd) };
}
