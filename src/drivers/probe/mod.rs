//! Probes: is the service ready, is it alive. Attempts never overlap; the first is immediate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::model::{Check, Failure, ReadySpec, ServiceId};

use super::process::Runner;

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
    /// The environment of `cmd` checks.
    pub env: BTreeMap<String, String>,
    /// Their directory.
    pub dir: PathBuf,
    /// Where `notify` listens; the service got it as `NOTIFY_SOCKET`.
    pub notify_socket: Option<PathBuf>,
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

/// One attempt, for `inspect`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Since the probes began.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// Whether it passed.
    pub passed: bool,
    /// What was answered.
    pub answer: String,
}

/// Probes go on until it is dropped; what a check runs is ended with it.
pub struct ProbeHandle {}

impl ProbeHandle {
    /// Something happened that makes a pass likely (output, a new listener): try now.
    pub fn nudge(&self) {}
    /// A complete line of the service's output, for `log` checks; also nudges.
    pub fn line(&self, _line: &[u8]) {}
    /// Whether it has a `log` check still waiting, so that lines are worth passing on.
    #[must_use]
    pub fn wants_lines(&self) -> bool {
        false
    }
    /// The last attempts, newest last.
    #[must_use]
    pub fn history(&self) -> Vec<Attempt> {
        Vec::new()
    }
}

/// Begins probing. Answers go to `sink` with the subject's id and generation.
#[must_use]
pub fn start(_subject: Subject, _sink: mpsc::UnboundedSender<(ServiceId, u64, Answer)>) -> ProbeHandle {
    unimplemented!()
}

/// One attempt of one check against something that is no service of ours (`wait URL`).
pub async fn attempt(_check: &Check, _timeout: Duration) -> Result<String, (String, Option<Failure>)> {
    unimplemented!()
}

/// Reads `postgres://…`, `redis://…`, `http(s)://…`, `tcp://host:port`, `unix:…`, `bolt://…`.
///
/// # Errors
/// A lowercase fragment that says what is wrong with it.
pub fn target(_url: &str) -> Result<Check, String> {
    unimplemented!()
}
