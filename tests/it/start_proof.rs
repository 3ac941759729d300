//! Ready means ready: a port is probed without being told so, and what dies within moments was never up.

use crate::harness::{PATIENCE, Project, eventually, skipped};
use crate::test_ports;

#[test]
fn a_port_without_a_probe_is_waited_for() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a} --listen $PORT --ready-after 400\"\nport = \"auto\"\n");
    project.run(&["up", "-d"]).code(0);
    let service = project.service("a");
    assert_eq!(service["health"], "healthy", "{service:#}");
    assert!(service["ready_ms"].as_u64().is_some_and(|ms| ms >= 300), "{service:#}");
    project.run(&["down"]).code(0);

    project.rewrite("[defaults]\nready = { within = \"1500ms\" }\n[services.a]\nrun = \"{svc:a}\"\nport = \"auto\"\n");
    let up = project.run(&["up", "-d"]).code(3);
    assert!(up.last_line().contains("connection refused"), "{up}");
    project.run(&["down"]).code(0);

    project.rewrite("[services.a]\nrun = \"{svc:a}\"\nport = \"auto\"\nready = false\n");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.service("a")["health"], "none");
    project.run(&["down"]).code(0);
}

#[test]
fn what_dies_within_moments_was_never_ready() {
    for text in [
        // With a port, and without.
        "[services.a]\nrun = \"sh -c 'sleep 0.2; exit 7'\"\nport = \"auto\"\nrestart = \"no\"\n",
        "[services.a]\nrun = \"sh -c 'exit 7'\"\nrestart = \"no\"\n",
    ] {
        let project = Project::new().procfile(text);
        let up = project.run(&["up", "-d"]).code(1).says_not("ready in");
        assert!(up.last_line().contains("7"), "{up}");
    }
}

/// With a probe too; what it says it lacks may be what its build makes.
#[test]
fn a_crash_loop_with_a_probe_ends_the_start_and_goes_on() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"sh -c 'echo ModuleNotFoundError; exit 1'\"\nport = \"auto\"\nbuild = \"true\"\n\
         restart = \"unless-stopped\"\nbackoff = { initial = \"100ms\", max = \"500ms\" }\n\
         ready = { http = \"/\", within = \"30s\" }\n\
         [services.web]\nrun = \"{svc:web}\"\ndepends_on = [\"a\"]\n",
    );
    let up = project.run(&["up", "-d"]).code(1).says("a is restarting: exit 1 before it was ready, also after 4 restarts");
    let up = up.says("    a | ModuleNotFoundError").says("blocked by it: web");
    let up = up.says("help: devrun logs a; or devrun up --build, if the build of a has not run");
    assert!(up.last_line().contains("a: exit 1 before it was ready"), "{up}");
    let restarts = || project.service("a")["restarts"].as_u64().unwrap_or_default();
    eventually("more restarts", PATIENCE, || (restarts() > 5).then_some(()));
    project.run(&["down"]).code(0);
    project.run(&["up", "-d", "--build"]).code(1).says("help: devrun logs a").says_not("devrun up --build");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// It crashes as long as its database is not there.
#[test]
fn a_slow_start_that_crashes_a_few_times_is_waited_for() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"sh -c 'echo x >> starts; test $(wc -l < starts) -gt 3 || exit 1; touch up; exec sleep 1000'\"\n\
         restart = \"always\"\nbackoff = { initial = \"50ms\", max = \"100ms\" }\nready = { file = \"up\" }\n",
    );
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
}

#[test]
fn the_help_of_a_failed_probe_follows_its_answer() {
    let project = Project::new().procfile(
        "[services.db]\nrun = \"{svc:db}\"\nready = { cmd = \"pg_isreadyy\", within = \"1s\" }\n\
         [services.slow]\nrun = \"{svc:slow}\"\nready = { file = \"never\", within = \"1s\" }\n",
    );
    let up =
        project.run(&["up", "-d"]).code(3).says("help: devrun logs db; install pg_isreadyy, or correct services.db.ready.cmd");
    drop(up.says("help: devrun logs slow; raise services.slow.ready.within if it needs longer"));
    project.run(&["down"]).code(0);
}

/// At once, not at the end of the start.
#[test]
fn a_start_says_that_a_service_listens_elsewhere() {
    if !cfg!(target_os = "linux") {
        return skipped("only Linux tells where a process listens");
    }
    let port = test_ports::free_port();
    let project = Project::new().procfile(&format!(
        "[services.web]\nrun = \"{{svc:web}} --listen {port}\"\nport = \"auto\"\nready = {{ within = \"10m\" }}\n"
    ));
    let sentence = format!("it listens on 127.0.0.1:{port}, not on $PORT (");
    let advice = format!("help: devrun logs web; set services.web.port = {port}, or let its command listen on $PORT");
    let mut detached = project.start(&["up", "-d"]);
    detached.wait_for(&sentence);
    project.run(&["why", "web"]).code(0).says(&sentence).says(&advice);
    project.run(&["down"]).code(0);
    let shown = detached.outcome();
    let times = shown.stderr.lines().filter(|line| line.starts_with(&format!("web  {sentence}"))).count();
    assert_eq!(times, 1, "{shown}");
    let mut terminal = project.terminal(&["up"]);
    terminal.wait_for(&format!("starting: {sentence}"));
    terminal.interrupt();
    drop(terminal.outcome());
}

#[test]
fn a_service_without_a_probe_that_listens_elsewhere_is_named() {
    if !cfg!(target_os = "linux") {
        return skipped("only Linux tells where a process listens");
    }
    let (own, other) = (test_ports::free_port(), test_ports::free_port());
    let project = Project::new()
        .procfile(&format!("[services.web]\nrun = \"{{svc:web}} --listen {other}\"\nport = {own}\nready = false\n"));
    project.run(&["up", "-d"]).code(0);
    let sentence = format!("it listens on 127.0.0.1:{other}, not on $PORT ({own})");
    eventually("it is named", PATIENCE, || (project.service("web")["reason"] == sentence.as_str()).then_some(()));
    let why = project.run(&["why", "web"]).code(0).says(&format!("web is running: {sentence}"));
    drop(why.says(&format!("set services.web.port = {other}")));
    project.run(&["down"]).code(0);
}

#[test]
fn a_service_that_listens_elsewhere_is_told_where() {
    let port = test_ports::free_port();
    let text = format!("[services.web]\nrun = \"{{svc:web}} --listen {port}\"\nport = \"auto\"\nready = {{ within = \"4s\" }}\n");
    let project = Project::new().procfile(&text);
    let up = project.run(&["up", "-d"]).code(3);
    if cfg!(target_os = "linux") {
        assert!(up.last_line().contains(&format!("it listens on 127.0.0.1:{port}, not on $PORT (")), "{up}");
        drop(up.says(&format!("help: devrun logs web; set services.web.port = {port}, or let its command listen on $PORT")));
    }
    project.run(&["down"]).code(0);
}
