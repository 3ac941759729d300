//! The heap of a supervisor and a keeper once a start is over: what was freed goes back to the system. Between a start and the
//! next event lie hours, and the C library keeps freed memory in the middle of its heap forever otherwise.

/// Returns freed memory to the system (`malloc_trim(3)`). Takes about a millisecond, so call it when nobody waits.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no memory of ours.
    unsafe {
        libc::malloc_trim(0);
    }
}
