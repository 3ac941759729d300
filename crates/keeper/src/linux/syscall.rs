//! System calls without the C library: for a child that still runs in its parent's memory.
//!
//! Such a child (see `fork`) shares everything with the keeper until its exec, the place of `errno` included. A wrapper of
//! the C library would write there, in the middle of what the keeper does, so the child uses [`call`], which answers in a
//! register. [`clone_onto_stack`] begins the child on a stack of its own; with the C library there is no way to do that together with
//! a cgroup. Both are one instruction for each kind of processor; where there is none here, `fork` is used and the library.

use std::io;
use std::ptr::NonNull;

/// Makes a system call. A failure is the negative errno, as the kernel itself says it.
///
/// # Safety
/// As for the call itself.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let [first, second, third, fourth, fifth] = arguments;
    let result;
    // SAFETY: the kernel leaves every register but these three as it was, and the stack too.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// Makes a system call. A failure is the negative errno, as the kernel itself says it.
///
/// # Safety
/// As for the call itself.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let [first, second, third, fourth, fifth] = arguments;
    let result;
    // SAFETY: the kernel leaves every register but the first as it was, and the stack too.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") first as isize => result,
            in("x1") second,
            in("x2") third,
            in("x3") fourth,
            in("x4") fifth,
            options(nostack)
        );
    }
    result
}

/// Makes a system call. A failure is the negative errno, as the kernel itself says it.
///
/// # Safety
/// As for the call itself.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: as above.
    match unsafe { libc::syscall(number, first, second, third, fourth, fifth) } {
        -1 => -std::io::Error::last_os_error().raw_os_error().map_or(libc::EIO as isize, |errno| errno as isize),
        result => result as isize,
    }
}

/// Memory for a child to run on: a mapping of its own, whose lowest page cannot be touched, so that a child that needs more
/// than there is dies of it, alone. Its few calls take a page, debug builds two.
#[derive(Debug)]
pub(super) struct ChildStack {
    mapping: NonNull<libc::c_void>,
    guard: usize,
}

// SAFETY: the mapping belongs to its `ChildStack` alone.
unsafe impl Send for ChildStack {}

impl ChildStack {
    const BYTES: usize = 64 << 10;

    /// # Errors
    /// When there is no memory.
    pub(super) fn new() -> io::Result<Self> {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096);
        let guard = usize::try_from(page).unwrap_or(4096);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let mapping = unsafe {
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
            libc::mmap(std::ptr::null_mut(), guard + Self::BYTES, libc::PROT_NONE, kind, -1, 0)
        };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { mapping: NonNull::new(mapping).ok_or_else(io::Error::last_os_error)?, guard };
        // SAFETY: the part of the new mapping above the guard page. `BYTES` is a multiple of every page size (4 to 64 KiB).
        if unsafe { libc::mprotect(mapping.byte_add(guard), Self::BYTES, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    /// For a `clone_args`: where it begins, lowest address first.
    pub(super) fn begin(&self) -> u64 {
        self.mapping.as_ptr() as u64 + self.guard as u64
    }

    /// For a `clone_args`: how many bytes it has.
    pub(super) fn len(&self) -> usize {
        Self::BYTES
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and no child is on it any more: `InFlightChild` sees to that.
        unsafe { libc::munmap(self.mapping.as_ptr(), self.guard + Self::BYTES) };
    }
}

/// Clones this process (clone3(2)); the child begins with `entry(argument)` on the stack that `arguments` name, and must
/// never return from it. Returns the child's pid, or the negative errno.
///
/// # Safety
/// The stack and everything that the child uses must stay until it has executed or ended.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn clone_onto_stack<T>(
    arguments: &mut libc::clone_args,
    entry: unsafe extern "C" fn(*const T) -> !,
    argument: *const T,
) -> isize {
    let result;
    // SAFETY: in the parent this is a system call like any other. The child has the top of its stack, aligned to 16 bytes by
    // the caller, in the stack pointer, and the other registers as they were; it goes where it never comes back from.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") std::ptr::from_mut(arguments),
            in("rsi") size_of::<libc::clone_args>(),
            in("r8") entry,
            in("r9") argument,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// Clones this process (clone3(2)); the child begins with `entry(argument)` on the stack that `arguments` name, and must
/// never return from it. Returns the child's pid, or the negative errno.
///
/// # Safety
/// The stack and everything that the child uses must stay until it has executed or ended.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn clone_onto_stack<T>(
    arguments: &mut libc::clone_args,
    entry: unsafe extern "C" fn(*const T) -> !,
    argument: *const T,
) -> isize {
    let result;
    // SAFETY: as on the other processor.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x3",
            "blr x2",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") std::ptr::from_mut(arguments) as isize => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x2") entry,
            in("x3") argument,
            lateout("x30") _,
            options(nostack)
        );
    }
    result
}

/// No such thing here.
///
/// # Safety
/// Always sound: nothing is cloned.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) unsafe fn clone_onto_stack<T>(
    _arguments: &mut libc::clone_args,
    _entry: unsafe extern "C" fn(*const T) -> !,
    _argument: *const T,
) -> isize {
    -(libc::ENOSYS as isize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_and_a_failure_is_negative() {
        // SAFETY: queries without a pointer.
        let (pid, bad) = unsafe { (call(libc::SYS_getpid, [0; 5]), call(libc::SYS_close, [usize::MAX, 0, 0, 0, 0])) };
        assert_eq!(pid, std::process::id() as isize);
        assert_eq!(bad, -(libc::EBADF as isize));
    }

    #[test]
    fn the_page_below_a_stack_cannot_be_touched() {
        let stack = ChildStack::new().unwrap();
        let begin = format!("{:x}-", stack.begin());
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let lines: Vec<&str> = maps.lines().collect();
        let at = lines.iter().position(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("{begin} {maps}"));
        assert!(lines[at].contains(" rw-p "), "{}", lines[at]);
        let below = lines[at - 1];
        assert!(below.contains(&format!("-{} ---p ", begin.trim_end_matches('-'))), "{below}");
    }
}
