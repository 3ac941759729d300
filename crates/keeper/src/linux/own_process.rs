//! What a process of devrun asks of the kernel for itself.

use std::io;

use crate::process_reader::command;

/// Whether what loses its parent becomes the child of the nearest ancestor that has asked for it (a subreaper).
pub const INHERITS_ORPHANS: bool = true;

/// Whether the kernel tells which ports have a listener, and which process holds it (`sock_diag(7)`).
pub const TELLS_LISTENERS: bool = true;

/// Whether services can have cgroups.
pub(crate) const HAS_CGROUPS: bool = true;

/// Whether a descriptor tells of changes of files (`inotify(7)`).
pub const HAS_FILE_NOTICES: bool = true;

/// Whether a process can become the only user of a namespace of users.
pub const HAS_USER_NAMESPACES: bool = true;

/// What a keeper calls itself.
const KEEPER: &str = "devrun-keeper";

/// From here on what a descendant leaves behind comes to this process and not to init.
///
/// # Errors
/// What the system says.
pub(crate) fn inherit_orphans() -> io::Result<()> {
    set_subreaper(1)
}

/// From here on what a descendant leaves behind goes to the next ancestor that has asked for it.
///
/// # Errors
/// What the system says.
pub(crate) fn leave_orphans() -> io::Result<()> {
    set_subreaper(0)
}

/// Whether this process has asked for what its descendants leave behind.
#[must_use]
pub(crate) fn is_inheriting_orphans() -> bool {
    let mut is_set: libc::c_int = 0;
    // SAFETY: prctl with the address of an integer of ours, which outlives the call.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is_set, 0, 0, 0) == 0 && is_set != 0 }
}

fn set_subreaper(is_on: libc::c_ulong) -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, is_on, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Calls this process a keeper. Started by way of `/proc/self/exe` it would be called `exe`.
pub(crate) fn name_keeper() {
    // SAFETY: prctl with one constant string.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"devrun-keeper".as_ptr(), 0, 0, 0) };
}

/// Calls this process a supervisor.
pub(crate) fn name_supervisor() {
    // SAFETY: as above; the kernel keeps fifteen letters.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"devrun-supervis".as_ptr(), 0, 0, 0) };
}

/// Whether a process is a keeper by its name.
#[must_use]
pub(crate) fn is_keeper(pid: i32) -> bool {
    command(pid) == KEEPER
}

/// Leaves no core file behind, and lets no other process of this user look into this one.
pub(crate) fn deny_dumps() {
    // SAFETY: prctl with integer arguments.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Closes all descriptors beyond 2 but this one.
///
/// # Errors
/// What the system says.
///
/// # Safety
/// Nothing in this process owns any of them.
pub(crate) unsafe fn close_descriptors(kept: Option<u32>) -> io::Result<()> {
    let ranges = match kept {
        None => [Some((3, u32::MAX)), None],
        Some(kept) => [(kept > 3).then(|| (3, kept - 1)), Some((kept + 1, u32::MAX))],
    };
    // SAFETY: integer arguments, and as the caller promises.
    let close = |(first, last): (u32, u32)| unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0;
    if ranges.into_iter().flatten().all(close) {
        return Ok(());
    }
    // Before Linux 5.9, and under old seccomp profiles, a range cannot be closed at once.
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in open.into_iter().filter(|number| *number > 2 && Some(number.unsigned_abs()) != kept) {
        // SAFETY: as above; that of the list itself is closed by now, which is refused.
        unsafe { libc::close(number) };
    }
    Ok(())
}
