//! When a start is over, and what ends the whole run.

use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;

use super::scenario::{Scenario, fail, id, on_failure, outcome_text, plan, probed, service, task};
use crate::{Action, Event, Tick};
use devrun_model::{Command, FailureKind, Plan, RestartPolicy, ServiceSpec, State, UpOptions};

#[test]
fn the_whole_start_has_a_limit_and_fetching_does_not_count() {
    let mut plan = plan(vec![probed("db", ""), service("api", "db")]);
    plan.timeout = Duration::from_secs(5);
    let mut stage = Scenario::of(plan, &[]);
    stage.at(0).up().fetched("api");
    // A minute of download is no slowness of the stack.
    stage.at(60_000).fetched("db").init_done("db").spawned("db");
    assert_eq!(stage.core.next_deadline(), Some(Tick::ms(65_000)));
    stage.at(64_000).probe_failed("db", "connection refused");
    stage.trace();
    stage.at(65_000).timer();
    stage.at(65_010).gone("db", 0);
    assert_snapshot!(stage.trace(), @"
    > 65000 timer
      unprobe db#1
      stop db#1
      api waiting → failed: not ready when the start's 5s were over: waiting for db (healthy)
      db starting → stopping (starting): not ready when the start's 5s were over: connection refused
    > 65010 exited db#1: exit 0
    > 65010 tree empty db#1
      db stopping → failed [0]: not ready when the start's 5s were over: connection refused
      settled db: StartTimeout: not ready when the start's 5s were over: connection refused; api: StartTimeout: not ready when the start's 5s were over: waiting for db (healthy)
      finish db: StartTimeout: not ready when the start's 5s were over: connection refused; api: StartTimeout: not ready when the start's 5s were over: waiting for db (healthy)
    ");
}

#[test]
fn a_failed_start_is_rolled_back_when_asked() {
    let mut stage = Scenario::new(vec![service("db", ""), service("api", "")]);
    stage.up_with(&[], UpOptions { rollback: true, ..UpOptions::default() }).runs("db").fetched("api");
    stage.trace();
    stage.feed(Event::InitFailed(id("api"), 1, fail(FailureKind::Task, "pre_start: exit 1")));
    stage.gone("db", 0);
    assert_snapshot!(stage.trace(), @"
    > 0 init failed api#1: pre_start: exit 1
      api initialising → failed: pre_start: exit 1
      settled api: Task: pre_start: exit 1
      stop db#1
      db running → stopping
    > 0 exited db#1: exit 0
    > 0 tree empty db#1
      db stopping → stopped [0]
      finish api: Task: pre_start: exit 1
    ");
}

#[test]
fn any_failure_aborts_when_asked() {
    let mut stage = Scenario::new(vec![service("db", ""), service("api", "")]);
    stage.up_with(&[], UpOptions { abort_on_failure: true, ..UpOptions::default() }).runs("db").runs("api");
    stage.trace();
    stage.at(9000).gone("api", 3);
    stage.gone("db", 0);
    assert_snapshot!(stage.trace(), @"
    > 9000 exited api#1: exit 3
      stop api#1
      api running → stopping [3]: exit 3
      stop db#1
      db running → stopping
    > 9000 tree empty api#1
      api stopping → failed [3]: exit 3
    > 9000 exited db#1: exit 0
    > 9000 tree empty db#1
      db stopping → stopped [0]
      finish api: Service: exit 3
    ");
}

#[test]
fn everything_goes_down_with_the_one_whose_code_is_ours() {
    let mut stage = Scenario::new(vec![service("db", ""), task("tests", "db:started")]);
    stage.up_with(&[], UpOptions { exit_code_from: Some(id("tests")), ..UpOptions::default() }).runs("db").runs("tests");
    stage.trace();
    stage.gone("tests", 7);
    stage.gone("db", 0);
    assert_snapshot!(stage.trace(), @"
    > 0 exited tests#1: exit 7
      stop tests#1
      tests running → stopping [7]: exit 7
    > 0 tree empty tests#1
      tests stopping → failed [7]: exit 7
      settled tests: Task: exit 7; code 7
      stop db#1
      db running → stopping
    > 0 exited db#1: exit 0
    > 0 tree empty db#1
      db stopping → stopped [0]
      finish tests: Task: exit 7; code 7
    ");
}

/// What begins and is cancelled in the same step was never to begin.
#[test]
fn the_step_that_ends_the_run_starts_nothing() {
    let mut stage = Scenario::new(vec![task("tests", ""), service("report", "tests:completed"), service("db", "")]);
    let options = UpOptions { exit_code_from: Some(id("tests")), ..UpOptions::default() };
    stage.up_with(&[], options).runs("db").fetched("report").runs("tests");
    stage.trace();
    stage.gone("tests", 0);
    assert_snapshot!(stage.trace(), @"
    > 0 exited tests#1: exit 0
      stop tests#1
      tests running → stopping [0]
    > 0 tree empty tests#1
      tests stopping → completed [0]
      stop db#1
      report waiting → stopped
      db running → stopping
      settled report: Cancelled: stopped before the start was over; code 0
    ");
}

#[test]
fn nothing_left_to_run_ends_the_run_by_itself() {
    let mut stage = Scenario::new(vec![task("a", ""), task("b", "a:completed")]);
    stage.up().runs("a").fetched("b").gone("a", 0).init_done("b").spawned("b");
    stage.trace();
    stage.gone("b", 0);
    assert_snapshot!(stage.trace(), @"
    > 0 exited b#1: exit 0
      stop b#1
      b running → stopping [0]
    > 0 tree empty b#1
      b stopping → completed [0]
      settled ok
      finish ok
    ");
    assert!(stage.core.is_finished());
}

#[test]
fn a_service_that_ended_well_before_it_was_healthy_is_a_failure_of_the_start() {
    let mut stage = Scenario::new(vec![probed("db", ""), service("api", "db")]);
    stage.up().runs("db").fetched("api").gone("db", 0);
    let Some(Action::Shutdown(outcome)) = stage.actions().last() else { panic!("no finish") };
    assert_eq!(outcome.failures.len(), 1);
    assert_eq!(outcome.failures[0].1.reason, "db ended before it was healthy");
}

#[test]
fn a_crash_while_others_wait_is_said_at_once_and_they_wait_on_while_the_policy_restarts_it() {
    let mut stage = Scenario::new(vec![on_failure(1, probed("db", "")), service("api", "db")]);
    stage.at(0).up().runs("db").fetched("api");
    stage.trace();
    stage.at(100).gone("db", 1);
    stage.at(400).timer();
    stage.at(410).init_done("db").spawned("db");
    stage.at(500).gone("db", 1);
    assert_snapshot!(stage.trace(), @"
    > 100 exited db#1: exit 1
      say db: exit 1; restart 1 in 0.2s, others wait for it
      unprobe db#1
      stop db#1
      db starting → stopping (starting) [1]: exit 1; restarts in 0.2s
    > 100 tree empty db#1
      db stopping → backing-off [1]: exit 1
    > 400 timer
      init db#2
      db backing-off → initialising
    > 410 init done db#2
      spawn db#2
    > 410 spawned db#2
      probe db#2
      db initialising → starting (starting)
    > 500 exited db#2: exit 1
      say db: exit 1; given up after 1 restart in a row; the services that depend on it cannot start
      unprobe db#2
      stop db#2
      db starting → stopping (starting) [1]: exit 1; given up after 1 restart in a row
      api waiting → blocked: db failed: exit 1; given up after 1 restart in a row
    > 500 tree empty db#2
      db stopping → failed [1]: exit 1; given up after 1 restart in a row
      settled db: Service: exit 1; given up after 1 restart in a row; api blocked by db
      finish db: Service: exit 1; given up after 1 restart in a row; api blocked by db
    ");
}

#[test]
fn no_start_waits_for_what_another_one_has_asked_for_nor_has_its_limit() {
    let services = || vec![probed("slow", ""), service("other", ""), service("third", "")];
    let mut stage = Scenario::of(plan(services()), &[]);
    let settled = |stage: &Scenario| {
        let of = |action: &Action| match action {
            Action::StartFinished(outcome) => Some((outcome.position, outcome.failures.is_empty())),
            _ => None,
        };
        stage.actions().iter().filter_map(of).collect::<Vec<_>>()
    };
    stage.at(0).start(&["slow"]).runs("slow");
    // Another one, with a limit of its own.
    let hurried = Plan { timeout: Duration::from_secs(3), ..plan(services()) };
    let command = Command::Up { plan: Some(Arc::new(hurried)), targets: vec![id("other")], options: UpOptions::default() };
    stage.at(10).feed(Event::Command(command)).runs("other");
    assert_eq!(settled(&stage), [(1, true)], "behind the one that is open");
    stage.at(4_000).timer();
    assert_eq!(stage.state("slow"), State::Starting, "the limit of another start is none of its own");
    stage.at(5_000).start(&["third"]).runs("third");
    assert_eq!(settled(&stage), [(1, true), (1, true)]);
    stage.at(6_000).passed("slow");
    assert_eq!(settled(&stage), [(1, true), (1, true), (0, true)]);
}

/// Once it is a crash loop; not before, as its database may be slow. What waits for it is given up with it.
#[test]
fn a_crash_loop_with_a_probe_ends_the_start() {
    let always = |spec: ServiceSpec| ServiceSpec { restart: RestartPolicy::Always, ..spec };
    let stage = || {
        let mut stage =
            Scenario::new(vec![always(probed("a", "")), service("web", "a"), service("far", "web"), probed("slow", "")]);
        stage.core = stage.core.clone().with_proof_of_life(Duration::from_millis(100));
        stage.at(0).up().fetched("web").fetched("far").runs("slow").fetched("a").init_done("a").spawned("a");
        stage
    };
    let settled = |stage: &Scenario| stage.count(|action| matches!(action, Action::StartFinished(_)));
    let outcome = |stage: &Scenario| {
        stage.actions().iter().rev().find_map(|action| match action {
            Action::StartFinished(outcome) => Some(outcome_text(outcome)),
            _ => None,
        })
    };
    let crash = |stage: &mut Scenario, at: u64| {
        stage.at(at).gone("a", 1);
        assert_eq!(stage.state("a"), State::BackingOff);
    };
    let again = |stage: &mut Scenario, at: u64| {
        stage.at(at).timer().init_done("a").spawned("a");
    };

    let mut looping = stage();
    looping.at(10).passed("slow");
    for turn in 0..4 {
        crash(&mut looping, 500 + turn * 10_000);
        again(&mut looping, 10_000 + turn * 10_000);
    }
    assert_eq!(settled(&looping), 0, "four are not enough");
    crash(&mut looping, 40_500);
    let expected = "a: Service: exit 1 before it was ready, also after 4 restarts; far blocked by a; web blocked by a";
    assert_eq!(outcome(&looping).as_deref(), Some(expected));
    again(&mut looping, 60_000);
    assert_eq!(looping.state("a"), State::Starting, "its policy holds");
    looping.passed("a");
    assert_eq!(looping.state("web"), State::Initialising, "and what waits for it comes up with it");

    // Something else is still waited for.
    let mut other = stage();
    for turn in 0..4 {
        crash(&mut other, 500 + turn * 10_000);
        again(&mut other, 10_000 + turn * 10_000);
    }
    crash(&mut other, 40_500);
    assert_eq!(settled(&other), 0);
    other.passed("slow");
    assert_eq!(settled(&other), 1);

    // Two crashes, then it comes up; five ends in more than a minute.
    let mut late = stage();
    late.passed("slow");
    for turn in 0..2 {
        crash(&mut late, 500 + turn * 10_000);
        again(&mut late, 10_000 + turn * 10_000);
    }
    late.passed("a").init_done("web").spawned("web").init_done("far").spawned("far");
    late.at(30_000).timer();
    assert_eq!(outcome(&late).as_deref(), Some("ok"));
    let mut slow = stage();
    slow.passed("slow");
    for turn in 0..6 {
        crash(&mut slow, 500 + turn * 40_000);
        again(&mut slow, 40_000 + turn * 40_000);
    }
    assert_eq!(settled(&slow), 0);
}

#[test]
fn what_dies_within_moments_was_never_ready() {
    let mut stage = Scenario::new(vec![service("a", ""), service("b", "a")]);
    stage.core = stage.core.clone().with_proof_of_life(Duration::from_millis(100));
    stage.at(0).up().runs("a");
    // Dependents do not wait for it.
    stage.at(10).runs("b");
    let settled = |action: &Action| matches!(action, Action::StartFinished(_));
    assert_eq!(stage.count(settled), 0);
    assert_eq!(stage.core.next_deadline(), Some(Tick::ms(100)));
    stage.at(100).timer();
    assert_eq!(stage.count(settled), 0, "b is younger");
    stage.at(105).gone("b", 1);
    assert_eq!(stage.count(settled), 1);
    let last = stage.actions().iter().rev().find(|action| settled(action));
    let Some(Action::StartFinished(outcome)) = last else { panic!("settled") };
    assert_eq!(outcome.failures.first().map(|(failed, _)| failed.clone()), Some(id("b")));
    // One whose leader has ended is not ready, however long it takes to find out what it left.
    let mut stage = Scenario::new(vec![service("a", "")]);
    stage.core = stage.core.clone().with_proof_of_life(Duration::from_millis(100));
    stage.at(0).up().runs("a");
    stage.at(50).feed(Event::ExitHeld(id("a"), 1));
    stage.at(100).timer();
    stage.at(200).timer();
    assert_eq!(stage.count(settled), 0);
    stage.at(300).gone("a", 1);
    assert_eq!(stage.count(settled), 1);
    // One that lives is ready, and is looked at no more.
    let mut stage = Scenario::new(vec![service("a", "")]);
    stage.core = stage.core.clone().with_proof_of_life(Duration::from_millis(100));
    stage.at(0).up().runs("a");
    stage.at(100).timer();
    assert_eq!(stage.count(settled), 1);
    assert_eq!(stage.core.next_deadline(), None);
}
