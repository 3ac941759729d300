//! What is probed, as the engine knows it, and how that begins.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::command::CommandContext;
use super::listen_watch::ListenWatch;
use super::notify::NotifySocket;
use super::report::ReportSink;
use super::runner::{ProbeHandle, ProbeSpec, start_probe_tasks};
use devrun_keeper::Runner;
use devrun_model::keeper::RunAs;
use devrun_model::{Check, ReadySpec, ServiceId};

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
    /// The port whose socket was passed to the service.
    pub held: Option<u16>,
    /// One for all probes of a supervisor.
    pub listen_watch: ListenWatch,
}

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
            held: subject.held,
            listen_watch: subject.listen_watch,
        },
        sink,
    )
}
