//! A project on a read-only file system: the state is elsewhere, and what only looks needs no place at all.

use crate::harness::{Outcome, Project, is_root, skipped};

const MISSING: &str = "needs a mount namespace";

/// Runs a script in a mount namespace in which the project is mounted read-only.
fn on_read_only(project: &Project, script: &str) -> Option<Outcome> {
    let dir = project.dir().display().to_string();
    let mount = format!("mount --bind '{dir}' '{dir}' && mount -o remount,bind,ro '{dir}' || exit 77");
    let script_file = project.root().join("script");
    std::fs::write(&script_file, format!("{mount}\ncd '{dir}'\n{script}\n")).expect("our own file");
    if !is_root() {
        return None;
    }
    let done = project.run_in_shell(&format!("unshare -m sh '{}' \"$0\"", script_file.display()));
    (done.code != Some(77) && !done.stderr.contains("unshare failed")).then_some(done)
}

#[test]
fn the_state_of_a_read_only_project_is_kept_elsewhere() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    let state = project.root().join("state").display().to_string();
    let script = format!(
        "\"$1\" --state-dir '{state}' up -d; echo \"up: $?\"\n\"$1\" --state-dir '{state}' ps; echo \"ps: $?\"\n\
         DEVRUN_STATE_DIR='{state}' \"$1\" down; echo \"down: $?\""
    );
    let Some(done) = on_read_only(&project, &script) else { return skipped(MISSING) };
    for said in ["up: 0\n", "running", "ps: 0\n", "down: 0\n"] {
        assert!(done.stdout.contains(said), "not {said:?}: {}{}", done.stdout, done.stderr);
    }
    assert_eq!(done.stderr.matches("give --state-dir or DEVRUN_STATE_DIR to every command").count(), 1, "{}", done.stderr);
    assert!(!project.path(".devrun").exists());
    project.nothing_left();
}

#[test]
fn a_state_directory_that_is_read_only_can_be_looked_at() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    let script = "for command in ps check; do \"$1\" $command; echo \"$command: $?\"; done";
    let Some(done) = on_read_only(&project, script) else { return skipped(MISSING) };
    for said in ["ps: 0\n", "check: 0\n"] {
        assert!(done.stdout.contains(said), "not {said:?}: {}{}", done.stdout, done.stderr);
    }
}
