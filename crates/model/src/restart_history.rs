//! The ends and restarts of one copy, read from the state changes that are kept: for `devrun why`.

use crate::{ServiceStatus, State, StateChange};

/// The reason of a stop by `devrun stop`.
const BY_HAND: &str = "by hand";

/// An end or a restart of one copy.
pub(crate) struct HistoryEntry<'a> {
    pub event: &'a StateChange,
    pub reason: String,
}

/// The ends and restarts of a copy, oldest first. A stop counts with the reason that it was asked for; one of the whole stack has
/// none.
pub(crate) fn history<'a>(status: &ServiceStatus, events: &'a [StateChange]) -> Vec<HistoryEntry<'a>> {
    let mut found: Vec<HistoryEntry<'a>> = Vec::new();
    let mut pid = None;
    for event in events.iter().filter(|event| event.service == status.service && event.replica == status.replica) {
        let reason = event.reason.as_deref().filter(|reason| !reason.is_empty());
        let is_replaced = event.from == State::Running && event.to == State::Running && pid.is_some() && event.pid != pid;
        pid = event.pid;
        let reason = match (event.to, reason) {
            (State::Stopping, Some(BY_HAND)) if event.from != State::Stopping => format!("stopped {BY_HAND}"),
            (State::Stopping, Some(reason)) if event.from != State::Stopping => reason.to_owned(),
            (State::Running, Some(reason)) if is_replaced => reason.to_owned(),
            (State::Running, None) if is_replaced => "restart".to_owned(),
            (State::BackingOff, _) | (State::Failed, _) if event.from != State::Failed => match (reason, event.exit_code) {
                (Some(reason), _) => reason.to_owned(),
                (None, Some(code)) => format!("exited with code {code}"),
                (None, None) => "ended".to_owned(),
            },
            (State::Completed | State::Asleep, _) => String::new(),
            _ => continue,
        };
        // The way there was no stop that was asked for.
        if event.to != State::Stopping
            && event.from == State::Stopping
            && let Some(last) = found.last().filter(|last| last.event.to == State::Stopping)
            && (event.to == State::Asleep || is_same_end(last.event, event))
        {
            found.pop();
        }
        if !reason.is_empty() {
            found.push(HistoryEntry { event, reason });
        }
    }
    found
}

/// Whether a service was stopped for what it is now started again for, or has failed with.
fn is_same_end(stop: &StateChange, after: &StateChange) -> bool {
    let (stop, after) = (stop.reason.as_deref().unwrap_or_default(), after.reason.as_deref().unwrap_or_default());
    // That of an exit says when it is started again as well.
    stop.strip_prefix(after).is_some_and(|rest| rest.is_empty() || !after.is_empty() && rest.starts_with("; restarts "))
}
