//! Every phase × every event: no panic, and what each combination leads to. The snapshot is the document: an event that a
//! phase does not list is dropped in it.

use insta::assert_snapshot;

use super::scenario::{Scenario, action_text, fail, id, on_demand, probed, service, task};
use crate::{Action, Event};
use devrun_model::keeper::ExitStatus;
use devrun_model::{Command, FailureKind, RestartPolicy, ServiceSpec, Signal, StopPurpose, UpOptions};

/// `a` is under test; `z` runs, so that the run does not end by itself; `dep` is what `a` may wait for.
fn stage() -> Scenario {
    let a = ServiceSpec { restart: RestartPolicy::OnFailure { max: Some(3) }, alive: None, ..probed("a", "dep:started") };
    let mut stage = Scenario::new(vec![a, service("dep", ""), service("z", ""), task("t", "")]);
    stage.at(0).up().runs("z").runs("t").gone("t", 0);
    stage
}

/// The same, where `a` starts on demand; what it depends on runs.
fn sleeper() -> Scenario {
    let mut stage = Scenario::new(vec![on_demand("a", "dep:started"), service("dep", ""), service("z", "")]);
    stage.at(0).up().runs("z").runs("dep");
    stage
}

type Build = fn() -> Scenario;

const PHASES: &[(&str, Build)] = &[
    ("stopped", || {
        let a = service("a", "");
        let mut stage = Scenario::new(vec![a, service("z", "")]);
        stage.at(0).up_with(&["z"], UpOptions::default()).runs("z");
        stage
    }),
    ("waiting", || {
        let mut stage = stage();
        stage.fetched("a");
        stage
    }),
    ("fetching", || {
        let mut stage = stage();
        stage.runs("dep");
        stage
    }),
    ("initialising", || {
        let mut stage = stage();
        stage.runs("dep").fetched("a");
        stage
    }),
    ("spawning", || {
        let mut stage = stage();
        stage.runs("dep").fetched("a").init_done("a");
        stage
    }),
    ("starting", || {
        let mut stage = stage();
        stage.runs("dep").runs("a");
        stage
    }),
    ("running", || {
        let mut stage = stage();
        stage.runs("dep").runs("a").passed("a");
        stage
    }),
    ("asleep", || {
        let mut stage = sleeper();
        stage.fetched("a");
        stage
    }),
    ("woken", || {
        let mut stage = sleeper();
        stage.fetched("a").demanded("a");
        stage
    }),
    ("running on demand", || {
        let mut stage = sleeper();
        stage.fetched("a").demanded("a").init_done("a").spawned("a").passed("a");
        stage
    }),
    ("backing-off", || {
        let mut stage = stage();
        stage.runs("dep").runs("a").gone("a", 1);
        stage
    }),
    ("stopping", || {
        let mut stage = stage();
        stage.runs("dep").runs("a").stop(&["a"]);
        stage
    }),
    ("stopping, not born", || {
        let mut stage = stage();
        stage.runs("dep").fetched("a").init_done("a").stop(&["a"]);
        stage
    }),
    ("stopping, cancelled", || {
        let mut stage = stage();
        stage.runs("dep").stop(&["a"]);
        stage
    }),
    ("stopped by hand", || {
        let mut stage = stage();
        stage.runs("dep").runs("a").stop(&["a"]).gone("a", 0);
        stage
    }),
    ("completed", || {
        let mut stage = stage();
        stage.runs("dep").runs("a").gone("a", 0);
        stage
    }),
    ("failed", || {
        let mut stage = stage();
        stage.runs("dep").fetched("a").init_done("a");
        stage.feed(Event::SpawnFailed(id("a"), 1, fail(FailureKind::PortTaken, "taken")));
        stage
    }),
    ("failed, survivors", || {
        let mut stage = stage();
        stage.runs("dep").runs("a").stop(&["a"]).feed(Event::Survived(id("a"), 1, Vec::new()));
        stage
    }),
    ("blocked", || {
        let mut stage = stage();
        stage.fetched("a").fetched("dep").feed(Event::InitFailed(id("dep"), 1, fail(FailureKind::Task, "exit 1")));
        stage
    }),
    ("down, waiting for its turn", || {
        let mut stage = Scenario::new(vec![service("a", ""), service("z", "a:started")]);
        stage.at(0).up().runs("a").runs("z").down();
        stage
    }),
    ("finished", || {
        let mut stage = Scenario::new(vec![service("a", "")]);
        stage.at(0).down();
        stage
    }),
];

fn events(generation: u64) -> Vec<(&'static str, Event)> {
    let a = || id("a");
    let broken = || fail(FailureKind::Service, "broken");
    let g = generation;
    let targets = || vec![a()];
    vec![
        ("timer", Event::Timer),
        ("fetched", Event::Fetched(a(), g)),
        ("fetch failed", Event::FetchFailed(a(), g, fail(FailureKind::Binary, "not installed"))),
        ("init done", Event::InitDone(a(), g)),
        ("already done", Event::AlreadyDone(a(), g, "then".to_owned())),
        ("init failed", Event::InitFailed(a(), g, broken())),
        ("spawned", Event::Spawned(a(), g, Some(1))),
        ("spawn failed", Event::SpawnFailed(a(), g, broken())),
        ("exited 0", Event::Exited(a(), g, ExitStatus::Code(0), None)),
        ("exited 1", Event::Exited(a(), g, ExitStatus::Code(1), None)),
        ("tree empty", Event::TreeEmpty(a(), g)),
        ("survived", Event::Survived(a(), g, vec![(7, "a".to_owned())])),
        ("probe passed", Event::ProbePassed(a(), g, None)),
        ("probe failed", Event::ProbeFailed(a(), g, "no".to_owned(), None)),
        ("probe refused", Event::ProbeFailed(a(), g, "no".to_owned(), Some(fail(FailureKind::Credentials, "refused")))),
        ("alive passed", Event::LivenessPassed(a(), g)),
        ("alive failed", Event::LivenessFailed(a(), g, "no".to_owned())),
        ("demanded", Event::Demanded(a(), g)),
        ("listen failed", Event::ListenFailed(a(), g, fail(FailureKind::PortTaken, "taken"))),
        ("in use", Event::LastUse(a(), g, Some(std::time::Duration::ZERO))),
        ("not in use", Event::LastUse(a(), g, Some(std::time::Duration::from_secs(120)))),
        ("file changed", Event::FileChanged(a(), "x".to_owned())),
        ("up", Event::Command(Command::Up { plan: None, targets: targets(), options: UpOptions::default() })),
        ("start", Event::Command(Command::Start { plan: None, targets: targets() })),
        ("stop", Event::Command(Command::Stop { targets: targets(), purpose: StopPurpose::Manual })),
        ("restart", Event::Command(Command::Restart { plan: None, targets: targets(), with_dependents: false, grace_ms: None })),
        ("kill", Event::Command(Command::Kill { targets: targets(), signal: Signal::TERM })),
        ("down", Event::Command(Command::Down { grace_ms: None })),
        ("kill all", Event::Command(Command::KillAll)),
        ("interrupted", Event::Interrupted),
    ]
}

/// What an event did to `a`, or nothing.
fn effect(build: Build, make: impl Fn(u64) -> Event) -> String {
    let mut stage = build();
    let before = stage.core.service_views().into_iter().find(|view| view.id == id("a"));
    let seen = stage.actions().len();
    let generation = stage.generation("a");
    stage.at(1).feed(make(generation));
    let actions: Vec<String> = stage.actions()[seen..]
        .iter()
        .filter(|action| match action {
            Action::Notify(_) => false,
            Action::Fetch(who, _)
            | Action::RunInit(who, _)
            | Action::Cancel(who, _)
            | Action::Spawn(who, _)
            | Action::AwaitDemand(who, _)
            | Action::CheckUse(who, _)
            | Action::StartProbes(who, _)
            | Action::SetProbePace(who, ..)
            | Action::UpdateSpec(who, _)
            | Action::RestorePrevious(who, _)
            | Action::StopProbes(who, _)
            | Action::StopTree(who, _)
            | Action::SignalTree(who, ..)
            | Action::KillTree(who, _)
            | Action::SignalLeader(who, ..)
            | Action::PersistManualStop { id: who, .. }
            | Action::Message(who, _) => *who == id("a"),
            Action::StartFinished(_) | Action::Shutdown(_) => true,
        })
        .map(action_text)
        .collect();
    let after = stage.core.service_views().into_iter().find(|view| view.id == id("a"));
    let show = |view: &Option<crate::ServiceView>| view.as_ref().map(|view| (view.state, view.health));
    let moved = match (show(&before), show(&after)) {
        (old, new) if old == new => String::new(),
        (_, Some((state, health))) => format!(" → {state} ({health})"),
        (_, None) => " → not there".to_owned(),
    };
    let actions = if actions.is_empty() { String::new() } else { format!(" [{}]", actions.join(", ")) };
    format!("{moved}{actions}")
}

#[test]
fn every_phase_meets_every_event() {
    let mut table = String::new();
    for (phase, build) in PHASES {
        table.push_str(&format!("{phase}\n"));
        for (at, (name, _)) in events(0).into_iter().enumerate() {
            let effect = effect(*build, |generation| events(generation).swap_remove(at).1);
            if !effect.is_empty() {
                table.push_str(&format!("  {name}:{effect}\n"));
            }
        }
    }
    assert_snapshot!("every_phase_meets_every_event", table);
}

#[test]
fn old_generations_and_strangers_are_dropped_everywhere() {
    for (phase, build) in PHASES {
        for generation in [0, 99] {
            for (name, event) in events(generation) {
                if matches!(event, Event::Command(_) | Event::Interrupted | Event::Timer | Event::FileChanged(..)) {
                    continue;
                }
                let mut stage = build();
                if stage.generation("a") == generation {
                    continue;
                }
                let (before, seen) = (stage.core.service_views(), stage.actions().len());
                stage.at(1).feed(event);
                assert_eq!(stage.core.service_views(), before, "{phase}: {name} of generation {generation}");
                assert_eq!(stage.actions().len(), seen, "{phase}: {name} of generation {generation}");
            }
        }
        let mut stage = build();
        let seen = stage.actions().len();
        stage.feed(Event::Fetched(id("nobody"), 1)).feed(Event::TreeEmpty(id("nobody"), 1));
        stage.feed(Event::FileChanged(id("nobody"), "x".to_owned())).stop(&["nobody"]);
        assert_eq!(stage.actions().len(), seen, "{phase}");
    }
}

#[test]
fn any_two_events_in_any_phase_end_well() {
    std::thread::scope(|threads| {
        for (_, build) in PHASES {
            threads.spawn(|| any_two_events_end_well(&build()));
        }
    });
}

fn any_two_events_end_well(phase: &Scenario) {
    for (first, event) in events(phase.generation("a")) {
        let mut after = phase.clone();
        after.at(1).feed(event);
        for (second, event) in events(after.generation("a")) {
            let mut stage = after.clone();
            // Whatever happened, a kill and silence end it.
            stage.at(2).feed(event).at(3).feed(Event::Command(Command::KillAll));
            for _ in 0..20 {
                let Some(due) = stage.core.next_deadline() else { break };
                stage.at(u64::try_from(due.0.as_millis()).unwrap()).timer();
            }
            assert!(stage.core.is_finished(), "{first}, {second}: {:?}", stage.core.service_views());
        }
    }
}
