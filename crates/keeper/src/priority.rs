//! A keeper's place in the queue for a processor: ahead of those whom it reaps.
//!
//! A process that wants a processor for some microseconds, now and then, waits in the queue of a busy machine as long as one
//! that computes, and meanwhile zombies pile up: fifty were seen. So a keeper asks, in this order, for
//!
//! - the lowest of the real-time priorities, under which it waits for nobody but other real-time processes (root). A fault of
//!   ours must not take a processor away from everybody for that: who works for half a second without a pause falls back to
//!   the next, by a limit of the kernel's
//! - more weight and short slices (root, where real time is not to be had)
//! - short slices alone, which the kernel serves sooner and for which nobody needs a right (Linux 6.12)
//!
//! What it starts gets nothing of this: class, slices and weight fall back at every fork, and the child takes the value of
//! `nice` and the limit that devrun was started with. Where the kernel shares a machine out by session first (autogroup), the
//! weight is the session's, and every service has a session of its own.

use libc::{rlimit, sched_attr};

use super::raw::call;

/// The weight that a keeper asks for; one of less nice than this keeps its own.
const NICE: i32 = -10;
/// A slice of a tenth of a millisecond, the shortest that there is.
const SLICE_NS: u64 = 100_000;
/// So many microseconds of real time without a pause. A start of hundreds of services takes less.
const AT_ONCE: u64 = 500_000;

/// What children must be given back.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    nice: i32,
    at_once: Option<rlimit>,
}

/// Moves this process ahead. `None`: nothing was changed. Call it while there is one thread.
#[must_use]
pub fn hurry() -> Option<Before> {
    let size = u32::try_from(size_of::<sched_attr>()).ok()?;
    // SAFETY: all zero is a valid value of this plain structure.
    let mut now: sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most `size` bytes into a structure of that size.
    if unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, size, 0) } != 0 {
        return None;
    }
    // Whoever chose another class for devrun and all that it runs has reasons.
    if now.sched_policy != libc::SCHED_OTHER.cast_unsigned() {
        return None;
    }
    let nice = now.sched_nice;
    if let Some(at_once) = real_time() {
        return Some(Before { nice, at_once: Some(at_once) });
    }
    let done = set(&fair(nice.min(NICE))) || set(&fair(nice));
    done.then_some(Before { nice, at_once: None })
}

/// Real time under a limit, which is set first. Returns what the limit was.
fn real_time() -> Option<rlimit> {
    // SAFETY: bare calls on a structure of ours; the handler makes async-signal-safe calls only and leaves errno as it was.
    unsafe {
        let mut before: rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_RTTIME, &raw mut before) != 0 {
            return None;
        }
        let limit = rlimit { rlim_cur: AT_ONCE.min(before.rlim_max), rlim_max: before.rlim_max };
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = fall_back as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        if libc::sigaction(libc::SIGXCPU, &raw const action, std::ptr::null_mut()) != 0
            || libc::setrlimit(libc::RLIMIT_RTTIME, &raw const limit) != 0
        {
            return None;
        }
        let first = sched_attr { sched_policy: libc::SCHED_FIFO.cast_unsigned(), sched_priority: 1, sched_runtime: 0, ..fair(0) };
        if set(&first) {
            return Some(before);
        }
        libc::setrlimit(libc::RLIMIT_RTTIME, &raw const before);
        None
    }
}

/// SIGXCPU: half a second of real time without a pause.
extern "C" fn fall_back(_signal: libc::c_int) {
    // SAFETY: errno is the thread's own.
    unsafe {
        let kept = *libc::__errno_location();
        // One who may have real time may have this.
        set(&fair(NICE));
        *libc::__errno_location() = kept;
    }
}

fn fair(nice: i32) -> sched_attr {
    sched_attr {
        size: size_of::<sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: libc::SCHED_FLAG_RESET_ON_FORK as u64,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: SLICE_NS,
        sched_deadline: 0,
        sched_period: 0,
    }
}

fn set(attributes: &sched_attr) -> bool {
    // SAFETY: the kernel reads as many bytes of the structure as its first field says.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(attributes), 0) } == 0;
    // SAFETY: bare queries.
    let session_is_ours = unsafe { libc::getsid(0) == libc::getpid() };
    if set && attributes.sched_nice < 0 && session_is_ours {
        // SAFETY: bare calls on constants, as a handler may make them.
        unsafe {
            let file = libc::open(c"/proc/self/autogroup".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            // Absent where there are no autogroups.
            if file >= 0 {
                libc::write(file, c"-10".as_ptr().cast(), 3);
                libc::close(file);
            }
        }
    }
    set
}

/// Takes back what a process that hurries had before.
///
/// # Safety
/// Made for a child before its exec: bare system calls.
pub(super) unsafe fn calm_down(before: &Before) {
    // SAFETY: integers, and a structure of the caller's. What fell back to zero at the fork can always be made more; a
    // negative value was root's, as was a limit below this one.
    unsafe {
        if before.nice != 0 {
            call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, before.nice as usize, 0, 0]);
        }
        if let Some(at_once) = &before.at_once {
            call(libc::SYS_prlimit64, [0, libc::RLIMIT_RTTIME as usize, std::ptr::from_ref(at_once) as usize, 0, 0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> i32 {
        // SAFETY: asks for the calling thread's own.
        unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) as i32 & !libc::SCHED_RESET_ON_FORK }
    }

    /// A keeper that never pauses, by whatever fault, must not keep its place.
    #[test]
    fn who_works_without_a_pause_falls_back() {
        // A thread of its own, as class and weight are a thread's.
        let seen = std::thread::spawn(|| {
            let before = hurry();
            let first = class();
            let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while class() == libc::SCHED_FIFO && std::time::Instant::now() < until {
                std::hint::spin_loop();
            }
            if let Some(at_once) = before.and_then(|before| before.at_once) {
                // SAFETY: a structure of ours.
                unsafe { libc::setrlimit(libc::RLIMIT_RTTIME, &raw const at_once) };
            }
            (first, class())
        });
        let (first, last) = seen.join().unwrap();
        assert!(matches!(first, libc::SCHED_FIFO | libc::SCHED_OTHER), "{first}");
        assert_eq!(last, libc::SCHED_OTHER);
    }
}
