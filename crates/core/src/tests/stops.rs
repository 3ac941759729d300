//! How a stack goes down: the reverse order, graces and signals, second thoughts, and what cannot be ended.

use std::time::Duration;

use insta::assert_snapshot;

use super::scenario::{Scenario, fail, id, plan, probed, service};
use crate::{Action, Event, Tick};
use devrun_model::{Command, FailureKind, ServiceSpec, Signal, State};

fn shop() -> Scenario {
    let mut stage = Scenario::new(vec![service("db", ""), service("cache", ""), service("api", "db:started cache:started")]);
    stage.at(0).up().runs("db").runs("cache").runs("api");
    stage.trace();
    stage
}

#[test]
fn the_reverse_order_siblings_together_and_only_after_the_empty_tree() {
    let mut stage = shop();
    stage.at(10).down();
    stage.at(20).exited("api", 0);
    stage.at(30).empty("api");
    stage.at(40).gone("cache", 0);
    stage.at(50).gone("db", 0);
    assert_snapshot!(stage.trace(), @"
    > 10 down
      stop api#1
      api running → stopping
    > 20 exited api#1: exit 0
    > 30 tree empty api#1
      stop cache#1
      stop db#1
      api stopping → stopped [0]
      cache running → stopping
      db running → stopping
    > 40 exited cache#1: exit 0
    > 40 tree empty cache#1
      cache stopping → stopped [0]
    > 50 exited db#1: exit 0
    > 50 tree empty db#1
      db stopping → stopped [0]
      finish ok
    ");
}

#[test]
fn past_the_grace_the_stronger_signal_and_then_the_kill() {
    let mut db = service("db", "");
    db.stop.then = Signal::parse("QUIT");
    db.stop.grace = Duration::from_secs(60);
    let mut stage = Scenario::new(vec![db]);
    stage.at(0).up().runs("db");
    stage.trace();
    stage.at(0).down();
    assert_eq!(stage.core.next_deadline(), Some(Tick::ms(60_000)));
    stage.at(60_000).timer();
    stage.at(62_000).timer();
    stage.at(62_010).gone("db", 137);
    assert_snapshot!(stage.trace(), @"
    > 0 down
      stop db#1
      db running → stopping
    > 60000 timer
      SIGQUIT to all of db#1
    > 62000 timer
      kill db#1
    > 62010 exited db#1: exit 137
    > 62010 tree empty db#1
      db stopping → stopped [137]
      finish ok
    ");
}

#[test]
fn a_shorter_grace_counts_for_what_was_asked_already() {
    let mut stage = shop();
    stage.at(0).down();
    assert_eq!(stage.core.next_deadline(), Some(Tick::ms(10_000)));
    stage.at(1000).feed(Event::Command(Command::Down { grace_ms: Some(1500) }));
    assert_eq!(stage.core.next_deadline(), Some(Tick::ms(1500)));
}

#[test]
fn the_second_interrupt_kills_everything_and_still_waits() {
    let mut stage = shop();
    stage.at(10).feed(Event::Interrupted);
    stage.at(20).feed(Event::Interrupted);
    stage.at(21).feed(Event::Interrupted);
    stage.at(30).gone("db", 137).gone("cache", 137);
    assert!(!stage.core.is_finished());
    stage.gone("api", 137);
    assert_snapshot!(stage.trace(), @"
    > 10 interrupted
      stop api#1
      api running → stopping
    > 20 interrupted
      kill api#1
      kill cache#1
      kill db#1
      cache running → stopping
      db running → stopping
    > 21 interrupted
    > 30 exited db#1: exit 137
    > 30 tree empty db#1
      db stopping → stopped [137]
    > 30 exited cache#1: exit 137
    > 30 tree empty cache#1
      cache stopping → stopped [137]
    > 30 exited api#1: exit 137
    > 30 tree empty api#1
      api stopping → stopped [137]
      finish ok
    ");
}

#[test]
fn a_stop_wins_from_every_stage_of_a_start() {
    let mut stage = Scenario::new(vec![
        service("fetching", ""),
        service("initialising", ""),
        service("spawning", ""),
        probed("starting", ""),
        service("waiting", "starting"),
        ServiceSpec { restart: devrun_model::RestartPolicy::Always, ..service("backing", "") },
    ]);
    stage.at(0).up().fetched("initialising").fetched("spawning").init_done("spawning").runs("starting").fetched("waiting");
    stage.runs("backing").gone("backing", 1);
    stage.trace();
    stage.at(10).down();
    stage.at(20).fetched("fetching");
    stage.feed(Event::InitFailed(id("initialising"), 1, devrun_model::Failure::cancelled()));
    stage.gone("starting", 0);
    stage.spawned("spawning").gone("spawning", 0);
    assert_snapshot!(stage.trace(), @"
    > 10 down
      cancel fetching#1
      cancel initialising#1
      unprobe starting#1
      stop starting#1
      backing backing-off → stopped [1]
      waiting waiting → stopped
      fetching fetching → stopping
      initialising initialising → stopping
      spawning initialising → stopping
      starting starting → stopping (starting)
    > 20 fetched fetching#1
      fetching stopping → stopped
    > 20 init failed initialising#1: cancelled
      initialising stopping → stopped
    > 20 exited starting#1: exit 0
    > 20 tree empty starting#1
      starting stopping → stopped [0]
    > 20 spawned spawning#1
      stop spawning#1
    > 20 exited spawning#1: exit 0
    > 20 tree empty spawning#1
      spawning stopping → stopped [0]
      settled backing: Cancelled: stopped before the start was over; fetching: Cancelled: stopped before the start was over; initialising: Cancelled: stopped before the start was over; spawning: Cancelled: stopped before the start was over; starting: Cancelled: stopped before the start was over; waiting: Cancelled: stopped before the start was over
      finish ok
    ");
}

#[test]
fn what_cannot_be_ended_is_named_and_the_stop_goes_on() {
    let mut stage = shop();
    stage.at(0).feed(Event::Command(Command::KillAll));
    stage.at(10).gone("api", 137).gone("cache", 137);
    stage.trace();
    stage.at(20).feed(Event::Survived(id("db"), 1, vec![(4711, "postgres".to_owned())]));
    assert_snapshot!(stage.trace(), @"
    > 20 survived db#1
      db stopping → failed: still there after SIGKILL: 4711 postgres
      finish db: Survivors: still there after SIGKILL: 4711 postgres
    ");
}

#[test]
fn a_world_that_never_answers_does_not_hang_the_stop() {
    let mut stage = shop();
    stage.at(0).feed(Event::Command(Command::KillAll));
    while let Some(due) = stage.core.next_deadline() {
        stage.at(u64::try_from(due.0.as_millis()).unwrap()).timer();
    }
    let Some(Action::Shutdown(outcome)) = stage.actions().last() else { panic!("no finish") };
    assert_eq!(outcome.failures.len(), 3);
    assert!(outcome.failures.iter().all(|(_, failure)| failure.kind == FailureKind::Survivors));
}

#[test]
fn survivors_are_never_joined_by_a_second_generation() {
    let mut stage = shop();
    stage.at(0).stop(&["db"]);
    stage.at(10_000).timer().feed(Event::Survived(id("db"), 1, vec![(4711, "postgres".to_owned())]));
    assert_eq!(stage.state("db"), State::Failed);
    stage.start(&["db"]);
    assert_eq!((stage.state("db"), stage.generation("db")), (State::Failed, 1));
    // The uninterruptible sleep ended after all.
    stage.empty("db").start(&["db"]);
    assert_eq!((stage.state("db"), stage.generation("db")), (State::Fetching, 2));
}

#[test]
fn a_stop_by_hand_leaves_the_others_and_the_supervisor() {
    let mut stage = shop();
    stage.at(10).stop(&["db"]).stop(&["db"]);
    stage.at(20).gone("db", 0);
    assert_snapshot!(stage.trace(), @"
    > 10 stop db
      remember db stopped=true
      stop db#1
      db running → stopping: by hand
    > 10 stop db
    > 20 exited db#1: exit 0
    > 20 tree empty db#1
      db stopping → stopped [0]: by hand
    ");
    stage.stop(&[]).gone("api", 0).gone("cache", 0);
    assert!(!stage.core.is_finished(), "`start` must find somebody");
    assert_eq!(stage.state("api"), State::Stopped);
}

#[test]
fn a_start_while_everything_stops_is_refused_and_answered() {
    let mut stage = shop();
    stage.at(10).down();
    stage.trace();
    stage.start(&["db"]);
    assert_snapshot!(stage.trace(), @"
    > 10 start db
      settled db: Cancelled: everything is being stopped
    ");
}

#[test]
fn the_order_is_that_of_what_runs_not_of_the_newest_plan() {
    let mut stage = Scenario::new(vec![service("a", ""), service("b", "a:started")]);
    stage.at(0).up().runs("a").runs("b");
    // The edge is gone from the file; b was started with it all the same.
    stage.up_plan(plan(vec![service("a", ""), service("b", "")]));
    stage.trace();
    stage.down();
    assert_snapshot!(stage.trace(), @"
    > 0 down
      stop b#1
      b running → stopping
    ");
}

#[test]
fn higher_tiers_stop_first() {
    let tier = |n, name| ServiceSpec { tier: Some(n), ..service(name, "") };
    let mut stage = Scenario::new(vec![tier(1, "a"), tier(2, "b"), service("c", "")]);
    stage.up().runs("a").fetched("b").init_done("b").spawned("b").runs("c");
    stage.down();
    assert_eq!((stage.state("a"), stage.state("b"), stage.state("c")), (State::Running, State::Stopping, State::Stopping));
}

#[test]
fn a_restart_with_dependents_stops_them_first_and_starts_them_after() {
    let mut stage = Scenario::new(vec![probed("db", ""), service("api", "db")]);
    stage.at(0).up().runs("db").passed("db").runs("api");
    stage.trace();
    stage.at(10).restart(&["db"], true);
    stage.at(20).gone("api", 0);
    stage.at(30).gone("db", 0);
    stage.at(40).fetched("api").runs("db");
    stage.at(50).passed("db");
    stage.at(60).init_done("api").spawned("api");
    assert_snapshot!(stage.trace(), @"
    > 10 restart db with dependents
      stop api#1
      api running → stopping: restart of db
    > 20 exited api#1: exit 0
    > 20 tree empty api#1
      fetch api#2
      unprobe db#1
      stop db#1
      api stopping → waiting: waiting for db (healthy)
      db running → stopping (healthy): restart by hand
    > 30 exited db#1: exit 0
    > 30 tree empty db#1
      fetch db#2
      db stopping → fetching
    > 40 fetched api#2
    > 40 fetched db#2
      init db#2
      db fetching → initialising
    > 40 init done db#2
      spawn db#2
    > 40 spawned db#2
      probe db#2
      db initialising → starting (starting)
    > 50 passed db#2
      init api#2
      db starting → running (healthy)
      api waiting → initialising
    > 60 init done api#2
      spawn api#2
    > 60 spawned api#2
      api initialising → running
      settled ok
    ");
}

#[test]
fn a_crash_during_the_stop_is_no_failure() {
    let mut stage = shop();
    stage.down().gone("db", 1);
    stage.gone("api", 1).gone("cache", 1);
    let Some(Action::Shutdown(outcome)) = stage.actions().last() else { panic!("no finish") };
    assert!(outcome.failures.is_empty(), "{outcome:?}");
}

#[test]
fn what_is_started_while_a_start_is_under_way_is_answered_for_itself() {
    let mut stage = Scenario::new(vec![probed("db", ""), service("api", "")]);
    stage.up_with(&["db"], Default::default()).start(&["api"]).runs("api");
    assert_eq!(stage.count(|action| matches!(action, Action::StartFinished(_))), 1);
    stage.runs("db").feed(Event::FetchFailed(id("db"), 1, fail(FailureKind::Binary, "late"))).passed("db");
    assert_eq!(stage.count(|action| matches!(action, Action::StartFinished(_))), 2);
}

#[test]
fn who_stays_up_without_what_it_depends_on_is_known() {
    let specs = vec![
        service("db", ""),
        service("api", "db:started"),
        service("web", "api:started db:started"),
        service("idle", "db:started"),
    ];
    let mut stage = Scenario::new(specs);
    stage.up().runs("db").runs("api").runs("web").runs("idle");
    stage.stop(&["idle"]).gone("idle", 0);
    let left = |stage: &Scenario, names: &[&str]| -> Vec<String> {
        let ids: Vec<_> = names.iter().map(|name| id(name)).collect();
        let names = |ids: Vec<devrun_model::ServiceId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        stage.core.dependents_left(&ids).into_iter().map(|(on, left)| format!("{on}: {}", names(left))).collect()
    };
    assert_eq!(left(&stage, &["db"]), ["db: api web"]);
    assert_eq!(left(&stage, &["db", "api"]), ["db: web", "api: web"]);
    assert!(left(&stage, &["db", "api", "web"]).is_empty() && left(&stage, &["idle"]).is_empty());
    stage.stop(&["db"]).gone("db", 0);
    assert!(left(&stage, &["db"]).is_empty(), "it is stopped already");
}

/// Whatever the names are: a service is shown as stopped before what it depends on is shown as stopping.
#[test]
fn a_stop_is_shown_in_the_order_in_which_it_is_done() {
    let mut stage = Scenario::new(vec![service("adb", ""), service("zweb", "adb:started")]);
    stage.at(0).up().runs("adb").runs("zweb");
    stage.trace();
    stage.at(10).down().gone("zweb", 0);
    let trace = stage.trace();
    let place = |text: &str| trace.find(text).unwrap_or_else(|| panic!("{text} in {trace}"));
    assert!(place("zweb stopping → stopped") < place("adb running → stopping"), "{trace}");
}
