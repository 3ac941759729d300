//! What services print: kept byte for byte on disk, shown merged and harmless.

use serde_json::Value;

use crate::harness::{PATIENCE, Project, eventually};

#[test]
fn logs_are_merged_with_prefixes_and_readable_after_down() {
    let project = Project::new().procfile(
        r#"
        [services.one]
        run = "sh -c 'echo from one; echo err one >&2; exec sleep 1000'"
        [services.two]
        run = "sh -c 'echo from two; exec sleep 1000'"
        [tasks.job]
        run = "sh -c 'echo from job'"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let complete = |text: &str| ["from one", "err one", "from two", "from job"].iter().all(|line| text.contains(line));
    eventually("all lines", PATIENCE, || complete(&project.run(&["logs"]).code(0).stdout).then_some(()));
    project.run(&["down"]).code(0);

    let logs = project.run(&["logs"]).code(0);
    assert!(complete(&logs.stdout), "after down\n{logs}");
    let line = logs.stdout.lines().find(|line| line.contains("from one")).expect("found above");
    assert!(line.starts_with("one"), "prefixed: {line:?}");
    assert!(!logs.stdout.contains('\x1b'), "no escape codes outside a terminal");

    let only = project.run(&["logs", "two"]).code(0);
    assert!(only.stdout.contains("from two") && !only.stdout.contains("from one"), "{only}");
    let bare = project.run(&["logs", "--no-prefix", "two"]).code(0);
    assert!(bare.stdout.lines().any(|line| line == "from two"), "{bare}");
    project.run(&["logs", "nobody"]).code(2).says("nobody");
}

/// Shows: logs --json*.
#[test]
fn logs_json_has_exactly_the_keys_of_the_contract() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh -c 'echo out; echo err >&2; exec sleep 1000'\"\n");
    project.run(&["up", "-d"]).code(0);
    let lines = eventually("both lines", PATIENCE, || {
        let lines = project.run(&["logs", "--json"]).code(0).json_lines();
        let has = |text: &str| lines.iter().any(|line| line["line"] == text);
        (has("out") && has("err")).then_some(lines)
    });
    for line in &lines {
        let mut keys: Vec<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["line", "replica", "service", "stream", "ts"]);
    }
    let stream = |text: &str| lines.iter().find(|line| line["line"] == text).map(|line| line["stream"].clone());
    assert_eq!((stream("out"), stream("err")), (Some(Value::from("stdout")), Some(Value::from("stderr"))));
}

/// As docker compose counts: how its process ended is not a line of its output.
#[test]
fn tail_counts_the_output_of_a_service() {
    let project = Project::new()
        .procfile("[services.a]\nrun = \"sh -c 'echo first; echo last; exit 3'\"\n[services.mute]\nrun = \"sh -c 'exit 4'\"\n");
    project.run(&["up", "-d"]).code(1);
    project.run(&["logs", "a"]).code(0).says("a | first\na | last\n").says("exited with 3");
    assert_eq!(project.run(&["logs", "-n", "1", "a"]).code(0).stdout, "a | last\n");
    project.run(&["logs", "-n", "5", "mute"]).code(0).says("exited with 4");
    project.run(&["down"]).code(0);
}

#[test]
fn tail_counts_lines_and_follow_survives_a_restart() {
    let project = Project::new()
        .procfile("[services.a]\nrun = \"sh a.sh\"\nrestart = \"always\"\nbackoff = { initial = \"20ms\", max = \"50ms\" }\n");
    project.write(
        "a.sh",
        "for n in 1 2 3 4 5; do echo \"line $n\"; done\ntouch ready\nwhile [ ! -e end ]; do sleep 0.02; done\nrm end\n",
    );
    project.run(&["up", "-d"]).code(0);
    eventually("five lines", PATIENCE, || project.run(&["logs", "a"]).code(0).stdout.contains("line 5").then_some(()));
    let tail = project.run(&["logs", "--no-prefix", "-n", "2", "a"]).code(0);
    assert_eq!(tail.stdout, "line 4\nline 5\n", "{tail}");

    let mut follow = project.start(&["logs", "-f", "-n", "0", "--no-prefix", "a"]);
    // Follow has no line of its own that says it listens: restarts go on until one is seen.
    eventually("a restart seen by follow", PATIENCE, || {
        if !project.path("end").exists() {
            project.write("end", "");
        }
        follow.stdout().contains("line 1").then_some(())
    });
    follow.wait_for("line 5");
    follow.signal(nix::sys::signal::Signal::SIGINT);
    let ended = follow.outcome();
    // A shell says 130 for either end.
    assert!(matches!((ended.code, ended.signal), (Some(0 | 130), _) | (_, Some(libc::SIGINT))), "{ended}");
    assert_eq!(project.wait_state("a", "running")["state"], "running", "the viewer's end is not the stack's");
}

#[test]
fn bytes_that_are_no_text_are_kept_and_harmless() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh a.sh\"\n");
    // Invalid UTF-8, a title and a clipboard escape, a carriage return, a last line without its end.
    project.write("a.sh", "printf 'bad \\377\\376 bytes\\n'\nprintf 'title \\033]0;pwned\\007 clip \\033]52;c;AAAA\\007 end\\n'\nprintf 'no newline'\nexec sleep 1000\n");
    project.run(&["up", "-d"]).code(0);
    let raw = eventually("the log file", PATIENCE, || {
        let raw = std::fs::read(project.path(".devrun/logs/a.log")).unwrap_or_default();
        raw.windows(5).any(|window| window == b"clip ").then_some(raw)
    });
    assert!(raw.windows(2).any(|window| window == [0xff, 0xfe]), "the file keeps the bytes");
    assert!(raw.windows(4).any(|window| window == b"\x1b]52"), "the file keeps the bytes");
    // On a terminal nothing but text and colours arrives; a pipe gets the bytes as they are.
    let shown = project.terminal(&["logs", "a"]).outcome().code(0);
    assert!(!shown.stdout.contains("\x1b]") && !shown.stdout.contains('\x07'), "{shown}");
    assert!(shown.stdout.contains("bad") && shown.stdout.contains("end"), "{shown}");
    project.run(&["down"]).code(0);
    assert!(project.run(&["logs", "a"]).code(0).stdout.contains("no newline"), "a last line without its end is a line");
}

#[test]
fn an_endless_line_fills_no_memory_and_holds_nobody_up() {
    let project = Project::new().procfile(
        r#"
        [services.endless]
        run = "sh -c 'head -c 30000000 /dev/zero | tr \\\\0 x; touch written; exec sleep 1000'"
        [services.other]
        run = "sh -c 'while :; do echo tick; sleep 0.1; done'"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    eventually("thirty megabytes were taken", PATIENCE, || project.path("written").exists().then_some(()));
    let supervisor = project.supervisor();
    let status = std::fs::read_to_string(format!("/proc/{supervisor}/status")).expect("it lives");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells");
    let peak: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("kilobytes");
    assert!(peak < 150_000, "peak {peak} kB");
    assert!(project.run(&["logs", "-n", "5", "other"]).code(0).stdout.contains("tick"));
}

#[test]
fn a_log_file_is_rotated_and_kept_within_its_limit() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "sh a.sh"
        log = { max_size = "256K", max_files = 2 }
        "#,
    );
    project.write("a.sh", "seq -f 'line %g 0123456789012345678901234567890123456789' 0 39999\ntouch written\nexec sleep 1000\n");
    project.run(&["up", "-d"]).code(0);
    eventually("all lines were written", PATIENCE, || project.path("written").exists().then_some(()));
    eventually("the last line is in the log", PATIENCE, || {
        project.run(&["logs", "-n", "1", "a"]).stdout.contains("line 39999").then_some(())
    });
    let mut total = 0;
    let mut files = 0;
    for entry in std::fs::read_dir(project.path(".devrun/logs")).expect("the logs").flatten() {
        if entry.file_name().to_string_lossy().starts_with("a.log") {
            files += 1;
            total += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    assert!(files <= 2, "{files} files");
    // A file is rotated between two reads, so it may be one read too long.
    assert!(total <= 1024 * 1024, "{total} bytes of more than two megabytes");
}

#[test]
fn an_attached_up_shows_the_merged_lines() {
    let project = Project::new().procfile(
        "[services.one]\nrun = \"sh -c 'echo from one; exec sleep 1000'\"\n[services.two]\nrun = \"sh -c 'echo from two; exec sleep 1000'\"\n",
    );
    let mut running = project.start(&["up"]);
    running.wait_for("from one");
    running.wait_for("from two");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = running.outcome().code(143);
    assert!(ended.stdout.lines().any(|line| line.starts_with("one") && line.contains("from one")), "{ended}");
    assert!(!ended.stdout.contains('\x1b') && !ended.stderr.contains('\x1b'), "{ended}");
    project.nothing_left();
}
