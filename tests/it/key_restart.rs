//! `restart` and `backoff`, end to end: policy × way to end.

use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Project, eventually, signal};

/// Each service notes its starts in a file of its name.
fn starts(project: &Project, name: &str) -> usize {
    project.read(&format!("{name}.starts")).lines().count()
}

fn quick(name: &str, policy: &str, code: i32) -> String {
    format!(
        "[services.{name}]\nrun = [\"sh\", \"-c\", \"echo x >> {name}.starts; exit {code}\"]\nrestart = \"{policy}\"\n\
         backoff = {{ initial = \"150ms\", max = \"300ms\" }}\n"
    )
}

/// Shows: service.restart.
#[test]
fn the_four_policies_against_every_end() {
    let mut text = String::from("[services.anchor]\nrun = \"{svc:anchor}\"\n");
    for (name, policy, code) in [
        ("no-ok", "no", 0),
        ("no-bad", "no", 1),
        ("fail-ok", "on-failure", 0),
        ("fail-bad", "on-failure", 1),
        ("fail-two", "on-failure:2", 1),
        ("fail-zero", "on-failure:0", 1),
        ("always-ok", "always", 0),
        ("always-bad", "always", 1),
        ("unless-ok", "unless-stopped", 0),
        ("unless-bad", "unless-stopped", 1),
    ] {
        text.push_str(&quick(name, policy, code));
    }
    let project = Project::new().procfile(&text);
    // Five crash loops are hardly ever all up at one moment, so the start would not settle.
    project.run(&["up", "-d", "--no-wait"]).code(0);
    for name in ["fail-bad", "always-ok", "always-bad", "unless-ok", "unless-bad"] {
        eventually(&format!("{name} comes back again and again"), PATIENCE, || (starts(&project, name) > 5).then_some(()));
    }
    for (name, state, count) in [
        ("no-ok", "completed", 1),
        ("no-bad", "failed", 1),
        ("fail-ok", "completed", 1),
        ("fail-two", "failed", 3),
        ("fail-zero", "failed", 1),
    ] {
        project.wait_state(name, state);
        assert_eq!(starts(&project, name), count, "{name}");
    }
    let given_up = project.service("fail-two");
    assert_eq!((given_up["restarts"].as_u64(), given_up["exit_code"].as_i64()), (Some(2), Some(1)), "{given_up:#}");
    // A signal is a failure.
    let pid = i32::try_from(project.service("anchor")["pid"].as_i64().expect("a pid")).expect("a pid");
    signal(pid, nix::sys::signal::Signal::SIGKILL);
    let anchor = project.wait_state("anchor", "failed");
    assert_eq!(anchor["signal"], "SIGKILL");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: service.backoff, backoff.initial, backoff.max, backoff.factor.
#[test]
fn a_quick_crash_waits_and_the_waits_grow() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = ["sh", "-c", "date +%s%N >> stamps; exit 1"]
        restart = "always"
        backoff = { initial = "200ms", max = "800ms", factor = 2 }
        [services.anchor]
        run = "{svc:anchor}"
        "#,
    );
    let _either = project.run(&["up", "-d"]);
    let stamps = eventually("six starts", PATIENCE, || {
        let stamps: Vec<u128> = project.read("stamps").lines().filter_map(|line| line.parse().ok()).collect();
        (stamps.len() >= 6).then_some(stamps)
    });
    let gaps: Vec<u128> = stamps.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
    // A tenth of jitter either way; late is allowed on a busy machine, early never.
    for (gap, least) in gaps.iter().zip([180, 360, 720, 720, 720]) {
        assert!(*gap >= least, "{gaps:?}");
    }
    assert!(project.service("a")["restarts"].as_u64().is_some_and(|count| count >= 5));
}

/// Shows: backoff.reset.
#[test]
fn a_service_that_was_stable_restarts_at_once() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        restart = "on-failure:1"
        backoff = { initial = "20s", max = "30s", reset = "300ms" }
        [services.anchor]
        run = "{svc:anchor}"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    // Three times more than the limit: a stable run starts the count over.
    for _ in 0..3 {
        let service = project.wait_state("a", "running");
        let pid = service["pid"].as_i64().expect("a pid");
        eventually("its stability", PATIENCE, || (project.service("a")["uptime_ms"].as_u64() > Some(320)).then_some(()));
        let killed = Instant::now();
        signal(i32::try_from(pid).expect("a pid"), nix::sys::signal::Signal::SIGKILL);
        eventually("a new one", PATIENCE, || {
            let service = project.service("a");
            (service["state"] == "running" && service["pid"].as_i64() != Some(pid)).then_some(())
        });
        assert!(killed.elapsed() < Duration::from_secs(15), "it waited {:?}", killed.elapsed());
    }
}

#[test]
fn a_stop_by_hand_wins_and_is_remembered_across_supervisors() {
    let procfile = r#"
        [services.unless]
        run = "{svc:unless}"
        restart = "unless-stopped"
        [services.always]
        run = "{svc:always}"
        restart = "always"
        [services.anchor]
        run = "{svc:anchor}"
    "#;
    let project = Project::new().procfile(procfile);
    project.run(&["up", "-d"]).code(0);
    project.run(&["stop", "unless", "always"]).code(0);
    assert_eq!(project.service("unless")["state"], "stopped");
    // Stopped stays stopped while others come and go.
    project.run(&["restart", "anchor"]).code(0);
    assert!(project.alive("unless").is_empty() && project.alive("always").is_empty());
    // Another supervisor, asked for something else, leaves it alone.
    project.run(&["down"]).code(0);
    project.run(&["up", "-d", "anchor"]).code(0);
    assert!(project.alive("unless").is_empty());
    assert_eq!(project.service("unless")["state"], "stopped");
    project.run(&["start", "unless"]).code(0);
    assert_eq!(project.alive("unless").len(), 1);
    // A full up forgets.
    project.run(&["stop", "unless"]).code(0);
    project.run(&["down"]).code(0);
    project.run(&["up", "-d"]).code(0);
    assert_eq!((project.alive("unless").len(), project.alive("always").len()), (1, 1));
}

#[test]
fn an_exit_is_called_one_in_every_view_with_the_wait_for_the_restart() {
    let project = Project::new().procfile(
        "[services.crash]\nrun = \"{svc:crash} --exit 9 --after 100\"\nrestart = \"always\"\n\
         backoff = { initial = \"10m\", max = \"10m\" }\n\
         [services.stay]\nrun = \"{svc:stay}\"\nrestart = \"always\"\nbackoff = { initial = \"10m\", max = \"10m\" }\n",
    );
    let mut up = project.start(&["up"]);
    up.wait_for("exited with 9; restarts in ");
    project.run(&["kill", "-s", "KILL", "stay"]).code(0);
    up.wait_for("killed by SIGKILL; restarts in ");
    for text in ["exited with 9; restarts in ", "killed by SIGKILL; restarts in "] {
        project.run(&["logs"]).code(0).says(text);
    }
    let logs = project.run(&["logs", "--json", "crash"]).code(0).json_lines();
    let is_exit = |line: &&serde_json::Value| line["line"].as_str().is_some_and(|text| text.starts_with("exited with 9"));
    let exits: Vec<_> = logs.iter().filter(is_exit).collect();
    assert_eq!((exits.len(), exits[0]["stream"].as_str()), (1, Some("devrun")), "{logs:?}");
    project.run(&["events"]).code(0).says("exit 9  restarts in ");
    up.signal(nix::sys::signal::Signal::SIGINT);
    let shown = up.outcome().code(130);
    assert!(!shown.stdout.contains("stopping: exit 9") && !shown.stderr.contains("stopping: exit 9"), "{shown}");
    project.nothing_left();
}

#[test]
fn a_service_that_runs_again_shows_no_earlier_end() {
    let project = Project::new()
        .procfile("[services.api]\nrun = \"{svc:api}\"\nrestart = \"always\"\nbackoff = { initial = \"1ms\", max = \"1ms\" }\n");
    project.run(&["up", "-d"]).code(0);
    let before = project.service("api")["pid"].clone();
    project.run(&["kill", "-s", "KILL", "api"]).code(0);
    eventually("another process", PATIENCE, || {
        let api = project.service("api");
        (api["state"] == "running" && api["pid"] != before).then_some(())
    });
    let inspected = project.run(&["inspect", "api", "--json"]).code(0).json();
    assert!(inspected["signal"].is_null() && inspected["exit_code"].is_null(), "{inspected:#}");
    assert!(project.service("api")["signal"].is_null());
    project.run(&["down"]).code(0);
}
