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
    /// What is said of a process that exited by itself, as `exited with 9; restarts in 0.3s` or `killed by SIGKILL`. `None`: the
    /// change is another one.
    #[must_use]
    pub fn own_exit(&self) -> Option<String> {
        let is_end = self.to == State::Stopping && matches!(self.from, State::Starting | State::Running);
        exit_text(self.reason.as_deref().filter(|_| is_end)?)
    }
    /// The reason without the exit code, where that is shown as well: `restarts in 0.3s` of `exit 9; restarts in 0.3s`.
    #[must_use]
    pub fn reason_beyond_exit(&self) -> &str {
        let reason = self.reason.as_deref().unwrap_or_default();
        let rest = self.exit_code.and_then(|code| reason.strip_prefix(&format!("exit {code}")));
        match rest {
            Some(rest) if !rest.starts_with(|char: char| char.is_ascii_digit()) => rest.trim_start_matches([';', ':', ' ']),
            _ => reason,
        }
    }
    /// Whether a service has failed or waits for its restart after an exit, which was named when its process ended.
    #[must_use]
    pub fn follows_exit(&self) -> bool {
        let is_after = self.from == State::Stopping && matches!(self.to, State::Failed | State::BackingOff);
        is_after && self.reason.as_deref().and_then(exit_text).is_some()
    }
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

/// The reason of an exit as a sentence.
fn exit_text(reason: &str) -> Option<String> {
    match reason.strip_prefix("exit ") {
        Some(code) => Some(format!("exited with {code}")),
        None => reason.starts_with("killed by ").then(|| reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_named_as_one() {
        for (from, to, reason, expected) in [
            (State::Running, State::Stopping, Some("exit 9; restarts in 0.3s"), Some("exited with 9; restarts in 0.3s")),
            (State::Starting, State::Stopping, Some("killed by SIGKILL"), Some("killed by SIGKILL")),
            (State::Running, State::Stopping, Some("by hand"), None),
            (State::Running, State::Stopping, None, None),
            (State::Stopping, State::BackingOff, Some("exit 9"), None),
        ] {
            let change = StateChange {
                ts: String::new(),
                seq: 1,
                name: None,
                service: "api".to_owned(),
                replica: 1,
                from,
                to,
                health: Health::None,
                reason: reason.map(str::to_owned),
                help: None,
                pid: None,
                exit_code: None,
            };
            assert_eq!(change.own_exit().as_deref(), expected, "{from} {to} {reason:?}");
        }
    }
}
