//! `S…`: what a person or a system sends to the supervisor.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, signal};
use crate::waits::{let_time_pass, stays_equal_for};

#[test]
fn s01_each_service_gets_exactly_one_term() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"{svc:a} --mark {dir}/marks\"\n[services.b]\nrun = \"{svc:b} --children 1 --mark {dir}/marks-b\"\ndepends_on = [\"a\"]\n",
    );
    let mut terminal = project.terminal(&["up"]);
    project.wait_state("b", "running");
    eventually("its child", PATIENCE, || (project.alive("b").len() == 2).then_some(()));
    terminal.interrupt();
    terminal.outcome().code(130);
    project.nothing_left();
    let marks = project.read("marks");
    assert_eq!(marks.lines().count(), 1, "{marks}");
    assert!(marks.starts_with("leader 15"), "{marks}");
    let marks = project.read("marks-b");
    assert_eq!(marks.lines().filter(|line| line.starts_with("leader")).count(), 1, "{marks}");
    assert_eq!(marks.lines().filter(|line| line.starts_with("child 15")).count(), 1, "{marks}");
}

#[test]
fn s02_a_third_ctrl_c_leaves_the_rest_to_the_keeper() {
    let project = Project::new().procfile("[services.deaf]\nrun = \"{svc:deaf} --ignore-term\"\nstop = { grace = \"60s\" }\n");
    let mut running = project.start(&["up"]);
    project.wait_state("deaf", "running");
    // Signals that come too close on one another are one.
    for answer in ["press Ctrl-C again to kill", "a third signal leaves the rest"] {
        running.signal(Signal::SIGINT);
        running.wait_for(answer);
    }
    running.signal(Signal::SIGINT);
    let ended = running.outcome_within(Duration::from_secs(10));
    assert_eq!(ended.code, Some(130), "{ended}");
    project.nothing_left_within(Duration::from_secs(10));
}

#[test]
fn s03_a_closed_terminal_is_no_panic() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a} --flood 1 --mark {dir}/marks --done {dir}/done\"\n");
    let terminal = project.terminal(&["up"]);
    project.wait_state("a", "running");
    let ended = terminal.hang_up().code(129);
    project.nothing_left();
    assert_eq!(project.read("done"), "leader done\n", "{ended}");
    let log = project.read(".devrun/logs/devrun.log");
    assert!(!log.contains("panicked") && !log.contains("devrun failed at"), "{log}");
}

#[test]
fn s04_up_into_head_ends_nothing_and_term_still_stops() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a} --flood 1\"\n");
    let run = project.start_in_shell("(\"$0\" up & echo $! > pid; wait $!; echo $? > code) 2> err | head -1 > first");
    eventually("the first line", PATIENCE, || (!project.read("first").is_empty()).then_some(()));
    // `head` is gone; the supervisor and its service are not.
    let pid: i32 = project.read("pid").trim().parse().unwrap_or_else(|_| project.supervisor());
    project.wait_state("a", "running");
    assert_eq!(project.supervisor(), pid);
    assert_eq!(project.read("first").lines().count(), 1);
    signal(pid, Signal::SIGTERM);
    let _shell = run.outcome();
    project.nothing_left();
    assert_eq!(project.read("code"), "143\n");
    let err = project.read("err");
    assert!(!err.contains("panicked") && !err.contains("failed at"), "{err}");
}

#[test]
fn s05_held_by_ctrl_z_nothing_runs_out() {
    let project = Project::new().procfile(
        r#"
        [services.web]
        run = "{svc:web} --listen $PORT"
        port = "auto"
        ready = { http = "/", interval = "300ms", timeout = "500ms", retries = 1, within = "30s" }
        on_unhealthy = "restart"
        [services.slow]
        run = "{svc:slow}"
        ready = { file = "never", within = "5s", interval = "1s" }
        "#,
    );
    let mut shell = project.shell_on_terminal();
    shell.send(b"$DEVRUN up\n");
    let web = project.wait_state("web", "running")["pid"].clone();
    let supervisor = project.supervisor();
    shell.send(&[26]);
    shell.wait_for("on hold");
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next().map(str::to_owned)).unwrap_or_default()
    };
    eventually("the supervisor is stopped", PATIENCE, || (state() == "T").then_some(()));
    assert_eq!(project.alive("web").len(), 1, "services go on");
    let_time_pass("longer than every time-out above", Duration::from_secs(6));
    shell.send(b"fg\n");
    shell.wait_for("resumed: timeouts continue");
    // Had the pause counted, `slow` would have failed at once and `web` been restarted.
    let slow = project.service("slow");
    assert_eq!(slow["state"], "starting", "{slow:#}");
    let expected = (web, 0.into());
    stays_equal_for("web is not restarted", Duration::from_millis(700), &expected, || {
        let now = project.service("web");
        (now["pid"].clone(), now["restarts"].clone())
    });
    assert_eq!(project.service("web")["health"], "healthy");
    shell.interrupt();
    project.nothing_left_but_shell();
    shell.send(b"exit\n");
    shell.outcome();
}

#[test]
fn s05_ctrl_z_without_a_shell_does_nothing() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    let mut terminal = project.terminal(&["up"]);
    project.wait_state("a", "running");
    terminal.send(&[26]);
    terminal.wait_for("Ctrl-Z does nothing");
    project.wait_state("a", "running");
    terminal.interrupt();
    terminal.outcome().code(130);
    project.nothing_left();
}

#[test]
fn quit_tells_how_things_stand_and_goes_on() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    let running = project.start(&["up"]);
    let a = project.wait_state("a", "running")["pid"].as_i64().expect("a pid");
    running.signal(Signal::SIGQUIT);
    eventually("the status in the log", PATIENCE, || {
        project.read(".devrun/logs/devrun.log").contains(&format!("a: running, none, pid {a}")).then_some(())
    });
    assert_eq!(project.service("a")["pid"], a);
    running.signal(Signal::SIGTERM);
    running.outcome().code(143).says("status of");
    project.nothing_left();
    // A detached one writes it too.
    project.run(&["up", "-d"]).code(0);
    signal(project.supervisor(), Signal::SIGQUIT);
    eventually("a second status", PATIENCE, || {
        (project.read(".devrun/logs/devrun.log").matches("status of").count() == 2).then_some(())
    });
}

#[test]
fn a_runners_cancel_leaves_nothing() {
    // TERM to the group, KILL some seconds later, as a CI runner does.
    let project =
        Project::new().procfile("[services.deaf]\nrun = \"{svc:deaf} --ignore-term --children 2\"\nstop = { grace = \"2s\" }\n");
    let running = project.start(&["up"]);
    project.wait_state("deaf", "running");
    let group = nix::unistd::Pid::from_raw(running.pid());
    nix::sys::signal::killpg(group, Signal::SIGTERM).expect("its own group");
    let_time_pass("between the two signals of a runner", Duration::from_millis(500));
    // It may have ended already, which is as well.
    let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
    let _ended = running.outcome();
    project.nothing_left_within(Duration::from_secs(10));
}

#[test]
fn a_long_stop_says_whom_it_waits_for() {
    let project = Project::new().procfile("[services.deaf]\nrun = \"{svc:deaf} --ignore-term\"\nstop = { grace = \"7s\" }\n");
    project.run(&["up", "-d"]).code(0);
    let down = project.run(&["down"]).code(0);
    assert!(down.stderr.contains("waiting for deaf (grace 7s, "), "{down}");
    project.nothing_left();
}
