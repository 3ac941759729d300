//! Restarts by policy and by command, and the cases in which both meet a stop (reliability cases R01 to R08).

use std::collections::BTreeMap;
use std::time::Duration;

use insta::assert_snapshot;

use super::scenario::{Scenario, action_text, fail, id, on_failure, plan, probed, service, task};
use crate::{Action, Event, PlanChange};
use devrun_model::keeper::ExitStatus;
use devrun_model::service::OnUnhealthy;
use devrun_model::{Command, Condition, FailureKind, ReadySpec, RestartPolicy, ServiceId, ServiceSpec, State};

fn policy(policy: RestartPolicy, spec: ServiceSpec) -> ServiceSpec {
    ServiceSpec { restart: policy, ..spec }
}

/// Lets the back-off pass and brings the next generation up.
fn comes_back(stage: &mut Scenario, name: &str) -> u64 {
    let due = stage.core.next_deadline().unwrap();
    let ms = u64::try_from(due.0.as_millis()).unwrap() + 1;
    stage.at(ms).timer().init_done(name).spawned(name);
    ms
}

#[test]
fn r01_waits_grow_and_the_limit_is_kept() {
    let mut stage = Scenario::new(vec![on_failure(5, service("api", ""))]);
    stage.at(0).up().runs("api");
    let (mut now, mut waits) = (0, Vec::new());
    loop {
        stage.at(now).gone("api", 1);
        if stage.state("api") != State::BackingOff {
            break;
        }
        let next = comes_back(&mut stage, "api");
        waits.push(next - now);
        now = next;
    }
    assert_eq!(stage.count(|action| matches!(action, Action::Spawn(..))), 6, "one start and five restarts");
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    assert!(waits[0] <= 1000);
    assert_eq!(stage.reason("api"), "exit 1; given up after 5 restarts in a row");
    assert_eq!(stage.state("api"), State::Failed);
}

#[test]
fn r02_a_long_run_starts_the_count_over() {
    let mut stage = Scenario::new(vec![on_failure(2, service("api", ""))]);
    stage.at(0).up().runs("api");
    let mut now = 0;
    for _ in 0..10 {
        // It ran longer than `backoff.reset`, so it restarts at once and forever.
        now += 60_000;
        stage.at(now).gone("api", 1);
        assert_eq!(stage.state("api"), State::Initialising);
        stage.init_done("api").spawned("api");
    }
}

#[test]
fn a_service_that_puts_itself_into_the_background_is_not_restarted() {
    for (ran, expected) in [(50, State::Failed), (60_000, State::Initialising)] {
        let mut stage = Scenario::new(vec![policy(RestartPolicy::Always, service("api", ""))]);
        stage.at(0).up().runs("api");
        let failure = fail(FailureKind::Background, "left api (pid 7)");
        let event = Event::Exited(id("api"), stage.generation("api"), ExitStatus::Code(0), Some(failure));
        stage.at(ran).feed(event).empty("api");
        assert_eq!(stage.state("api"), expected, "{ran}");
    }
}

#[test]
fn r03_ends_and_policies() {
    let mut table = String::new();
    for restart in
        [RestartPolicy::No, RestartPolicy::OnFailure { max: None }, RestartPolicy::Always, RestartPolicy::UnlessStopped]
    {
        for code in [0, 1] {
            let mut stage = Scenario::new(vec![policy(restart, service("api", "")), service("z", "")]);
            stage.up().runs("z").runs("api").gone("api", code);
            table.push_str(&format!("{restart} exit {code}: {}\n", stage.state("api")));
        }
    }
    assert_snapshot!(table, @"
    no exit 0: completed
    no exit 1: failed
    on-failure exit 0: completed
    on-failure exit 1: backing-off
    always exit 0: backing-off
    always exit 1: backing-off
    unless-stopped exit 0: backing-off
    unless-stopped exit 1: backing-off
    ");
}

#[test]
fn r04_what_waits_for_a_service_that_never_gets_ready_is_never_spawned() {
    let mut stage = Scenario::new(vec![probed("a", ""), service("b", "a"), service("c", "b:started")]);
    stage.at(0).up_with(&[], devrun_model::UpOptions { rollback: true, ..Default::default() });
    stage.runs("a").fetched("b").fetched("c");
    stage.at(120_000).timer().gone("a", 0);
    let spawned: Vec<String> = stage.actions().iter().filter(|a| matches!(a, Action::Spawn(..))).map(action_text).collect();
    assert_eq!(spawned, ["spawn a#1"]);
    let Some(Action::Shutdown(outcome)) = stage.actions().last() else { panic!("no finish") };
    assert_eq!((outcome.failures.len(), outcome.failures[0].1.kind), (1, FailureKind::NotReady));
    assert_eq!(outcome.blocked, [(id("b"), id("a")), (id("c"), id("a"))]);
}

#[test]
fn r05_a_crash_leaves_dependents_alone_and_the_restart_waits_for_its_probe_again() {
    let mut stage = Scenario::new(vec![policy(RestartPolicy::Always, probed("a", "")), service("b", "a!")]);
    stage.at(0).up().runs("a").passed("a").runs("b");
    stage.at(20_000).gone("a", 1);
    stage.init_done("a").spawned("a");
    assert_eq!((stage.state("a"), stage.state("b"), stage.generation("b")), (State::Starting, State::Running, 1));
    // A restart that somebody asks for takes along those whose edge says so: b ends first.
    stage.passed("a");
    stage.trace();
    stage.restart(&["a"], false).gone("b", 0).gone("a", 0);
    assert_snapshot!(stage.trace(), @"
    > 20000 restart a
      stop b#1
      b running → stopping: restart of a
    > 20000 exited b#1: exit 0
    > 20000 tree empty b#1
      fetch b#2
      unprobe a#2
      stop a#2
      a running → stopping (healthy): restart by hand
      b stopping → waiting: waiting for a (healthy)
    > 20000 exited a#2: exit 0
    > 20000 tree empty a#2
      fetch a#3
      a stopping → fetching
    ");
}

#[test]
fn r06_restarts_stop_and_start_while_waiting_leave_exactly_one() {
    let mut stage = Scenario::new(vec![probed("a", ""), service("b", "a")]);
    stage.up().runs("a").fetched("b");
    stage.restart(&["b"], false).restart(&["b"], false).restart(&["b"], false);
    assert_eq!(stage.state("b"), State::Waiting);
    stage.stop(&["b"]);
    assert_eq!(stage.state("b"), State::Stopped);
    stage.start(&["b"]);
    assert_eq!(stage.state("b"), State::Waiting);
    stage.passed("a").fetched("b").init_done("b").spawned("b");
    assert_eq!(stage.state("b"), State::Running);
    let spawns = stage.count(|action| matches!(action, Action::Spawn(who, _) if *who == id("b")));
    assert_eq!(spawns, 1);
}

#[test]
fn r07_a_stop_during_the_back_off_is_done_at_once_and_nothing_starts_later() {
    let mut stage = Scenario::new(vec![policy(RestartPolicy::Always, service("a", "")), service("z", "")]);
    stage.at(0).up().runs("z").runs("a");
    stage.at(10).gone("a", 1);
    stage.at(20).stop(&["a"]);
    assert_eq!(stage.state("a"), State::Stopped);
    stage.at(60_000).timer();
    assert_eq!((stage.state("a"), stage.generation("a")), (State::Stopped, 1));
}

#[test]
fn r08_a_start_during_a_slow_stop_waits_for_the_empty_tree() {
    let mut stage = Scenario::new(vec![service("a", "")]);
    stage.at(0).up().runs("a");
    stage.trace();
    stage.at(10).stop(&["a"]);
    stage.at(20).start(&["a"]);
    stage.at(2000).exited("a", 0);
    stage.at(2010).empty("a");
    stage.at(2020).runs("a");
    assert_snapshot!(stage.trace(), @"
    > 10 stop a
      remember a stopped=true
      stop a#1
      a running → stopping: by hand
    > 20 start a
      remember a stopped=false
    > 2000 exited a#1: exit 0
    > 2010 tree empty a#1
      fetch a#2
      a stopping → fetching
    > 2020 fetched a#2
      init a#2
      a fetching → initialising
    > 2020 init done a#2
      spawn a#2
    > 2020 spawned a#2
      a initialising → running
      settled ok
    ");
}

#[test]
fn the_next_generation_waits_for_the_proof() {
    let mut stage = Scenario::new(vec![policy(RestartPolicy::Always, service("a", ""))]);
    stage.at(0).up().runs("a");
    stage.at(60_000).exited("a", 1);
    stage.at(60_005).timer();
    assert_eq!((stage.state("a"), stage.generation("a")), (State::Stopping, 1));
    stage.empty("a");
    assert_eq!((stage.state("a"), stage.generation("a")), (State::Initialising, 2));
}

#[test]
fn a_restart_by_policy_goes_on_when_its_port_is_still_taken() {
    let mut stage = Scenario::new(vec![policy(RestartPolicy::Always, service("a", ""))]);
    stage.at(0).up().runs("a");
    stage.at(60_000).gone("a", 1).init_done("a");
    stage.feed(Event::SpawnFailed(id("a"), 2, fail(FailureKind::PortTaken, "8000 is in use")));
    assert_eq!(stage.state("a"), State::BackingOff);
    // A first start does not.
    let mut stage = Scenario::new(vec![policy(RestartPolicy::Always, service("a", "")), service("z", "")]);
    stage.up().runs("z").fetched("a").init_done("a");
    stage.feed(Event::SpawnFailed(id("a"), 1, fail(FailureKind::PortTaken, "8000 is in use")));
    assert_eq!(stage.state("a"), State::Failed);
}

#[test]
fn a_hung_service_goes_through_its_policy() {
    let quick = ReadySpec { interval: Duration::from_secs(1), retries: 2, ..ReadySpec::new(Vec::new()) };
    let alive = ServiceSpec { alive: Some(quick.clone()), ..policy(RestartPolicy::Always, service("a", "")) };
    let mut stage = Scenario::new(vec![alive]);
    stage.at(0).up().runs("a").feed(Event::LivenessPassed(id("a"), 1));
    stage.trace();
    stage.at(20_000).feed(Event::LivenessFailed(id("a"), 1, "timed out".to_owned()));
    stage.at(21_000).feed(Event::LivenessFailed(id("a"), 1, "timed out".to_owned()));
    stage.at(21_100).gone("a", 0);
    assert_snapshot!(stage.trace(), @"
    > 20000 not alive a#1: timed out
    > 21000 not alive a#1: timed out
      unprobe a#1
      stop a#1
      a running → stopping: not alive: timed out
    > 21100 exited a#1: exit 0
    > 21100 tree empty a#1
      init a#2
      a stopping → initialising
    ");
    let unhealthy = ServiceSpec { ready: Some(quick), on_unhealthy: OnUnhealthy::Stop, ..service("b", "") };
    let mut stage = Scenario::new(vec![unhealthy, service("z", "")]);
    stage.at(0).up().runs("z").runs("b").passed("b");
    stage.at(1000).probe_failed("b", "503").at(2000).probe_failed("b", "503").gone("b", 0);
    assert_eq!((stage.state("b"), stage.reason("b").as_str()), (State::Failed, "unhealthy: 503"));
}

#[test]
fn a_failed_task_is_run_again_only_where_its_policy_says_so() {
    for (restart, state) in [
        (RestartPolicy::UnlessStopped, State::Failed),
        (RestartPolicy::Always, State::Failed),
        (RestartPolicy::OnFailure { max: Some(1) }, State::BackingOff),
    ] {
        let mut stage = Scenario::new(vec![policy(restart, task("seed", "")), service("z", "")]);
        stage.up().runs("z").runs("seed").gone("seed", 1);
        assert_eq!(stage.state("seed"), state, "{restart}");
    }
}

#[test]
fn replicas_are_restarted_one_at_a_time() {
    let copy = |index: u32| {
        let mut spec = probed("w", "");
        spec.id = id(&format!("w.{index}"));
        ServiceSpec { replica: index, replicas: 2, ..spec }
    };
    let mut stage = Scenario::new(vec![copy(1), copy(2)]);
    stage.up().runs("w.1").runs("w.2").passed("w.1").passed("w.2");
    stage.restart(&["w.1", "w.2"], false);
    assert_eq!((stage.state("w.1"), stage.state("w.2")), (State::Stopping, State::Running));
    stage.gone("w.1", 0).runs("w.1");
    assert_eq!(stage.state("w.2"), State::Running);
    stage.passed("w.1");
    assert_eq!((stage.state("w.1"), stage.state("w.2")), (State::Running, State::Stopping));
    stage.gone("w.2", 0).runs("w.2").passed("w.2");
    assert_eq!(stage.count(|action| matches!(action, Action::StartFinished(_))), 2);
}

#[test]
fn a_changed_file_restarts_and_may_cure() {
    let watched = ServiceSpec { watch: vec!["src".to_owned()], ..service("a", "") };
    let mut stage = Scenario::new(vec![watched, service("z", "")]);
    stage.up().runs("z").runs("a");
    stage.feed(Event::FileChanged(id("a"), "src/a.py".to_owned()));
    assert_eq!((stage.state("a"), stage.reason("a").as_str()), (State::Stopping, "src/a.py changed"));
    stage.gone("a", 0).runs("a").gone("a", 1);
    assert_eq!(stage.state("a"), State::Failed);
    stage.feed(Event::FileChanged(id("a"), "src/a.py".to_owned()));
    assert_eq!(stage.state("a"), State::Fetching);
    stage.stop(&["a"]).fetched("a").feed(Event::FileChanged(id("a"), "src/a.py".to_owned()));
    assert_eq!(stage.state("a"), State::Stopped);
}

#[test]
fn a_stack_whose_only_service_is_watched_waits_for_the_next_change() {
    let watched = |name: &str| ServiceSpec { watch: vec!["src".to_owned()], ..service(name, "") };
    for code in [0, 1] {
        let mut stage = Scenario::new(vec![watched("a"), task("t", "")]);
        stage.up().runs("t").gone("t", 0).runs("a").gone("a", code);
        assert_eq!(stage.count(|action| matches!(action, Action::Shutdown(_))), 0, "exit {code}: it waits");
        stage.feed(Event::FileChanged(id("a"), "src/a.py".to_owned())).runs("a").gone("a", 1);
        assert_eq!(stage.count(|action| matches!(action, Action::Shutdown(_))), 0);
        stage.down();
        assert_eq!(stage.count(|action| matches!(action, Action::Shutdown(_))), 1);
    }
    // What nothing starts again ends the run, as before.
    let task = ServiceSpec { watch: vec!["src".to_owned()], ..task("t", "") };
    let mut stage = Scenario::new(vec![task, service("z", "")]);
    stage.up().runs("t").gone("t", 0).runs("z").gone("z", 1);
    assert_eq!(stage.count(|action| matches!(action, Action::Shutdown(_))), 1);
}

#[test]
fn a_restart_may_have_a_shorter_grace_of_its_own() {
    let kills = |stage: &Scenario| stage.count(|action| matches!(action, Action::KillTree(..)));
    let restart = |stage: &mut Scenario, grace_ms| {
        let targets = vec![id("a")];
        stage.feed(Event::Command(Command::Restart { plan: None, targets, with_dependents: false, grace_ms }));
    };
    let mut stage = Scenario::new(vec![service("a", "")]);
    stage.up().runs("a");
    restart(&mut stage, Some(1000));
    stage.at(1000).timer();
    assert_eq!(kills(&stage), 1);
    stage.gone("a", 137).runs("a");
    // The next stop has the service's own; one that is under way is shortened.
    stage.at(2000);
    restart(&mut stage, None);
    stage.at(4000).timer();
    assert_eq!(kills(&stage), 1);
    restart(&mut stage, Some(2000));
    stage.timer();
    assert_eq!(kills(&stage), 2);
}

#[test]
fn a_second_up_restarts_what_changed_stops_what_left_and_keeps_the_rest() {
    let old = || vec![service("db", ""), service("api", "db:started"), service("old", "api:started")];
    let mut stage = Scenario::new(old());
    stage.up().runs("db").runs("api").runs("old");
    let mut api = service("api", "db:started");
    api.ports.insert("main".to_owned(), 8001);
    let new = || plan(vec![service("db", ""), api.clone(), service("extra", "")]);
    let changes: Vec<String> = stage.core.changes(&new()).iter().map(|(id, change)| format!("{id}: {change:?}")).collect();
    assert_snapshot!(changes.join("\n"), @r#"
    api: Restart("port none → 8001")
    db: Keep
    extra: Start
    old: Stop(Removed)
    "#);
    assert_eq!(stage.core.changes(&plan(old()))[&id("api")], PlanChange::Keep);
    stage.trace();
    stage.up_plan(new()).gone("old", 0).gone("api", 0);
    assert_snapshot!(stage.trace(), @"
    > 0 up with a plan
      fetch extra#1
      stop old#1
      extra stopped → fetching
      old running → stopping: no longer in the procfile
    > 0 exited old#1: exit 0
    > 0 tree empty old#1
      old stopping → stopped [0]: no longer in the procfile
      stop api#1
      api running → stopping: changed: port none → 8001
    > 0 exited api#1: exit 0
    > 0 tree empty api#1
      fetch api#2
      api stopping → fetching
    ");
    assert!(stage.core.service_views().iter().all(|view| view.id != id("old")));
    assert_eq!(stage.core.spec(&id("api")).unwrap().port(), Some(8001));
}

/// What the query says is what the command does.
#[test]
fn what_a_restart_would_do_is_what_it_does() {
    let specs = || {
        vec![
            service("db", ""),
            service("api", "db:started migrate:completed"),
            task("migrate", "db:started"),
            service("worker", "api:started!"),
            service("web", "api:started"),
            service("idle", ""),
        ]
    };
    let words = |changes: &BTreeMap<ServiceId, PlanChange>, wanted: fn(&PlanChange) -> bool| -> Vec<String> {
        changes.iter().filter(|(_, change)| wanted(change)).map(|(id, _)| id.to_string()).collect()
    };
    for (stopped, targets, with_dependents, restarts, starts) in [
        (&[][..], &["api"][..], false, &["api", "worker"][..], &[][..]),
        (&[], &["api"], true, &["api", "web", "worker"], &[]),
        (&["db"], &["api"], false, &["api", "worker"], &["db"]),
        (&["web"], &["db"], true, &["api", "db", "worker"], &[]),
        (&["web"], &["web"], false, &[], &["web"]),
        (&[], &["migrate"], false, &[], &["migrate"]),
        (&["idle", "db"], &[], false, &["api", "web", "worker"], &["db"]),
        (&[], &["missing"], false, &[], &[]),
    ] {
        let mut stage = Scenario::new(specs());
        stage.up().runs("db").fetched("migrate").init_done("migrate").spawned("migrate").gone("migrate", 0);
        for name in ["api", "worker", "web", "idle"] {
            stage.runs(name);
        }
        for name in stopped {
            stage.stop(&[name]).gone(name, 0);
        }
        let ids: Vec<ServiceId> = targets.iter().map(|name| id(name)).collect();
        let changes = stage.core.restart_changes(&plan(specs()), &ids, with_dependents);
        assert_eq!(words(&changes, |change| matches!(change, PlanChange::Restart(_))), restarts, "{stopped:?} {targets:?}");
        assert_eq!(words(&changes, |change| *change == PlanChange::Start), starts, "{stopped:?} {targets:?}");
        // Then it is done.
        let lives = |stage: &Scenario| -> Vec<(ServiceId, u64)> {
            stage.core.service_views().into_iter().map(|view| (view.id.clone(), stage.generation(view.id.as_str()))).collect()
        };
        let before = lives(&stage);
        stage.restart(targets, with_dependents);
        for _ in specs() {
            let leaving: Vec<ServiceId> =
                stage.core.service_views().into_iter().filter(|view| view.state == State::Stopping).map(|view| view.id).collect();
            for id in &leaving {
                stage.gone(id.as_str(), 0);
            }
            let waiting =
                stage.core.service_views().into_iter().filter(|view| !matches!(view.state, State::Running | State::Stopped));
            let waiting: Vec<ServiceId> = waiting.filter(|view| view.state != State::Completed).map(|view| view.id).collect();
            for id in &waiting {
                stage.runs(id.as_str());
            }
        }
        let touched: Vec<String> = before
            .into_iter()
            .filter(|(id, generation)| stage.generation(id.as_str()) != *generation)
            .map(|(id, _)| id.to_string())
            .collect();
        let mut expected: Vec<String> = [restarts, starts].concat().into_iter().map(str::to_owned).collect();
        expected.sort();
        assert_eq!(touched, expected, "{stopped:?} {targets:?}");
    }
}

#[test]
fn a_server_that_was_given_its_new_password_runs_on_and_its_readers_restart_once() {
    let specs = |password: &str| {
        let mut db = service("db", "");
        db.attributes.insert("password".to_owned(), password.to_owned());
        let mut api = service("api", "db:started");
        api.env.insert("DB_PASSWORD".to_owned(), password.to_owned());
        vec![db, api, service("lonely", "")]
    };
    let mut stage = Scenario::new(specs("old"));
    stage.up().runs("db").runs("api").runs("lonely");
    stage.trace();
    stage.renew(plan(specs("new")), &["db"], &["api"]).gone("api", 0);
    assert_snapshot!(stage.trace(), @"
    > 0 renew db; restart api
      redefine db#1
      stop api#1
      api running → stopping: secret rotated
    > 0 exited api#1: exit 0
    > 0 tree empty api#1
      fetch api#2
      api stopping → fetching
    ");
    let password = |stage: &Scenario| stage.core.spec(&id("db")).unwrap().attributes["password"].clone();
    assert_eq!((password(&stage), stage.generation("db")), ("new".to_owned(), 1));
    assert!(stage.core.changes(&plan(specs("new"))).iter().all(|(_, change)| *change != PlanChange::Start));
    assert_eq!(stage.core.changes(&plan(specs("new")))[&id("db")], PlanChange::Keep);
    stage.runs("api");
    // Nobody reads it: that is answered as well.
    stage.trace();
    stage.renew(plan(specs("new")), &[], &[]);
    assert_snapshot!(stage.trace(), @"
    > 0 renew; restart
      settled ok
    ");
    // One that differs in more than that was started by another definition, and is restarted.
    let mut other = specs("newer");
    other[0].ports.insert("main".to_owned(), 5433);
    stage.renew(plan(other), &["db"], &["api"]);
    assert_eq!((stage.state("db"), stage.generation("db")), (State::Running, 1), "its reader goes first");
    stage.gone("api", 0);
    assert_eq!(stage.state("db"), State::Stopping);
}

#[test]
fn a_service_that_left_and_came_back_is_not_confused_with_its_former_self() {
    let mut stage = Scenario::new(vec![service("a", ""), service("z", "")]);
    stage.up().runs("a").runs("z");
    stage.up_plan(plan(vec![service("z", "")])).gone("a", 0);
    stage.up_plan(plan(vec![service("a", ""), service("z", "")])).runs("a");
    stage.feed(Event::TreeEmpty(id("a"), 1));
    assert_eq!((stage.state("a"), stage.generation("a")), (State::Running, 2));
}

#[test]
fn waiting_on_names_what_is_missing() {
    let stage = {
        let mut stage = Scenario::new(vec![probed("db", ""), task("seed", "db"), service("api", "db seed:completed")]);
        stage.up();
        stage
    };
    let missing: Vec<_> = stage.core.waiting_on(&id("api")).into_iter().map(|one| (one.on, one.condition)).collect();
    assert_eq!(missing, [(id("db"), Some(Condition::Healthy)), (id("seed"), Some(Condition::Completed))]);
}
