//! The state directory is deleted under a running stack, with and without the runtime directory: the stack is stopped in order, and
//! what is started next is the only one.

use std::fs;
use std::time::Duration;

use crate::harness::{LONG, PATIENCE, Project, eventually};
use crate::resilience::{everywhere, run_directory};
use crate::waits::stays_equal_for;

const TWO: &str = "[services.a]\nrun = \"{svc:a} --mark {dir}/marks\"\n\
                   [services.b]\nrun = \"{svc:b} --mark {dir}/marks-of-b\"\ndepends_on = [\"a\"]\n";

/// Waits until nothing of the stack lives.
fn stopped(project: &Project) {
    eventually("the stack is stopped", LONG, || {
        (project.supervisors().is_empty() && project.keepers().is_empty() && project.leftovers().is_empty()).then_some(())
    });
}

/// Deletes the state directory, as `rm -r` would; a log file that is written meanwhile is made again.
fn delete_state(project: &Project) {
    eventually("it is deleted", PATIENCE, || fs::remove_dir_all(project.path(".devrun")).ok());
}

#[test]
fn a_stack_without_state_and_runtime_directory_is_stopped_in_order() {
    everywhere(TWO, |project| {
        project.run(&["up", "-d"]).code(0);
        fs::remove_dir_all(run_directory(project)).expect("our own folder");
        delete_state(project);
        stopped(project);
        for marks in ["marks", "marks-of-b"] {
            assert!(project.read(marks).starts_with("leader 15"), "by its own signal: {}", project.read(marks));
        }
        let time = |name: &str| fs::metadata(project.path(name)).and_then(|meta| meta.modified()).expect("it was written");
        assert!(time("marks-of-b") <= time("marks"), "dependents first");
        project.run(&["up", "-d"]).code(0);
        assert_eq!((project.alive("a").len(), project.alive("b").len()), (1, 1), "one copy of each");
        let supervisors = project.supervisors();
        assert_eq!(supervisors.len(), 1);
        stays_equal_for("the next stack stays", Duration::from_secs(2), &supervisors, || project.supervisors());
        project.run(&["ps", "--check"]).code(0);
        project.run(&["down"]).code(0);
    });
}

#[test]
fn a_deleted_state_directory_makes_no_second_stack() {
    everywhere(TWO, |project| {
        project.run(&["up", "-d"]).code(0);
        let first = project.alive("a")[0].pid;
        delete_state(project);
        project.run(&["up", "-d"]).code(0);
        let a = project.alive("a");
        assert_eq!(a.len(), 1, "one copy");
        assert_ne!(a[0].pid, first, "the first stack was stopped before");
        assert_eq!(project.supervisors().len(), 1);
        project.run(&["down"]).code(0);
    });
}

#[test]
fn an_attached_up_says_why_and_fails() {
    let project = Project::new().procfile(TWO);
    let mut up = project.start(&["up"]);
    up.wait_for("ready in");
    fs::remove_file(project.path(".devrun/lock")).expect("our own file");
    let outcome = up.outcome_within(LONG).code(2).says("was deleted: stopping everything");
    let outcome = outcome.says("was deleted while the stack was up; everything was stopped");
    assert!(outcome.last_line().contains("was deleted"), "{outcome}");
    project.nothing_left();
}

#[test]
fn a_moved_project_keeps_running() {
    let project = Project::new().procfile(TWO);
    project.run(&["up", "-d"]).code(0);
    let pids = || project.alive("a").iter().map(|process| process.pid).collect::<Vec<_>>();
    let before = pids();
    let (state, aside) = (project.path(".devrun"), project.path("aside"));
    fs::rename(&state, &aside).expect("our own folder");
    stays_equal_for("nothing was deleted", Duration::from_secs(2), &before, pids);
    fs::rename(&aside, &state).expect("our own folder");
    eventually("it answers", PATIENCE, || (project.run(&["ps", "--check"]).code == Some(0)).then_some(()));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// What to type is to move it away, and not to make something writable.
#[test]
fn a_file_in_the_place_of_a_directory_is_named() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    let logs = project.path(".devrun/logs");
    std::fs::remove_dir_all(&logs).expect("our own directory");
    project.write(".devrun/logs", "");
    project
        .run(&["up", "-d"])
        .code(2)
        .says(&format!("{} is not a directory", logs.display()))
        .says(&format!("help: remove it: rm '{}'", logs.display()));
    std::fs::remove_file(&logs).expect("our own file");
    project.write("file", "");
    let file = project.path("file").display().to_string();
    project
        .run(&["--state-dir", &format!("{file}/state"), "up", "-d"])
        .code(2)
        .says(&format!("help: a file has the name of a directory; move it away: mv '{file}' '{file}.moved'"));
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}
