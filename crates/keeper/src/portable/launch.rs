//! Begins children by fork(2): each has a copy of this process's memory.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use crate::blocked_signals::BlockedSignals;
use crate::child::{PreparedChild, run_child};

/// Begins the children of a keeper.
#[derive(Debug)]
pub(crate) struct Launcher;

impl Launcher {
    /// Every child is an ordinary fork, whatever is asked for.
    pub(crate) fn new(_plain: bool) -> Self {
        Self
    }

    /// Begins a child.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn launch(&self, prepared: PreparedChild, _copy: bool) -> io::Result<i32> {
        let _blocked = BlockedSignals::new()?;
        // SAFETY: the process has one thread; the child runs `child`, which makes only calls that are allowed there and never returns.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: we are the child of the fork above; everything it uses was prepared before.
            0 => unsafe { run_child(&prepared) },
            pid => Ok(pid),
        }
    }

    /// No child uses our memory.
    pub(crate) fn reap_in_flight(&self) {}

    /// There are no stacks of children.
    pub(crate) fn free_stacks(&self) {}

    /// How many children are in our memory, and how many stacks no child uses.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        (0, 0)
    }
}

/// Nothing: a child uses a copy of our memory.
pub(crate) struct KeptMemory<T>(PhantomData<T>);

impl<T> fmt::Debug for KeptMemory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptMemory")
    }
}

/// Begins a single child.
///
/// # Errors
/// What the system says.
///
/// # Safety
/// `entry` never returns, makes the calls of `child_calls` alone, and uses nothing but the content.
#[cfg(feature = "client")]
pub(crate) unsafe fn launch_once<T>(
    content: T,
    entry: unsafe extern "C" fn(*const T) -> !,
    _plain: bool,
) -> io::Result<(i32, KeptMemory<T>)> {
    let _blocked = BlockedSignals::new()?;
    // SAFETY: the child goes straight into `entry`.
    match unsafe { libc::fork() } {
        // SAFETY: we are the forked child.
        0 => unsafe { entry(&raw const content) },
        -1 => Err(io::Error::last_os_error()),
        pid => Ok((pid, KeptMemory(PhantomData))),
    }
}

/// There is no such call here that could be refused.
#[must_use]
pub fn is_clone3_refused() -> bool {
    false
}
