//! What a person may want of a supervisor without ending it: QUIT asks how things stand, TSTP (Ctrl-Z) holds it.
//!
//! Services have sessions of their own, so neither reaches them. While it is held nobody reads their output: what is more
//! than a pipe carries makes a service wait, and nothing is restarted. Time-outs do not run meanwhile (`engine::stamp`).

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::ui::term::safe;
use devrun_keeper::system_limits;
use devrun_model::feed::Status;
use devrun_model::{Failure, FailureKind};

/// The signals of a kind that come to this process from now on.
///
/// # Errors
/// `Internal` when they cannot be received, with the limit that is in the way.
pub fn receive(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| refused(&error))
}

/// The failure of a command that receives no signals.
#[must_use]
pub fn refused(error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("signals cannot be received: {error}")).help(system_limits::help(error))
}

/// One wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// How do things stand?
    Status,
    /// Wait here.
    Hold,
}

/// QUIT and TSTP of this process.
pub struct Asides {
    quit: Signal,
    stop: Signal,
}

impl Asides {
    /// Takes them over.
    ///
    /// # Errors
    /// `Internal` when they cannot be had.
    pub fn take() -> Result<Self, Failure> {
        Ok(Self { quit: receive(SignalKind::quit())?, stop: receive(SignalKind::from_raw(libc::SIGTSTP))? })
    }
    /// The next one.
    pub async fn next(&mut self) -> Aside {
        tokio::select! {
            Some(()) = self.quit.recv() => Aside::Status,
            Some(()) = self.stop.recv() => Aside::Hold,
            else => std::future::pending().await,
        }
    }
}

/// Whether somebody could bring us back: a shell that is in our session and not in our group. Without one the system
/// itself ignores Ctrl-Z, and so do we.
#[must_use]
pub fn can_be_resumed() -> bool {
    use nix::unistd::{getpgid, getppid, getsid};
    let parent = getppid();
    getsid(Some(parent)).is_ok_and(|theirs| getsid(None) == Ok(theirs))
        && getpgid(Some(parent)).is_ok_and(|theirs| getpgid(None) != Ok(theirs))
}

/// Stops this process until somebody continues it.
pub fn hold() {
    // STOP cannot be refused; should it be, we go on, which is what comes after it anyway.
    let _refused = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
}

/// How things stand, a line each.
#[must_use]
pub fn dump(status: &Status) -> Vec<String> {
    let mut lines = vec![format!(
        "status of {}: supervisor {}, up {}s{}",
        status.snapshot.project,
        std::process::id(),
        status.age_ms / 1000,
        if status.stopping { ", stopping" } else { "" }
    )];
    for service in &status.snapshot.services {
        let pid = service.pid.map_or(String::new(), |pid| format!(", pid {pid}"));
        let restarts = match service.restarts {
            0 => String::new(),
            1 => ", 1 restart".to_owned(),
            many => format!(", {many} restarts"),
        };
        let reason = service.reason.as_ref().map_or(String::new(), |reason| format!(", {}", safe(reason)));
        lines.push(format!("  {}: {}, {}{pid}{restarts}{reason}", service.name, service.state, service.health));
    }
    lines
}
