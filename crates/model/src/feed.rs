//! What the engine publishes: to the terminal of an attached `up`, and over the control socket to everybody else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Failure, ServiceId, Snapshot, StateChange};

/// How a start or a run ended, on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Failures in the order they happened; the first decides the exit code.
    pub failures: Vec<FailedService>,
    /// Who is blocked by which root.
    pub blocked: Vec<(ServiceId, ServiceId)>,
    /// The code of `--exit-code-from`.
    pub code_from: Option<i32>,
}

impl Outcome {
    /// The exit code of the contract.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.code_from
            .unwrap_or_else(|| self.failures.first().map_or(crate::exit::DONE, |failed| crate::exit::of(failed.failure.kind)))
    }
}

/// One failed service with what its log said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedService {
    /// Which one.
    pub id: ServiceId,
    /// Why.
    pub failure: Failure,
    /// Its last probe answer, where it was probed.
    pub last_answer: Option<String>,
    /// Its last 20 lines, as bytes made text.
    pub log: Vec<String>,
}

/// One service's stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReport {
    /// Which one.
    pub id: ServiceId,
    /// From the request to the empty tree.
    pub took_ms: u64,
    /// SIGKILL was needed.
    pub killed: bool,
    /// Ports that are free again.
    pub released: Vec<u16>,
    /// Ports that are not.
    pub held: Vec<u16>,
}

/// The present state, for a viewer that just came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What `ps` shows.
    pub snapshot: Snapshot,
    /// What each waiting service waits for.
    pub waiting: BTreeMap<ServiceId, Vec<ServiceId>>,
    /// How the last start ended, if it has.
    pub settled: Option<Outcome>,
    /// A stop of everything is under way.
    pub stopping: bool,
    /// Milliseconds since the supervisor began.
    pub age_ms: u64,
}

/// What is said of a service whose `build` has begun.
pub const BUILDING: &str = "building";
/// What is said of one whose `build` waits for another one in the same directory.
pub const WAITING_TO_BUILD: &str = "waiting for another build in the same directory";

/// Something new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedItem {
    /// A request was taken; what follows belongs to it or came later.
    Accepted {
        /// As the client numbered it.
        token: u64,
    },
    /// A state or health changed.
    Notice(StateChange),
    /// Something worth saying that is no change.
    Said {
        /// About whom.
        id: ServiceId,
        /// A sentence's fragment.
        text: String,
    },
    /// The start that this request asked for is over.
    Settled {
        /// The request's number.
        token: u64,
        /// How it went.
        outcome: Outcome,
    },
    /// A service's tree is empty after a stop.
    Stopped(StopReport),
    /// Everything is stopped; the supervisor ends. The last item.
    Finished(Outcome),
}
