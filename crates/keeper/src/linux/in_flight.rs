//! A child in our memory until its exec: clone3(2) with `CLONE_VM`, on a stack of its own, while this process continues.
//!
//! The child reads the content and writes the stack, and the kernel clears `tid` when it has left the memory, at its exec or
//! its end (`CLONE_CHILD_CLEARTID`, by which threads are joined). Until then this process holds a raw pointer to all three
//! and makes no reference into any but `tid`, and nothing is freed: what is dropped too early stays allocated.

use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::syscall::{ChildStack, call, clone_onto_stack};

/// `CLONE_INTO_CGROUP` of linux/sched.h; libc's constant is too narrow for it.
const INTO_CGROUP: u64 = 0x2_0000_0000;
/// The kernel writes `tid` before the parent continues, and clears it when the child has left.
const SHARED: u64 = (libc::CLONE_VM | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID) as u64;

/// What one child uses in our memory, from fork to exec.
pub(super) struct InFlightChild<T>(NonNull<ChildMemory<T>>);

struct ChildMemory<T> {
    content: T,
    stack: ChildStack,
    /// Not zero while the child is in our memory.
    tid: AtomicU32,
}

// SAFETY: the pointer is the only one of this process, so what it leads to moves with it.
unsafe impl<T: Send> Send for InFlightChild<T> {}

impl<T> InFlightChild<T> {
    /// Begins a child with `keeper_main`, straight in `cgroup` if one is named. Returns its pid; the content and the stack, where
    /// the kernel refuses (older than 5.3, or a seccomp profile that does not know the call).
    ///
    /// # Safety
    /// Only with signals blocked (see `BlockedSignals`). `keeper_main` never returns, makes bare system calls alone, and uses
    /// nothing but the content and its own stack.
    pub(super) unsafe fn clone_vm(
        content: T,
        stack: ChildStack,
        entry: unsafe extern "C" fn(*const T) -> !,
        cgroup: Option<RawFd>,
    ) -> Result<(i32, Self), (T, ChildStack)> {
        let Some(mut arguments) = arguments(SHARED, cgroup) else { return Err((content, stack)) };
        arguments.stack = stack.begin();
        arguments.stack_size = stack.len() as u64;
        let shared = Box::into_raw(Box::new(ChildMemory { content, stack, tid: AtomicU32::new(0) }));
        // SAFETY: `shared` is valid, and is freed only when the child has left.
        let pid = unsafe {
            arguments.parent_tid = (&raw mut (*shared).tid) as u64;
            arguments.child_tid = arguments.parent_tid;
            clone_onto_stack(&mut arguments, entry, &raw const (*shared).content)
        };
        match (i32::try_from(pid), NonNull::new(shared)) {
            (Ok(pid @ 1..), Some(shared)) => Ok((pid, Self(shared))),
            _ => {
                // SAFETY: there is no child, and nobody else has the pointer.
                let ChildMemory { content, stack, .. } = *unsafe { Box::from_raw(shared) };
                Err((content, stack))
            }
        }
    }

    /// Whether the child has executed its program, or has ended.
    pub(super) fn has_left(&self) -> bool {
        // SAFETY: what the pointer leads to is there as long as we are; the reference is to the atomic alone.
        unsafe { (*self.0.as_ptr()).tid.load(Ordering::Acquire) == 0 }
    }

    /// The stack, once the child has left it.
    pub(super) fn into_stack(self) -> Option<ChildStack> {
        if !self.has_left() {
            return None;
        }
        let shared = std::mem::ManuallyDrop::new(self).0;
        // SAFETY: the child has left, and the pointer is the only one.
        Some(unsafe { Box::from_raw(shared.as_ptr()) }.stack)
    }
}

impl<T> Drop for InFlightChild<T> {
    fn drop(&mut self) {
        if self.has_left() {
            // SAFETY: the child has left, and the pointer is the only one.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

impl<T> std::fmt::Debug for InFlightChild<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlightChild").field("has_left", &self.has_left()).finish()
    }
}

/// Whether clone3 is refused here, and not merely unknown: the C library takes the latter alone as a reason to make threads by
/// the older call.
#[must_use]
pub fn is_clone3_refused() -> bool {
    // SAFETY: arguments of no length are invalid, so nothing is cloned.
    let answer = unsafe { call(libc::SYS_clone3, [0; 5]) };
    answer != -(libc::EINVAL as isize) && answer != -(libc::ENOSYS as isize)
}

fn arguments(flags: u64, cgroup: Option<RawFd>) -> Option<libc::clone_args> {
    Some(libc::clone_args {
        flags: if cgroup.is_some() { flags | INTO_CGROUP } else { flags },
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(Some(0), |cgroup| u64::try_from(cgroup).ok())?,
    })
}

/// Forks a copy straight into a cgroup (clone3(2), Linux 5.7). A child that moves itself there by a write makes the kernel
/// wait for all processors first, 10 to 30 ms unless another one has just done so. `None`: refused, nothing was forked.
///
/// # Safety
/// As for `fork`: only in a process with one thread.
pub(super) unsafe fn fork_into(cgroup: RawFd) -> Option<libc::pid_t> {
    let mut arguments = arguments(0, Some(cgroup))?;
    // SAFETY: without a stack of its own the child continues in a copy of ours, as after `fork`; the structure is the size
    // that is passed along.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    if pid < 0 { None } else { libc::pid_t::try_from(pid).ok() }
}
