//! What a process of devrun asks of the kernel for itself: here it can ask for little.

use std::io;

use crate::process_reader::{arguments, last_descriptor};

/// What loses its parent becomes a child of init.
pub const INHERITS_ORPHANS: bool = false;

/// No one tells which ports have a listener.
pub const TELLS_LISTENERS: bool = false;

/// Whether services can have cgroups.
pub(crate) const HAS_CGROUPS: bool = false;

/// Whether a descriptor tells of changes of files (`inotify(7)`).
pub const HAS_FILE_NOTICES: bool = false;

/// Whether a process can become the only user of a namespace of users.
pub const HAS_USER_NAMESPACES: bool = false;

/// This system has no such request.
///
/// # Errors
/// None.
pub(crate) fn inherit_orphans() -> io::Result<()> {
    Ok(())
}

/// This system has no such request.
///
/// # Errors
/// None.
pub(crate) fn leave_orphans() -> io::Result<()> {
    Ok(())
}

/// Orphans go to init.
#[must_use]
pub(crate) fn is_inheriting_orphans() -> bool {
    false
}

/// A process keeps the name of its program.
pub(crate) fn name_keeper() {}

/// A process keeps the name of its program.
pub(crate) fn name_supervisor() {}

/// Whether a process is a keeper by its arguments.
#[must_use]
pub(crate) fn is_keeper(pid: i32) -> bool {
    arguments(pid).get(1).is_some_and(|word| word == b"__keeper")
}

/// There is no such request; that core files are limited to nothing is all.
pub(crate) fn deny_dumps() {}

/// Closes all descriptors beyond 2 but this one.
///
/// # Errors
/// None.
///
/// # Safety
/// Nothing in this process owns any of them.
pub(crate) unsafe fn close_descriptors(kept: Option<u32>) -> io::Result<()> {
    for number in (3..=last_descriptor()).filter(|number| Some(number.unsigned_abs()) != kept) {
        // SAFETY: as the caller promises; most are not open, which is refused.
        unsafe { libc::close(number) };
    }
    Ok(())
}
