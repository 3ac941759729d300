//! `update.order = "start-first"`: the next process is ready before the present one is stopped, so a restart under load fails no
//! request and leaves no gap; one that does not come up leaves what was there.

use crate::harness::{PATIENCE, Project, eventually, rounds};
use crate::load::{Load, SERVER, get, listening};

/// Shows: update.order.
#[test]
fn restarts_under_load_fail_no_request() {
    for (more, first) in [("", "api"), ("replicas = 2", "api.1")] {
        let project = listening(more, "");
        project.run(&["up", "-d"]).code(0);
        let load = Load::begin(project.port(first), 4, "/");
        load.answered(20);
        for _ in 0..rounds(5) {
            project.run(&["restart", "api"]).code(0);
            load.answered(20);
        }
        let tally = load.end();
        assert_eq!(tally.failed, Vec::<String>::new(), "{first}: of {}", tally.good);
        assert!(tally.pids().len() as u64 > rounds(5), "{first}: {:?}", tally.by);
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

/// The present process answers for as long as the next one needs.
#[test]
fn the_present_process_serves_until_the_next_one_is_ready() {
    let project = listening("", "");
    project.write("go", "");
    let project = project.env("FLAG", "--wait");
    project.run(&["up", "-d"]).code(0);
    let (port, before) = (project.port("api"), project.service("api")["pid"].as_i64().expect("its pid"));
    std::fs::remove_file(project.path("go")).expect("the file is removed");
    let restart = project.start(&["restart", "api"]);
    eventually("the next process starts", PATIENCE, || {
        let service = project.service("api");
        assert_eq!((service["state"].as_str(), service["pid"].as_i64()), (Some("running"), Some(before)));
        (service["reason"].as_str() == Some("its next process is starting")).then_some(())
    });
    for _ in 0..20 {
        assert!(get(port, "/").expect("an answer").trim_end().ends_with(&before.to_string()));
    }
    project.write("go", "");
    restart.outcome().code(0);
    let after = project.service("api")["pid"].as_i64();
    assert_ne!(after, Some(before));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_version_that_does_not_come_up_leaves_the_present_one() {
    let project = listening("restart = \"always\"", "");
    project.run(&["up", "-d"]).code(0);
    let (port, before) = (project.port("api"), project.service("api")["pid"].clone());
    project.write("broken", "");
    let restart = project.run(&["restart", "api"]).code(3);
    assert!(restart.stderr.contains("kept the previous version of api: exit 3"), "{}", restart.stderr);
    assert!(get(port, "/").is_ok());
    assert_eq!(project.service("api")["pid"], before);
    std::fs::remove_file(project.path("broken")).expect("the file is removed");
    project.run(&["restart", "api"]).code(0);
    assert_ne!(project.service("api")["pid"], before);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Two gateways for a moment; the one that stays is still notified before its services are stopped.
#[test]
fn a_gateway_starts_first_and_drains_afterwards() {
    let project = Project::new().procfile(
        r#"
        [services.api]
        run = ["python3", "srv.py", "{token}-api-"]
        port = "auto"
        ready = { http = "/" }
        [services.front]
        use = "gateway"
        port = "auto"
        routes = { "/" = "api" }
        "#,
    );
    project.write("srv.py", SERVER);
    project.run(&["up", "-d"]).code(0);
    let load = Load::begin(project.port("front"), 4, "/slow");
    load.answered(8);
    for _ in 0..rounds(2) {
        project.run(&["restart", "front"]).code(0);
        load.answered(8);
        project.run(&["restart", "api"]).code(0);
        load.answered(8);
    }
    let tally = load.end();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.good);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_service_that_binds_its_port_is_refused() {
    let project =
        Project::new().procfile("[services.api]\nrun = \"sleep 1\"\nport = 8000\nupdate = { order = \"start-first\" }\n");
    let check = project.run(&["check"]).code(2);
    assert!(check.stderr.contains("two processes cannot bind its port"), "{}", check.stderr);
    assert!(check.stderr.contains("listen = true"), "{}", check.stderr);
}
