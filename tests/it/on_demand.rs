//! `start = "on-demand"`: the first connection starts a service, and `idle` without connections stops it.

use std::net::TcpStream;

use crate::harness::{PATIENCE, Project, eventually};
use crate::load::{get, listening};

fn project(keys: &str, more: &str) -> Project {
    let other = "[services.other]\nrun = \"{svc:other}\"\ndepends_on = [\"api\"]\n";
    listening(&format!("start = \"on-demand\"\n{keys}"), &format!("{other}{more}"))
}

/// Shows: service.start, service.idle.
#[test]
fn the_first_connection_starts_it_and_time_without_one_stops_it() {
    let project = project("idle = \"1s\"\nready = { http = \"/\", interval = \"200ms\" }", "");
    project.run(&["up", "-d"]).code(0);
    let asleep = project.service("api");
    assert_eq!((asleep["state"].as_str(), asleep["pid"].as_i64()), (Some("asleep"), None), "{asleep}");
    assert_eq!(asleep["reason"], "starts with its first connection");
    assert_eq!(project.service("other")["state"], "running", "who depends on it does not wait");
    project.run(&["wait", "api"]).code(0);
    project.run(&["ps", "--check"]).code(0);
    project.run(&["why", "api"]).code(0).says("api is asleep: its first connection starts it");
    let port = project.port("api");
    for _ in 0..2 {
        let answer = get(port, "/").expect("the client waits for the process");
        let service = project.service("api");
        assert!(answer.contains(&service["pid"].to_string()), "{answer}: {service}");
        // Its own probes, five a second, are no use.
        project.wait_state("api", "asleep");
    }
    project.run(&["stop", "api"]).code(0);
    eventually("the port is closed", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()));
    project.run(&["start", "api"]).code(0);
    assert_eq!(project.service("api")["state"], "running", "by name it is started at once");
    project.run(&["down"]).code(0);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    project.nothing_left();
}

#[test]
fn a_connection_that_is_open_keeps_it_up() {
    let project = project("idle = \"1s\"", "");
    project.run(&["up", "-d"]).code(0);
    let held = TcpStream::connect(("127.0.0.1", project.port("api"))).expect("the socket is open");
    project.wait_state("api", "running");
    eventually("it outlives its idle time", PATIENCE, || {
        let service = project.service("api");
        assert_eq!(service["state"], "running");
        (service["uptime_ms"].as_u64()? > 3_000).then_some(())
    });
    drop(held);
    project.wait_state("api", "asleep");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_request_through_the_gateway_starts_it() {
    let project = project("", "[services.front]\nuse = \"gateway\"\nport = \"auto\"\nroutes = { \"/\" = \"api\" }");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.service("api")["state"], "asleep", "a gateway that leads to it does not start it");
    let answer = get(project.port("front"), "/").expect("an answer");
    let service = project.service("api");
    assert_eq!(service["state"], "running");
    assert!(answer.contains(&service["pid"].to_string()), "{answer}: {service}");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Whatever a restart finds is what it leaves: what is asleep sleeps on, with the new definition.
#[test]
fn a_restart_and_another_definition_leave_it_asleep() {
    let project = project("", "");
    project.run(&["up", "-d"]).code(0);
    project.run(&["restart", "api"]).code(0);
    assert_eq!(project.service("api")["state"], "asleep");
    assert!(get(project.port("api"), "/").is_ok());
    project.run(&["restart", "api"]).code(0);
    assert_eq!(project.service("api")["state"], "running");
    project.run(&["down"]).code(0);
    project.nothing_left();
}
