//! Services that start with their first connection: asleep, woken, asleep again; what others see of it.

use super::scenario::{Scenario, fail, id, on_demand, plan, probed, service};
use crate::{Action, Event, Tick};
use devrun_model::{FailureKind, ServiceSpec, State, UpOptions};

fn asleep() -> Scenario {
    let mut stage = Scenario::new(vec![on_demand("api", "db"), probed("db", ""), service("web", "api")]);
    stage.at(0).up().runs("db").passed("db").fetched("api").runs("web");
    stage
}

#[test]
fn a_connection_starts_it_and_silence_stops_it() {
    let mut stage = asleep();
    assert_eq!((stage.state("api"), stage.state("web")), (State::Asleep, State::Running));
    stage.at(1_000).demanded("api");
    assert_eq!(stage.state("api"), State::Initialising);
    stage.at(1_100).init_done("api").spawned("api").passed("api");
    assert_eq!(stage.state("api"), State::Running);
    for (now, used_before) in [(4_000, 2_000), (6_500, 0), (9_000, 2_500), (11_500, 5_000)] {
        stage.at(now).timer().last_use("api", used_before);
        assert_eq!(stage.state("api"), State::Running, "{now}");
    }
    assert_eq!(stage.count(|action| matches!(action, Action::CheckUse(..))), 4);
    stage.at(16_500).timer().last_use("api", 10_000);
    assert_eq!((stage.state("api"), stage.reason("api").as_str()), (State::Stopping, "no connections"));
    stage.at(16_600).gone("api", 0);
    assert_eq!(stage.state("api"), State::Asleep);
    stage.at(17_000).demanded("api");
    assert_eq!(stage.state("api"), State::Initialising);
    assert_eq!(stage.state("web"), State::Running, "nothing happened to who depends on it");
}

#[test]
fn what_depends_on_it_does_not_wait_and_it_waits_for_what_it_depends_on() {
    let mut stage = Scenario::new(vec![on_demand("api", "db"), probed("db", ""), service("web", "api")]);
    stage.at(0).up().fetched("api").fetched("web").init_done("web").spawned("web");
    assert_eq!((stage.state("api"), stage.state("web")), (State::Asleep, State::Running));
    stage.at(10).demanded("api");
    assert_eq!((stage.state("api"), stage.reason("api").as_str()), (State::Waiting, "waiting for db (healthy)"));
    stage.runs("db").passed("db");
    assert_eq!(stage.state("api"), State::Initialising);
}

#[test]
fn a_dependency_that_cannot_come_up_is_said_when_it_is_needed() {
    let mut stage = Scenario::new(vec![on_demand("api", "db"), probed("db", ""), service("z", "")]);
    stage.at(0).up().runs("z").fetched("api").fetched("db").init_done("db");
    stage.feed(Event::SpawnFailed(id("db"), 1, fail(FailureKind::PortTaken, "taken")));
    assert_eq!(stage.state("api"), State::Asleep);
    stage.demanded("api");
    assert_eq!((stage.state("api"), stage.reason("api").as_str()), (State::Blocked, "db failed: taken"));
}

#[test]
fn by_name_it_is_started_and_with_the_stack_it_is_not() {
    let mut stage = asleep();
    stage.at(10).up();
    assert_eq!(stage.state("api"), State::Asleep);
    stage.at(20).restart(&["api"], false).fetched("api");
    assert_eq!(stage.state("api"), State::Asleep, "nothing of it ran");
    stage.at(30).start(&["api"]);
    assert_eq!(stage.state("api"), State::Initialising);
    stage.init_done("api").spawned("api").passed("api");
    stage.at(40).restart(&["api"], false).gone("api", 0).fetched("api");
    assert_eq!(stage.state("api"), State::Initialising, "it ran, so it runs again");
    stage.init_done("api").spawned("api").passed("api").at(50).stop(&["api"]).gone("api", 0);
    assert_eq!(stage.state("api"), State::Stopped);
    stage.at(60).demanded("api");
    assert_eq!(stage.state("api"), State::Stopped, "stopped by hand");
    stage.at(70).up().fetched("api");
    assert_eq!(stage.state("api"), State::Asleep);
}

#[test]
fn asleep_it_keeps_the_stack_up_and_ends_with_it() {
    let mut stage = Scenario::new(vec![on_demand("api", "")]);
    stage.at(0).up().fetched("api").at(60_000).timer();
    assert_eq!((stage.state("api"), stage.core.is_finished(), stage.core.is_settled()), (State::Asleep, false, true));
    stage.down();
    assert_eq!((stage.state("api"), stage.core.is_finished()), (State::Stopped, true));
}

#[test]
fn a_port_that_cannot_be_opened_is_a_failure_of_the_start() {
    let mut stage = Scenario::new(vec![on_demand("api", ""), service("web", "api:started"), service("z", "")]);
    stage.at(0).up().runs("z").fetched("web");
    stage.fetched("api").feed(Event::ListenFailed(id("api"), 1, fail(FailureKind::PortTaken, "held by nginx")));
    assert_eq!((stage.state("api"), stage.reason("api").as_str()), (State::Failed, "held by nginx"));
}

#[test]
fn a_crash_follows_the_policy_and_an_end_by_itself_is_sleep() {
    let mut stage = asleep();
    stage.at(10).demanded("api").init_done("api").spawned("api").passed("api").gone("api", 0);
    assert_eq!(stage.state("api"), State::Asleep, "a server that ends when it has nothing to do");
    stage.at(20).demanded("api").init_done("api").spawned("api").gone("api", 3);
    assert_eq!(stage.state("api"), State::Failed);
}

#[test]
fn without_idle_it_is_never_looked_at() {
    let spec = ServiceSpec { on_demand: Some(std::time::Duration::ZERO), ..on_demand("api", "") };
    let mut stage = Scenario::new(vec![spec]);
    stage.at(0).up().fetched("api").demanded("api").init_done("api").spawned("api").passed("api");
    assert_eq!(stage.core.next_deadline(), None);
    stage.at(100_000).last_use("api", 100_000);
    assert_eq!(stage.state("api"), State::Running);
}

#[test]
fn the_next_look_comes_before_the_kernel_forgets_and_when_the_time_is_over() {
    let mut stage =
        Scenario::new(vec![ServiceSpec { on_demand: Some(std::time::Duration::from_secs(600)), ..on_demand("api", "") }]);
    stage.at(0).up().fetched("api").demanded("api").init_done("api").spawned("api").passed("api");
    assert_eq!(stage.core.next_deadline(), Some(Tick::ms(20_000)));
    for second in (20..600).step_by(20) {
        stage.at(second * 1000).timer().feed(Event::LastUse(id("api"), 1, None));
        assert_eq!(stage.state("api"), State::Running);
    }
    stage.at(600_000).timer().feed(Event::LastUse(id("api"), 1, None));
    assert_eq!(stage.state("api"), State::Stopping);
}

#[test]
fn a_start_that_comes_while_it_falls_asleep_is_honoured() {
    let mut stage = asleep();
    stage.at(10).demanded("api").init_done("api").spawned("api").passed("api");
    stage.at(20_000).timer().last_use("api", 20_000);
    assert_eq!(stage.state("api"), State::Stopping);
    stage.start(&["api"]).gone("api", 0).fetched("api");
    assert_eq!(stage.state("api"), State::Initialising);
}

#[test]
fn another_definition_is_taken_over_while_it_sleeps() {
    let mut stage = asleep();
    let changed = ServiceSpec { dir: "/elsewhere".into(), ..on_demand("api", "db") };
    stage.at(10).up_plan(plan(vec![changed, probed("db", ""), service("web", "api")])).fetched("api");
    assert_eq!(stage.state("api"), State::Asleep);
    assert_eq!(stage.core.spec(&id("api")).unwrap().dir, std::path::PathBuf::from("/elsewhere"));
    stage.up_with(&["web"], UpOptions::default());
    assert_eq!(stage.state("api"), State::Asleep);
}
