//! Probes: is the service ready, is it alive. Attempts never overlap; the first is immediate.
//!
//! Owns: the checks of the contract, one file each; when they are tried (`clock`, `runner`); whether a listener is
//! the service's own (`dial`). Does not own what follows from an answer: failures are not counted here, `core` does.
//!
//! # When something is said
//! - The first pass at once; later passes only when they follow a failure or their note changed. A pass ends a streak.
//! - Before the first pass: a changed failure at once, the same one again at most every 250 ms. None of these counts by
//!   itself; `core` counts those that lie `interval` apart once `start_period` is over.
//! - After the first pass: every failure, and those lie `interval` apart, on moments shared by the whole process.
//! - Liveness begins with the first pass of readiness (at once where there is none); failures before the end of
//!   `start_period` are not said.
//!
//! # What it costs
//! While nobody listens on its port, a service is one of those for which the kernel is asked, all in one question every
//! half to twenty milliseconds (`bell`). The dear part of a check runs only when the port is open: in steps of
//! `max(1 ms, 2 % of the time since the spawn)`, at most `start_interval`. Where the kernel cannot be asked, connects are
//! tried in such steps; a refused one costs some 20 µs. Afterwards one shared wake-up per `interval`, and none at all where every check stays passed once it
//! has (`log`, `notify`, `uptime`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use devrun_model::keeper::RunAs;
use devrun_model::{Check, Failure, ReadySpec, ServiceId};

use devrun_keeper::Runner;

mod bell;
mod bolt;
mod checks;
mod clock;
mod command;
mod dial;
mod file;
mod grpc;
mod history;
pub mod http;
mod https;
mod notify;
mod pg;
mod redis;
mod runner;
mod s3;
mod sql;
mod target;
mod verdict;

pub use self::redis::{busy as redis_busy, facts as redis_facts, renew as redis_renew};
pub use bell::Bell;
pub use checks::attempt;
pub use clock::{Sleeper, step as pause};
pub use history::Attempt;
pub use notify::NotifySocket;
pub use runner::{Commands, ProbeHandle, Probing, watch};
pub use target::target;
pub use verdict::{Again, Hit, Miss};

/// What is probed, and with what.
pub struct Subject {
    /// Whose.
    pub id: ServiceId,
    /// Which generation.
    pub generation: u64,
    /// Readiness.
    pub ready: Option<ReadySpec>,
    /// Liveness.
    pub alive: Option<ReadySpec>,
    /// The leader; absent: external, or nothing to own a port.
    pub leader: Option<i32>,
    /// For `cmd` checks.
    pub runner: Runner,
    /// The user of `cmd` checks: the service's.
    pub run_as: RunAs,
    /// The environment of `cmd` checks.
    pub env: BTreeMap<String, String>,
    /// Their directory.
    pub dir: PathBuf,
    /// Where `notify` listens; the service got it as `NOTIFY_SOCKET`.
    pub notify_socket: Option<PathBuf>,
    /// One for all probes of a supervisor.
    pub bell: Bell,
}

/// What a probe says.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Readiness passed; a note worth showing (the holder of the port cannot be known).
    Passed(Option<String>),
    /// It did not: the answer in a fragment; a failure where waiting cannot mend it.
    Failed(String, Option<Failure>),
    /// Liveness passed.
    AlivePassed,
    /// It did not.
    AliveFailed(String),
}

/// Where answers go: with the subject's id and generation.
pub type Sink = mpsc::UnboundedSender<(ServiceId, u64, Answer)>;

/// Begins probing. Answers go to `sink` with the subject's id and generation. Must be called inside a runtime.
///
/// Where there is a `notify` check, its socket is bound here, which is too late for a service that is quick: bind it
/// before the spawn and use [`start_with`].
#[must_use]
pub fn start(subject: Subject, sink: Sink) -> ProbeHandle {
    start_with(subject, None, sink)
}

/// As [`start`], with the `notify` socket that was bound before the spawn.
#[must_use]
pub fn start_with(subject: Subject, notify: Option<NotifySocket>, sink: Sink) -> ProbeHandle {
    let run = subject.runner.marks.get("DEVRUN_RUN_ID").cloned().unwrap_or_default();
    let wants_notify = [&subject.ready, &subject.alive].into_iter().flatten().any(|spec| spec.checks.contains(&Check::Notify));
    let notify = match (notify, &subject.notify_socket) {
        (Some(socket), _) => Some(Ok(socket)),
        (None, Some(path)) if wants_notify => Some(NotifySocket::bind(path)),
        (None, _) => None,
    };
    watch(
        Probing {
            id: subject.id,
            generation: subject.generation,
            ready: subject.ready,
            alive: subject.alive,
            leader: subject.leader,
            run,
            commands: Some(Commands { runner: subject.runner, env: subject.env, dir: subject.dir, run_as: subject.run_as }),
            notify,
            bell: subject.bell,
        },
        sink,
    )
}

/// The failure of a configuration that a check cannot work with.
pub(crate) fn unusable(reason: impl Into<String>, help: &str) -> Failure {
    Failure::new(devrun_model::FailureKind::Config, reason).help(help)
}

/// A duration in an answer: `34 ms`, `1.20 s`.
pub(crate) fn spent(duration: Duration) -> String {
    if duration.as_secs() == 0 { format!("{} ms", duration.as_millis()) } else { format!("{:.2} s", duration.as_secs_f64()) }
}
