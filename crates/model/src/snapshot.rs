//! What `ps --json` prints. The keys are the contract; their order here is the order on screen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::phase::{Health, State};
use super::service::Kind;

/// The whole project at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Project name.
    pub project: String,
    /// Instance name; empty for the usual one.
    pub instance: String,
    /// Mode in force, if any.
    pub mode: Option<String>,
    /// The supervisor's pid; null when nothing runs.
    pub supervisor_pid: Option<i32>,
    /// The supervisor's version; null when nothing runs.
    #[serde(default)]
    pub supervisor_version: Option<String>,
    /// Services and tasks, in the procfile's order of tiers and names.
    pub services: Vec<ServiceStatus>,
}

/// One service or task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// `api`, or `worker.2`.
    pub name: String,
    /// The procfile's name.
    pub service: String,
    /// From 1.
    pub replica: u32,
    /// Service or task.
    pub kind: Kind,
    /// The declared tier, else the depth in the graph, from 1.
    pub tier: u32,
    /// Where it stands.
    pub state: State,
    /// What the probe says.
    pub health: Health,
    /// The leader's pid while there is one.
    pub pid: Option<i32>,
    /// How it last ended, when by an exit.
    pub exit_code: Option<i32>,
    /// How it last ended, when by a signal: its name, `SIGKILL`.
    pub signal: Option<String>,
    /// Restarts by policy since it was last asked to start.
    pub restarts: u32,
    /// When the current process was spawned (RFC 3339, UTC).
    pub started_at: Option<String>,
    /// When its probe first passed.
    pub ready_at: Option<String>,
    /// Milliseconds since the spawn, while it lives.
    pub uptime_ms: Option<u64>,
    /// Milliseconds from the spawn to ready.
    pub ready_ms: Option<u64>,
    /// Port names (`main`, and those of `ports`) and numbers.
    pub ports: BTreeMap<String, u16>,
    /// Its address, where it has one.
    pub url: Option<String>,
    /// The binary that runs.
    pub binary: Option<String>,
    /// Its version, where it is a recipe.
    pub version: Option<String>,
    /// Why it is where it is; empty when there is nothing to say.
    pub reason: Option<String>,
}

impl ServiceStatus {
    /// `ended with exit code 0`, or `was killed by SIGKILL`. `None`: it has not ended, or was stopped before it ran.
    #[must_use]
    pub fn end(&self) -> Option<String> {
        if !self.state.is_final() {
            return None;
        }
        match (self.exit_code, &self.signal) {
            (Some(code), _) => Some(format!("ended with exit code {code}")),
            (None, Some(signal)) => Some(format!("was killed by {signal}")),
            (None, None) => None,
        }
    }
}
