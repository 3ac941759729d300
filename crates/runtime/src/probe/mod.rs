//! Probes: is the service ready, is it alive. Attempts never overlap; the first is immediate.
//!
//! Owns: the checks of the contract, one file each; when they are tried (`schedule`, `runner`); whether a listener is
//! the service's own (`connect`). Does not own what follows from an answer: failures are not counted here, `core` does.
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
//! half to twenty milliseconds (`listen_watch`). The dear part of a check runs only when the port is open: in steps of
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

mod bolt;
mod checks;
mod command;
mod connect;
mod file;
mod grpc;
mod history;
pub mod http;
mod https;
mod listen_watch;
mod listens_elsewhere;
mod notify;
mod pg;
mod redis;
mod result;
mod runner;
mod s3;
mod schedule;
mod sql;
mod url;

pub use self::redis::{busy as redis_busy, facts as redis_facts, renew as redis_renew};
pub use checks::attempt;
pub use history::ProbeAttempt;
pub use listen_watch::ListenWatch;
pub use notify::NotifySocket;
pub use result::{ProbeError, ProbeOk, RetryHint};
pub use runner::{CommandContext, ProbeHandle, ProbeSpec, start_probe_tasks};
pub use schedule::{Sleeper, attempt_step};
pub use url::check_from_url;

/// What is probed, and with what.
pub struct ProbeSubject {
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
    pub listen_watch: ListenWatch,
}

/// What a probe says.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeReport {
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
pub type ReportSink = mpsc::UnboundedSender<(ServiceId, u64, ProbeReport)>;

/// Begins probing. Answers go to `sink` with the subject's id and generation. Must be called inside a runtime.
///
/// Where there is a `notify` check, its socket is bound here, which is too late for a service that is quick: bind it
/// before the spawn and use [`start_with`].
#[must_use]
pub fn start(subject: ProbeSubject, sink: ReportSink) -> ProbeHandle {
    start_with(subject, None, sink)
}

/// As [`start`], with the `notify` socket that was bound before the spawn.
#[must_use]
pub fn start_with(subject: ProbeSubject, notify: Option<NotifySocket>, sink: ReportSink) -> ProbeHandle {
    let run = subject.runner.marks.get("DEVRUN_RUN_ID").cloned().unwrap_or_default();
    let wants_notify = [&subject.ready, &subject.alive].into_iter().flatten().any(|spec| spec.checks.contains(&Check::Notify));
    let notify = match (notify, &subject.notify_socket) {
        (Some(socket), _) => Some(Ok(socket)),
        (None, Some(path)) if wants_notify => Some(NotifySocket::bind(path)),
        (None, _) => None,
    };
    start_probe_tasks(
        ProbeSpec {
            id: subject.id,
            generation: subject.generation,
            ready: subject.ready,
            alive: subject.alive,
            leader: subject.leader,
            run,
            commands: Some(CommandContext { runner: subject.runner, env: subject.env, dir: subject.dir, run_as: subject.run_as }),
            notify,
            listen_watch: subject.listen_watch,
        },
        sink,
    )
}

/// The failure of a configuration that a check cannot work with.
pub(crate) fn unusable(reason: impl Into<String>, help: &str) -> Failure {
    Failure::new(devrun_model::FailureKind::Config, reason).help(help)
}

/// A duration in a response: `34ms`, `1.2s`.
pub(crate) fn spent(duration: Duration) -> String {
    if duration.as_secs() == 0 { format!("{}ms", duration.as_millis()) } else { devrun_model::duration::human(duration) }
}
