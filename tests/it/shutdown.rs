//! The stop of a stack whose supervisor, or supervisor and keeper, were killed: circles of recorded dependencies, numbered
//! tiers, and the signals that `down` and `up` answer while they end what is left.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, Running, eventually, signal};

const DEFAULTS: &str = "[defaults]\nstop = { grace = \"2s\" }\n";

/// Both with the machine's cgroups, where there are any, and without.
fn both_ways(test: impl Fn(Project)) {
    test(Project::new());
    test(Project::new().env("DEVRUN_NO_CGROUP", "1"));
}

/// `a` runs as it was started with its edge to `b`, and `b` with its edge to `a`; `base` is needed by both.
fn circle(project: Project) -> Project {
    let service = |name: &str, needs: &str| {
        format!(
            "[services.{name}]\nrun = \"{{svc:{name}}} --mark {{dir}}/marks-{name} --done {{dir}}/done-{name}\"\ndepends_on = [{needs}]\n"
        )
    };
    let base = format!("{DEFAULTS}{}", service("base", ""));
    let turned = |a: &str, b: &str| format!("{base}{}{}", service("a", a), service("b", b));
    let project = project.procfile(&turned("\"base\", \"b\"", "\"base\""));
    project.run(&["up", "-d"]).code(0);
    project.rewrite(&turned("\"base\"", "\"base\", \"a\""));
    project.run(&["up", "-d"]).code(0);
    project.run(&["restart", "b"]).code(0);
    eventually("three services", PATIENCE, || (project.alive("").len() == 3).then_some(()));
    // The start of `b` that was restarted has left its marks.
    for name in ["a", "b", "base"] {
        project.write(&format!("marks-{name}"), "");
        project.write(&format!("done-{name}"), "");
    }
    project
}

#[track_caller]
fn is_stopped_in_order(project: &Project) {
    for name in ["a", "b", "base"] {
        assert_eq!(project.read(&format!("done-{name}")), "leader done\n", "{name} did its clean-up");
    }
    let time = |name: &str| fs::metadata(project.path(name)).and_then(|meta| meta.modified()).expect("it was written");
    for name in ["done-a", "done-b"] {
        assert!(time(name) <= time("marks-base"), "{name} was there before base was asked");
    }
}

#[track_caller]
fn starts_and_stops_again(project: &Project) {
    let ps = project.ps();
    assert!(ps["supervisor_pid"].is_null(), "{ps:#}");
    project.run(&["up", "-d"]).code(0);
    let down = project.run(&["down"]).code(0);
    assert!(down.took < Duration::from_secs(10), "{down}");
    project.nothing_left();
}

#[test]
fn the_keeper_stops_a_circle_of_recorded_dependencies() {
    both_ways(|project| {
        let project = circle(project);
        signal(project.supervisor(), Signal::SIGKILL);
        project.nothing_left_within(Duration::from_secs(10));
        is_stopped_in_order(&project);
        starts_and_stops_again(&project);
    });
}

#[test]
fn down_stops_a_circle_that_neither_supervisor_nor_keeper_can() {
    both_ways(|project| {
        let project = circle(project);
        project.kill_both();
        let down = project.run(&["down"]).code(0);
        assert!(down.took < Duration::from_secs(10), "{down}");
        project.nothing_left();
        is_stopped_in_order(&project);
        starts_and_stops_again(&project);
    });
}

#[test]
fn up_stops_a_circle_that_neither_supervisor_nor_keeper_can() {
    both_ways(|project| {
        let project = circle(project);
        let old: Vec<i32> = project.alive("").iter().map(|process| process.pid).collect();
        project.kill_both();
        let up = project.run(&["up", "-d"]).code(0);
        assert!(up.took < Duration::from_secs(15), "{up}");
        let new = project.alive("");
        assert!(new.len() == 3 && new.iter().all(|process| !old.contains(&process.pid)), "{old:?}, then {new:?}");
        project.run(&["down"]).code(0);
        project.nothing_left();
    });
}

fn tiers(project: Project) -> Project {
    let service = |name: &str, tier: u32| {
        format!(
            "[services.{name}]\nrun = \"{{svc:{name}}} --mark {{dir}}/marks-{name} --done {{dir}}/done-{name} --stop-takes 300\"\ntier = {tier}\n"
        )
    };
    let text = format!("{DEFAULTS}[tiers]\n1 = \"low\"\n2 = \"high\"\n{}{}", service("low", 1), service("high", 2));
    let project = project.procfile(&text);
    project.run(&["up", "-d"]).code(0);
    eventually("two services", PATIENCE, || (project.alive("").len() == 2).then_some(()));
    project
}

#[track_caller]
fn tiers_stopped_in_order(project: &Project) {
    let time = |name: &str| fs::metadata(project.path(name)).and_then(|meta| meta.modified()).expect("it was written");
    assert!(time("done-high") <= time("marks-low"), "tier 2 had ended before tier 1 was asked");
    assert_eq!(project.read("done-low"), "leader done\n");
}

#[test]
fn the_keeper_stops_higher_tiers_first() {
    both_ways(|project| {
        let project = tiers(project);
        signal(project.supervisor(), Signal::SIGKILL);
        project.nothing_left_within(Duration::from_secs(10));
        tiers_stopped_in_order(&project);
    });
}

#[test]
fn the_sweep_stops_higher_tiers_first() {
    both_ways(|project| {
        let project = tiers(project);
        project.kill_both();
        project.run(&["down"]).code(0);
        project.nothing_left();
        tiers_stopped_in_order(&project);
    });
}

/// One service that ignores TERM, with a grace far beyond the test's patience.
fn deaf() -> Project {
    let project = Project::new()
        .procfile("[services.deaf]\nrun = \"{svc:deaf} --ignore-term --mark {dir}/marks\"\nstop = { grace = \"10m\" }\n");
    project.run(&["up", "-d"]).code(0);
    eventually("it runs", PATIENCE, || (project.alive("deaf").len() == 1).then_some(()));
    project
}

/// A signal to whoever waits for the end of the grace kills what is left, and lets go of the instance lock.
#[track_caller]
fn answers(project: &Project, waiting: Running, which: Signal, code: i32) {
    eventually("the first TERM", PATIENCE, || project.read("marks").contains("leader 15").then_some(()));
    let asked = Instant::now();
    signal(waiting.pid(), which);
    waiting.outcome().code(code);
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    project.nothing_left_within(Duration::from_secs(5));
    assert_eq!(project.lock_holders(), [0; 0]);
}

#[test]
fn down_answers_signals_while_it_ends_leftovers() {
    for (which, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let project = deaf();
        project.kill_both();
        let down = project.start(&["down"]);
        answers(&project, down, which, code);
    }
}

#[test]
fn down_answers_signals_while_a_keeper_stops_the_stack() {
    let project = deaf();
    signal(project.supervisor(), Signal::SIGKILL);
    eventually("the keeper's stop", PATIENCE, || project.read("marks").contains("leader 15").then_some(()));
    let down = project.start(&["down"]);
    eventually("down waits", PATIENCE, || project.lock_holders().contains(&down.pid()).then_some(()));
    answers(&project, down, Signal::SIGTERM, 143);
}

#[test]
fn up_answers_signals_while_it_ends_leftovers() {
    for (args, which, code) in
        [(&["up"][..], Signal::SIGINT, 130), (&["up", "-d"], Signal::SIGINT, 130), (&["up", "-d"], Signal::SIGTERM, 143)]
    {
        let project = deaf();
        project.kill_both();
        let up = project.start(args);
        answers(&project, up, which, code);
    }
}
