//! Restarts that start the next process before the present one is stopped.

use std::time::Duration;

use super::scenario::{Scenario, id, on_failure, probed, service};
use crate::{Action, Event};
use devrun_model::keeper::ExitStatus;
use devrun_model::{Command, FailureKind, ServiceSpec, State, UpdateOrder};

fn start_first(mut spec: ServiceSpec) -> ServiceSpec {
    spec.update.order = UpdateOrder::StartFirst;
    spec
}

/// `api`, which runs in its first generation, and `web`, which depends on it.
fn running() -> Scenario {
    let mut stage = Scenario::new(vec![start_first(probed("api", "")), service("web", "api")]);
    stage.up().runs("api").passed("api").runs("web").timer();
    assert_eq!(failures(&stage), []);
    stage
}

/// `stop api#1`.
fn stops(stage: &Scenario) -> Vec<String> {
    let text = |action: &Action| match action {
        Action::StopTree(id, g) => Some(format!("stop {id}#{g}")),
        Action::KillTree(id, g) => Some(format!("kill {id}#{g}")),
        _ => None,
    };
    stage.actions().iter().filter_map(text).collect()
}

fn failures(stage: &Scenario) -> Vec<(String, FailureKind, String)> {
    let last = stage.actions().iter().rev().find_map(|action| match action {
        Action::StartFinished(outcome) => Some(outcome.failures.clone()),
        _ => None,
    });
    last.unwrap_or_default().into_iter().map(|(id, failure)| (id.to_string(), failure.kind, failure.reason)).collect()
}

fn previous_ends(stage: &mut Scenario, generation: u64) {
    stage.feed(Event::Exited(id("api"), generation, ExitStatus::Code(0), None));
    stage.feed(Event::TreeEmpty(id("api"), generation));
}

fn settled(stage: &Scenario) -> usize {
    stage.count(|action| matches!(action, Action::StartFinished(_)))
}

#[test]
fn the_present_process_is_stopped_when_the_next_one_is_ready() {
    let mut stage = running();
    let before = settled(&stage);
    stage.at(1000).restart(&["api"], false).runs("api");
    assert_eq!((stage.state("api"), stops(&stage).len()), (State::Running, 0), "it serves while the next one starts");
    assert_eq!(stage.generation("api"), 2);
    assert_eq!((settled(&stage), stage.state("web")), (before, State::Running));
    stage.trace();
    stage.at(2000).passed("api");
    let trace = stage.trace();
    assert_eq!(stops(&stage), ["stop api#1"]);
    let shown = trace.find("api running → running").expect("the change of the process is published");
    assert!(shown < trace.find("stop api#1").expect("the stop"), "{trace}");
    assert_eq!((settled(&stage), failures(&stage)), (before + 1, vec![]));
    previous_ends(&mut stage, 1);
    assert_eq!(stage.state("api"), State::Running);
    // The same once more.
    stage.at(3000).restart(&["api"], false).runs("api").passed("api");
    assert_eq!(stops(&stage), ["stop api#1", "stop api#2"]);
}

#[test]
fn a_next_process_that_does_not_come_up_leaves_the_previous_one() {
    for case in ["crash", "crash with a policy", "never ready", "spawn fails"] {
        let api = start_first(probed("api", ""));
        let mut stage = Scenario::new(vec![if case == "crash with a policy" { on_failure(5, api) } else { api }]);
        stage.up().runs("api").passed("api");
        stage.at(1000).restart(&["api"], false);
        match case {
            "never ready" => {
                stage.runs("api").at(200_000).timer();
                stage.gone("api", 143);
            }
            "spawn fails" => {
                let failure = devrun_model::Failure::new(FailureKind::Binary, "cannot be executed");
                stage.fetched("api").init_done("api");
                stage.feed(Event::SpawnFailed(id("api"), 2, failure));
            }
            _ => _ = stage.runs("api").gone("api", 1),
        }
        let failed = failures(&stage);
        assert_eq!(failed.len(), 1, "{case}: {failed:?}");
        assert_eq!(failed[0].1, FailureKind::NotReady, "{case}");
        assert!(failed[0].2.starts_with("kept the previous version of api: "), "{case}: {failed:?}");
        assert_eq!((stage.state("api"), stage.generation("api")), (State::Running, 1), "{case}");
        assert!(!stops(&stage).contains(&"stop api#1".to_owned()), "{case}: {:?}", stops(&stage));
        // It is judged as before, and the next restart begins a generation that never was.
        stage.restart(&["api"], false);
        assert_eq!(stage.generation("api"), 3, "{case}");
        stage.runs("api").passed("api");
        assert_eq!(failures(&stage), [], "{case}");
        assert_eq!(stops(&stage).last().map(String::as_str), Some("stop api#1"), "{case}");
    }
}

#[test]
fn a_stop_of_everything_ends_both_processes() {
    for phase in ["fetching", "spawning", "starting"] {
        let mut stage = running();
        stage.at(1000).restart(&["api"], false);
        match phase {
            "fetching" => {}
            "spawning" => _ = stage.fetched("api").init_done("api"),
            _ => _ = stage.runs("api"),
        }
        stage.down();
        if phase == "fetching" {
            stage.feed(Event::FetchFailed(id("api"), 2, devrun_model::Failure::cancelled()));
        }
        assert!(!stops(&stage).contains(&"stop api#1".to_owned()), "{phase}: its dependent runs: {:?}", stops(&stage));
        stage.gone("web", 0);
        if phase == "spawning" {
            stage.feed(Event::Spawned(id("api"), 2, Some(7)));
        }
        if phase != "fetching" {
            stage.feed(Event::Exited(id("api"), 2, ExitStatus::Code(0), None));
            stage.feed(Event::TreeEmpty(id("api"), 2));
        }
        assert_eq!(stops(&stage).last().map(String::as_str), Some("stop api#1"), "{phase}");
        assert!(!stage.core.is_finished(), "{phase}");
        previous_ends(&mut stage, 1);
        assert!(stage.core.is_finished(), "{phase}: {}", stage.trace());
    }
}

#[test]
fn a_kill_of_everything_kills_both_at_once_and_waits_for_both() {
    let mut stage = running();
    stage.at(1000).restart(&["api"], false).runs("api");
    stage.feed(Event::Command(Command::KillAll));
    let mut killed = stops(&stage);
    killed.sort();
    assert_eq!(killed, ["kill api#1", "kill api#2", "kill web#1"]);
    stage.gone("web", 137);
    stage.feed(Event::Exited(id("api"), 2, ExitStatus::Code(137), None)).feed(Event::TreeEmpty(id("api"), 2));
    assert!(!stage.core.is_finished());
    previous_ends(&mut stage, 1);
    assert!(stage.core.is_finished());
}

#[test]
fn a_previous_process_that_ends_by_itself_leaves_the_start_to_the_next_one() {
    let mut stage = running();
    stage.at(1000).restart(&["api"], false).runs("api");
    previous_ends(&mut stage, 1);
    assert_eq!(stage.state("api"), State::Starting);
    stage.gone("api", 1);
    assert_eq!(failures(&stage)[0].1, FailureKind::Service);
    assert_eq!(stage.state("api"), State::Failed);
}

#[test]
fn one_that_ignores_the_signal_is_killed_after_its_grace_and_holds_up_the_next_restart() {
    let mut stage = running();
    stage.at(1000).restart(&["api"], false).runs("api").passed("api");
    stage.at(1500).restart(&["api"], false);
    assert_eq!(stage.generation("api"), 2, "there are two processes already");
    stage.at(11_000).timer();
    assert_eq!(stops(&stage), ["stop api#1", "kill api#1"]);
    stage.feed(Event::TreeEmpty(id("api"), 1));
    assert_eq!(stage.generation("api"), 3);
}

/// Without a probe it must live for a moment.
#[test]
fn a_process_without_a_probe_must_live_for_a_moment() {
    let mut stage = Scenario::new(vec![start_first(service("api", ""))]);
    stage.core = stage.core.clone().with_proof_of_life(Duration::from_millis(100));
    stage.up().runs("api").at(1000).timer();
    stage.restart(&["api"], false).runs("api");
    assert_eq!(stops(&stage).len(), 0);
    assert_eq!(stage.core.next_deadline().map(|at| at.0.as_millis()), Some(1100));
    stage.at(1100).timer();
    assert_eq!(stops(&stage), ["stop api#1"]);
}

/// What restarts with something that it needs, or on another port, cannot overlap with itself.
#[test]
fn it_is_stopped_first_where_two_cannot_run() {
    let mut together = Scenario::new(vec![probed("db", ""), start_first(probed("api", "db"))]);
    together.up().runs("db").passed("db").runs("api").passed("api");
    together.at(1000).restart(&["db", "api"], false);
    assert_eq!(stops(&together), ["stop api#1"]);
    let mut moved = start_first(probed("api", ""));
    let mut stage = Scenario::new(vec![moved.clone()]);
    stage.up().runs("api").passed("api");
    moved.ports.insert("main".to_owned(), 9000);
    stage.at(1000).up_plan(super::scenario::plan(vec![moved]));
    assert_eq!(stops(&stage), ["stop api#1"]);
}

#[test]
fn a_replaced_process_that_cannot_be_killed_is_named_at_the_end_whatever_was_started_since() {
    for is_gone in [false, true] {
        let mut stage = running();
        stage.at(1000).restart(&["api"], false).runs("api").passed("api");
        stage.feed(Event::Survived(id("api"), 1, vec![(4711, "api".to_owned())]));
        stage.at(2000).restart(&["api"], false).runs("api").passed("api");
        assert_eq!((stage.state("api"), stage.generation("api")), (State::Running, 3));
        assert_eq!(failures(&stage), [], "the start itself went well");
        previous_ends(&mut stage, 2);
        if is_gone {
            stage.feed(Event::TreeEmpty(id("api"), 1));
        }
        stage.at(3000).down();
        stage.gone("web", 0).gone("api", 0);
        let Some(Action::Shutdown(outcome)) = stage.actions().last() else { panic!("no end") };
        let named: Vec<_> = outcome.failures.iter().map(|(id, failure)| (id.to_string(), failure.kind)).collect();
        let wanted = if is_gone { vec![] } else { vec![("api".to_owned(), FailureKind::Survivors)] };
        assert_eq!(named, wanted);
    }
}

#[test]
fn a_next_process_that_cannot_be_killed_is_named_at_the_end_although_the_previous_one_serves() {
    for is_gone in [false, true] {
        let mut stage = Scenario::new(vec![start_first(probed("api", ""))]);
        stage.up().runs("api").passed("api");
        stage.at(1000).restart(&["api"], false).runs("api").at(200_000).timer();
        stage.feed(Event::Survived(id("api"), 2, vec![(4711, "api".to_owned())]));
        assert_eq!((stage.state("api"), stage.generation("api")), (State::Running, 1));
        if is_gone {
            stage.feed(Event::TreeEmpty(id("api"), 2));
        }
        stage.at(300_000).down();
        stage.gone("api", 0);
        let Some(Action::Shutdown(outcome)) = stage.actions().last() else { panic!("no end") };
        let survivors: Vec<_> = outcome
            .failures
            .iter()
            .filter(|(_, failure)| failure.kind == FailureKind::Survivors)
            .map(|(_, failure)| failure)
            .collect();
        assert_eq!(survivors.len(), usize::from(!is_gone), "{survivors:?}");
        assert!(survivors.iter().all(|failure| failure.reason.contains("4711 api")), "{survivors:?}");
    }
}
