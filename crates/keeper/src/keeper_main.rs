//! The way in: what becomes of `devrun __keeper` before its loop begins.

use devrun_model::exit;
use std::ffi::OsString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::default_limits::{self, DefaultLimits};
use crate::drivers::own_process;
use crate::event_loop;

/// Runs the keeper. `args` are the words after `__keeper`: the socket's number, the soft and hard limits of open files
/// that services get, their limit of core files, both of theirs on file sizes, and `plain` where every child is to be an ordinary
/// fork. Call it before any thread exists.
#[must_use]
pub fn main(args: &[OsString]) -> i32 {
    let number = |index: usize| args.get(index).and_then(|word| word.to_str()?.parse::<u64>().ok());
    let Some(fd) = number(0).and_then(|number| RawFd::try_from(number).ok()).filter(|fd| *fd > 2) else {
        return exit::INTERNAL;
    };
    // SAFETY: a bare query.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return exit::INTERNAL;
    }
    // SAFETY: the supervisor opened it for us and named it on our command line; nobody else in this process knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let pair = |index| number(index).zip(number(index + 1));
    let default_limits =
        pair(1).zip(number(3)).zip(pair(4)).map(|((nofile, core), file_size)| DefaultLimits { nofile, core, file_size });
    if settle().is_err() {
        return exit::INTERNAL;
    }
    event_loop::run(socket, default_limits, args.get(6).is_some_and(|word| word == "plain"))
}

/// Leaves the supervisor's session, directory and signals, and becomes the reaper of what its descendants leave behind.
fn settle() -> nix::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    // A process that leads its group cannot make a session; then it has one of its own already.
    let _ = nix::unistd::setsid();
    nix::unistd::chdir("/")?;
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGPIPE,
        Signal::SIGXFSZ,
    ] {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { sigaction(signal, &ignore)? };
    }
    // An inherited "ignore" of SIGCHLD would have the kernel throw exit codes away.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default disposition runs no code of ours.
    unsafe { sigaction(Signal::SIGCHLD, &default)? };
    own_process::inherit_orphans().map_err(|error| nix::Error::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL)))?;
    own_process::name_keeper();
    // Environments with secrets pass through here; no core file and no other process of ours shall read them.
    own_process::deny_dumps();
    // Descriptors are what runs out first with many services.
    default_limits::raise_open_files();
    Ok(())
}
