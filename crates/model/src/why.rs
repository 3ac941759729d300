//! One answer to "why is it not running, not ready, or was restarted": from what is known of the stack, without asking anybody.
//!
//! The causes lead from the service to the root: what it waits for, what that waits for, and how the last of them failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::duration::human;
use crate::not_ready_help::{not_ready_help, said_elsewhere};
use crate::restart_history::{HistoryEntry, history};
use crate::{Health, Kind, Plan, ServiceId, ServiceStatus, Snapshot, State, StateChange};

/// Restarts that are named at most.
const RESTARTS: usize = 5;
/// The end of the reason of a restart by `watch`.
const CHANGED: &str = " changed";

/// The reason of a service that ran when its supervisor was killed or crashed.
pub const SUPERVISOR_ENDED: &str = "its supervisor ended";

/// What is known of a stack.
#[derive(Debug, Clone, Copy)]
pub struct WhyFacts<'a> {
    /// Its services.
    pub snapshot: &'a Snapshot,
    /// What each waiting service waits for.
    pub waiting: &'a BTreeMap<ServiceId, Vec<ServiceId>>,
    /// Its definition, where the procfile can be read.
    pub plan: Option<&'a Plan>,
    /// Every state change that is kept, oldest first.
    pub events: &'a [StateChange],
    /// The last answers of probes, by copy.
    pub last_answers: &'a BTreeMap<String, String>,
}

/// Why a service is in its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `api`, or `worker.2`.
    pub name: String,
    /// The procfile's name.
    pub service: String,
    /// From 1.
    pub replica: u32,
    /// Its state.
    pub state: State,
    /// Its health.
    pub health: Health,
    /// The answer in one line.
    pub summary: String,
    /// From the service to the root.
    pub causes: Vec<Cause>,
    /// The last answer of its probe.
    pub last_answer: Option<String>,
    /// How its process ended last, when by an exit.
    pub exit_code: Option<i32>,
    /// How its process ended last, when by a signal.
    pub signal: Option<String>,
    /// Restarts by policy.
    pub restarts: u32,
    /// The last restarts, oldest first.
    pub history: Vec<RestartRecord>,
    /// A command that shows more or changes it; of a failure, what its start has shown.
    pub help: Option<String>,
    /// The other copies, where a service was asked for that has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<Explanation>,
}

/// A service on the way to the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Which one.
    pub service: String,
    /// Its state.
    pub state: State,
    /// What is said of it.
    pub text: String,
}

/// One end or restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestartRecord {
    /// When (RFC 3339, UTC).
    pub ts: String,
    /// Why.
    pub reason: String,
}

/// Explains the state of a service. Of one with several copies, the one that needs attention first, with the others. `None`: there
/// is none of that name.
#[must_use]
pub fn explain(name: &str, facts: &WhyFacts<'_>) -> Option<Explanation> {
    let services = &facts.snapshot.services;
    if let Some(copy) = services.iter().find(|one| one.name == name) {
        return Some(explain_copy(copy, facts));
    }
    let mut copies: Vec<&ServiceStatus> = services.iter().filter(|one| one.service == name).collect();
    copies.sort_by_key(|one| (trouble(one), one.replica));
    let mut found = copies.into_iter().map(|one| explain_copy(one, facts));
    let first = found.next()?;
    Some(Explanation { copies: found.collect(), ..first })
}

/// What needs attention first has the lowest.
fn trouble(status: &ServiceStatus) -> u8 {
    match status.state {
        State::Failed => 0,
        State::BackingOff => 1,
        State::Running if status.health == Health::Unhealthy => 2,
        State::Blocked => 3,
        State::Waiting | State::Fetching | State::Initialising | State::Starting => 4,
        State::Running if status.health == Health::Starting => 4,
        State::Stopping | State::Stopped | State::Skipped => 5,
        State::Running | State::Asleep | State::Completed => 6,
    }
}

fn explain_copy(status: &ServiceStatus, facts: &WhyFacts<'_>) -> Explanation {
    let mut causes = Vec::new();
    chain(status, facts, &mut BTreeSet::new(), &mut causes);
    let summary = summary(status, facts);
    let mut history = history(status, facts.events);
    let help = help(status, facts, &causes, &history);
    history.drain(..history.len().saturating_sub(RESTARTS));
    Explanation {
        name: status.name.clone(),
        service: status.service.clone(),
        replica: status.replica,
        state: status.state,
        health: status.health,
        summary,
        causes,
        last_answer: facts.last_answers.get(&status.name).cloned(),
        exit_code: status.exit_code,
        signal: status.signal.clone(),
        restarts: status.restarts,
        history: history.into_iter().map(|entry| RestartRecord { ts: entry.event.ts.clone(), reason: entry.reason }).collect(),
        help,
        copies: Vec::new(),
    }
}

fn summary(status: &ServiceStatus, facts: &WhyFacts<'_>) -> String {
    let name = &status.name;
    let reason = status.reason.as_deref().filter(|reason| !reason.is_empty());
    let because = |text: String| reason.map_or_else(|| text.clone(), |reason| format!("{text}: {reason}"));
    let answer = facts.last_answers.get(name).map(|answer| format!(" (last answer: {answer})")).unwrap_or_default();
    if facts.snapshot.supervisor_pid.is_none() {
        return match status.state {
            State::Failed => because(format!("{name} is not running: the stack is down; it had failed")),
            State::Blocked => because(format!("{name} is not running: the stack is down; it could not start")),
            State::Stopped if reason == Some(SUPERVISOR_ENDED) => because(format!("{name} is not running: the stack is down")),
            State::Completed => match status.end() {
                Some(end) => format!("{name} is not running: the stack is down; it {end}"),
                None => because(format!("{name} is not running: the stack is down; it was done")),
            },
            _ => format!("{name} is not running: the stack is down"),
        };
    }
    match status.state {
        State::Waiting => match waits_for(status, facts).as_slice() {
            [] => because(format!("{name} waits")),
            on => {
                let on: Vec<String> = on.iter().map(|id| wanted(status, id, facts)).collect();
                format!("{name} waits for {}", on.join(" and "))
            }
        },
        State::Fetching => because(format!("{name} has not started: its binary is being fetched")),
        State::Initialising => because(format!("{name} has not started: its `build`, first boot or `pre_start` is running")),
        State::Starting if status.kind == Kind::Task => because(format!("{name} is running")),
        State::Starting => format!("{name} is running and not ready: its probe has not passed{answer}"),
        State::Running if status.health == Health::Unhealthy => {
            format!("{name} is running and unhealthy: its probe fails{answer}")
        }
        State::Running if status.health == Health::Starting => {
            format!("{name} is running and not ready: its probe has not passed{answer}")
        }
        State::Running if status.restarts > 0 => {
            let history = history(status, facts.events);
            let last = history.iter().rfind(|entry| entry.event.to == State::BackingOff);
            let last = last.map(|entry| format!(": {}", entry.reason)).unwrap_or_default();
            let times = if status.restarts == 1 { "once".to_owned() } else { format!("{} times", status.restarts) };
            format!("{name} is running and was restarted {times}{last}")
        }
        State::Running if status.health == Health::Healthy => format!("{name} is running and ready"),
        State::Running => because(format!("{name} is running")),
        State::BackingOff => {
            let text = format!("{name} {} and is started again in a moment", ended(status));
            // Of a plain exit the reason says the same.
            let is_exit = |reason: &str| {
                status.exit_code.is_some_and(|code| reason == format!("exit {code}"))
                    || status.signal.as_ref().is_some_and(|signal| reason == format!("killed by {signal}"))
            };
            if reason.is_some_and(is_exit) { text } else { because(text) }
        }
        State::Stopping => because(format!("{name} is being stopped")),
        State::Stopped => because(format!("{name} is stopped")),
        State::Asleep => format!("{name} is asleep: its first connection starts it"),
        State::Completed => completed(status, reason, facts.events),
        State::Failed => because(format!("{name} failed")),
        State::Blocked => because(format!("{name} cannot start")),
        State::Skipped => because(format!("{name} was left out")),
    }
}

/// `api is done: exited with code 0 after 4.0s`. A task that was done before says so itself.
fn completed(status: &ServiceStatus, reason: Option<&str>, events: &[StateChange]) -> String {
    let name = &status.name;
    match reason {
        Some(reason) if reason.starts_with("already done") => format!("{name} is {reason}"),
        Some(reason) => format!("{name} is done: {reason}"),
        _ if status.exit_code.is_none() && status.signal.is_none() => format!("{name} is done"),
        _ => {
            let took = last_run(status, events).map(|took| format!(" after {}", human(took))).unwrap_or_default();
            format!("{name} is done: {}{took}", ended(status))
        }
    }
}

/// How long its last process ran.
fn last_run(status: &ServiceStatus, events: &[StateChange]) -> Option<Duration> {
    let is_own = |event: &&StateChange| event.service == status.service && event.replica == status.replica;
    let (mut began, mut ended) = (None, None);
    for event in events.iter().filter(is_own) {
        let was_live = matches!(event.from, State::Starting | State::Running);
        let is_live = matches!(event.to, State::Starting | State::Running);
        match (was_live, is_live) {
            (false, true) => (began, ended) = (Some(event), None),
            (true, false) => ended = Some(event),
            _ => {}
        }
    }
    let at = |event: &StateChange| event.ts.parse::<jiff::Timestamp>().ok();
    // Nothing where the clock was set back.
    at(ended?)?.duration_since(at(began?)?).try_into().ok()
}

fn ended(status: &ServiceStatus) -> String {
    match (status.exit_code, &status.signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn waits_for(status: &ServiceStatus, facts: &WhyFacts<'_>) -> Vec<ServiceId> {
    let id = ServiceId::parse(&status.name).ok();
    id.and_then(|id| facts.waiting.get(&id)).cloned().unwrap_or_default()
}

/// `db to be healthy`.
fn wanted(status: &ServiceStatus, on: &ServiceId, facts: &WhyFacts<'_>) -> String {
    let edge = ServiceId::parse(&status.name).ok().and_then(|id| {
        let spec = facts.plan?.services.get(&id)?;
        spec.depends_on.iter().find(|edge| edge.on == *on).cloned()
    });
    match edge {
        Some(edge) => format!("{on} to be {}", edge.condition.as_str()),
        None => on.to_string(),
    }
}

/// The services below that hold this one up, nearest first.
fn chain(status: &ServiceStatus, facts: &WhyFacts<'_>, seen: &mut BTreeSet<String>, causes: &mut Vec<Cause>) {
    if !seen.insert(status.name.clone()) {
        return;
    }
    let find = |name: &str| facts.snapshot.services.iter().find(|one| one.name == name);
    let mut below: Vec<&ServiceStatus> =
        waits_for(status, facts).iter().filter_map(|id| find(id.as_str())).filter(|one| !seen.contains(&one.name)).collect();
    if status.state == State::Blocked
        && let Some(spec) = ServiceId::parse(&status.name).ok().and_then(|id| facts.plan?.services.get(&id))
    {
        let stuck = |one: &&ServiceStatus| matches!(one.state, State::Failed | State::Blocked | State::Skipped | State::Stopped);
        below.extend(spec.depends_on.iter().filter(|edge| edge.required).filter_map(|edge| find(edge.on.as_str())).filter(stuck));
    }
    for one in below {
        let text = summary(one, &WhyFacts { last_answers: &BTreeMap::new(), ..*facts });
        causes.push(Cause { service: one.name.clone(), state: one.state, text });
        chain(one, facts, seen, causes);
    }
}

/// The reason of a restart by `watch`.
#[must_use]
pub fn file_changed(path: &str) -> String {
    format!("{path}{CHANGED}")
}

/// Whether a service is stopped to be started again, as a watched file has changed.
#[must_use]
pub fn is_file_restart(event: &StateChange) -> bool {
    let reason = event.reason.as_deref().unwrap_or_default();
    event.to == State::Stopping && event.from != State::Stopping && reason.ends_with(CHANGED)
}

/// What a service that runs and is not ready, or listens elsewhere, is advised by, as its failure would be.
fn advised_by<'a>(status: &'a ServiceStatus, facts: &WhyFacts<'a>) -> Option<&'a str> {
    let is_starting = status.kind == Kind::Service && (status.state == State::Starting || status.health == Health::Starting);
    let answer = facts.last_answers.get(&status.name).filter(|_| is_starting).map(String::as_str);
    answer.or_else(|| status.reason.as_deref().filter(|reason| said_elsewhere(reason).is_some()))
}

fn help(status: &ServiceStatus, facts: &WhyFacts<'_>, causes: &[Cause], history: &[HistoryEntry<'_>]) -> Option<String> {
    // As the start has shown it.
    let last = history.last().filter(|entry| status.state == State::Failed && entry.event.to == State::Failed);
    let of_failure = last.and_then(|entry| entry.event.help.as_deref());
    if facts.snapshot.supervisor_pid.is_none() {
        return Some(match (status.state, of_failure) {
            (State::Failed, Some(help)) if help.contains("devrun up") => help.to_owned(),
            (State::Failed, Some(help)) => format!("{help}; devrun up -d"),
            (State::Failed, None) => format!("devrun logs {}; devrun up -d", status.name),
            _ => "devrun up -d".to_owned(),
        });
    }
    let root = causes.last().map_or(status.name.as_str(), |cause| cause.service.as_str());
    match status.state {
        State::Waiting | State::Blocked if root != status.name => Some(format!("devrun why {root}; devrun logs -n 50 {root}")),
        State::Failed if of_failure.is_some() => of_failure.map(str::to_owned),
        State::Failed | State::BackingOff => Some(format!("devrun logs -n 50 {}", status.name)),
        State::Completed if status.kind == Kind::Service => Some(format!("devrun logs -n 50 {0}; devrun start {0}", status.name)),
        State::Stopped | State::Skipped | State::Asleep => Some(format!("devrun start {}", status.name)),
        State::Running | State::Starting if advised_by(status, facts).is_some() => {
            Some(not_ready_help(&status.service, &format!("devrun logs {}", status.name), advised_by(status, facts)?))
        }
        State::Running | State::Starting if status.health != Health::Healthy && status.health != Health::None => {
            Some(format!("devrun logs -n 50 {0}; devrun inspect {0}", status.name))
        }
        State::Running if status.restarts > 0 => Some(format!("devrun logs --previous -n 50 {}", status.name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
