//! The verbs that run something: in a service's place, beside the stack, or as its only purpose.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{PATIENCE, Project, eventually};

const STACK: &str = r#"
[project]
name = "shop"
[env]
REGION = "eu"
[volumes]
v = {}
[services.api]
run = ["sh", "-c", "exec sleep 1000", "{token}"]
dir = "backend"
env = { LEVEL = "${LEVEL:-info}", WORDS = "two words" }
depends_on = ["seed"]
[tasks.seed]
run = ["sh", "-c", "echo seeded >> {dir}/seeds"]
once = "v/.seed"
"#;

fn project() -> Project {
    let project = Project::new();
    project.write("backend/x.txt", "here");
    project.procfile(STACK)
}

/// Shows: exec, exit 126.
#[test]
fn exec_has_the_services_environment_folder_and_code() {
    let project = project();
    project.run(&["up", "-d"]).code(0);
    let run = |script: &str| project.run(&["exec", "api", "--", "sh", "-c", script]);
    let out = run("printf '%s|%s|%s|%s' \"$LEVEL\" \"$WORDS\" \"$REGION\" \"$(cat x.txt)\"").code(0);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("info|two words|eu|here", ""));
    run("exit 7").code(7);
    run("kill -TERM $$").code(143);
    assert_eq!(run("printf 'a\\r\\n\\033b'").code(0).stdout, "a\r\n\u{1b}b", "bytes pass as they are");
    assert_eq!(project.run(&["exec", "api", "echo", "-n", "--json"]).code(0).stdout, "--json", "words after CMD are CMD's");
    project.run(&["exec", "api", "--", "no-such-command"]).code(127).says("no-such-command");
    project.run(&["exec", "api", "--", "./x.txt"]).code(126);
    project.run(&["exec", "nobody", "--", "true"]).code(2);
    project.run(&["down"]).code(0);
    project.run(&["exec", "api", "--", "true"]).code(0).says("api is not running");
}

#[test]
fn exec_hands_out_no_mark_and_survives_an_emergency() {
    let project = project();
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.run(&["exec", "api", "--", "sh", "-c", "echo ${DEVRUN_RUN_ID-none}"]).code(0).stdout, "none\n");
    let mut editor =
        project.start(&["exec", "api", "--", "sh", "-c", "echo open; until [ -e close ]; do sleep 0.05; done; echo closed"]);
    editor.wait_for("open");
    project.run(&["down", "--emergency"]).code(0);
    project.write("backend/close", "");
    editor.outcome().code(0).says("closed");
    let mut own =
        project.start(&["exec", "api", "--", "sh", "-c", "trap 'exit 9' TERM; echo open; while :; do sleep 0.05; done"]);
    own.wait_for("open");
    own.signal(Signal::SIGTERM);
    own.outcome().code(9);
}

/// Shows: shell.
#[test]
fn exec_and_shell_have_the_terminal_where_there_is_one() {
    let project = project().env("SHELL", "/bin/sh").env("PS1", "ready> ");
    let terminal = project.terminal(&["exec", "api", "--", "sh", "-c", "test -t 0 && test -t 1 && stty size; exit 3"]);
    terminal.outcome().code(3).says("30 100");
    let mut terminal = project.terminal(&["shell", "api"]);
    terminal.send(b"echo level=$LEVEL\r");
    terminal.wait_for("level=info");
    // Ctrl-C is the shell's, and does not end it.
    terminal.interrupt();
    terminal.wait_for("^C\r\nready> ");
    terminal.send(b"echo still here; exit 6\r");
    terminal.outcome().code(6).says("still here");
}

#[test]
fn shell_reads_commands_from_a_pipe() {
    let project = project().env("SHELL", "/bin/sh");
    let out = project.run_in_shell("echo 'echo $LEVEL; pwd; exit 5' | \"$0\" shell api");
    assert!(out.stdout.starts_with("info\n") && out.stdout.trim_end().ends_with("/backend"), "{out}");
    out.code(5);
}

/// Shows: run.
#[test]
fn run_brings_up_runs_and_takes_down() {
    let project = project();
    let out = project.run(&["run", "--", "sh", "-c", "echo $REGION; \"$0\" ps --check; exit 9", "true"]);
    assert_eq!(out.stdout.lines().next(), Some("eu"), "{out}");
    assert_eq!(out.last_line(), "devrun: command: exit 9");
    out.code(9);
    project.nothing_left();
    project.run(&["run", "api", "--", "true"]).code(0);
    project.run(&["run", "--", "sh", "-c", "kill -KILL $$"]).code(137);
    project.run(&["run", "--", "no-such-command"]).code(127);
    project.nothing_left();
    project.run(&["up", "-d"]).code(0);
    let refused = project.run(&["run", "--", "true"]).code(6);
    assert!(refused.last_line().starts_with("devrun: stack: exit 6"), "{refused}");
    let reason = refused.last_line().split_once("): ").expect("a reason").1.to_owned();
    assert_eq!(refused.stderr.matches(&reason).count(), 1, "{refused}");
    // What is stopped already is not listed, nor is an empty line.
    project.run(&["stop"]).code(0);
    let down = project.run(&["down"]).code(0);
    assert!(!down.stderr.lines().any(str::is_empty), "{down}");
    project.run(&["down"]).code(0);
    project.run(&["run"]).code(2);
}

#[test]
fn run_of_a_stack_that_fails_never_begins_the_command() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh -c 'exit 3'\"\nready = { cmd = \"false\" }\n");
    let out = project.run(&["run", "--", "touch", "begun"]).code(1);
    assert!(out.last_line().starts_with("devrun: stack: exit 1"), "{out}");
    assert!(out.last_line().contains("a:"), "{out}");
    assert!(!project.path("begun").exists());
    project.nothing_left();
}

#[test]
fn run_tears_down_when_it_is_interrupted() {
    let project = project();
    let mut running =
        project.start(&["run", "--", "sh", "-c", "trap 'echo stopping; exit 4' TERM; echo begun; while :; do sleep 0.05; done"]);
    running.wait_for("begun");
    running.signal(Signal::SIGTERM);
    running.outcome().code(4).says("stopping");
    project.nothing_left();
    // Before the command: a start that hangs.
    let project = Project::new()
        .procfile("[services.a]\nrun = [\"sh\", \"-c\", \"touch up; exec sleep 1000\"]\nready = { cmd = \"false\" }\n");
    let running = project.start(&["run", "--", "touch", "begun"]);
    eventually("the service", PATIENCE, || project.path("up").exists().then_some(()));
    running.signal(Signal::SIGINT);
    running.outcome().code(130);
    project.nothing_left();
    assert!(!project.path("begun").exists());
}

/// Shows: run --ephemeral.
#[test]
fn run_ephemeral_touches_nothing_of_the_project() {
    let project = project();
    project.run(&["up", "-d"]).code(0);
    let before = project.ps();
    let out = project.run(&["run", "--ephemeral", "--", "cat", "seeds"]).code(0);
    assert_eq!(out.stdout, "seeded\nseeded\n", "the task ran again in the copy");
    assert_eq!(project.ps()["supervisor_pid"], before["supervisor_pid"]);
    project.run(&["down"]).code(0);
    project.nothing_left();
    let left: Vec<_> = std::fs::read_dir(project.dir().join("../tmp")).expect("our own folder").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A directory that the procfile names is the same one for a temporary copy, so what was done for it is done.
#[test]
fn run_ephemeral_repeats_no_task_of_a_directory_that_it_shares() {
    let project = Project::new().procfile(
        r#"
        [volumes.venv]
        path = "shared"
        class = "cache"
        [volumes.rows]
        path = "rows"
        [tasks.setup]
        run = "sh -c 'mkdir -p shared; echo ran >> shared/ran.txt'"
        volumes = ["venv"]
        once = "venv/.done"
        [services.a]
        run = "{svc:a}"
        data = "rows"
        depends_on = ["setup"]
        [tasks.fill]
        run = "sh -c 'echo filled >> filled.txt'"
        once = "rows/.filled"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    for args in [&["run", "--ephemeral", "--", "true"][..], &["--instance", "b", "run", "--", "true"]] {
        project.run(args).code(0);
        assert_eq!(project.read("shared/ran.txt"), "ran\n", "{args:?}");
    }
    assert_eq!(project.read("filled.txt").lines().count(), 2, "the data of a service is the copy's own");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: run --with.
#[test]
fn run_with_an_unknown_recipe_says_so() {
    let project = Project::new();
    let unknown = project.run(&["run", "--with", "no-such-thing", "--", "true"]).code(2).says("unknown recipe `no-such-thing`");
    // The file that stands for the options is not the user's.
    let invalid = project.run(&["run", "--with", "redis@a b", "--", "true"]).code(2).says("invalid version");
    assert!(invalid.last_line().contains("--with:"), "{invalid}");
    let temporary = project.root().join("tmp").display().to_string();
    for outcome in [unknown, invalid] {
        outcome.says_not(&temporary).says_not("procfile.toml");
        project.run(&["ls"]).code(0).says_not(&temporary);
    }
    project.run(&["run", "--with", "redis", "--with", "redis", "--", "true"]).code(2).says("twice");
}

/// Shows: up --ephemeral.
#[test]
fn up_ephemeral_keeps_nothing() {
    let project = project();
    let mut running = project.start(&["up", "--ephemeral"]);
    running.wait_for("ready in");
    assert!(!project.path(".devrun").exists(), "nothing is written beside the procfile");
    running.signal(Signal::SIGINT);
    running.outcome().code(130);
    project.nothing_left();
    project.run(&["up", "--ephemeral", "-d"]).code(2);
}

/// Shows: task, task --force, task --json.
#[test]
fn task_runs_by_hand_with_and_without_a_supervisor() {
    let project = project();
    let standing = || project.run(&["task", "--status", "--json"]).code(0).json()[0]["standing"].clone();
    assert_eq!(standing(), "fresh");
    project.run(&["task", "seed"]).code(0);
    assert_eq!((standing(), project.read("seeds").as_str()), (Value::from("done"), "seeded\n"));
    project.run(&["task", "seed"]).code(0).says("already done");
    assert_eq!(project.read("seeds"), "seeded\n");
    project.run(&["task", "seed", "--force"]).code(0);
    assert_eq!(project.read("seeds"), "seeded\nseeded\n");
    project.nothing_left();
    project.run(&["up", "-d"]).code(0);
    project.run(&["task", "seed", "--force"]).code(0);
    assert_eq!(project.read("seeds"), "seeded\nseeded\nseeded\n");
    assert_eq!(project.service("api")["state"], "running");
    project.run(&["down"]).code(0);
    project.run(&["task", "api"]).code(2).says("no task");
    project.run(&["task", "nobody"]).code(2);
}

/// Shows: task --status, task --done, task --rerun.
#[test]
fn task_resolve_settles_a_run_that_was_cut_short() {
    let project = Project::new().procfile(
        "[volumes]\nv = {}\n[services.a]\nrun = [\"sh\", \"-c\", \"exec sleep 1000\", \"{token}\"]\ndepends_on = [\"slow\"]\n\
         [tasks.slow]\nrun = [\"sh\", \"-c\", \"echo x >> {dir}/runs; exec sleep $(cat {dir}/nap)\", \"{token}\"]\nonce = \"v/.slow\"\n",
    );
    project.write("nap", "1000");
    let running = project.start(&["up"]);
    eventually("the task", PATIENCE, || (project.read("runs") == "x\n").then_some(()));
    running.signal(Signal::SIGINT);
    let _ended = running.outcome();
    project.write("nap", "0");
    let standing = || project.run(&["task", "--status", "--json"]).code(0).json()[0]["standing"].clone();
    assert_eq!(standing(), "interrupted");
    project.run(&["up", "-d", "--rollback"]).code(4).says("task resolve slow");
    project.run(&["task", "resolve", "slow"]).code(2).says("--done | --rerun");
    project.run(&["task", "resolve", "slow", "--done"]).code(0);
    assert_eq!((standing(), project.read("runs").as_str()), (Value::from("done"), "x\n"));
    project.run(&["task", "resolve", "slow", "--rerun"]).code(0);
    assert_eq!(standing(), "fresh");
    project.run(&["up", "-d"]).code(0);
    assert_eq!((standing(), project.read("runs").as_str()), (Value::from("done"), "x\nx\n"));
    project.run(&["down"]).code(0);
}

/// Shows: build, up --build, service.build.
#[test]
fn build_runs_in_order_and_up_build_fails_only_that_service() {
    let project = Project::new().procfile(
        "[services.lib]\nrun = [\"sh\", \"-c\", \"exec sleep 1000\", \"{token}\"]\nbuild = \"sh -c 'echo lib >> built'\"\n\
         [services.api]\nrun = [\"sh\", \"-c\", \"exec sleep 1000\", \"{token}\"]\ndepends_on = [\"lib\"]\nbuild = [\"sh\", \"-c\", \"echo $WHO >> built; echo compiling; exit $(cat code)\"]\nenv = { WHO = \"api\" }\n",
    );
    project.write("code", "0");
    let out = project.run(&["build"]).code(0).says("building lib");
    assert!(out.stdout.contains("compiling"), "{out}");
    assert_eq!(project.read("built"), "lib\napi\n");
    project.run(&["build", "lib"]).code(0);
    assert_eq!(project.read("built"), "lib\napi\nlib\n");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.read("built"), "lib\napi\nlib\n", "a plain up builds nothing");
    project.run(&["down"]).code(0);
    project.write("code", "3");
    project.run(&["build"]).code(1).says("api: build failed: exit 3");
    project.run(&["up", "-d", "--build"]).code(1).says("build failed");
    let api = project.service("api");
    assert_eq!(api["state"], "failed", "{api:#}");
    assert!(api["reason"].as_str().is_some_and(|reason| reason.contains("build failed")), "{api:#}");
    assert_eq!(project.service("lib")["state"], "running");
    project.run(&["down"]).code(0);
}

/// Builds share their directory, and a command does the same for each service and copy.
#[test]
fn up_build_runs_a_build_once_and_one_at_a_time() {
    let lock = "mkdir lock && sleep 1 && rmdir lock && echo";
    let project = Project::new().procfile(&format!(
        "[services.a]\nrun = \"{{svc:a}}\"\nreplicas = 2\nbuild = \"{lock} same >> built\"\n\
         [services.b]\nrun = \"{{svc:b}}\"\nbuild = \"{lock} same >> built\"\n\
         [services.c]\nrun = \"{{svc:c}}\"\nbuild = \"{lock} other >> built\"\n"
    ));
    let built = || {
        let mut lines: Vec<String> = project.read("built").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    project.run(&["build"]).code(0).says("b has the same build as a");
    assert_eq!(built(), ["other", "same"]);
    project.write("built", "");
    let up = project.run(&["up", "--build", "-d"]).code(0).says("waiting for another build in the same directory");
    assert!(up.stderr.contains("not built again: the same command in the same directory as the build of "), "{up}");
    assert_eq!(built(), ["other", "same"]);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// One builds, of a program that is not there yet, and one waits for its turn.
#[test]
fn a_start_that_builds_is_interrupted_at_once() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"./a\"\nbuild = \"touch begun; sleep 1000\"\n\
         [services.b]\nrun = \"./b\"\nbuild = \"touch begun; sleep 2000\"\n",
    );
    let mut up = project.start(&["up", "--build"]);
    up.wait_for("waiting for another build in the same directory");
    eventually("a build that runs", PATIENCE, || project.path("begun").exists().then_some(()));
    up.signal(nix::sys::signal::Signal::SIGINT);
    let outcome = up.outcome().code(130);
    assert!(outcome.took < std::time::Duration::from_secs(20), "{outcome}");
    project.nothing_left();
}

#[test]
fn an_interrupted_build_has_the_code_of_the_signal() {
    // Whatever the build makes of the signal.
    let script = "trap 'exit 3' INT TERM; touch begun; while :; do sleep 0.1; done";
    for (number, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let project = Project::new().procfile(&format!(
            "[services.a]\nrun = \"{{svc:a}}\"\nbuild = [\"sh\", \"-c\", \"{script}\"]\n\
             [services.b]\nrun = \"{{svc:b}}\"\nbuild = \"touch next\"\n"
        ));
        let build = project.start(&["build"]);
        eventually("a build that runs", PATIENCE, || project.path("begun").exists().then_some(()));
        build.signal(number);
        let outcome = build.outcome().code(code).says("a: build interrupted");
        assert!(!project.path("next").exists(), "{outcome}");
    }
}

/// Shows: up --plan.
#[test]
fn up_plan_says_what_would_be_done_and_does_nothing() {
    let project = project();
    let plan = project.run(&["up", "--plan"]).code(0);
    assert!(plan.stdout.contains("start  api") && plan.stdout.contains("nothing runs"), "{plan}");
    assert!(!project.path(".devrun").exists(), "nothing is made");
    project.run(&["up", "-d"]).code(0);
    let plan = project.run(&["up", "--plan"]).code(0);
    assert!(plan.stdout.contains("keep  api"), "{plan}");
    project
        .rewrite(&STACK.replace("LEVEL:-info", "LEVEL:-debug").replace("[volumes]", "[services.new]\nrun = \"true\"\n[volumes]"));
    let pid = project.service("api")["pid"].clone();
    let plan = project.run(&["up", "--plan"]).code(0);
    assert!(plan.stdout.contains("changed: env LEVEL") && plan.stdout.contains("start    new"), "{plan}");
    assert_eq!(project.service("api")["pid"], pid);
    project.run(&["down"]).code(0);
}
