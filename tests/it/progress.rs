//! What a start says while it goes, and in its last line.

use std::time::Duration;

use crate::harness::Project;

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
