//! When services start, what of them may be absent, and how they are stopped.

use std::time::Duration;

use crate::harness::{PATIENCE, Project, eventually, processes_with};
use crate::test_ports;

fn lines(project: &Project, file: &str) -> Vec<String> {
    project.read(file).lines().map(str::to_owned).collect()
}

/// Shows: service.stop, stop.command, stop.signal.
#[test]
fn stop_command_runs_before_the_signal() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a} --mark marks"
        stop = { command = "echo \"command $NAME\" >> marks; sleep 0.2", grace = "20s" }
        env = { NAME = "a" }
        [services.b]
        run = "{svc:b} --mark bmarks"
        stop = { signal = "INT" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    project.run(&["stop", "a"]).code(0);
    let marks = lines(&project, "marks");
    assert_eq!(marks[0], "command a");
    assert!(marks[1].starts_with("leader 15 "), "{marks:?}");
    project.run(&["down"]).code(0);
    assert!(lines(&project, "bmarks")[0].starts_with("leader 2 "));
    project.nothing_left();
}

/// Shows: stop.to.
#[test]
fn stop_to_all_reaches_every_process_at_once() {
    let project = Project::new().procfile(
        r#"
        [services.one]
        run = "{svc:one} --children 2 --mark one --stop-takes 300"
        [services.all]
        run = "{svc:all} --children 2 --mark all --stop-takes 300"
        stop = { to = "all" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    for name in ["one", "all"] {
        eventually("its children", PATIENCE, || (project.alive(name).len() == 3).then_some(()));
    }
    project.run(&["down"]).code(0);
    let first = |file: &str| lines(&project, file).first().cloned().unwrap_or_default();
    assert!(first("one").starts_with("leader"), "the leader first: {:?}", lines(&project, "one"));
    let all = lines(&project, "all");
    assert_eq!(all.iter().filter(|line| line.starts_with("child 15")).count(), 2, "{all:?}");
    // With `all` the children need not wait for the leader, which takes its time.
    assert_eq!(all.iter().filter(|line| line.starts_with("leader 15")).count(), 1, "{all:?}");
    project.nothing_left();
}

/// Shows: stop.spare.
#[test]
fn stop_spare_lets_a_daemon_of_that_name_live() {
    let project = Project::new().procfile(
        r#"
        [services.build]
        run = ["sh", "-c", "setsid {dir}/dvcache 600 & exec sleep 1000"]
        stop = { spare = ["dvcache"] }
        "#,
    );
    // The name that counts is the kernel's name of the process: a copy of a real binary has it.
    let copied = std::process::Command::new("cp").args(["/bin/sleep", "dvcache"]).current_dir(project.dir()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let mark = project.fill("{dir}/dvcache 600");
    let daemon = || processes_with(&mark).into_iter().find(|process| process.command.starts_with('/'));
    project.run(&["up", "-d"]).code(0);
    let spared = eventually("the daemon", PATIENCE, daemon);
    project.run(&["down"]).code(0);
    assert_eq!(daemon().map(|process| process.pid), Some(spared.pid), "it lives on");
    crate::harness::signal(spared.pid, nix::sys::signal::Signal::SIGKILL);
    eventually("its end", PATIENCE, || daemon().is_none().then_some(()));
}

/// Shows: service.alive.
#[test]
fn alive_that_fails_goes_through_the_restart_policy() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        alive = { cmd = "test ! -e dead", interval = "100ms", retries = 2 }
        restart = "always"
        [services.b]
        run = "{svc:b}"
        alive = { cmd = "test ! -e dead", interval = "100ms", retries = 2 }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let pid = project.wait_state("a", "running")["pid"].clone();
    project.write("dead", "");
    eventually("a restart", PATIENCE, || (project.service("a")["restarts"].as_u64() > Some(0)).then_some(()));
    // No policy, no restart: it is ended and has failed.
    let b = project.wait_state("b", "failed");
    assert!(b["reason"].as_str().is_some(), "{b:#}");
    std::fs::remove_file(project.path("dead")).expect("written above");
    let again = project.wait_state("a", "running");
    assert_ne!(again["pid"], pid);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: service.on_unhealthy.
#[test]
fn on_unhealthy_ignores_restarts_or_stops() {
    let project = Project::new().procfile(
        r#"
        [defaults]
        ready = { interval = "100ms", retries = 2 }
        [services.ignore]
        run = "{svc:ignore}"
        ready = { cmd = "test ! -e sick" }
        [services.restart]
        run = "{svc:restart}"
        ready = { cmd = "test ! -e sick" }
        on_unhealthy = "restart"
        restart = "always"
        backoff = { initial = "50ms", max = "100ms" }
        [services.stop]
        run = "{svc:stop}"
        ready = { cmd = "test ! -e sick" }
        on_unhealthy = "stop"
        restart = "always"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let pid = project.service("ignore")["pid"].clone();
    project.write("sick", "");
    eventually("unhealthy", PATIENCE, || (project.service("ignore")["health"] == "unhealthy").then_some(()));
    eventually("a restart", PATIENCE, || (project.service("restart")["restarts"].as_u64() > Some(0)).then_some(()));
    eventually("a stop", PATIENCE, || {
        let state = project.service("stop")["state"].clone();
        (state == "stopped" || state == "failed").then_some(())
    });
    assert_eq!(project.service("ignore")["pid"], pid);
    std::fs::remove_file(project.path("sick")).expect("written above");
    for name in ["ignore", "restart"] {
        eventually("healthy again", PATIENCE, || (project.service(name)["health"] == "healthy").then_some(()));
    }
    assert!(project.alive("stop").is_empty());
}

/// Shows: service.optional.
#[test]
fn optional_does_not_hold_dependents_up() {
    let project = Project::new().procfile(
        r#"
        [services.absent]
        run = "no-such-binary-anywhere"
        optional = true
        [services.broken]
        run = "sh -c 'exit 1'"
        optional = true
        ready = { tcp = 1 }
        [services.api]
        run = "{svc:api}"
        depends_on = ["absent", "broken"]
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.service("api")["state"], "running");
    assert_eq!(project.service("absent")["state"], "skipped");
    assert_eq!(project.service("broken")["state"], "failed");
}

#[test]
fn work_for_an_optional_server_that_is_absent_is_left_out() {
    let project = Project::new().procfile(
        r#"
        [services.vectors]
        use = "qdrant"
        port = "auto"
        optional = true
        [tasks.collections]
        depends_on = ["vectors"]
        collections = ["products"]
        [tasks.after]
        depends_on = ["collections"]
        run = "sh -c 'echo ran > after'"
        [services.api]
        run = "{svc:api}"
        depends_on = ["vectors", "collections", "after"]
        "#,
    );
    let project = project.env("DEVRUN_OFFLINE", "true");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.service("api")["state"], "running");
    assert_eq!(project.service("vectors")["state"], "skipped");
    let left_out = project.service("collections");
    assert_eq!(left_out["state"], "skipped");
    assert!(left_out["reason"].as_str().is_some_and(|why| why.starts_with("vectors is left out: ")), "{left_out}");
    assert_eq!(project.read("after"), "ran\n", "work of its own goes on");
}

/// Shows: service.external.
#[test]
fn external_is_probed_and_never_spawned() {
    let listener = test_ports::listener();
    let port = listener.local_addr().expect("an address").port();
    let project = Project::new().procfile(&format!(
        r#"
        [services.db]
        external = "tcp://127.0.0.1:{port}"
        ready = {{ tcp = "127.0.0.1:{port}" }}
        [services.api]
        run = "{{svc:api}}"
        depends_on = ["db"]
        [services.gone]
        external = "tcp://127.0.0.1:1"
        ready = {{ tcp = "127.0.0.1:1", within = "300ms" }}
        profiles = ["gone"]
        "#
    ));
    project.run(&["up", "-d"]).code(0);
    let db = project.service("db");
    assert_eq!((db["state"].as_str(), db["health"].as_str()), (Some("running"), Some("healthy")), "{db:#}");
    assert!(db["pid"].is_null());
    project.run(&["--profile", "gone", "up", "-d", "gone"]).code(3).says("gone");
    project.run(&["down"]).code(0);
    // Nobody took the listener away.
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
}

#[test]
fn an_external_address_is_probed_by_its_scheme_unless_ready_is_false() {
    let listener = test_ports::listener();
    let port = listener.local_addr().expect("an address").port();
    let project = Project::new().procfile(&format!(
        r#"
        [defaults]
        ready = {{ within = "500ms" }}
        [services.open]
        external = "amqp://127.0.0.1:{port}"
        [services.unprobed]
        external = "tcp://127.0.0.1:1"
        ready = false
        [services.pg]
        external = "postgres://u:p@127.0.0.1:1/db"
        [services.cache]
        external = "redis://127.0.0.1:1"
        [services.search]
        external = "http://127.0.0.1:1/health"
        [services.queue]
        external = "tcp://127.0.0.1:1"
        [services.free]
        run = "{{svc:free}}"
        depends_on = ["open", "unprobed"]
        [services.held]
        run = "{{svc:held}}"
        depends_on = ["queue"]
        "#
    ));
    let mut up = project.run(&["up", "-d"]).code(3);
    for name in ["pg", "cache", "search", "queue"] {
        assert_eq!(project.service(name)["state"], "failed", "{name}");
        up = up.says(&format!("{name} failed: not ready within 500ms"));
    }
    assert_eq!(project.service("open")["health"], "healthy");
    assert_eq!(project.service("unprobed")["health"], "none");
    assert_eq!(project.service("free")["state"], "running");
    assert_eq!(project.service("held")["state"], "blocked");
    project.run(&["down"]).code(0);
}

/// What a profile started is shown without it: it runs.
#[test]
fn what_runs_of_a_profile_is_shown_without_the_profile() {
    let project = Project::new().procfile(
        "[services.api]\nrun = \"{svc:api} --listen $PORT\"\nport = \"auto\"\n\
         [services.tool]\nrun = \"{svc:tool} --listen $PORT\"\nport = \"auto\"\nprofiles = [\"tools\"]\n",
    );
    let names = |verb: &str| -> Vec<String> {
        let all = project.run(&[verb, "--json"]).code(0).json();
        all.as_array().into_iter().flatten().filter_map(|one| Some(one["service"].as_str()?.to_owned())).collect()
    };
    project.run(&["--profile", "tools", "up", "-d"]).code(0);
    assert_eq!(
        (names("urls"), names("ports")),
        (vec!["api".to_owned(), "tool".to_owned()], vec!["api".to_owned(), "tool".to_owned()])
    );
    project.run(&["down"]).code(0);
    assert_eq!(names("urls"), ["api"]);
    project.nothing_left();
}

/// Shows: service.profiles, devrun --profile.
#[test]
fn profiles_are_off_until_asked_for() {
    let project = Project::new().procfile(
        r#"
        [services.api]
        run = "{svc:api}"
        [services.full]
        run = "{svc:full}"
        profiles = ["full"]
        [services.tools]
        run = "{svc:tools}"
        profiles = ["tools"]
        "#,
    );
    let active = |args: &[&str]| -> Vec<String> {
        project.run(&[args, &["up", "-d"]].concat()).code(0);
        let ps = project.run(&[args, &["ps", "--json"]].concat()).code(0).json();
        let names = ps["services"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str().map(str::to_owned));
        let names = names.collect();
        project.run(&["down"]).code(0);
        names
    };
    assert_eq!(active(&[]), ["api"]);
    assert_eq!(active(&["--profile", "full"]), ["api", "full"]);
    assert_eq!(active(&["--profile", "*"]), ["api", "full", "tools"]);
    // Naming a service asks for it.
    project.run(&["up", "-d", "tools"]).code(0);
    assert_eq!(project.alive("tools").len(), 1);
    assert!(project.alive("api").is_empty());
}

/// Shows: service.tier, file.tiers, project.tier_pause.
#[test]
fn tier_is_a_barrier_and_tier_pause_waits() {
    let project = Project::new().procfile(
        r#"
        [project]
        tier_pause = "700ms"
        [tiers]
        1 = "Infrastructure"
        2 = "Applications"
        [services.db]
        run = "{svc:db}"
        tier = 1
        ready = { file = "db-ready" }
        [services.app]
        run = ["sh", "-c", "date +%s%N > app-started; exec sleep 1000"]
        tier = 2
        [services.free]
        run = "{svc:free}"
        "#,
    );
    let up = project.start(&["up", "-d"]);
    project.wait_state("free", "running");
    assert_eq!(project.service("app")["state"], "waiting");
    assert_eq!(project.service("app")["tier"], 2);
    let before = std::time::SystemTime::now();
    project.write("db-ready", "");
    up.outcome().code(0);
    let started = eventually("the app's stamp", PATIENCE, || project.read("app-started").trim().parse::<u128>().ok());
    let before = before.duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos();
    assert!(started - before >= Duration::from_millis(690).as_nanos(), "no pause: {} ms", (started - before) / 1_000_000);
    let analysis =
        project.run(&["analyze"]).code(0).says("critical path: db → app").says("1 Infrastructure").says("2 Applications");
    drop(analysis.says("the pause between tiers ([project].tier_pause)"));
    assert_eq!(project.run(&["analyze", "--json"]).code(0).json()["tier_pause_us"], 700_000);
}

/// Shows: ready.within.
#[test]
fn within_bounds_the_wait_of_one_service() {
    let project = Project::new().procfile(
        r#"
        [services.slow]
        run = "{svc:slow}"
        ready = { file = "never", within = "400ms" }
        [services.quick]
        run = "{svc:quick}"
        ready = { uptime = "0s" }
        "#,
    );
    let up = project.run(&["up", "-d"]).code(3).says("slow");
    assert!(up.took < Duration::from_secs(20), "{up}");
    assert_eq!(project.service("quick")["health"], "healthy");
}

/// Shows: project.timeout.
#[test]
fn project_timeout_ends_the_whole_start() {
    let project = Project::new()
        .procfile("[project]\ntimeout = \"500ms\"\n[services.slow]\nrun = \"{svc:slow}\"\nready = { file = \"never\" }\n");
    project.run(&["up", "-d"]).code(124).says("slow");
    project.run(&["down"]).code(0);
    project.run(&["up", "-d", "--timeout", "300ms"]).code(124);
}

/// Shows: file.defaults, file.modes, devrun --mode.
#[test]
fn defaults_several_files_false_and_modes_merge() {
    let project = Project::new().procfile(
        r#"
        [defaults]
        restart = "always"
        env = { LEVEL = "default", COMMON = "yes" }
        [services.a]
        run = ["sh", "-c", "echo $LEVEL/$COMMON/$MODE/$EXTRA > a; exec sleep 1000"]
        env = { MODE = "none" }
        ready = { file = "never", within = "100ms" }
        [services.b]
        run = "{svc:b}"
        [modes.dev]
        services.a.env = { MODE = "dev", COMMON = false }
        services.added = { run = "{svc:added}" }
        "#,
    );
    project.write(
        "second.toml",
        "[services.a]\nready = false\nenv = { EXTRA = \"second\", LEVEL = \"second\" }\n[services.b]\nrestart = false\n",
    );
    project.run(&["-f", "procfile.toml", "-f", "second.toml", "--mode", "dev", "up", "-d"]).code(0);
    let text = eventually("a's line", PATIENCE, || Some(project.read("a")).filter(|text| text.ends_with('\n')));
    assert_eq!(text, "second//dev/second\n");
    assert_eq!(project.alive("added").len(), 1);
    assert_eq!(project.service("a")["health"], "none", "false removes the probe");
    assert_eq!(project.ps()["mode"], "dev");
}
