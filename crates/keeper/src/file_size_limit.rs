//! The limit on the size of files (RLIMIT_FSIZE), which a caller may have set for other programs.
//!
//! Beyond it the kernel sends SIGXFSZ, which would end a supervisor in the middle of a log line. So the signal is ignored, a
//! write fails with EFBIG as on a full disk, and the limit is raised as far as it may be. What the user runs through us gets
//! both back: services from the keeper, everything else by [`restore_in_child`].

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Soft and hard limit as they were before ours were raised.
static CALLERS: OnceLock<(u64, u64)> = OnceLock::new();

fn now() -> (u64, u64) {
    getrlimit(Resource::RLIMIT_FSIZE).unwrap_or((libc::RLIM_INFINITY, libc::RLIM_INFINITY))
}

/// Ignores the signal and raises the limit; for the beginning of the program.
pub fn raise() {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    CALLERS.get_or_init(|| {
        let (soft, hard) = now();
        // Only root may go beyond the hard limit; where neither is allowed, writes fail and are told where they do.
        if soft != libc::RLIM_INFINITY && setrlimit(Resource::RLIMIT_FSIZE, libc::RLIM_INFINITY, libc::RLIM_INFINITY).is_err() {
            let _ = setrlimit(Resource::RLIMIT_FSIZE, hard, hard);
        }
        (soft, hard)
    });
}

/// The soft and hard limit that we were started with.
#[must_use]
pub fn callers_limit() -> (u64, u64) {
    CALLERS.get().copied().unwrap_or_else(now)
}

/// Gives a program that is about to take the place of this process the limit and the signal back.
pub fn restore() {
    let (soft, hard) = callers_limit();
    // Lowering cannot be refused.
    let _ = setrlimit(Resource::RLIMIT_FSIZE, soft, hard);
    // SAFETY: the default disposition runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_DFL) };
}

/// Gives a child the limit and the signal back.
pub fn restore_in_child(command: &mut Command) {
    let (soft, hard) = callers_limit();
    // SAFETY: between fork and exec, two system calls without memory of ours.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            Ok(())
        });
    }
}

/// What to do where a file of the state directory cannot be written.
#[must_use]
pub fn write_error_help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::FileTooLarge => "raise the limit on file sizes: ulimit -f unlimited",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or choose another place with --state-dir DIR"
        }
        _ => "make it writable, or choose another place with --state-dir DIR",
    }
}
