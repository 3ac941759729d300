//! Up, ps, stop, start, restart, down: what a day with a stack consists of, through the binary alone.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{PATIENCE, Project, eventually};
use crate::test_ports;

/// Two services and a task, with an edge between each: `setup` after `db`, `api` after both.
const SMALL: &str = r#"
[project]
name = "small"

[services.db]
run = "{svc:db} --listen $PORT"
port = "auto"
ready = { tcp = true }

[tasks.setup]
run = "sh -c 'echo done >> setup-ran'"
depends_on = ["db"]

[services.api]
run = "{svc:api} --listen $PORT --ready-after 50"
port = "auto"
ready = { tcp = true }
depends_on = ["setup"]
"#;

/// Notes its start and its TERM in the file `order`; the `sleep` is a grandchild that must go as well.
const NOTES: &str = r#"
echo "start $1" >> order
trap 'echo "stop $1" >> order; kill $! 2>/dev/null; exit 0' TERM
sleep 1000 &
wait $!
"#;

fn states(ps: &Value) -> Vec<(String, String)> {
    let word = |service: &Value, key: &str| service[key].as_str().unwrap_or("?").to_owned();
    ps["services"]
        .as_array()
        .map(|services| services.iter().map(|service| (word(service, "name"), word(service, "state"))).collect())
        .unwrap_or_default()
}

/// Shows: up, down, ps, exit 0, file.services.
#[test]
fn up_detached_is_ready_when_it_returns_and_down_leaves_nothing() {
    let project = Project::new().procfile(SMALL);
    project.run(&["up", "-d"]).code(0);

    let db = project.service("db");
    assert_eq!((&db["state"], &db["health"]), (&Value::from("running"), &Value::from("healthy")), "{db:#}");
    let api = project.service("api");
    assert_eq!(api["health"], "healthy", "{api:#}");
    assert_eq!(project.service("setup")["state"], "completed");
    assert_eq!(project.read("setup-ran"), "done\n");
    // What `ps` says is what the system shows.
    assert_eq!(
        project.alive("api").iter().map(|process| i64::from(process.pid)).collect::<Vec<_>>(),
        [api["pid"].as_i64().unwrap_or(0)]
    );
    let port = u16::try_from(api["ports"]["main"].as_u64().unwrap_or(0)).expect("a port");
    std::net::TcpStream::connect(("127.0.0.1", port)).expect("the service listens where ps says");

    project.run(&["ps", "--check"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is free again");

    let ps = project.ps();
    assert_eq!(ps["supervisor_pid"], Value::Null);
    project.run(&["ps", "--check"]).code(6);
    project.run(&["down"]).code(0);
}

/// Shows: ps --json*.
#[test]
fn ps_json_has_exactly_the_keys_of_the_contract() {
    let project = Project::new().procfile(SMALL);
    project.run(&["up", "-d"]).code(0);
    let ps = project.ps();
    let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default();
    let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(keys(&ps), set(&["project", "instance", "mode", "supervisor_pid", "supervisor_version", "services"]));
    let expected = set(&[
        "name",
        "service",
        "replica",
        "kind",
        "tier",
        "state",
        "health",
        "pid",
        "exit_code",
        "signal",
        "restarts",
        "started_at",
        "ready_at",
        "uptime_ms",
        "ready_ms",
        "ports",
        "url",
        "binary",
        "version",
        "reason",
    ]);
    for service in ps["services"].as_array().expect("an array") {
        assert_eq!(keys(service), expected, "{service:#}");
    }
    assert_eq!(ps["project"], "small");
    assert_eq!(ps["instance"], "");
    let api = project.service("api");
    assert_eq!((&api["kind"], &api["replica"], &api["restarts"]), (&"service".into(), &1.into(), &0.into()));
    assert_eq!(project.service("setup")["kind"], "task");
    for key in ["started_at", "ready_at"] {
        let stamp = api[key].as_str().expect("a time");
        let shape: String = stamp.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{key}");
    }
    for key in ["uptime_ms", "ready_ms"] {
        assert!(api[key].is_u64(), "{key} is {}", api[key]);
    }
}

/// Shows: events --json*.
#[test]
fn events_json_has_exactly_the_keys_of_the_contract() {
    let project = Project::new().procfile(SMALL);
    project.run(&["up", "-d"]).code(0);
    let events = project.run(&["events", "--json"]).code(0).json_lines();
    assert!(!events.is_empty());
    let mut last = 0;
    for event in &events {
        let keys: Vec<&str> = event.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut expected = ["ts", "seq", "service", "replica", "from", "to", "health", "reason", "pid", "exit_code"];
        expected.sort_unstable();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected);
        let seq = event["seq"].as_u64().expect("a number");
        assert!(seq > last, "seq grows: {seq} after {last}");
        last = seq;
    }
}

#[test]
fn start_follows_the_edges_and_stop_reverses_them() {
    let project = Project::new().procfile(
        r#"
        [services.c]
        run = "sh notes.sh c"
        depends_on = ["b"]
        [services.a]
        run = "sh notes.sh a"
        ready = { cmd = "grep -q 'start a' order" }
        [services.b]
        run = "sh notes.sh b"
        ready = { cmd = "grep -q 'start b' order" }
        depends_on = ["a"]
        "#,
    );
    project.write("notes.sh", NOTES);
    project.run(&["up", "-d"]).code(0);
    eventually("all three started", PATIENCE, || (project.read("order").lines().count() == 3).then_some(()));
    project.run(&["down"]).code(0);
    project.nothing_left();
    assert_eq!(project.read("order"), "start a\nstart b\nstart c\nstop c\nstop b\nstop a\n");
}

#[test]
fn up_names_only_what_is_asked_for_and_what_that_needs() {
    let project = Project::new().procfile(
        r#"
        [services.db]
        run = "{svc:db}"
        [services.api]
        run = "{svc:api}"
        depends_on = ["db"]
        [services.mail]
        run = "{svc:mail}"
        "#,
    );
    project.run(&["up", "-d", "api"]).code(0);
    assert_eq!((project.alive("db").len(), project.alive("api").len(), project.alive("mail").len()), (1, 1, 0));
}

#[test]
fn a_second_up_starts_no_twin_and_starts_what_is_missing() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        [services.b]
        run = "{svc:b}"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let supervisor = project.supervisor();
    let (a, b) = (project.alive("a"), project.alive("b"));
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.supervisor(), supervisor);
    assert_eq!((project.alive("a"), project.alive("b")), (a.clone(), b.clone()), "left as they are");

    crate::harness::signal(b[0].pid, nix::sys::signal::Signal::SIGKILL);
    let failed = project.wait_state("b", "failed");
    assert_eq!(failed["signal"], "SIGKILL", "{failed:#}");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.alive("a"), a, "a keeps its pid");
    let new = project.alive("b");
    assert!(new.len() == 1 && new[0].pid != b[0].pid, "b is there once, and new: {new:?}");
}

#[test]
fn a_second_up_restarts_only_what_changed_and_says_why() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        [services.b]
        run = "{svc:b}"
        env = { LEVEL = "info" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let (a, b) = (project.alive("a"), project.alive("b"));
    project.rewrite(
        r#"
        [services.a]
        run = "{svc:a}"
        [services.b]
        run = "{svc:b}"
        env = { LEVEL = "debug" }
        "#,
    );
    let second = project.run(&["up", "-d"]).code(0).says("b");
    assert_eq!(project.alive("a"), a, "{second}");
    let new = project.alive("b");
    assert!(new.len() == 1 && new != b, "b was replaced: {new:?}\n{second}");
    assert!(second.stderr.contains("changed") || second.stdout.contains("changed"), "says why\n{second}");
}

#[test]
fn ten_at_once_make_one_supervisor_and_one_copy() {
    let project = Project::new().procfile(SMALL);
    let runs: Vec<_> = (0..10).map(|_| project.start(&["up", "-d"])).collect();
    for run in runs {
        run.outcome_within(Duration::from_secs(60)).code(0);
    }
    assert_eq!((project.alive("db").len(), project.alive("api").len()), (1, 1));
    assert_eq!(project.read("setup-ran"), "done\n", "the task ran once");
    assert_eq!(project.keepers().len(), 1);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: stop, start, restart.
#[test]
fn stop_start_and_restart_touch_only_what_they_name() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        restart = "always"
        [services.b]
        run = "{svc:b}"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let b = project.alive("b");
    let first = project.alive("a");

    project.run(&["stop", "a"]).code(0);
    assert!(project.alive("a").is_empty(), "stop has waited");
    let stopped = project.wait_state("a", "stopped");
    assert!(stopped["reason"].as_str().unwrap_or("").contains("by hand"), "{stopped:#}");

    project.run(&["start", "a"]).code(0);
    let second = project.alive("a");
    assert!(second.len() == 1 && second[0].pid != first[0].pid, "{second:?}");

    project.run(&["restart", "a"]).code(0);
    let third = eventually("a after restart", PATIENCE, || {
        let now = project.alive("a");
        (now.len() == 1 && now[0].pid != second[0].pid).then_some(now)
    });
    assert_ne!(third[0].pid, first[0].pid);
    assert_eq!(project.alive("b"), b, "b never changed");
    project.run(&["stop", "nobody"]).code(2).says("nobody");
}

#[test]
fn a_stop_names_what_keeps_running_without_it() {
    let project = Project::new().procfile(
        "[services.base]\nrun = \"{svc:base}\"\n[services.api]\nrun = \"{svc:api}\"\ndepends_on = [\"base\"]\n\
         [services.web]\nrun = \"{svc:web}\"\ndepends_on = [\"base\"]\n",
    );
    project.run(&["up", "-d"]).code(0);
    project.run(&["stop", "base"]).code(0).says("api, web depend on it and keep running");
    assert!(project.alive("base").is_empty() && project.alive("api").len() == 1);
    // It is stopped already, or goes with them.
    project.run(&["stop", "base"]).code(0).says_not("keep running");
    project.run(&["start", "base"]).code(0);
    project.run(&["stop", "web"]).code(0).says_not("keeps running");
    project.run(&["stop", "base"]).code(0).says("api depends on it and keeps running");
    project.run(&["start"]).code(0);
    project.run(&["stop", "base", "api", "web"]).code(0).says_not("running");
    project.run(&["down"]).code(0);
}

#[test]
fn a_restart_reads_the_environment_of_the_one_who_asks() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"sh -c 'echo $LEVEL >> level; exec sleep 1000'\"\nenv = { LEVEL = \"${LOG_LEVEL:-info}\" }\n",
    );
    project.run(&["up", "-d"]).code(0);
    eventually("the first line", PATIENCE, || (project.read("level") == "info\n").then_some(()));
    let project = project.env("LOG_LEVEL", "debug");
    project.run(&["restart", "a"]).code(0);
    eventually("the second line", PATIENCE, || (project.read("level") == "info\ndebug\n").then_some(()));
}

#[test]
fn verbs_that_need_a_supervisor_say_that_there_is_none() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    for args in [&["stop", "a"][..], &["restart", "a"], &["kill", "-s", "TERM", "a"]] {
        project.run(args).code(6);
    }
    assert!(project.alive("").is_empty());
}

/// Shows: kill.
#[test]
fn kill_sends_the_signal_to_the_leader() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["kill", "-s", "KILL", "a"]).code(0);
    let a = project.wait_state("a", "failed");
    assert_eq!((&a["signal"], &a["exit_code"]), (&Value::from("SIGKILL"), &Value::Null), "{a:#}");
}

/// Shows: wait, wait --timeout, up --no-wait.
#[test]
fn wait_blocks_until_ready_and_tells_when_it_gave_up() {
    let project = Project::new().procfile(
        r#"
        [services.slow]
        run = "{svc:slow} --listen $PORT --ready-after 1500"
        port = "auto"
        ready = { tcp = true }
        [services.never]
        run = "{svc:never}"
        ready = { file = "never-there" }
        "#,
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    project.run(&["wait", "slow", "--timeout", "20s"]).code(0);
    assert_eq!(project.service("slow")["health"], "healthy");
    project.run(&["wait", "never", "--timeout", "300ms"]).code(3).says("never");
    project.run(&["wait", "nobody", "--timeout", "300ms"]).code(2);
}

#[test]
fn wait_needs_no_procfile_for_an_address() {
    let project = Project::new();
    let listener = test_ports::listener();
    let address = format!("tcp://{}", listener.local_addr().expect("bound"));
    project.run(&["wait", &address, "--timeout", "10s"]).code(0);
    test_ports::close(listener);
    project.run(&["wait", &address, "--timeout", "200ms"]).code(3);
}

/// Shows: file.tasks, task.once, task.idempotent, down --volumes, file.volumes.
#[test]
fn a_task_with_a_sentinel_runs_once_and_again_when_its_volume_is_wiped() {
    let project = Project::new().procfile(
        r#"
        [volumes]
        work = { class = "persistent" }
        [tasks.seed]
        run = "sh -c 'echo ran >> seeds'"
        once = "work/.seeded"
        idempotent = true
        [services.a]
        run = "{svc:a}"
        depends_on = ["seed"]
        "#,
    );
    for _ in 0..2 {
        project.run(&["up", "-d"]).code(0);
        assert_eq!(project.service("seed")["state"], "completed");
        project.run(&["down"]).code(0);
    }
    assert_eq!(project.read("seeds"), "ran\n", "the sentinel holds");
    project.run(&["down", "--volumes", "--yes"]).code(0);
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.read("seeds"), "ran\nran\n", "a wiped volume re-arms it");
    assert_eq!(project.alive("a").len(), 1);
}

#[test]
fn a_stack_of_foreign_state_and_profiles_shows_only_what_is_active() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        [services.extra]
        run = "{svc:extra}"
        profiles = ["full"]
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    assert_eq!(states(&project.ps()).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a"]);
    project.run(&["--profile", "full", "up", "-d"]).code(0);
    assert_eq!(project.alive("extra").len(), 1);
}

#[test]
fn a_deep_path_with_odd_characters_works() {
    let project = Project::new();
    let deep = format!("{}/with blank/'quote'/ümlaut/{}", project.dir().display(), "long-folder-name/".repeat(12));
    std::fs::create_dir_all(&deep).expect("our own folder");
    let text = project.fill(
        "[project]\nname = \"deep\"\n[services.a]\nrun = \"{svc:a} --listen $PORT\"\nport = \"auto\"\nready = { tcp = true }\n",
    );
    std::fs::write(format!("{deep}/procfile.toml"), text).expect("our own file");
    project.run(&["-C", &deep, "up", "-d"]).code(0);
    project.run(&["-C", &deep, "ps"]).code(0).says("running");
    project.run(&["-C", &deep, "down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_read_only_folder_is_told_before_anything_starts() {
    if crate::harness::is_root() {
        let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n").for_user(4321);
        std::os::unix::fs::chown(project.dir(), Some(0), Some(0)).expect("root may chown");
        project.run(&["up", "-d"]).code(2);
        assert!(project.alive("").is_empty());
    } else {
        use std::os::unix::fs::PermissionsExt;
        let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
        std::fs::set_permissions(project.dir(), std::fs::Permissions::from_mode(0o555)).expect("our own folder");
        project.run(&["up", "-d"]).code(2);
        assert!(project.alive("").is_empty());
        std::fs::set_permissions(project.dir(), std::fs::Permissions::from_mode(0o755)).expect("our own folder");
    }
}
