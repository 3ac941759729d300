//! `tty = true` and `devrun attach`.

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, signal};

const CONSOLE: &str = r#"
    [services.console]
    run = ["sh", "con.sh", "{token}"]
    tty = true
    [services.plain]
    run = "{svc:plain}"
"#;

const SCRIPT: &str = r#"
    [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo "all three are a terminal"
    printf 'prompt> '
    while read -r line; do
        case $line in
            size) stty size ;;
            bye) exit 0 ;;
            *) echo "got $line" ;;
        esac
        printf 'prompt> '
    done
"#;

fn console() -> Project {
    let project = Project::new().procfile(CONSOLE);
    project.write("con.sh", SCRIPT);
    project.run(&["up", "-d"]).code(0);
    project
}

/// Shows: service.tty.
#[test]
fn tty_gives_a_terminal_whose_output_is_logged() {
    let project = console();
    eventually("its first line in the log", PATIENCE, || {
        project.run(&["logs", "console"]).code(0).stdout.contains("all three are a terminal").then_some(())
    });
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: attach.
#[test]
fn attach_types_and_shows_and_ctrl_bracket_leaves() {
    let project = console();
    let mut terminal = project.terminal(&["attach", "console"]);
    terminal.wait_for("prompt> ");
    eventually("raw mode", PATIENCE, || (!terminal.is_cooked()).then_some(()));
    terminal.send(b"hello\r");
    terminal.wait_for("got hello");
    // The harness makes its terminals 30 rows of 100 columns.
    terminal.send(b"size\r");
    terminal.wait_for("30 100");
    terminal.send(b"\x1d");
    eventually("the terminal as it was", PATIENCE, || terminal.is_cooked().then_some(()));
    let left = terminal.outcome().code(0);
    assert!(left.stdout.contains("detached from console"), "{left}");
    assert_eq!(project.service("console")["state"], "running", "detaching ends nothing");
    project.run(&["logs", "console"]).code(0).says("got hello");

    // Ctrl-C goes to the service, as at any terminal.
    let mut again = project.terminal(&["attach", "console"]);
    again.wait_for("prompt> ");
    again.interrupt();
    let ended = again.outcome().code(0);
    assert!(ended.stdout.contains("console has ended"), "{ended}");
}

/// More than the terminal takes, for a service that reads nothing: with as many writers as the machine has processors, a writer that
/// does not end with the service would leave the supervisor none.
#[test]
fn keys_that_are_not_read_hold_up_no_stop() {
    let project = Project::new().procfile("[services.deaf]\nrun = \"sleep 1000\"\ntty = true\n");
    project.run(&["up", "-d"]).code(0);
    for _ in 0..2 * crate::runner::cores() {
        project.start_in_shell("yes | head -c 100000 | timeout 2 $0 attach deaf; true").outcome().code(0);
    }
    let before = project.service("deaf")["pid"].clone();
    project.run(&["restart", "deaf"]).code(0);
    assert_ne!(project.service("deaf")["pid"], before);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// More than terminal, queue and connection take together, for a service that begins to read late: all of it arrives.
#[test]
fn keys_wait_for_a_service_that_reads_late() {
    let project = Project::new().procfile(
        "[services.late]\nrun = [\"sh\", \"-c\", \"stty raw -echo; echo deaf; until [ -e go ]; do sleep 0.05; done; head -c 2000000 | wc -c; sleep 1000\"]\ntty = true\n",
    );
    project.run(&["up", "-d"]).code(0);
    let log = |text: &str| eventually(text, PATIENCE, || project.run(&["logs", "late"]).stdout.contains(text).then_some(()));
    log("deaf");
    let attached = project.start_in_shell("yes | head -c 2000000 | $0 attach late >/dev/null");
    // The input does not end while nothing is read, and the stack can be looked at and stopped.
    let second = std::time::Duration::from_secs(1);
    crate::waits::stays_true_for("the pipe waits", second, || !attached.stderr().contains("end of input"));
    assert_eq!(project.service("late")["state"], "running");
    project.write("go", "");
    log("2000000");
    eventually("the end of the input", PATIENCE, || attached.stderr().contains("end of input").then_some(()));
    project.run(&["down"]).code(0);
    attached.outcome();
    project.nothing_left();
}

/// A client that has gone is noticed also while nothing of what it sent is read, and Ctrl-] leaves a service that reads nothing.
#[test]
fn a_service_that_reads_nothing_can_be_left() {
    let project = Project::new()
        .procfile("[services.deaf]\nrun = [\"sh\", \"-c\", \"stty raw -echo; echo deaf; exec sleep 1000\"]\ntty = true\n");
    project.run(&["up", "-d"]).code(0);
    eventually("it is deaf", PATIENCE, || project.run(&["logs", "deaf"]).stdout.contains("deaf").then_some(()));
    let supervisor = project.supervisor();
    let sockets = || {
        let open = std::fs::read_dir(format!("/proc/{supervisor}/fd")).expect("it runs").flatten();
        open.filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter(|to| to.to_string_lossy().starts_with("socket:"))
            .count()
    };
    let before = sockets();
    project.start_in_shell("yes | head -c 2000000 | timeout 1 $0 attach deaf; true").outcome().code(0);
    eventually("its connection is closed", PATIENCE, || (sockets() <= before).then_some(()));
    let mut terminal = project.terminal(&["attach", "deaf"]);
    eventually("raw mode", PATIENCE, || (!terminal.is_cooked()).then_some(()));
    // Until keys are lost, which rings the bell: how many are read at once is up to the machine.
    eventually("the bell", PATIENCE, || {
        (0..50).for_each(|_| terminal.send(&[b'x'; 2000]));
        (terminal.count_of("\x07") > 0).then_some(())
    });
    terminal.send(b"\x1d");
    let left = terminal.outcome().code(0);
    assert!(left.stdout.contains("detached from deaf; it keeps running; keys that it has not read are lost"), "{left}");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// More than the buffers of the connection take in either direction, for a service that answers all of it.
#[test]
fn much_input_that_is_echoed_does_not_block_the_connection() {
    let project = Project::new().procfile("[services.echo]\nrun = \"cat\"\ntty = true\n");
    project.run(&["up", "-d"]).code(0);
    let attached = project.start_in_shell("yes | head -c 1000000 | $0 attach echo >/dev/null");
    eventually("the end of the input", PATIENCE, || attached.stderr().contains("end of input").then_some(()));
    project.run(&["stop", "echo"]).code(0);
    attached.outcome().code(0).says("echo has ended");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// What a viewer does not read is not kept for it for ever, and it does not report an end of the service or the supervisor.
#[test]
fn a_viewer_that_does_not_read_is_told_that_it_was_too_slow() {
    let project = Project::new().procfile("[services.flood]\nrun = \"yes a line of output\"\ntty = true\n");
    project.run(&["up", "-d"]).code(0);
    let viewer = project.start(&["attach", "flood"]);
    eventually("its output", PATIENCE, || viewer.stdout().contains("a line").then_some(()));
    signal(viewer.pid(), Signal::SIGSTOP);
    crate::waits::let_time_pass("the supervisor gives up on a viewer after 5 s", std::time::Duration::from_secs(7));
    signal(viewer.pid(), Signal::SIGCONT);
    viewer.outcome().code(6).says("the output of flood was not read in time").says_not("has ended");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn the_terminal_is_given_back_on_every_way_out() {
    let project = console();
    let raw = |project: &Project| {
        let terminal = project.terminal(&["attach", "console"]);
        eventually("raw mode", PATIENCE, || (!terminal.is_cooked()).then_some(()));
        terminal
    };
    // By a signal.
    for (number, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let terminal = raw(&project);
        signal(terminal.pid(), number);
        eventually("cooked after a signal", PATIENCE, || terminal.is_cooked().then_some(()));
        terminal.outcome().code(code);
    }
    // By the service's own end.
    let mut terminal = raw(&project);
    terminal.send(b"bye\r");
    eventually("cooked after its end", PATIENCE, || terminal.is_cooked().then_some(()));
    terminal.outcome().code(0);
    // By the supervisor's end.
    project.wait_state("console", "completed");
    project.run(&["start", "console"]).code(0);
    let terminal = raw(&project);
    project.run(&["down"]).code(0);
    eventually("cooked after down", PATIENCE, || terminal.is_cooked().then_some(()));
    let code = terminal.outcome().code;
    assert!(matches!(code, Some(0 | 6)), "{code:?}");
    project.nothing_left();
}

#[test]
fn attach_says_who_has_no_terminal() {
    let project = console();
    project.run(&["attach", "plain"]).code(2).says("tty = true");
    project.run(&["attach", "nobody"]).code(2).says("nobody");
    project.run(&["stop", "console"]).code(0);
    project.run(&["attach", "console"]).code(6).says("devrun start console");
    project.run(&["down"]).code(0);
    project.run(&["attach", "console"]).code(6).says("nothing is running");
}

/// Piped, the keys are the pipe's bytes and the screen goes to stdout.
#[test]
fn attach_works_in_a_pipe() {
    let project = console();
    let out = project.run_in_shell("printf 'piped\\rbye\\r' | \"$0\" attach console");
    assert!(out.code == Some(0) && out.stdout.contains("got piped"), "{out}");
}

/// As with `docker attach`: the end of a pipe's input ends nothing, and it is said how long the output is shown.
#[test]
fn the_end_of_a_pipe_shows_the_output_until_the_service_ends() {
    let project = console();
    let piped = project.start_in_shell("exec \"$0\" attach console </dev/null");
    eventually("the line about the end of input", PATIENCE, || {
        piped.stderr().contains("end of input: showing the output of console until it ends").then_some(())
    });
    assert_eq!(project.service("console")["state"], "running", "the service got no end of file");
    project.run(&["stop", "console"]).code(0);
    piped.outcome().code(0).says("console has ended");
}
