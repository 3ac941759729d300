//! What a start says while it goes, and in its last line.

use std::time::Duration;

use crate::harness::{PATIENCE, Project, eventually, skipped};
use crate::tmux::Tmux;

#[test]
fn nothing_is_said_to_be_fetched_or_initialised_that_is_not() {
    let project = Project::new().procfile(
        r#"
        [tasks.npm]
        run = "sleep 1"
        [services.api]
        run = "sh -c 'touch up; exec sleep 1000'"
        ready = { file = "up" }
        depends_on = ["npm"]
        "#,
    );
    let up = project.run(&["up", "-d"]).code(0);
    for word in ["fetching", "initialising", "stopping", "waiting: "] {
        assert!(!up.stderr.contains(word), "{word:?} is untrue\n{up}");
    }
    let up = up.says("waiting for npm").says("completed after 1.").says("(slowest: npm 1.");
    assert!(up.stderr.lines().any(|line| line.starts_with("npm") && line.ends_with("running")), "{up}");
    let again = project.run(&["up", "-d"]).code(0).says("nothing to do: 1 service is running").says_not("slowest");
    drop(again.says_not("ready in"));
    project.run(&["down"]).code(0);
}

#[test]
fn what_runs_for_long_is_mentioned_with_its_last_line() {
    let project = Project::new().procfile("[tasks.long]\nrun = \"sh -c 'echo step one of two; sleep 12'\"\n");
    let up = project.start(&["up", "-d"]).outcome_within(Duration::from_secs(60)).code(0);
    drop(up.says("running for 1").says(": step one of two").says("completed after 1"));
}

/// Also of one that ends when its start has been summed up.
#[test]
fn what_ends_by_itself_is_said_with_the_time_of_its_process() {
    let project = Project::new().procfile("[services.api]\nrun = \"sleep 2\"\n[services.web]\nrun = \"{svc:web}\"\n");
    let mut up = project.start(&["up"]);
    up.wait_for("completed after");
    let why = project.run(&["why", "api"]).code(0).says("api is done: exited with code 0 after 2.");
    drop(why);
    up.signal(nix::sys::signal::Signal::SIGINT);
    drop(up.outcome().says("completed after 2."));
}

/// Also after the start has been summed up.
#[test]
fn copies_are_called_alike_when_they_start_and_when_they_stop() {
    let project = Project::new().procfile("[services.api]\nrun = \"{svc:api}\"\nreplicas = 2\n");
    for args in [&["up"][..], &["run", "--", "sleep", "1000"]] {
        let mut command = project.start(args);
        command.wait_for("api.1  running");
        command.wait_for("api.2  running");
        eventually("both run", PATIENCE, || (project.alive("api").len() == 2).then_some(()));
        command.signal(nix::sys::signal::Signal::SIGINT);
        let shown = command.outcome().says("api.1  stopped").says("api.2  stopped");
        let unnumbered = |line: &&str| line.split_whitespace().next() == Some("api");
        assert_eq!(shown.stderr.lines().find(unnumbered), None, "{shown}");
    }
}

/// A line of a log is quoted as people see it, and what is cut is marked.
#[test]
fn a_last_line_is_quoted_without_its_colours() {
    let project = Project::new().procfile(
        "[tasks.a]\nrun = \"sh -c 'printf \\\"\\\\033[32mgreen\\\\033[0m working on it\\\\n\\\\n\\\"; sleep 12'\"\n\
         [tasks.b]\nrun = \"sh -c 'printf \\\"\\\\033[1m%0200d\\\\033[0m\\\\n\\\" 7; sleep 12'\"\n",
    );
    let up = project.start(&["up", "-d"]).outcome_within(Duration::from_secs(60)).code(0);
    let up = up.says(": green working on it\n").says(&format!(": {}…\n", "0".repeat(119)));
    drop(up.says_not("u001b").says_not("[32m"));
}

/// What an earlier run has said is not shown.
#[test]
fn a_build_that_runs_for_long_is_called_so_without_older_lines() {
    let run = "[services.a]\nrun = \"sh -c 'echo OLD ERROR LINE; exit 1'\"\n";
    let project = Project::new().procfile(run);
    project.run(&["up", "-d"]).code(1).says("OLD ERROR LINE");
    project.rewrite(&format!("{run}build = \"sleep 12\"\n").replace("sh -c 'echo OLD ERROR LINE; exit 1'", "sleep 1000"));
    let up = project.start(&["up", "--build", "-d"]).outcome_within(Duration::from_secs(60)).code(0);
    drop(up.says("a  building for 1").says_not("OLD ERROR LINE").says_not("initialising"));
    project.run(&["down"]).code(0);
}

#[test]
fn what_ctrl_c_stops_before_the_start_is_over_has_not_failed() {
    let project = Project::new().procfile(
        r#"
        [services.fine]
        run = "{svc:fine} --listen $PORT"
        port = "auto"
        [services.slow]
        run = "{svc:slow}"
        ready = { file = "never" }
        [services.later]
        run = "{svc:later}"
        depends_on = ["slow"]
        "#,
    );
    let mut terminal = project.terminal(&["up"]);
    terminal.wait_for("healthy after");
    terminal.interrupt();
    let outcome = terminal.outcome().code(130).says("STOPPED AFTER").says_not("failed:");
    drop(outcome.says_not("stopped before the start was over"));
}

#[test]
fn an_attached_start_of_which_a_part_runs_says_what_to_type_next() {
    let project = Project::new().procfile("[services.dead]\nrun = \"sh -c 'exit 4'\"\n[services.fine]\nrun = \"{svc:fine}\"\n");
    let mut up = project.start(&["up"]);
    up.wait_for("devrun why dead    what went wrong");
    up.wait_for("Ctrl-C             stop everything");
    up.signal(nix::sys::signal::Signal::SIGINT);
    drop(up.outcome());
    // Where nothing runs there is nothing to look at.
    let alone = Project::new().procfile("[services.dead]\nrun = \"sh -c 'exit 4'\"\n");
    alone.run(&["up"]).code(1).says("dead  failed: exit 4").says_not("devrun why");
    let detached = Project::new().procfile("[services.dead]\nrun = \"sh -c 'exit 4'\"\n[services.fine]\nrun = \"{svc:fine}\"\n");
    detached.run(&["up", "-d"]).code(1).says("devrun why dead    what went wrong").says("devrun down        stop everything");
    detached.run(&["down"]).code(0);
}

#[test]
fn live_lines_have_a_timer_on_what_runs() {
    let project = Project::new().procfile(
        r#"
        [tasks.venv]
        run = "sleep 3"
        [services.api]
        run = "sleep 1000"
        depends_on = ["venv"]
        "#,
    );
    let mut terminal = project.terminal(&["up"]);
    terminal.wait_for("ready in");
    terminal.interrupt();
    let outcome = terminal.outcome();
    let seconds = |name: &str| {
        let timed = |line: &str| {
            let plain: String = line.split('\u{1b}').map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect();
            plain.contains(name) && plain.trim_end().ends_with(['s']) && plain.contains(|c: char| c.is_ascii_digit())
        };
        outcome.stdout.split(['\r', '\n']).filter(|line| line.contains(name)).any(timed)
    };
    assert!(seconds("venv"), "{outcome}");
    assert!(outcome.stdout.contains("press Ctrl-C again to kill"), "{outcome}");
    let table = outcome.stdout.split("STOPPED AFTER").nth(1).unwrap_or_default();
    assert!(table.contains("api") && !table.contains("venv"), "a task that had ended was not stopped: {outcome}");
}

/// Live lines are redrawn where they stand; what a key echoes would move them.
#[test]
fn keys_leave_no_trace_in_live_lines() {
    let project = Project::new().procfile(
        "[tasks.slow]\nrun = \"sh -c 'until [ -e go ]; do sleep 0.1; done'\"\n\
         [services.web]\nrun = \"{svc:web}\"\ndepends_on = [\"slow\"]\n",
    );
    let mut shell = project.shell_on_terminal();
    shell.send(b"$DEVRUN up\n");
    shell.wait_for("waiting for slow");
    shell.interrupt();
    shell.wait_for("STOPPED AFTER");
    shell.send(b"stty -a > terminal; echo typed$((20 + 3))\n");
    shell.wait_for("typed23");
    assert!(project.read("terminal").split_whitespace().any(|word| word == "echoctl"), "the terminal as it was");
    project.write("go", "");
    shell.send(b"$DEVRUN up\n");
    shell.wait_for("Ctrl-C            stop everything");
    shell.interrupt();
    shell.wait_for_times("STOPPED AFTER", 2);
    shell.send(b"exit\n");
    let shown = shell.outcome().stdout;
    let stops: Vec<&str> = shown.matches("stopping (press").collect();
    assert_eq!(stops.len(), 2, "{shown}");
    assert_eq!(shown.matches("^C").count(), 1, "only where no line was live:\n{shown}");
    assert!(shown.contains("^C\r\nstopping (press"), "{shown}");
    assert!(!shown.contains(|c: char| ('\u{2800}'..='\u{28ff}').contains(&c)), "a spinner:\n{shown}");
}

/// Lines that the terminal has wrapped when it was made narrower are erased whole.
#[test]
fn a_terminal_that_is_resized_keeps_no_pieces_of_live_lines() {
    let project = Project::new().procfile(
        "[tasks.preparation]\nrun = \"sh -c 'until [ -e go ]; do sleep 0.1; done'\"\n\
         [services.web]\nrun = \"{svc:web}\"\ndepends_on = [\"preparation\"]\n\
         [services.worker]\nrun = \"{svc:worker}\"\ndepends_on = [\"preparation\"]\n",
    );
    let Some(tmux) = Tmux::start(&project, 110, 24, "up") else { return skipped("tmux is not installed") };
    tmux.wait_for("waiting for preparation");
    for columns in [50, 24, 18, 120, 30, 110] {
        // The lines are drawn once a second: right after that. What is drawn while the terminal changes its width is beyond us, and tmux
        // tells of a second change a quarter of a second late.
        // Without room for the timer, nothing is drawn.
        let before = tmux.screen();
        if before.lines().any(|line| line.starts_with("preparation") && line.trim_end().ends_with('s')) {
            eventually("the timer advances", PATIENCE, || (tmux.screen() != before).then_some(()));
        }
        tmux.tmux(&format!("resize-window -x {columns} -y 24"));
        // The timer draws the lines again at the new width.
        eventually("one line of each", PATIENCE, || {
            let screen = tmux.screen();
            let of = |name: &str| screen.lines().filter(|line| line.starts_with(name)).count();
            let pieces = screen.lines().filter(|line| line.trim_start().starts_with(['f', 'p', 'w', 'r', 'c', '(', '…'])).count();
            (["preparation", "web ", "worker "].map(of) == [1, 1, 1] && pieces == 3).then_some(())
        });
    }
    project.write("go", "");
    tmux.wait_for("Ctrl-C");
    tmux.keys("C-c");
    tmux.wait_for("left: 130");
}

#[test]
fn an_attached_up_of_a_running_stack_says_that_ctrl_c_detaches() {
    let project = Project::new().procfile("[services.web]\nrun = \"{svc:web}\"\n");
    project.run(&["up", "-d"]).code(0).says_not("Ctrl-C");
    let mut second = project.terminal(&["up"]);
    second.wait_for("detach; the stack keeps running");
    second.interrupt();
    let left = second.outcome().code(0);
    assert!(left.stdout.contains("detached; the stack keeps running"), "{left}");
    assert_eq!(project.service("web")["state"], "running");
    project.run(&["down"]).code(0);
}

/// What another command asks for is summed up there; the time since the start of this run says nothing about it.
#[test]
fn an_attached_up_sums_up_its_own_start_only() {
    let project = Project::new().procfile("[services.web]\nrun = \"{svc:web}\"\n");
    let mut first = project.terminal(&["up"]);
    first.wait_for("Ctrl-C            stop everything");
    project.run(&["restart", "web"]).code(0);
    project.run(&["down"]).code(0);
    let left = first.outcome();
    assert!(left.stdout.contains("stopping: restart"), "{left}");
    assert_eq!(left.stdout.matches("ready in").count(), 1, "{left}");
}

#[test]
fn what_is_started_again_is_not_said_to_have_failed() {
    let project = Project::new().procfile(
        r#"
        [services.crash]
        run = "sh -c 'exit 3'"
        restart = "always"
        [services.fine]
        run = "{svc:fine}"
        "#,
    );
    let up = project.run(&["up", "-d"]).code(1).says("crash is restarting: exit 3 within moments");
    drop(up.says_not("crash failed").says("devrun why crash"));
    project.run(&["down"]).code(0);
}

#[test]
fn a_command_that_does_something_says_so() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n[services.b]\nrun = \"{svc:b}\"\n");
    project.run(&["ps"]).code(0).says("nothing is running; `devrun up -d` starts it").says_not("this is how it ended");
    project.run(&["up", "-d"]).code(0);
    let ls = project.run(&["ls"]).code(0);
    let row = ls.stdout.lines().find(|line| line.contains(&project.dir().display().to_string())).unwrap_or_default();
    assert_eq!(row.split_whitespace().nth(1), Some("-"), "{ls}");
    let pid = project.alive("a")[0].pid;
    project.run(&["kill", "-s", "CONT", "a"]).code(0).says(&format!("a: sent SIGCONT to pid {pid}"));
    project.run(&["stop"]).code(0);
    project.run(&["kill", "a"]).code(0).says("a: not running, nothing was signalled");
    project.run(&["down"]).code(0).says("no service was running; the supervisor has ended");
    project.run(&["ps"]).code(0).says("this is how it ended");
}

#[test]
fn a_stop_names_every_service_that_has_stopped() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"{svc:a}\"\n[services.b]\nrun = \"{svc:b}\"\ndepends_on = [\"a\"]\n[services.c]\nrun = \"{svc:c}\"\n",
    );
    for _ in 0..5 {
        project.run(&["up", "-d"]).code(0);
        let stop = project.run(&["stop"]).code(0);
        for name in ["a", "b", "c"] {
            let stopped = |line: &str| line.split_whitespace().collect::<Vec<_>>().starts_with(&[name, "stopped:"]);
            assert!(stop.stderr.lines().chain(stop.stdout.lines()).any(stopped), "{name}: {stop}");
        }
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
}
