//! Explanations as tables.

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
        (State::Starting, Health::Starting, None, "api is running and not ready: its probe has not passed (last answer: 503)"),
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
        .map(|number| event(&format!("T{number}"), State::Running, State::BackingOff, Some(format!("exit {number}").as_str())))
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
fn what_is_done_is_named_with_its_exit_and_its_time() {
    let done = |reason| ServiceStatus { exit_code: Some(0), ..status("api", State::Completed, Health::None, reason) };
    let events = [
        event("2026-11-28T03:56:54.0Z", State::Waiting, State::Starting, None),
        event("2026-11-28T03:56:54.1Z", State::Starting, State::Running, None),
        event("2026-11-28T03:56:58.0Z", State::Running, State::Stopping, None),
        event("2026-11-28T03:56:59.0Z", State::Stopping, State::Completed, None),
    ];
    let summary = |reason, events: &[StateChange]| asked("api", vec![done(reason)], &[], events, None).summary;
    assert_eq!(summary(None, &events), "api is done: exited with code 0 after 4.0s");
    assert_eq!(summary(None, &[]), "api is done: exited with code 0");
    assert_eq!(summary(Some("already done (T)"), &events), "api is already done (T)");
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
    let done = ServiceStatus { exit_code: Some(0), ..status("api", State::Completed, Health::None, None) };
    let help = asked("api", vec![done.clone()], &[], &[], None).help;
    assert_eq!(help.as_deref(), Some("devrun logs -n 50 api; devrun start api"));
    let mut seen = snapshot(vec![done]);
    seen.supervisor_pid = None;
    let (waiting, last_answers) = (BTreeMap::new(), BTreeMap::new());
    let facts = WhyFacts { snapshot: &seen, waiting: &waiting, plan: None, events: &[], last_answers: &last_answers };
    let summary = explain("api", &facts).unwrap().summary;
    assert_eq!(summary, "api is not running: the stack is down; it ended with exit code 0");
    for (reason, expected) in [(SUPERVISOR_ENDED, ": its supervisor ended"), ("by hand", "")] {
        let mut seen = snapshot(vec![status("api", State::Stopped, Health::None, Some(reason))]);
        seen.supervisor_pid = None;
        let (waiting, last_answers) = (BTreeMap::new(), BTreeMap::new());
        let facts = WhyFacts { snapshot: &seen, waiting: &waiting, plan: None, events: &[], last_answers: &last_answers };
        let found = explain("api", &facts).unwrap();
        assert_eq!(found.summary, format!("api is not running: the stack is down{expected}"));
    }
}
