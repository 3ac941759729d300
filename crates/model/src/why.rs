//! One answer to "why is it not running, not ready, or was restarted": from what is known of the stack, without asking anybody.
//!
//! The causes lead from the service to the root: what it waits for, what that waits for, and how the last of them failed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

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
        State::Completed => format!("{name} is done"),
        State::Failed => because(format!("{name} failed")),
        State::Blocked => because(format!("{name} cannot start")),
        State::Skipped => because(format!("{name} was left out")),
    }
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
        State::Stopped | State::Skipped | State::Asleep => Some(format!("devrun start {}", status.name)),
        State::Running | State::Starting if advised_by(status, facts).is_some() => {
            Some(not_ready_help(&status.service, &status.name, advised_by(status, facts)?))
        }
        State::Running | State::Starting if status.health != Health::Healthy && status.health != Health::None => {
            Some(format!("devrun logs -n 50 {0}; devrun inspect {0}", status.name))
        }
        State::Running if status.restarts > 0 => Some(format!("devrun logs --previous -n 50 {}", status.name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Condition, Dependency, ProjectName, ServiceName, ServiceSpec};
    use std::path::PathBuf;
    use std::sync::Arc;

    fn status(name: &str, state: State, health: Health, reason: Option<&str>) -> ServiceStatus {
        ServiceStatus {
            name: name.to_owned(),
            service: name.to_owned(),
            replica: 1,
            kind: Kind::Service,
            tier: 1,
            state,
            health,
            pid: None,
            exit_code: None,
            signal: None,
            restarts: 0,
            started_at: None,
            ready_at: None,
            uptime_ms: None,
            ready_ms: None,
            ports: BTreeMap::new(),
            url: None,
            binary: None,
            version: None,
            reason: reason.map(str::to_owned),
        }
    }

    fn snapshot(services: Vec<ServiceStatus>) -> Snapshot {
        Snapshot {
            project: "shop".to_owned(),
            instance: String::new(),
            mode: None,
            supervisor_pid: Some(1),
            supervisor_version: None,
            services,
        }
    }

    fn id(name: &str) -> ServiceId {
        ServiceId::parse(name).unwrap()
    }

    fn plan() -> Plan {
        let spec = |name: &str, on: &[&str]| {
            let mut spec = ServiceSpec::bare(ServiceName::new(name).unwrap(), PathBuf::from("/"), vec!["x".to_owned()]);
            spec.depends_on = on
                .iter()
                .map(|on| Dependency { on: id(on), condition: Condition::Healthy, required: true, restart: false })
                .collect();
            (id(name), Arc::new(spec))
        };
        let services = BTreeMap::from([spec("web", &["api"]), spec("api", &["db"]), spec("db", &[])]);
        Plan { services, ..empty_plan() }
    }

    fn empty_plan() -> Plan {
        Plan {
            project: ProjectName::new("shop").unwrap(),
            root: PathBuf::from("/"),
            instance: String::new(),
            mode: None,
            timeout: std::time::Duration::from_secs(1),
            tier_pause: std::time::Duration::ZERO,
            tiers: BTreeMap::new(),
            services: BTreeMap::new(),
            inactive: BTreeMap::new(),
            volumes: BTreeMap::new(),
            queries: BTreeMap::new(),
            masks: BTreeSet::new(),
            derived: BTreeSet::new(),
            seed: 0,
        }
    }

    fn asked(
        name: &str,
        services: Vec<ServiceStatus>,
        waiting: &[(&str, &str)],
        events: &[StateChange],
        answer: Option<&str>,
    ) -> Explanation {
        let mut map: BTreeMap<ServiceId, Vec<ServiceId>> = BTreeMap::new();
        for (who, on) in waiting {
            map.entry(id(who)).or_default().push(id(on));
        }
        let plan = plan();
        let snapshot = snapshot(services);
        let last_answers = answer.map(|answer| (name.to_owned(), answer.to_owned())).into_iter().collect();
        let facts = WhyFacts { snapshot: &snapshot, waiting: &map, plan: Some(&plan), events, last_answers: &last_answers };
        explain(name, &facts).unwrap()
    }

    #[test]
    fn a_waiting_service_is_followed_to_the_root() {
        let mut db = status("db", State::BackingOff, Health::None, Some("restart 2 in 1 s"));
        db.exit_code = Some(1);
        let found = asked(
            "web",
            vec![status("web", State::Waiting, Health::None, None), status("api", State::Waiting, Health::None, None), db],
            &[("web", "api"), ("api", "db")],
            &[],
            None,
        );
        assert_eq!(found.summary, "web waits for api to be healthy");
        assert_eq!(
            found.causes.iter().map(|cause| cause.text.as_str()).collect::<Vec<_>>(),
            ["api waits for db to be healthy", "db exited with code 1 and is started again in a moment: restart 2 in 1 s"]
        );
        assert_eq!(found.help.as_deref(), Some("devrun why db; devrun logs -n 50 db"));
    }

    #[test]
    fn each_state_has_its_answer() {
        for (state, health, reason, expected) in [
            (State::Running, Health::Healthy, None, "api is running and ready"),
            (State::Running, Health::Unhealthy, None, "api is running and unhealthy: its probe fails (last answer: 503)"),
            (
                State::Starting,
                Health::Starting,
                None,
                "api is running and not ready: its probe has not passed (last answer: 503)",
            ),
            (State::Failed, Health::None, Some("exited with code 3"), "api failed: exited with code 3"),
            (State::Stopped, Health::None, Some("by hand"), "api is stopped: by hand"),
            (State::Skipped, Health::None, Some("no such binary"), "api was left out: no such binary"),
            (State::Waiting, Health::None, None, "api waits"),
        ] {
            let found = asked("api", vec![status("api", state, health, reason)], &[], &[], Some("503"));
            assert_eq!(found.summary, expected);
        }
    }

    #[test]
    fn a_blocked_service_names_who_failed() {
        let services = vec![
            status("api", State::Blocked, Health::None, Some("db failed")),
            status("db", State::Failed, Health::None, Some("exited with code 1")),
        ];
        let found = asked("api", services, &[], &[], None);
        assert_eq!(
            found.causes,
            [Cause { service: "db".to_owned(), state: State::Failed, text: "db failed: exited with code 1".to_owned() }]
        );
    }

    fn event(ts: &str, from: State, to: State, reason: Option<&str>) -> StateChange {
        StateChange {
            ts: ts.to_owned(),
            seq: 1,
            name: None,
            service: "api".to_owned(),
            replica: 1,
            from,
            to,
            health: Health::None,
            reason: reason.map(str::to_owned),
            help: (to == State::Failed).then(|| "install it".to_owned()),
            pid: None,
            exit_code: None,
        }
    }

    #[test]
    fn restarts_are_named_with_their_reasons_and_a_circle_ends() {
        let mut api = status("api", State::Running, Health::Healthy, None);
        api.restarts = 7;
        let mut events: Vec<_> = (0..7)
            .map(|number| {
                event(&format!("T{number}"), State::Running, State::BackingOff, Some(format!("exit {number}").as_str()))
            })
            .collect();
        events.push(event("T7", State::Running, State::Stopping, Some("restart by hand")));
        let found = asked("api", vec![api], &[], &events, None);
        assert_eq!(found.summary, "api is running and was restarted 7 times: exit 6");
        assert_eq!(found.history.len(), RESTARTS);
        assert_eq!(found.help.as_deref(), Some("devrun logs --previous -n 50 api"));
        assert_eq!(found.lines(str::to_owned).last().unwrap(), "    T7  restart by hand");

        let services = vec![status("api", State::Waiting, Health::None, None), status("db", State::Waiting, Health::None, None)];
        let circle = asked("api", services, &[("api", "db"), ("db", "api")], &[], None);
        assert_eq!(circle.causes.len(), 1);
    }

    #[test]
    fn every_restart_is_named_whatever_its_reason_was_and_only_once() {
        use State::{Asleep, BackingOff, Completed, Failed, Running, Starting, Stopped, Stopping};
        let changed = file_changed("src/app.py");
        let mut events: Vec<StateChange> = [
            (Running, Stopping, Some("restart by hand")),
            (Running, Stopping, Some("changed: env X")),
            (Running, Stopping, Some("restart of db")),
            (Running, Stopping, Some(changed.as_str())),
            (Running, Stopping, Some("503")),
            (Stopping, BackingOff, Some("503")),
            (Running, Stopping, Some("exit 4; restarts in 0.3s")),
            (Stopping, BackingOff, Some("exit 4")),
            (Running, Stopping, Some("exit 3")),
            (Stopping, Failed, Some("exit 3")),
            (Starting, Stopping, Some("done")),
            (Stopping, Completed, Some("done")),
            (Running, Stopping, Some("no connections")),
            (Stopping, Asleep, Some("starts with its first connection")),
            (Running, Stopping, Some("by hand")),
            (Stopping, Stopped, Some("by hand")),
            // The stop of the whole stack.
            (Running, Stopping, None),
            (Stopping, Stopped, None),
        ]
        .into_iter()
        .map(|(from, to, reason)| event("T", from, to, reason))
        .collect();
        let status = status("api", Running, Health::Healthy, None);
        let named: Vec<String> = history(&status, &events).into_iter().map(|entry| entry.reason).collect();
        let expected = [
            "restart by hand",
            "changed: env X",
            "restart of db",
            "src/app.py changed",
            "503",
            "exit 4",
            "exit 3",
            "stopped by hand",
        ];
        assert_eq!(named, expected);
        // One process in the place of another, with both running.
        events.clear();
        for (pid, reason) in [(Some(1), None), (Some(1), Some("503")), (Some(2), Some("changed: env X"))] {
            events.push(StateChange { pid, ..event("T", Running, Running, reason) });
        }
        let named: Vec<String> = history(&status, &events).into_iter().map(|entry| entry.reason).collect();
        assert_eq!(named, ["changed: env X"]);
    }

    #[test]
    fn a_failure_is_shown_with_its_own_help() {
        let failed = || vec![status("api", State::Failed, Health::None, Some("exit 3"))];
        let events = [event("T", State::Stopping, State::Failed, Some("exit 3"))];
        assert_eq!(asked("api", failed(), &[], &events, None).help.as_deref(), Some("install it"));
        assert_eq!(asked("api", failed(), &[], &[], None).help.as_deref(), Some("devrun logs -n 50 api"));
    }

    #[test]
    fn every_copy_is_looked_at_and_the_one_in_trouble_comes_first() {
        let copy = |replica: u32, state: State| ServiceStatus {
            name: format!("api.{replica}"),
            service: "api".to_owned(),
            replica,
            ..status("api", state, Health::None, None)
        };
        let copies = || vec![copy(1, State::Running), copy(2, State::Stopped), copy(3, State::Failed)];
        let found = asked("api", copies(), &[], &[], None);
        assert_eq!(found.name, "api.3");
        assert_eq!(found.copies.iter().map(|copy| copy.name.as_str()).collect::<Vec<_>>(), ["api.2", "api.1"]);
        assert_eq!(found.lines(str::to_owned), ["api.1 is running", "api.2 is stopped", "api.3 failed"]);
        let one = asked("api.2", copies(), &[], &[], None);
        assert_eq!((one.name.as_str(), one.copies.len()), ("api.2", 0));
    }

    #[test]
    fn a_stack_that_is_down_says_so() {
        for (state, expected) in [(State::Failed, "it had failed"), (State::Blocked, "it could not start")] {
            let mut seen = snapshot(vec![status("api", state, Health::None, Some("exited with code 3"))]);
            seen.supervisor_pid = None;
            let (waiting, last_answers) = (BTreeMap::new(), BTreeMap::new());
            let facts = WhyFacts { snapshot: &seen, waiting: &waiting, plan: None, events: &[], last_answers: &last_answers };
            let found = explain("api", &facts).unwrap();
            assert_eq!(found.summary, format!("api is not running: the stack is down; {expected}: exited with code 3"));
            assert!(explain("web", &facts).is_none());
        }
        for (reason, expected) in [(SUPERVISOR_ENDED, ": its supervisor ended"), ("by hand", "")] {
            let mut seen = snapshot(vec![status("api", State::Stopped, Health::None, Some(reason))]);
            seen.supervisor_pid = None;
            let (waiting, last_answers) = (BTreeMap::new(), BTreeMap::new());
            let facts = WhyFacts { snapshot: &seen, waiting: &waiting, plan: None, events: &[], last_answers: &last_answers };
            let found = explain("api", &facts).unwrap();
            assert_eq!(found.summary, format!("api is not running: the stack is down{expected}"));
        }
    }
}
