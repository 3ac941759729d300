//! Why services are stopped, have exited and are started again, as lines among those of their logs: `logs` reads files only, and a
//! log holds what the service wrote. Of the past, only exits and restarts by `watch` are shown: other stops were asked for.

use std::collections::VecDeque;

use devrun_logs::{LogLine, LogQuery, LogStream};
use devrun_model::why::is_file_restart;
use devrun_model::{Paths, ServiceId, State, StateChange};
use devrun_runtime::engine::state_files;

use crate::app::growing_file::GrowingFile;

/// Follows the log of events.
pub struct RestartReasons {
    events: GrowingFile,
}

impl RestartReasons {
    /// From now on.
    #[must_use]
    pub fn new(places: &Paths) -> Self {
        let mut events = GrowingFile::new(&state_files::events_path(places));
        let _past = events.lines();
        Self { events }
    }

    /// A line for each restart since the last call.
    pub fn poll(&mut self, followed: &[ServiceId]) -> Vec<LogLine> {
        let changes = self.events.lines().into_iter().filter_map(|line| serde_json::from_str::<StateChange>(&line).ok());
        changes.filter_map(|change| line(&change, followed)).collect()
    }
}

/// Exits and restarts by `watch` that are over, oldest first.
#[must_use]
pub fn past_reasons(places: &Paths, ids: &[ServiceId], query: &LogQuery) -> VecDeque<LogLine> {
    if query.previous || query.tail == Some(0) {
        return VecDeque::new();
    }
    let changes = GrowingFile::new(&state_files::events_path(places)).lines();
    let changes = changes.into_iter().filter_map(|line| serde_json::from_str::<StateChange>(&line).ok());
    let is_asked = |line: &LogLine| {
        query.since.is_none_or(|since| line.micros >= since) && query.until.is_none_or(|until| line.micros <= until)
    };
    let is_shown = |change: &StateChange| is_file_restart(change) || change.own_exit().is_some();
    changes.filter(is_shown).filter_map(|change| line(&change, ids)).filter(is_asked).collect()
}

fn line(change: &StateChange, followed: &[ServiceId]) -> Option<LogLine> {
    let text = text(change)?;
    let numbered = format!("{}.{}", change.service, change.replica);
    let id = followed.iter().find(|id| id.as_str() == change.service || id.as_str() == numbered)?;
    let micros = change.ts.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_microsecond);
    Some(LogLine { id: id.clone(), stream: LogStream::Devrun, micros, bytes: text.into_bytes(), ended: true })
}

/// `stopping: api/app.py changed`, `exited with 9; restarts in 0.3s`; nothing where the service is only stopped.
fn text(change: &StateChange) -> Option<String> {
    if let Some(exit) = change.own_exit() {
        return Some(exit);
    }
    let reason = change.reason.as_ref().filter(|reason| !reason.is_empty())?;
    match (change.from, change.to) {
        (from, State::Stopping) if from.is_live() && from != State::Stopping => Some(format!("stopping: {reason}")),
        _ if change.follows_exit() => None,
        (_, State::BackingOff) => Some(format!("restarts: {reason}")),
        (_, State::Failed) => Some(format!("failed: {reason}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_told_with_its_reason() {
        let change = |from, to, reason: &str| StateChange {
            ts: "2026-11-28T03:56:54.016342Z".to_owned(),
            seq: 1,
            name: None,
            service: "api".to_owned(),
            replica: 1,
            from,
            to,
            health: devrun_model::Health::None,
            reason: Some(reason.to_owned()),
            help: None,
            pid: None,
            exit_code: None,
        };
        let said = |from, to, reason| text(&change(from, to, reason));
        assert_eq!(said(State::Running, State::Stopping, "app.py changed").as_deref(), Some("stopping: app.py changed"));
        assert_eq!(said(State::Stopping, State::BackingOff, "503").as_deref(), Some("restarts: 503"));
        assert_eq!(
            said(State::Running, State::Stopping, "exit 1; restarts at once").as_deref(),
            Some("exited with 1; restarts at once")
        );
        assert_eq!(said(State::Stopping, State::Failed, "exit 1"), None, "it was said that it exited");
        assert_eq!(said(State::Waiting, State::Starting, "x"), None);
        let ids = [ServiceId::parse("api").unwrap()];
        let line = line(&change(State::Stopping, State::Failed, "503"), &ids).unwrap();
        assert_eq!((line.stream, line.micros), (LogStream::Devrun, 1_795_838_214_016_342));
    }
}
