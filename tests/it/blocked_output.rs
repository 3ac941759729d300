//! An attached `up` whose reader stops reading, or goes away.

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually};

const FLOOD: &str =
    "[services.a]\nrun = [\"sh\", \"-c\", \"yes a line of output\", \"{token}\"]\n[services.b]\nrun = \"{svc:b}\"\n";

/// `$1`: how `up` is called. Nobody reads the pipe, which the shell keeps open.
const SCRIPT: &str = r#"
rm -f .devrun/logs/a.log.1; mkfifo pipe; exec 3<>pipe
"$0" up >pipe 2>&1 3>&- &
up=$!
until "$0" ps --json | grep -q '"state":"running"'; do sleep 0.05; done
# A start that a stop overtakes has failed: this one waits for its end.
"$0" up -d >/dev/null 2>&1
# Far more than a pipe holds has been written once the first log file is full.
until test -e .devrun/logs/a.log.1; do sleep 0.05; done
"$0" down >/dev/null 2>&1; echo "down $?"
wait $up; echo "up $?"
"#;

#[test]
fn a_reader_that_stops_reading_holds_up_neither_the_end_nor_the_next_start() {
    let project = Project::new().procfile(FLOOD);
    let both = project.start_in_shell(SCRIPT).outcome_within(PATIENCE * 2);
    assert_eq!(both.stdout, "down 0\nup 0\n", "{both}");
    project.nothing_left();
    project.run(&["up", "-d"]).code(0);
    // Attached to a stack that was up: the viewer ends with it.
    let script = SCRIPT.replace("mkfifo pipe; ", "rm -f pipe; mkfifo pipe; ");
    let both = project.start_in_shell(&script).outcome_within(PATIENCE * 2);
    assert_eq!(both.stdout, "down 0\nup 0\n", "{both}");
    project.nothing_left();
}

/// A command that only follows ends when its reader is gone, also where nothing is written any more.
#[test]
fn what_follows_ends_with_its_reader_also_when_nothing_happens() {
    let project = Project::new().procfile("[services.b]\nrun = \"{svc:b} --say hello\"\n");
    project.run(&["up", "-d"]).code(0);
    for words in [&["logs", "-f"][..], &["logs", "-f", "--json"], &["events", "-f"], &["ps", "--watch"]] {
        let mut viewer = project.start(words);
        viewer.wait_for("b");
        viewer.close_stdout();
        viewer.outcome_within(PATIENCE).code(0);
    }
    project.run(&["down"]).code(0);
}

#[test]
fn what_follows_into_a_full_pipe_ends_at_a_signal() {
    let project = Project::new().procfile(FLOOD);
    project.run(&["up", "-d"]).code(0);
    for signal in ["TERM", "INT"] {
        // The pipe has no reader, and the shell keeps it open. A shell's background jobs ignore INT by default.
        let script = format!(
            r#"rm -f pipe; mkfifo pipe; exec 3<>pipe
            env --default-signal=INT "$0" logs -f >pipe 3>&- & viewer=$!
            until grep -q pipe /proc/$viewer/wchan; do sleep 0.05; done
            kill -{signal} $viewer; wait $viewer; echo "ended $?""#
        );
        let number = if signal == "TERM" { 143 } else { 130 };
        let ended = project.start_in_shell(&script).outcome_within(PATIENCE);
        assert_eq!(ended.stdout, format!("ended {number}\n"), "{ended}");
    }
    project.run(&["down"]).code(0);
}

#[test]
fn a_reader_that_goes_away_leaves_the_stack_up() {
    let project = Project::new().procfile(FLOOD);
    let mut up = project.start(&["up"]);
    up.wait_for("a line of output");
    up.close_stdout();
    // Far more than a pipe holds is written after that.
    let written = || std::fs::metadata(project.path(".devrun/logs/a.log")).map_or(0, |meta| meta.len());
    let before = written();
    eventually("the service keeps running", PATIENCE, || (written() != before).then_some(()));
    assert_eq!(project.service("b")["state"], "running");
    up.signal(Signal::SIGINT);
    up.outcome().code(130);
    project.nothing_left();
}
