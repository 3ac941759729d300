//! A descriptor table of its own for a test that makes processes.
//!
//! Tests run in threads that share one table. A child would inherit what other tests have open and keep it until its exec:
//! their locks and sockets, and the release pipes of their children. A child that is never released ends when no copy of its
//! release pipe is open, so two that hold each other's wait forever (see `fork`).

/// Gives this thread, and those that it starts later, a descriptor table with nothing but descriptors 0 to 2.
///
/// # Panics
/// When the kernel refuses: before Linux 5.9 it has no close_range(2).
pub(crate) fn unshare_descriptors() {
    // SAFETY: a call with integer arguments. It closes this thread's copies alone, and a test uses only what it opens later.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
    assert_eq!(answer, 0, "close_range: {}", std::io::Error::last_os_error());
}
