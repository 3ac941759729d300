//! Ctrl-Z and `fg` in a shell on a terminal: the command waits, the services run on, the terminal stays usable. Those of an attached `up`
//! are in `case_signals.rs`.

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, Terminal, eventually, signal};

/// `T`: stopped.
fn state(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next().map(str::to_owned)).unwrap_or_default()
}

/// The processes of this project whose command line begins with the binary and holds `word`.
fn commands(project: &Project, word: &str) -> Vec<i32> {
    let started = |command: &str| command.split(' ').next().is_some_and(|program| program.ends_with("/devrun"));
    let all = project.leftovers().into_iter();
    all.filter(|process| started(&process.command) && process.command.contains(word)).map(|process| process.pid).collect()
}

/// Presses Ctrl-Z, and waits until the command is stopped and the shell has its terminal back.
fn suspend(project: &Project, shell: &mut Terminal, word: &str) -> i32 {
    shell.send(&[26]);
    shell.wait_for("Stopped");
    let pid =
        eventually("the command is stopped", PATIENCE, || commands(project, word).into_iter().find(|pid| state(*pid) == "T"));
    shell.send(b"echo typed$((20 + 3))\n");
    shell.wait_for("typed23");
    pid
}

fn leave(project: &Project, mut shell: Terminal) {
    project.nothing_left_but_shell();
    eventually("the terminal is as the shell left it", PATIENCE, || {
        // A line editor takes single keys while it waits for a command; `stty` shows what commands get.
        shell.send(b"stty -a > terminal\n");
        let text = project.read("terminal");
        let words: Vec<&str> = text.split_whitespace().collect();
        ["icanon", "echo", "isig"].iter().all(|word| words.contains(word)).then_some(())
    });
    shell.send(b"exit\n");
    shell.outcome();
}

#[test]
fn a_run_that_is_suspended_goes_on_with_its_stack() {
    let project = Project::new().procfile("[services.web]\nrun = \"{svc:web} --listen $PORT\"\nport = \"auto\"\n");
    let mut shell = project.shell_on_terminal();
    shell.send(b"$DEVRUN run -- sh -c 'touch begun; until [ -e go ]; do sleep 0.1; done; echo fini''shed'\n");
    eventually("the command", PATIENCE, || project.path("begun").exists().then_some(()));
    let web = project.alive("web")[0].pid;
    suspend(&project, &mut shell, " run ");
    assert!(["S", "R"].contains(&state(web).as_str()), "the service is {}", state(web));
    project.write("go", "");
    shell.send(b"fg\n");
    shell.wait_for("finished");
    leave(&project, shell);
}

#[test]
fn an_exec_that_is_suspended_goes_on_in_the_foreground() {
    let project = Project::new().procfile("[services.web]\nrun = \"{svc:web}\"\n");
    project.run(&["up", "-d"]).code(0);
    let web = project.alive("web")[0].pid;
    let mut shell = project.shell_on_terminal();
    shell.send(b"$DEVRUN exec web -- sh -c 'touch begun; until [ -e go ]; do sleep 0.1; done; echo fini''shed'\n");
    eventually("the command", PATIENCE, || project.path("begun").exists().then_some(()));
    suspend(&project, &mut shell, " exec ");
    assert_eq!(project.service("web")["pid"], web, "the stack answers meanwhile");
    project.write("go", "");
    shell.send(b"fg\n");
    shell.wait_for("finished");
    project.run(&["down"]).code(0);
    leave(&project, shell);
}

#[test]
fn logs_that_are_suspended_miss_no_line() {
    let project =
        Project::new().procfile("[services.web]\nrun = \"sh -c 'while :; do cat lines; : > lines; sleep 0.1; done'\"\n");
    project.write("lines", "line-one\n");
    project.run(&["up", "-d"]).code(0);
    let mut shell = project.shell_on_terminal();
    shell.send(b"$DEVRUN logs -f\n");
    shell.wait_for("line-one");
    suspend(&project, &mut shell, " logs ");
    project.write("lines", "line-two\n");
    eventually("the line is in the log", PATIENCE, || {
        project.run(&["logs", "web"]).code(0).stdout.contains("line-two").then_some(())
    });
    shell.send(b"fg\n");
    shell.wait_for("line-two");
    shell.interrupt();
    project.run(&["down"]).code(0);
    leave(&project, shell);
}

/// What the terminal shows after a full screen was left.
const LEFT: &str = "\x1b[?1049l";

#[test]
fn a_dashboard_that_is_suspended_gives_the_terminal_back_and_comes_back() {
    let project = Project::new().procfile("[services.web]\nrun = \"{svc:web}\"\n");
    project.run(&["up", "-d"]).code(0);
    let mut shell = project.shell_on_terminal();
    for (times, from_outside) in [(1, false), (2, true)] {
        shell.send(if from_outside { b"fg\n" } else { b"$DEVRUN ui\n" });
        shell.wait_for_times("\x1b[?1049h", times);
        if from_outside {
            let pid = commands(&project, " ui")[0];
            signal(pid, Signal::SIGTSTP);
        } else {
            shell.send(&[26]);
        }
        shell.wait_for_times(LEFT, times);
        shell.wait_for_times("Stopped", times);
        assert_eq!(project.service("web")["state"], "running", "the stack answers meanwhile");
        shell.send(format!("echo typed$((20 + {times}))\n").as_bytes());
        shell.wait_for(&format!("typed{}", 20 + times));
    }
    // What has changed meanwhile is shown.
    project.run(&["stop", "web"]).code(0);
    shell.send(b"fg\n");
    shell.wait_for_times("\x1b[?1049h", 3);
    shell.wait_for("stopped");
    shell.send(b"q");
    shell.wait_for_times(LEFT, 3);
    project.run(&["down"]).code(0);
    leave(&project, shell);
}

/// Ctrl-Z itself is the service's.
#[test]
fn an_attached_terminal_that_is_suspended_from_outside_is_given_back() {
    let project = Project::new().procfile("[services.console]\nrun = [\"sh\", \"con.sh\", \"{token}\"]\ntty = true\n");
    project.write("con.sh", "while read -r line; do echo got $line; done\n");
    project.run(&["up", "-d"]).code(0);
    let mut shell = project.shell_on_terminal();
    shell.send(b"$DEVRUN attach console\n");
    shell.wait_for("attached to console");
    shell.send(b"one\r");
    shell.wait_for("got one");
    let attached = commands(&project, " attach ")[0];
    shell.send(&[26]);
    shell.send(b"\rtwo\r");
    shell.wait_for("got two");
    assert_ne!(state(attached), "T");
    signal(attached, Signal::SIGTSTP);
    shell.wait_for("Stopped");
    shell.send(b"stty -a > terminal; echo typed$((20 + 3))\n");
    shell.wait_for("typed23");
    assert!(project.read("terminal").split_whitespace().any(|word| word == "icanon"));
    shell.send(b"fg\nthree\r");
    shell.wait_for("got three");
    shell.send(b"\x1d");
    shell.wait_for("detached from console");
    project.run(&["down"]).code(0);
    leave(&project, shell);
}
