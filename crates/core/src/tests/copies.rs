//! Several copies of a service: restarted one after the other, and other numbers of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::scenario::{Scenario, id, plan, probed, service};
use crate::{Action, Event, PlanChange, StopReason};
use devrun_model::{Command, FailureKind, Plan, RestartPolicy, ServiceName, ServiceSpec, State};

fn copy(index: u32) -> ServiceSpec {
    let mut spec = probed("w", "");
    spec.id = id(&format!("w.{index}"));
    ServiceSpec { replica: index, replicas: 9, ..spec }
}

fn copies(count: u32) -> Vec<ServiceSpec> {
    (1..=count).map(copy).collect()
}

fn running(specs: Vec<ServiceSpec>) -> Scenario {
    let names: Vec<String> = specs.iter().map(|spec| spec.id.to_string()).collect();
    let mut stage = Scenario::new(specs);
    stage.up();
    for name in &names {
        stage.runs(name).passed(name);
    }
    stage
}

fn scale(stage: &mut Scenario, plan: Plan) {
    let services = vec![ServiceName::new("w").unwrap()];
    stage.feed(Event::Command(Command::Scale { plan: Arc::new(plan), services }));
}

fn states(stage: &Scenario) -> Vec<(String, State)> {
    let views = stage.core.service_views().into_iter();
    views.filter(|view| view.id.as_str().starts_with('w')).map(|view| (view.id.to_string(), view.state)).collect()
}

fn stops(stage: &Scenario) -> Vec<String> {
    let stopped = |action: &Action| match action {
        Action::StopTree(id, _) => Some(id.to_string()),
        _ => None,
    };
    stage.actions().iter().filter_map(stopped).collect()
}

/// The failures of the last start that was answered.
fn failures(stage: &Scenario) -> Vec<(String, FailureKind, String)> {
    let last = stage.actions().iter().rev().find_map(|action| match action {
        Action::StartFinished(outcome) => Some(outcome.failures.clone()),
        _ => None,
    });
    last.unwrap_or_default().into_iter().map(|(id, failure)| (id.to_string(), failure.kind, failure.reason)).collect()
}

#[test]
fn a_new_version_that_is_never_ready_keeps_the_copies_that_were_not_replaced() {
    let mut stage = running(copies(3));
    stage.at(1000).restart(&["w.1", "w.2", "w.3"], false).gone("w.1", 0).runs("w.1");
    assert_eq!(stops(&stage), ["w.1"]);
    stage.at(122_000).timer().gone("w.1", 143);
    assert_eq!(states(&stage), [("w.1".into(), State::Failed), ("w.2".into(), State::Running), ("w.3".into(), State::Running)]);
    assert_eq!(stops(&stage), ["w.1", "w.1"], "none of the others was stopped");
    let failed = failures(&stage);
    assert_eq!(failed[0].1, FailureKind::NotReady, "the root cause comes first: {failed:?}");
    let kept: Vec<&str> = failed[1..].iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(kept, ["w.2", "w.3"]);
    assert!(failed[1].2.starts_with("kept the previous version of w.2: w.1: not ready within"), "{}", failed[1].2);
    // The next restart tries again.
    stage.restart(&["w.1", "w.2", "w.3"], false).runs("w.1").passed("w.1");
    assert_eq!(stage.state("w.2"), State::Stopping);
}

/// Its policy continues with the one that crashes; the others are not replaced by the same.
#[test]
fn a_new_version_that_crashes_keeps_the_others_whatever_its_policy() {
    let always = |spec| ServiceSpec { restart: RestartPolicy::Always, ..spec };
    let mut stage = running(copies(2).into_iter().map(always).collect());
    stage.at(1000).restart(&["w.1", "w.2"], false).gone("w.1", 0).runs("w.1").gone("w.1", 1);
    assert_eq!(states(&stage), [("w.1".into(), State::BackingOff), ("w.2".into(), State::Running)]);
    assert_eq!(stops(&stage).iter().filter(|name| *name == "w.2").count(), 0);
    // It is restarted alone all the same.
    stage.restart(&["w.2"], false);
    assert_eq!(stage.state("w.2"), State::Stopping);
}

#[test]
fn so_many_are_replaced_at_a_time_and_a_pause_lies_between_two() {
    let with = |parallel: u32, pause: u64| {
        let mut specs = copies(4);
        for spec in &mut specs {
            spec.update.parallel = parallel;
            spec.update.pause = Duration::from_millis(pause);
        }
        running(specs)
    };
    let mut two = with(2, 0);
    two.at(1000).restart(&["w.1", "w.2", "w.3", "w.4"], false);
    assert_eq!(stops(&two), ["w.1", "w.2"]);
    two.gone("w.2", 0).runs("w.2").passed("w.2");
    assert_eq!(stops(&two), ["w.1", "w.2", "w.3"], "the first one is still on its way");
    let mut slow = with(1, 5000);
    slow.at(1000).restart(&["w.1", "w.2", "w.3", "w.4"], false);
    slow.gone("w.1", 0).runs("w.1").at(2000).passed("w.1");
    assert_eq!(stops(&slow), ["w.1"]);
    assert_eq!(slow.core.next_deadline().map(|at| at.0.as_millis()), Some(7000));
    slow.at(6999).timer();
    assert_eq!(stops(&slow), ["w.1"]);
    slow.at(7000).timer();
    assert_eq!(stops(&slow), ["w.1", "w.2"]);
}

#[test]
fn scaling_starts_and_stops_copies_and_leaves_the_others_alone() {
    let mut stage = running(copies(2));
    scale(&mut stage, plan(copies(4)));
    let fetched = |stage: &Scenario| stage.count(|action| matches!(action, Action::Fetch(..)));
    assert_eq!((fetched(&stage), stops(&stage).len()), (4, 0));
    stage.runs("w.3").passed("w.3").runs("w.4").passed("w.4");
    assert_eq!(failures(&stage), []);
    stage.trace();
    assert_eq!(stage.core.changes(&plan(copies(1))).get(&id("w.3")), Some(&PlanChange::Stop(StopReason::ScaledDown)));
    scale(&mut stage, plan(copies(1)));
    assert_eq!(stage.reason("w.3"), "scaled down");
    let mut stopped = stops(&stage);
    stopped.sort();
    assert_eq!(stopped, ["w.2", "w.3", "w.4"]);
    stage.gone("w.4", 0).gone("w.2", 0).gone("w.3", 0);
    assert_eq!(states(&stage), [("w.1".into(), State::Running)]);
    assert_eq!(stage.generation("w.1"), 1, "it was never restarted");
    // A late event of a copy that is gone does not fit its next start.
    scale(&mut stage, plan(copies(2)));
    stage.feed(Event::Exited(id("w.2"), 1, devrun_model::keeper::ExitStatus::Code(1), None));
    assert_eq!(stage.state("w.2"), State::Fetching);
}

#[test]
fn scaling_changes_nothing_else() {
    let mut stage = running([copies(1), vec![service("z", ""), service("off", "")]].concat());
    stage.runs("z").runs("off").stop(&["off"]).gone("off", 0);
    let mut changed = service("z", "");
    changed.ports.insert("main".to_owned(), 9000);
    scale(&mut stage, plan([copies(2), vec![changed, service("off", ""), service("new", "")]].concat()));
    assert_eq!((stage.state("z"), stage.state("off"), stage.state("new")), (State::Running, State::Stopped, State::Stopped));
    // A service that was stopped by hand is only given another number.
    stage.stop(&["w.1", "w.2"]).fetched("w.2").gone("w.1", 0);
    scale(&mut stage, plan([copies(3), vec![service("z", ""), service("off", "")]].concat()));
    assert_eq!(stage.state("w.3"), State::Stopped);
}

/// The copies that were kept are those that the corrected definition wants: the start that brings it back has not failed.
#[test]
fn a_version_that_is_taken_back_is_whole_again() {
    let mut stage = running(copies(2));
    let broken = copies(2).into_iter().map(|spec| ServiceSpec { env: BTreeMap::from([("A".into(), "1".into())]), ..spec });
    stage.at(1000).up_plan(plan(broken.collect())).gone("w.1", 0).runs("w.1");
    stage.at(122_000).timer().gone("w.1", 143);
    assert_eq!(failures(&stage).len(), 2, "{:?}", failures(&stage));
    stage.at(123_000).up_plan(plan(copies(2))).runs("w.1").passed("w.1");
    assert_eq!(states(&stage), [("w.1".into(), State::Running), ("w.2".into(), State::Running)]);
    assert_eq!(failures(&stage), []);
}

#[test]
fn copies_that_are_restarted_while_they_are_spawned_do_not_wait_for_each_other() {
    let mut stage = Scenario::new(copies(2));
    stage.up();
    for name in ["w.1", "w.2"] {
        stage.fetched(name).init_done(name);
    }
    stage.restart(&["w.1", "w.2"], false).spawned("w.1").spawned("w.2");
    assert_eq!(stops(&stage), ["w.1"]);
    stage.gone("w.1", 0).runs("w.1").passed("w.1");
    assert_eq!(stops(&stage), ["w.1", "w.2"]);
    stage.gone("w.2", 0).runs("w.2").passed("w.2");
    assert_eq!(states(&stage), [("w.1".to_owned(), State::Running), ("w.2".to_owned(), State::Running)]);
    assert_eq!(failures(&stage), []);
}
