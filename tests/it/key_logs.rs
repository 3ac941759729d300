//! `log`, `log_files`, and the flags of `logs`.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{PATIENCE, Project, eventually};

/// Shows: service.log, log.format.
#[test]
fn log_format_json_keeps_envelopes_and_logs_reads_them() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = ["sh", "-c", "echo out; echo '{\"own\":1}'; echo err >&2; exec sleep 1000"]
        log = { format = "json" }
        [services.b]
        run = ["sh", "-c", "echo plain; exec sleep 1000"]
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    eventually("all lines", PATIENCE, || {
        let text = project.run(&["logs"]).code(0).stdout;
        ["a | out", "a | {\"own\":1}", "a | err", "b | plain"].iter().all(|line| text.contains(line)).then_some(())
    });
    let file = project.read(".devrun/logs/a.log");
    for line in file.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|fault| panic!("{line:?}: {fault}"));
        let keys: Vec<&String> = value.as_object().expect("an object").keys().collect();
        assert_eq!(keys.len(), 3, "{line}");
        let ts = value["ts"].as_str().expect("a time");
        assert!(ts.len() == 27 && ts.ends_with('Z'), "{ts}");
    }
    let find =
        |text: &str| file.lines().find(|line| line.contains(text)).map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(find("err").expect("the line")["stream"], "stderr");
    assert_eq!(find("own").expect("the line")["line"], "{\"own\":1}");
    assert_eq!(project.read(".devrun/logs/b.log"), "plain\n");
    let json = project.run(&["logs", "--json", "a"]).code(0).json_lines();
    assert!(json.iter().any(|line| line["line"] == "out" && line["stream"] == "stdout"), "{json:#?}");
}

/// Shows: log.max_size, log.max_files.
#[test]
fn log_max_size_and_max_files_bound_what_is_kept() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = ["sh", "-c", "i=0; while [ $i -lt 5000 ]; do echo \"line $i\"; i=$((i+1)); done; sleep 1; echo the end; exec sleep 1000"]
        log = { max_size = "4K", max_files = 2 }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    eventually("the last line", PATIENCE, || project.run(&["logs", "-n", "1", "a"]).stdout.contains("the end").then_some(()));
    let logs: Vec<(String, u64)> = fs::read_dir(project.path(".devrun/logs"))
        .expect("the logs")
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("a file").len()))
        .filter(|(name, _)| name.starts_with("a.log"))
        .collect();
    assert_eq!(logs.len(), 2, "the live file counts: {logs:?}");
    // Pieces are whole reads of the pipe, and a piece is never cut.
    assert!(logs.iter().all(|(_, size)| *size < 300 * 1024), "{logs:?}");
}

/// Shows: service.log_files.
#[test]
fn log_files_are_followed_and_shown_by_name() {
    let project = Project::new().procfile(
        r#"
        [services.web]
        run = ["sh", "-c", "mkdir -p var; echo main; echo first >> var/access.log; while [ ! -e go ]; do sleep 0.05; done; echo second >> var/access.log; exec sleep 1000"]
        log_files = ["var/access.log"]
        "#,
    );
    project.write("var/access.log", "from an earlier life\n");
    project.run(&["up", "-d"]).code(0);
    // What was there before the start is old.
    project.write("go", "");
    let logs = eventually("the second line", PATIENCE, || {
        let logs = project.run(&["logs", "web"]).code(0);
        logs.stdout.lines().any(|line| line == "web/access.log | second").then_some(logs)
    });
    assert!(!logs.stdout.contains("an earlier life"), "{logs}");
    assert!(logs.stdout.lines().any(|line| line.ends_with("| main")), "{logs}");
    project.run(&["logs", "--no-prefix", "web/access.log"]).code(0).says("second").says_not("main");
    let json = project.run(&["logs", "--json"]).code(0).json_lines();
    assert!(json.iter().any(|line| line["service"] == "web/access.log" && line["line"] == "second"), "{json:#?}");
    project.run(&["down"]).code(0);
    project.run(&["logs"]).code(0).says("second");
    project.nothing_left();
}

/// Shows: logs, logs --since, logs --until, logs --grep, logs --tail.
#[test]
fn logs_since_until_grep_timestamps_and_tail_narrow() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = ["sh", "-c", "echo early one; echo early two; while [ ! -e go ]; do sleep 0.05; done; echo late error; echo late fine; exec sleep 1000"]
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let stamped = eventually("the early lines", PATIENCE, || {
        let logs = project.run(&["logs", "-t", "--no-prefix", "a"]).code(0);
        (logs.stdout.lines().count() == 2).then_some(logs)
    });
    let stamp = stamped.stdout.lines().last().and_then(|line| line.split(' ').next()).expect("a stamp").to_owned();
    assert!(stamp.len() == 27 && stamp.ends_with('Z'), "{stamp}");
    project.write("go", "");
    let text = |args: &[&str]| project.run(&[&["logs", "--no-prefix", "a"], args].concat()).code(0).stdout;
    eventually("the late lines", PATIENCE, || text(&[]).contains("late fine").then_some(()));
    assert_eq!(text(&["--until", &stamp]), "early one\nearly two\n");
    assert_eq!(text(&["--grep", "err|two"]), "early two\nlate error\n");
    assert_eq!(text(&["-n", "1"]), "late fine\n");
    assert_eq!(text(&["-n", "1", "--grep", "early"]), "early two\n", "matching lines are counted");
    assert_eq!(text(&["-n", "5", "--grep", "early"]), "early one\nearly two\n");
    assert_eq!(text(&["--tail", "3"]), "early two\nlate error\nlate fine\n");
    assert_eq!(text(&["--since", "1h"]).lines().count(), 4);
    assert_eq!(text(&["--since", "2100-01-01T00:00:00Z"]), "");
    project.run(&["logs", "--since", "yesterday"]).code(2).says("invalid time");
    let refused = project.run(&["logs", "--grep", "("]).code(2);
    assert!(refused.last_line().ends_with("invalid --grep pattern: unclosed group"), "{refused}");
    project.run(&["logs", "-n", "few"]).code(2).says("--tail");
}

#[test]
fn follow_goes_on_over_a_rotation() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = ["sh", "-c", "i=0; while :; do echo \"line $i\"; i=$((i+1)); sleep 0.004; done"]
        log = { max_size = "1K", max_files = 3 }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let follow = project.start(&["logs", "-f", "-n", "0", "--no-prefix", "a"]);
    eventually("300 lines", PATIENCE, || (follow.stdout().lines().count() > 300).then_some(()));
    follow.signal(Signal::SIGINT);
    let seen = follow.outcome().stdout;
    let numbers: Vec<u64> =
        seen.lines().filter_map(|line| line.strip_prefix("line ")).filter_map(|number| number.parse().ok()).collect();
    let first = *numbers.first().expect("lines");
    let gap = numbers.iter().zip(first..).find(|(seen, wanted)| **seen != *wanted);
    assert!(gap.is_none(), "no line is lost or shown twice: {gap:?}");
}

/// A service that writes a title, a clipboard and a cleared screen: of all that, a terminal gets the colours.
/// Shows: devrun --color, logs --no-prefix.
#[test]
fn only_colours_reach_a_terminal() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = ["sh", "-c", "printf '\\033[31mred\\033[0m \\033]0;title\\007\\033]52;c;aGk=\\007\\033[2J\\033[?1049hend\\n'; exec sleep 1000"]
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    eventually("the line", PATIENCE, || project.run(&["logs"]).code(0).stdout.contains("end").then_some(()));
    let shown = project.terminal(&["logs", "a"]).outcome().code(0).stdout;
    assert!(shown.contains("\x1b[31mred\x1b[0m"), "{shown:?}");
    for bad in ["title", "aGk=", "\x1b[2J", "\x1b[?1049h", "\x1b]"] {
        assert!(!shown.contains(bad), "{bad:?} in {shown:?}");
    }
    // A pipe gets the bytes.
    assert!(project.run(&["logs", "--no-prefix", "a"]).code(0).stdout.contains("\x1b]0;title"));
    let plain = project.terminal(&["--color", "never", "logs", "a"]).outcome().code(0).stdout;
    assert!(plain.contains("red") && !plain.contains('\x1b'), "{plain:?}");
}
