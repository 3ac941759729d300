//! One state change, as `events --json` prints it.

use serde::{Deserialize, Serialize};

use super::name::{ServiceId, ServiceName};
use super::phase::{Health, State};

/// A service went from one state to another, or its health changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// RFC 3339, UTC, six digits; filled in by the engine, empty in the core.
    pub ts: String,
    /// Counts from 1 over the life of one supervisor; filled in by the engine.
    pub seq: u64,
    /// `api.2`, as `ps` shows it; `None` for one that is called as its service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The procfile's name.
    pub service: String,
    /// From 1.
    pub replica: u32,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// The health after.
    pub health: Health,
    /// Why.
    pub reason: Option<String>,
    /// What to type or change, where the change is a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The leader's pid, where there is one.
    pub pid: Option<i32>,
    /// The exit code, where the change is an exit.
    pub exit_code: Option<i32>,
}

impl StateChange {
    /// What `name` is for a copy of a service.
    #[must_use]
    pub fn name_of(id: &ServiceId, service: &ServiceName) -> Option<String> {
        (id.as_str() != service.as_str()).then(|| id.to_string())
    }
    /// The copy's name. An event of a version that did not write it down yet is called by its number.
    #[must_use]
    pub fn copy_name(&self) -> String {
        match (&self.name, self.replica) {
            (Some(name), _) => name.clone(),
            (None, 2..) => format!("{}.{}", self.service, self.replica),
            (None, _) => self.service.clone(),
        }
    }
}
