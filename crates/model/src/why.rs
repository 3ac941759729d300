//! One answer to "why is it not running, not ready, or was restarted": from what is known of the stack, without asking anybody.
//!
//! The causes lead from the service to the root: what it waits for, what that waits for, and how the last of them failed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{Health, Kind, Plan, ServiceId, ServiceStatus, Snapshot, State, StateChange};

/// Restarts that are named at most.
const RESTARTS: usize = 5;
/// The end of the reason of a restart by `watch`.
const CHANGED: &str = " changed";

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
    /// The last answer of the service's probe.
    pub last_answer: Option<&'a str>,
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
    /// A command that shows more or changes it.
    pub help: Option<String>,
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

/// One end or restart that was not asked for by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestartRecord {
    /// When (RFC 3339, UTC).
    pub ts: String,
    /// Why.
    pub reason: String,
}

/// Explains the state of a service. `None`: there is none of that name.
#[must_use]
pub fn explain(name: &str, facts: &WhyFacts<'_>) -> Option<Explanation> {
    let services = &facts.snapshot.services;
    let status = services.iter().find(|one| one.name == name).or_else(|| services.iter().find(|one| one.service == name))?;
    let mut causes = Vec::new();
    chain(status, facts, &mut BTreeSet::new(), &mut causes);
    let summary = summary(status, facts);
    let history = restarts(status, facts.events);
    let help = help(status, facts, &causes);
    Some(Explanation {
        name: status.name.clone(),
        service: status.service.clone(),
        replica: status.replica,
        state: status.state,
        health: status.health,
        summary,
        causes,
        last_answer: facts.last_answer.map(str::to_owned),
        exit_code: status.exit_code,
        signal: status.signal.clone(),
        restarts: status.restarts,
        history,
        help,
    })
}

fn summary(status: &ServiceStatus, facts: &WhyFacts<'_>) -> String {
    let name = &status.name;
    let reason = status.reason.as_deref().filter(|reason| !reason.is_empty());
    let because = |text: String| reason.map_or_else(|| text.clone(), |reason| format!("{text}: {reason}"));
    let answer = facts.last_answer.map(|answer| format!(" (last answer: {answer})")).unwrap_or_default();
    if facts.snapshot.supervisor_pid.is_none() {
        return match status.state {
            State::Failed | State::Blocked => {
                because(format!("{name} is not running: the stack is down; it had {}", status.state))
            }
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
        State::Initialising => because(format!("{name} has not started: its first boot or `pre_start` is running")),
        State::Starting if status.kind == Kind::Task => because(format!("{name} is running")),
        State::Starting => format!("{name} is running and not ready: its probe has not passed{answer}"),
        State::Running if status.health == Health::Unhealthy => {
            format!("{name} is running and unhealthy: its probe fails{answer}")
        }
        State::Running if status.health == Health::Starting => {
            format!("{name} is running and not ready: its probe has not passed{answer}")
        }
        State::Running if status.restarts > 0 => {
            let last = restarts(status, facts.events).pop().map(|last| format!(": {}", last.reason)).unwrap_or_default();
            let times = if status.restarts == 1 { "once".to_owned() } else { format!("{} times", status.restarts) };
            format!("{name} is running and was restarted {times}{last}")
        }
        State::Running if status.health == Health::Healthy => format!("{name} is running and ready"),
        State::Running => format!("{name} is running"),
        State::BackingOff => because(format!("{name} {} and is started again in a moment", ended(status))),
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
        (None, Some(signal)) => format!("was ended by {signal}"),
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
        let text = summary(one, &WhyFacts { last_answer: None, ..*facts });
        causes.push(Cause { service: one.name.clone(), state: one.state, text });
        chain(one, facts, seen, causes);
    }
}

fn restarts(status: &ServiceStatus, events: &[StateChange]) -> Vec<RestartRecord> {
    let ours = events.iter().filter(|event| event.service == status.service && event.replica == status.replica);
    let mut found: Vec<RestartRecord> = ours
        .filter(|event| {
            event.to == State::BackingOff || event.to == State::Failed && event.from != State::Failed || is_file_restart(event)
        })
        .map(|event| RestartRecord {
            ts: event.ts.clone(),
            reason: match (&event.reason, event.exit_code) {
                (Some(reason), _) if !reason.is_empty() => reason.clone(),
                (_, Some(code)) => format!("exited with code {code}"),
                _ => "ended".to_owned(),
            },
        })
        .collect();
    let extra = found.len().saturating_sub(RESTARTS);
    found.drain(..extra);
    found
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

fn help(status: &ServiceStatus, facts: &WhyFacts<'_>, causes: &[Cause]) -> Option<String> {
    if facts.snapshot.supervisor_pid.is_none() {
        return Some(match status.state {
            State::Failed => format!("devrun logs {}; devrun up -d", status.name),
            _ => "devrun up -d".to_owned(),
        });
    }
    let root = causes.last().map_or(status.name.as_str(), |cause| cause.service.as_str());
    match status.state {
        State::Waiting | State::Blocked if root != status.name => Some(format!("devrun why {root}; devrun logs -n 50 {root}")),
        State::Failed | State::BackingOff => Some(format!("devrun logs -n 50 {}", status.name)),
        State::Stopped | State::Skipped | State::Asleep => Some(format!("devrun start {}", status.name)),
        State::Running | State::Starting if status.health != Health::Healthy && status.health != Health::None => {
            Some(format!("devrun logs -n 50 {0}; devrun inspect {0}", status.name))
        }
        State::Running if status.restarts > 0 => Some(format!("devrun logs --previous -n 50 {}", status.name)),
        _ => None,
    }
}

impl Explanation {
    /// The explanation as lines for people, who are shown times in their own way.
    #[must_use]
    pub fn lines(&self, time: impl Fn(&str) -> String) -> Vec<String> {
        let mut lines = vec![self.summary.clone()];
        lines.extend(self.causes.iter().map(|cause| format!("  because {}", cause.text)));
        if let Some(answer) = &self.last_answer {
            lines.push(format!("  last probe answer: {answer}"));
        }
        if !self.history.is_empty() {
            lines.push("  earlier:".to_owned());
            lines.extend(self.history.iter().map(|record| format!("    {}  {}", time(&record.ts), record.reason)));
        }
        lines
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
        let facts = WhyFacts { snapshot: &snapshot, waiting: &map, plan: Some(&plan), events, last_answer: answer };
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

    #[test]
    fn restarts_are_named_with_their_reasons_and_a_circle_ends() {
        let event = |ts: &str, to: State, reason: &str| StateChange {
            ts: ts.to_owned(),
            seq: 1,
            service: "api".to_owned(),
            replica: 1,
            from: State::Running,
            to,
            health: Health::None,
            reason: Some(reason.to_owned()),
            pid: None,
            exit_code: Some(1),
        };
        let mut api = status("api", State::Running, Health::Healthy, None);
        api.restarts = 7;
        let events: Vec<_> =
            (0..7).map(|number| event(&format!("T{number}"), State::BackingOff, &format!("exit {number}"))).collect();
        let found = asked("api", vec![api], &[], &events, None);
        assert_eq!(found.summary, "api is running and was restarted 7 times: exit 6");
        assert_eq!(found.history.len(), RESTARTS);
        assert_eq!(found.help.as_deref(), Some("devrun logs --previous -n 50 api"));
        assert_eq!(found.lines(str::to_owned).last().unwrap(), "    T6  exit 6");

        let services = vec![status("api", State::Waiting, Health::None, None), status("db", State::Waiting, Health::None, None)];
        let circle = asked("api", services, &[("api", "db"), ("db", "api")], &[], None);
        assert_eq!(circle.causes.len(), 1);
    }

    #[test]
    fn a_restart_by_a_changed_file_is_named_and_one_by_hand_is_not() {
        let event = |from: State, to: State, reason: &str| StateChange {
            ts: "T".to_owned(),
            seq: 1,
            service: "api".to_owned(),
            replica: 1,
            from,
            to,
            health: Health::None,
            reason: Some(reason.to_owned()),
            pid: None,
            exit_code: None,
        };
        let events = [
            event(State::Running, State::Stopping, "restart"),
            event(State::Running, State::Stopping, "changed: env"),
            event(State::Running, State::Stopping, &file_changed("src/app.py")),
            event(State::Stopping, State::Stopped, &file_changed("src/app.py")),
        ];
        let found = asked("api", vec![status("api", State::Running, Health::Healthy, None)], &[], &events, None);
        assert_eq!(found.summary, "api is running and ready");
        assert_eq!(found.history, [RestartRecord { ts: "T".to_owned(), reason: "src/app.py changed".to_owned() }]);
    }

    #[test]
    fn a_stack_that_is_down_says_so() {
        let mut seen = snapshot(vec![status("api", State::Failed, Health::None, Some("exited with code 3"))]);
        seen.supervisor_pid = None;
        let facts = WhyFacts { snapshot: &seen, waiting: &BTreeMap::new(), plan: None, events: &[], last_answer: None };
        let found = explain("api", &facts).unwrap();
        assert_eq!(found.summary, "api is not running: the stack is down; it had failed: exited with code 3");
        assert!(explain("nobody", &facts).is_none());
    }
}
