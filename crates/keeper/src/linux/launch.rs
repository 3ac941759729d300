//! Begins children: in this process's memory where that can be, else as a copy of it (see `fork`).

use std::cell::RefCell;
use std::fmt;
use std::io;

use crate::blocked_signals::BlockedSignals;
use crate::child::{PreparedChild, run_child};

pub use super::in_flight::is_clone3_refused;
use super::in_flight::{InFlightChild, fork_into};
use super::syscall::ChildStack;

/// Begins the children of a keeper, and takes back what they used of its memory.
#[derive(Debug)]
pub(crate) struct Launcher {
    plain: bool,
    in_flight: RefCell<Vec<InFlightChild<PreparedChild>>>,
    stacks: RefCell<Vec<ChildStack>>,
}

impl Launcher {
    /// `plain`: every child is an ordinary fork.
    pub(crate) fn new(plain: bool) -> Self {
        Self { plain, in_flight: RefCell::default(), stacks: RefCell::default() }
    }

    /// Begins a child. `copy`: it must have a copy of our memory.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn launch(&self, prepared: PreparedChild, copy: bool) -> io::Result<i32> {
        self.reap_in_flight();
        let _blocked = BlockedSignals::new()?;
        if self.plain || copy {
            return fork_copy(prepared, self.plain);
        }
        let stack = self.stacks.borrow_mut().pop();
        let Ok(stack) = stack.map_or_else(ChildStack::new, Ok) else { return fork_copy(prepared, false) };
        let group = prepared.cgroup;
        // Born in its group, it does not move there itself.
        let born = PreparedChild { cgroup: None, ..prepared };
        // SAFETY: signals are blocked, and `begin` does as `child` promises.
        let child = match unsafe { InFlightChild::clone_vm(born, stack, begin, group) } {
            // SAFETY: as above.
            Err((prepared, stack)) if group.is_some() => unsafe {
                InFlightChild::clone_vm(PreparedChild { cgroup: group, ..prepared }, stack, begin, None)
            },
            child => child,
        };
        match child {
            Ok((pid, child)) => {
                self.in_flight.borrow_mut().push(child);
                Ok(pid)
            }
            Err((prepared, stack)) => {
                self.stacks.borrow_mut().push(stack);
                fork_copy(PreparedChild { cgroup: group, ..prepared }, false)
            }
        }
    }

    /// Takes back what children used that have executed or ended. One that hangs before its exec, on a dead network file
    /// system, keeps its own alone.
    pub(crate) fn reap_in_flight(&self) {
        let mut stacks = self.stacks.borrow_mut();
        stacks.extend(self.in_flight.borrow_mut().extract_if(.., |child| child.has_left()).filter_map(InFlightChild::into_stack));
    }

    /// Frees the stacks that no child uses.
    pub(crate) fn free_stacks(&self) {
        self.reap_in_flight();
        *self.stacks.borrow_mut() = Vec::new();
        self.in_flight.borrow_mut().shrink_to_fit();
    }

    /// How many children are in our memory, and how many stacks no child uses.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.in_flight.borrow().len(), self.stacks.borrow().len())
    }
}

/// A copy of this process as the child. `plain`: by `fork` alone.
fn fork_copy(mut prepared: PreparedChild, plain: bool) -> io::Result<i32> {
    // SAFETY: the process has one thread; the child runs `child`, which makes only bare system calls and never returns.
    let pid = unsafe {
        match prepared.cgroup.filter(|_| !plain).and_then(|folder| fork_into(folder)) {
            Some(pid) => {
                prepared.cgroup = None;
                pid
            }
            None => libc::fork(),
        }
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: we are the child of the fork above; everything it uses was prepared before.
        0 => unsafe { run_child(&prepared) },
        _ => Ok(pid),
    }
}

/// # Safety
/// Only as the beginning of a child in our memory.
unsafe extern "C" fn begin(prepared: *const PreparedChild) -> ! {
    // SAFETY: it stays until this child has left, and it is not written.
    unsafe { run_child(&*prepared) }
}

/// Holds what a single child uses in our memory; nothing, where it has a copy.
pub(crate) struct KeptMemory<T> {
    child: Option<InFlightChild<T>>,
}

impl<T> fmt::Debug for KeptMemory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptMemory").field("child", &self.child).finish()
    }
}

/// Begins a single child. It begins in our memory, and this process continues: a copy of the memory of a supervisor would cost more
/// than all the rest.
///
/// # Errors
/// What the system says.
///
/// # Safety
/// `entry` never returns, makes the calls of `child_calls` alone, and uses nothing but the content and its own stack.
#[cfg(feature = "client")]
pub(crate) unsafe fn launch_once<T>(
    content: T,
    entry: unsafe extern "C" fn(*const T) -> !,
    plain: bool,
) -> io::Result<(i32, KeptMemory<T>)> {
    let _blocked = BlockedSignals::new()?;
    let content = match ChildStack::new() {
        Ok(stack) if !plain => {
            // SAFETY: signals are blocked, and `entry` is as the caller promises.
            match unsafe { InFlightChild::clone_vm(content, stack, entry, None) } {
                Ok((pid, child)) => return Ok((pid, KeptMemory { child: Some(child) })),
                // The kernel refuses, or this is another kind of processor.
                Err((content, _)) => content,
            }
        }
        _ => content,
    };
    // SAFETY: the child goes straight into `entry`.
    match unsafe { libc::fork() } {
        // SAFETY: we are the forked child.
        0 => unsafe { entry(&raw const content) },
        -1 => Err(io::Error::last_os_error()),
        pid => Ok((pid, KeptMemory { child: None })),
    }
}
