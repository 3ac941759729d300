//! How a stack comes up: edges, conditions, tiers, tasks, blocking, health.

use std::time::Duration;

use insta::assert_snapshot;

use super::scenario::{Scenario, fail, id, on_demand, plan, probed, service, task};
use crate::{Action, Event, PlanChange, StopReason, Tick, file_may_be_written};
use devrun_model::{FailureKind, Launch, ReadySpec, ServiceId, ServiceSpec, State, UpOptions};

#[test]
fn a_dependent_starts_the_instant_its_last_dependency_holds() {
    let mut stage = Scenario::new(vec![probed("db", ""), service("api", "db")]);
    stage.at(0).up();
    stage.at(5).fetched("api");
    stage.at(10).fetched("db").init_done("db");
    stage.at(20).spawned("db");
    stage.at(30).probe_failed("db", "connection refused");
    stage.at(40).passed("db");
    stage.at(50).init_done("api").spawned("api");
    assert_snapshot!(stage.trace(), @"
    > 0 up
      fetch api#1
      fetch db#1
      api stopped → waiting: waiting for db (healthy)
      db stopped → fetching
    > 5 fetched api#1
    > 10 fetched db#1
      init db#1
      db fetching → initialising
    > 10 init done db#1
      spawn db#1
    > 20 spawned db#1
      probe db#1
      db initialising → starting (starting)
    > 30 probe failed db#1: connection refused
    > 40 passed db#1
      init api#1
      db starting → running (healthy)
      api waiting → initialising
    > 50 init done api#1
      spawn api#1
    > 50 spawned api#1
      api initialising → running
      settled ok
    ");
}

#[test]
fn each_edge_acts_alone_and_binaries_are_fetched_meanwhile() {
    let mut stage =
        Scenario::new(vec![probed("slow", ""), probed("quick", ""), service("a", "quick"), service("b", "slow quick")]);
    stage.up();
    assert_eq!(stage.count(|action| matches!(action, Action::Fetch(..))), 4);
    for name in ["slow", "quick", "a", "b"] {
        stage.fetched(name);
    }
    for name in ["slow", "quick"] {
        stage.init_done(name).spawned(name);
    }
    stage.passed("quick");
    assert_eq!((stage.state("a"), stage.state("b")), (State::Initialising, State::Waiting));
    assert_eq!(stage.reason("b"), "waiting for slow (healthy)");
    stage.passed("slow");
    assert_eq!(stage.state("b"), State::Initialising);
}

#[test]
fn numbered_tiers_wait_for_lower_ones_and_others_do_not() {
    let tier = |n, spec: ServiceSpec| ServiceSpec { tier: Some(n), ..spec };
    let mut plan = plan(vec![tier(1, probed("db", "")), tier(2, service("api", "")), service("free", "")]);
    plan.tier_pause = Duration::from_secs(10);
    let mut stage = Scenario::of(plan, &[]);
    stage.at(0).up().fetched("db").fetched("api").fetched("free");
    assert_eq!((stage.state("api"), stage.state("free")), (State::Waiting, State::Initialising));
    stage.init_done("db").at(100).spawned("db").at(1000).passed("db");
    assert_eq!(stage.state("api"), State::Waiting);
    assert_eq!(stage.core.next_deadline(), Some(Tick::ms(11_000)));
    stage.at(11_000).timer();
    assert_eq!(stage.state("api"), State::Initialising);
}

#[test]
fn a_command_may_be_installed_by_what_its_start_waits_for() {
    let tier = |n, spec: ServiceSpec| ServiceSpec { tier: Some(n), ..spec };
    let command = || match service("make", "").launch {
        Launch::Run(command) => Some(command),
        _ => None,
    };
    let built = |spec: ServiceSpec| ServiceSpec { build: command(), ..spec };
    let prepared = |spec: ServiceSpec| ServiceSpec { pre_start: command(), ..spec };
    let mut stage = Scenario::new(vec![
        task("install", ""),
        service("db", ""),
        service("after", "install"),
        service("chain", "after"),
        service("plain", "db"),
        built(service("own", "")),
        service("of-own", "own"),
        prepared(service("prepared", "")),
        tier(1, built(service("low", ""))),
        tier(2, service("high", "")),
    ]);
    stage.up();
    let may = |name: &str, word: &str, to_build: &[&str]| {
        stage.core.command_may_be_installed(&id(name), word, &to_build.iter().map(|name| id(name)).collect())
    };
    for name in ["after", "chain", "prepared"] {
        assert!(may(name, "tool", &[]), "{name}");
    }
    for name in ["install", "db", "plain", "own", "of-own", "high"] {
        assert!(!may(name, "tool", &[]), "{name}");
    }
    // A build that this start does not run makes nothing.
    assert!(may("own", "tool", &["own"]) && may("of-own", "tool", &["own"]) && may("high", "tool", &["low"]));
    assert!(!may("plain", "tool", &["own"]));
    // A compiler that watches may write a file of the project.
    assert!(may("plain", "./dist/server", &[]) && may("high", "dist/server", &[]) && !may("db", "./dist/server", &[]));
}

#[test]
fn a_file_may_be_written_by_what_its_start_waits_for() {
    let tier = |n, spec: ServiceSpec| ServiceSpec { tier: Some(n), ..spec };
    let command = || match service("make", "").launch {
        Launch::Run(command) => Some(command),
        _ => None,
    };
    let server = |spec: ServiceSpec| ServiceSpec { launch: Launch::External { url: "tcp://127.0.0.1:1".to_owned() }, ..spec };
    let specs = [
        task("fetch", ""),
        server(service("db", "")),
        server(service("after", "fetch")),
        server(service("chain", "after")),
        server(service("plain", "db")),
        ServiceSpec { pre_start: command(), ..server(service("prepared", "")) },
        server(service("of-prepared", "prepared")),
        ServiceSpec { build: command(), ..server(service("built", "")) },
        tier(1, service("low", "")),
        tier(2, server(service("high", ""))),
    ];
    let spec_of = |wanted: &ServiceId| specs.iter().find(|spec| spec.id == *wanted);
    let may = |name: &str, to_build: &[&str]| {
        let (id, to_build) = (id(name), to_build.iter().map(|name| id(name)).collect());
        let own = spec_of(&id).expect("it is there");
        file_may_be_written(&own.id, &to_build, spec_of, || specs.iter().map(|spec| (&spec.id, spec)))
    };
    for name in ["after", "chain", "of-prepared", "high"] {
        assert!(may(name, &[]), "{name}");
    }
    for name in ["fetch", "db", "plain", "prepared", "built"] {
        assert!(!may(name, &[]), "{name}");
    }
    assert!(may("built", &["built"]) && !may("plain", &["built"]));
}

#[test]
fn a_broken_dependency_blocks_at_once_and_names_the_root() {
    let mut stage =
        Scenario::new(vec![probed("redis", ""), service("api", "redis"), service("web", "api:started"), service("cron", "")]);
    stage.at(0).up().runs("redis").runs("cron").fetched("api").fetched("web");
    stage.trace();
    stage.at(50).feed(Event::ProbeFailed(
        id("redis"),
        1,
        "NOAUTH".to_owned(),
        Some(fail(FailureKind::Credentials, "NOAUTH Authentication required")),
    ));
    stage.at(60).gone("redis", 0);
    assert_snapshot!(stage.trace(), @"
    > 50 probe failed redis#1: NOAUTH
      unprobe redis#1
      stop redis#1
      redis starting → stopping (starting): NOAUTH Authentication required
      api waiting → blocked: redis failed: NOAUTH Authentication required
      web waiting → blocked: redis failed: NOAUTH Authentication required
    > 60 exited redis#1: exit 0
    > 60 tree empty redis#1
      redis stopping → failed [0]: NOAUTH Authentication required
      settled redis: Credentials: NOAUTH Authentication required; api blocked by redis; web blocked by redis
    ");
    assert_eq!(stage.state("cron"), State::Running);
}

#[test]
fn blocked_services_come_back_when_the_root_is_started_again() {
    let mut stage =
        Scenario::new(vec![service("db", ""), service("api", "db:started"), service("web", "api:started"), service("z", "")]);
    stage.up().runs("z").fetched("api").fetched("web").fetched("db").init_done("db");
    stage.feed(Event::SpawnFailed(id("db"), 1, fail(FailureKind::PortTaken, "5432 is held by postgres (4711)")));
    assert_eq!(stage.reason("web"), "db failed: 5432 is held by postgres (4711)");
    stage.start(&["db"]);
    assert_eq!((stage.state("api"), stage.state("web")), (State::Waiting, State::Waiting));
    stage.runs("db").init_done("api").spawned("api").init_done("web").spawned("web");
    assert_eq!(stage.state("web"), State::Running);
}

#[test]
fn optional_services_hold_nobody_up() {
    let optional = |spec: ServiceSpec| ServiceSpec { optional: true, ..spec };
    let mut stage = Scenario::new(vec![optional(probed("ollama", "")), service("api", "ollama"), service("web", "ghost?")]);
    stage.at(0).up().fetched("api").fetched("web");
    stage.at(1).feed(Event::FetchFailed(id("ollama"), 1, fail(FailureKind::Binary, "ollama is not installed")));
    stage.init_done("api").spawned("api").init_done("web").spawned("web");
    assert_eq!(stage.state("ollama"), State::Skipped);
    assert_snapshot!(stage.trace(), @"
    > 0 up
      fetch api#1
      fetch ollama#1
      fetch web#1
      api stopped → waiting: waiting for ollama (healthy)
      ollama stopped → fetching
      web stopped → fetching
    > 0 fetched api#1
    > 0 fetched web#1
      init web#1
      web fetching → initialising
    > 1 fetch failed ollama#1: ollama is not installed
      init api#1
      ollama fetching → skipped: ollama is not installed
      api waiting → initialising
    > 1 init done api#1
      spawn api#1
    > 1 spawned api#1
      api initialising → running
    > 1 init done web#1
      spawn web#1
    > 1 spawned web#1
      web initialising → running
      settled ok
    ");
}

/// Work for a server that is optional and not there is left out with the reason; whatever else depends on it goes on.
#[test]
fn work_for_an_absent_optional_server_is_left_out() {
    let optional = |spec: ServiceSpec| ServiceSpec { optional: true, ..spec };
    let on = |server: &str, mut spec: ServiceSpec| {
        if let Some(task) = &mut spec.task {
            task.on = Some(id(server));
        }
        spec
    };
    // The dependent, and what becomes of it when `qdrant` is not to be had.
    for (name, spec, expected) in [
        ("a service", service("x", "qdrant"), State::Initialising),
        ("an optional service", optional(service("x", "qdrant")), State::Initialising),
        ("a task with a command", task("x", "qdrant"), State::Initialising),
        ("a task that works on another server", on("other", task("x", "qdrant other:started")), State::Initialising),
        ("a task that works on it", on("qdrant", task("x", "qdrant")), State::Skipped),
        ("an optional task", optional(task("x", "qdrant")), State::Skipped),
        ("an optional task whose edge is not required", optional(task("x", "qdrant?")), State::Initialising),
        ("a task that waits for something else too", on("qdrant", task("x", "qdrant slow")), State::Skipped),
        ("a service behind such a task", service("x", "setup:completed"), State::Initialising),
        ("an optional task behind such a task", optional(task("x", "setup:completed")), State::Skipped),
    ] {
        let mut stage = Scenario::new(vec![
            optional(probed("qdrant", "")),
            probed("slow", ""),
            service("other", ""),
            on("qdrant", task("setup", "qdrant")),
            spec,
        ]);
        stage.at(0).up().fetched("setup").fetched("x").runs("other");
        stage.at(1).feed(Event::FetchFailed(id("qdrant"), 1, fail(FailureKind::Binary, "no source")));
        assert_eq!(stage.state("x"), expected, "{name}");
        if expected == State::Skipped {
            let root = if name.ends_with("behind such a task") { "setup is left out: " } else { "" };
            assert_eq!(stage.reason("x"), format!("{root}qdrant is left out: no source"), "{name}");
        }
    }
}

#[test]
fn left_out_work_counts_as_no_failure_and_is_done_once_its_server_is_there() {
    let optional = |spec: ServiceSpec| ServiceSpec { optional: true, ..spec };
    let mut setup = task("setup", "qdrant");
    if let Some(task) = &mut setup.task {
        task.on = Some(id("qdrant"));
    }
    let tier = |n, spec: ServiceSpec| ServiceSpec { tier: Some(n), ..spec };
    let mut stage =
        Scenario::new(vec![optional(probed("qdrant", "")), tier(1, setup), tier(2, service("api", "setup:completed"))]);
    stage.at(0).up().fetched("api");
    // The server is absent before the task's own fetch is answered.
    stage.at(1).feed(Event::FetchFailed(id("qdrant"), 1, fail(FailureKind::Binary, "no source")));
    stage.at(2).fetched("setup").init_done("api").spawned("api");
    assert_snapshot!(stage.trace(), @"
    > 0 up
      fetch api#1
      fetch qdrant#1
      fetch setup#1
      api stopped → waiting: waiting for setup (completed)
      qdrant stopped → fetching
      setup stopped → waiting: waiting for qdrant (healthy)
    > 0 fetched api#1
    > 1 fetch failed qdrant#1: no source
      qdrant fetching → skipped: no source
    > 2 fetched setup#1
      init api#1
      setup waiting → skipped: qdrant is left out: no source
      api waiting → initialising
    > 2 init done api#1
      spawn api#1
    > 2 spawned api#1
      api initialising → running
      settled ok
    ");
    // Somebody installed it.
    stage.at(10).up().runs("qdrant").passed("qdrant").fetched("setup").init_done("setup").spawned("setup").gone("setup", 0);
    assert_eq!(
        (stage.state("qdrant"), stage.state("setup"), stage.state("api")),
        (State::Running, State::Completed, State::Running)
    );
    // One that is there and fails is no different.
    let mut stage = Scenario::new(vec![optional(probed("qdrant", "")), optional(task("setup", "qdrant")), service("api", "")]);
    stage.at(0).up().runs("api").fetched("setup").runs("qdrant").gone("qdrant", 1);
    assert_eq!(stage.state("setup"), State::Skipped);
    assert_eq!(stage.reason("setup"), "qdrant failed: exit 1");
}

#[test]
fn a_task_done_before_satisfies_completed_without_running() {
    let mut stage = Scenario::new(vec![task("seed", ""), service("api", "seed:completed")]);
    stage.up().fetched("seed").fetched("api");
    stage.feed(Event::AlreadyDone(id("seed"), 1, "done 2026-01-01".to_owned()));
    assert_eq!((stage.state("seed"), stage.state("api")), (State::Completed, State::Initialising));
    assert_eq!(stage.count(|action| matches!(action, Action::Spawn(..))), 0);
}

#[test]
fn a_task_holds_its_dependents_until_its_tree_is_empty_and_is_not_run_again_by_up() {
    let mut stage = Scenario::new(vec![task("seed", ""), service("api", "seed:completed")]);
    stage.up().runs("seed").fetched("api").exited("seed", 0);
    assert_eq!(stage.state("api"), State::Waiting);
    stage.empty("seed");
    assert_eq!(stage.state("api"), State::Initialising);
    stage.up();
    assert_eq!(stage.state("seed"), State::Completed);
    stage.start(&["seed"]);
    assert_eq!((stage.state("seed"), stage.generation("seed")), (State::Fetching, 2));
}

#[test]
fn a_task_that_takes_too_long_fails() {
    let mut stage = Scenario::new(vec![task("seed", ""), service("api", "seed:completed")]);
    stage.at(0).up().runs("seed").fetched("api");
    stage.trace();
    assert_eq!(stage.core.next_deadline(), Some(Tick::ms(300_000)));
    stage.at(300_000).timer();
    stage.at(300_100).gone("seed", 143);
    assert_snapshot!(stage.trace(), @"
    > 300000 timer
      stop seed#1
      seed running → stopping: no exit after 5m
      api waiting → blocked: seed failed: no exit after 5m
    > 300100 exited seed#1: exit 143
    > 300100 tree empty seed#1
      seed stopping → failed [143]: no exit after 5m
      settled seed: Task: no exit after 5m; api blocked by seed
      finish seed: Task: no exit after 5m; api blocked by seed
    ");
}

#[test]
fn a_service_that_is_never_ready_fails_with_the_last_answer() {
    let mut stage = Scenario::new(vec![probed("db", ""), service("api", "db")]);
    stage.at(0).up().runs("db").fetched("api");
    stage.at(119_000).probe_failed("db", "57P03 the database system is starting up");
    stage.trace();
    stage.at(120_000).timer();
    stage.at(120_050).gone("db", 0);
    assert_snapshot!(stage.trace(), @"
    > 120000 timer
      unprobe db#1
      stop db#1
      db starting → stopping (starting): not ready within 2m: 57P03 the database system is starting up
      api waiting → blocked: db failed: not ready within 2m: 57P03 the database system is starting up
    > 120050 exited db#1: exit 0
    > 120050 tree empty db#1
      db stopping → failed [0]: not ready within 2m: 57P03 the database system is starting up
      settled db: NotReady: not ready within 2m: 57P03 the database system is starting up; api blocked by db
      finish db: NotReady: not ready within 2m: 57P03 the database system is starting up; api blocked by db
    ");
}

#[test]
fn unhealthy_is_not_dead() {
    let ready = ReadySpec { interval: Duration::from_secs(1), retries: 2, ..ReadySpec::new(Vec::new()) };
    let mut stage = Scenario::new(vec![ServiceSpec { ready: Some(ready), ..service("api", "") }]);
    stage.at(0).up().runs("api").passed("api");
    stage.trace();
    stage.at(1000).probe_failed("api", "503").at(2000).probe_failed("api", "503").at(3000).passed("api");
    assert_snapshot!(stage.trace(), @"
    > 1000 probe failed api#1: 503
    > 2000 probe failed api#1: 503
      api running → running (unhealthy): 503
    > 3000 passed api#1
      api running → running (healthy)
    ");
}

#[test]
fn what_is_waited_for_is_probed_often_while_it_is_unhealthy() {
    let ready = ReadySpec { interval: Duration::from_secs(30), retries: 1, ..ReadySpec::new(Vec::new()) };
    let db = ServiceSpec { ready: Some(ready), ..service("db", "") };
    let mut stage = Scenario::new(vec![db, service("api", "db"), service("ui", "db:started")]);
    stage.at(0).up().runs("db").fetched("api").runs("ui").passed("db").init_done("api").spawned("api");
    stage.trace();
    // Nothing waits for it: what needs it runs.
    stage.at(30_000).probe_failed("db", "503").restart(&["ui"], false).gone("ui", 0).runs("ui");
    assert_eq!(stage.count(|action| matches!(action, Action::SetProbePace(..))), 0);
    let paces = |stage: &mut Scenario| {
        let trace = stage.trace();
        trace.lines().map(str::trim).filter(|line| line.starts_with("probe db#1 ")).map(str::to_owned).collect::<Vec<_>>()
    };
    stage.restart(&["api"], false).gone("api", 0).fetched("api");
    assert_eq!(stage.state("api"), State::Waiting);
    assert_eq!(paces(&mut stage), ["probe db#1 often"]);
    // Who waits gives up, and comes once more.
    stage.stop(&["api"]);
    assert_eq!(paces(&mut stage), ["probe db#1 by interval"]);
    stage.start(&["api"]).fetched("api");
    assert_eq!(paces(&mut stage), ["probe db#1 often"]);
    stage.at(31_000).passed("db");
    assert_eq!(paces(&mut stage), ["probe db#1 by interval"]);
    assert_eq!(stage.state("api"), State::Initialising);
}

#[test]
fn a_missing_key_blocks_its_readers_only() {
    let keyed = ServiceSpec { missing: vec!["OPENAI_KEY".to_owned()], ..service("agent", "") };
    let mut stage = Scenario::new(vec![keyed, service("ui", "agent:started"), service("db", "")]);
    stage.up().fetched("ui").runs("db");
    assert_snapshot!(stage.trace(), @"
    > 0 up
      fetch db#1
      fetch ui#1
      db stopped → fetching
      agent stopped → blocked: no value for OPENAI_KEY
      ui stopped → blocked: agent failed: no value for OPENAI_KEY
    > 0 fetched ui#1
    > 0 fetched db#1
      init db#1
      db fetching → initialising
    > 0 init done db#1
      spawn db#1
    > 0 spawned db#1
      db initialising → running
      settled agent: Config: no value for OPENAI_KEY; agent blocked by agent; ui blocked by agent
    ");
}

#[test]
fn only_what_is_named_and_what_it_needs_comes_up() {
    let mut stage = Scenario::new(vec![service("db", ""), service("api", "db:started"), service("other", "")]);
    stage.up_with(&["api"], UpOptions::default());
    assert_eq!(stage.state("other"), State::Stopped);
    assert_eq!(stage.state("db"), State::Fetching);
    let mut stage = Scenario::new(vec![service("db", ""), service("api", "db:started")]);
    stage.up_with(&["api"], UpOptions { no_deps: true, ..UpOptions::default() });
    assert_eq!((stage.state("db"), stage.state("api")), (State::Stopped, State::Fetching));
}

#[test]
fn a_stop_by_hand_is_remembered_until_a_request_needs_it() {
    let services = || vec![service("db", ""), service("api", "db:started"), service("other", "")];
    let mut stage = Scenario::of(plan(services()), &["db"]);
    stage.up_with(&["other"], UpOptions::default());
    assert_eq!(stage.state("db"), State::Stopped);
    stage.up_with(&["api"], UpOptions::default());
    assert_eq!(stage.state("db"), State::Fetching);
    let mut stage = Scenario::of(plan(services()), &["db"]);
    stage.up();
    assert_eq!(stage.state("db"), State::Fetching);
    assert_eq!(stage.count(|action| matches!(action, Action::PersistManualStop { stopped: false, .. })), 1);
}

#[test]
fn a_restart_starts_what_it_needs_although_that_was_stopped_by_hand() {
    let mut stage = Scenario::new(vec![service("db", ""), service("api", "db:started")]);
    stage.up().runs("db").runs("api").stop(&["db"]);
    stage.gone("db", 0);
    assert_eq!((stage.state("db"), stage.state("api")), (State::Stopped, State::Running));
    stage.restart(&["api"], false).gone("api", 0).runs("db").runs("api");
    assert_eq!((stage.state("db"), stage.state("api")), (State::Running, State::Running));
}

#[test]
fn a_service_of_a_profile_that_runs_stays_when_the_next_request_does_not_ask_for_the_profile() {
    let mut stage = Scenario::new(vec![service("db", ""), service("tools", "")]);
    stage.up().runs("db").runs("tools");
    let mut without = plan(vec![service("db", "")]);
    without.inactive.insert(service("tools", "").service, vec!["debug".to_owned()]);
    assert_eq!(stage.core.changes(&without).get(&id("tools")), Some(&PlanChange::Keep));
    stage.up_plan(without);
    assert_eq!(stage.state("tools"), State::Running);
    let removed = plan(vec![service("db", "")]);
    assert_eq!(stage.core.changes(&removed).get(&id("tools")), Some(&PlanChange::Stop(StopReason::Removed)));
    stage.up_plan(removed);
    assert_eq!(stage.reason("tools"), "no longer in the procfile");
}

/// An optional task that a start brings back waits for a lower tier that the same start frees: it is not blocked for a moment, in
/// which what depends on it would begin without it.
#[test]
fn what_a_start_frees_blocks_nothing_for_a_moment() {
    let tier = |n, spec: ServiceSpec| ServiceSpec { tier: Some(n), ..spec };
    let optional = |spec: ServiceSpec| ServiceSpec { optional: true, ..spec };
    let mut stage = Scenario::new(vec![
        task("broken", ""),
        tier(1, service("lower", "broken:completed")),
        tier(2, optional(task("late", ""))),
        on_demand("a", "late:completed"),
    ]);
    stage.at(0).up().fetched("lower").fetched("late").fetched("a");
    stage.at(1).feed(Event::FetchFailed(id("broken"), 1, fail(FailureKind::Binary, "no source")));
    assert_eq!([stage.state("lower"), stage.state("late"), stage.state("a")], [State::Blocked, State::Blocked, State::Asleep]);
    stage.at(2).start(&["a", "broken"]);
    assert_eq!([stage.state("lower"), stage.state("late"), stage.state("a")], [State::Waiting; 3]);
    stage.at(3).runs("broken").gone("broken", 0).runs("lower").fetched("late").init_done("late").spawned("late");
    assert_eq!(stage.state("a"), State::Waiting);
    stage.at(4).gone("late", 0);
    assert_eq!(stage.state("a"), State::Initialising);
}
