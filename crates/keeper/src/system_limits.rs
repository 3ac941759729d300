//! What to type where the system refuses a process, a thread or a descriptor.

use std::io;

/// Help for a limit on processes and threads.
pub const PROCESSES: &str = "the user has too many processes: end some, raise the limit (ulimit -u), or that of the container or service (pids.max, TasksMax=)";

/// Help for what the system said when a process, a thread or an event loop was to be made.
#[must_use]
pub fn help(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => PROCESSES,
        Some(libc::EMFILE) => "raise the limit on open files: ulimit -n 4096",
        Some(libc::ENFILE) => "the machine has too many open files: close some programs, or raise fs.file-max",
        Some(libc::ENOMEM | libc::ENOBUFS) => "memory is used up: end some processes",
        _ => "devrun doctor looks at what this machine allows",
    }
}

/// Whether a limit of the process or of the machine is what refuses a descriptor or memory, and not what was asked for.
#[must_use]
pub fn is_reached(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::{help, is_reached};
    use std::io::Error;

    #[test]
    fn each_limit_has_its_own_help() {
        assert!(help(&Error::from_raw_os_error(libc::EAGAIN)).contains("ulimit -u"));
        assert!(help(&Error::from_raw_os_error(libc::EMFILE)).contains("ulimit -n"));
        assert!(help(&Error::from_raw_os_error(libc::EIO)).starts_with("devrun doctor"));
        assert!(is_reached(&Error::from_raw_os_error(libc::EMFILE)));
        assert!(!is_reached(&Error::from_raw_os_error(libc::EADDRINUSE)));
    }
}
