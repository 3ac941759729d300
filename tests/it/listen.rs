//! `listen = true`, and gateways: the listening socket is opened once and passed to each process of the service, so that a
//! restart refuses no connection.

use std::net::TcpStream;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, eventually, rounds, signal};
use crate::load::{Load, get, listening};

/// The socket is descriptor 3 of the process that is executed, and the variables say so. Shows: service.listen.
#[test]
fn the_socket_is_passed_as_descriptor_three() {
    let project = listening("ready = { http = \"/\" }", "");
    project.run(&["up", "-d"]).code(0);
    let port = project.port("api");
    let pid = project.service("api")["pid"].clone();
    let body = get(port, "/env").expect("an answer");
    assert_eq!(body, format!("api.1 {pid}\n1 {pid} main {port}"));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_restart_under_load_refuses_and_breaks_nothing() {
    let project = listening("", "");
    project.run(&["up", "-d"]).code(0);
    let load = Load::begin(project.port("api"), 4, "/");
    load.answered(20);
    let count = rounds(5);
    for _ in 0..count {
        project.run(&["restart", "api"]).code(0);
        load.answered(20);
    }
    let tally = load.end();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.good);
    assert!(tally.pids().len() as u64 > count, "{:?}", tally.by);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A connection alone proves nothing, as the socket is there before the service: it is ready when it accepts.
#[test]
fn it_is_ready_when_it_accepts_a_connection() {
    let project = listening("", "").env("FLAG", "--wait");
    project.run(&["up", "-d", "--no-wait"]).code(0);
    let pid = eventually("it runs", PATIENCE, || project.service("api")["pid"].as_i64());
    let port = project.port("api");
    let held = TcpStream::connect(("127.0.0.1", port)).expect("the socket is open");
    // Its first probe has been made and was not accepted.
    eventually("it says what it waits for", PATIENCE, || {
        let inspected = project.run(&["inspect", "api", "--json"]);
        inspected.stdout.contains("has not accepted a connection yet").then_some(())
    });
    let service = project.service("api");
    assert_eq!((service["state"].as_str(), service["pid"].as_i64()), (Some("starting"), Some(pid)));
    project.write("go", "");
    project.wait_state("api", "running");
    drop(held);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_stop_closes_the_port_and_a_start_opens_it_again() {
    let project = listening("", "");
    project.run(&["up", "-d"]).code(0);
    let port = project.port("api");
    project.run(&["stop", "api"]).code(0);
    eventually("the port is closed", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()));
    project.run(&["start", "api"]).code(0);
    assert!(get(port, "/").is_ok());
    project.run(&["down"]).code(0);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    project.nothing_left();
}

/// The supervisor holds the socket, so a keeper that is killed takes none with it.
#[test]
fn a_new_keeper_passes_the_same_socket() {
    let project = listening("", "");
    project.run(&["up", "-d"]).code(0);
    let load = Load::begin(project.port("api"), 2, "/");
    load.answered(10);
    let old = project.keepers();
    signal(old[0].pid, Signal::SIGKILL);
    eventually("another keeper", PATIENCE, || project.keepers().iter().any(|new| new.pid != old[0].pid).then_some(()));
    project.run(&["restart", "api"]).code(0);
    load.answered(10);
    let tally = load.end();
    assert_eq!(tally.failed, Vec::<String>::new());
    assert_eq!(tally.pids().len(), 2, "{:?}", tally.by);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_gateway_that_is_restarted_refuses_no_connection() {
    let project = listening("", "[services.front]\nuse = \"gateway\"\nport = \"auto\"\nroutes = { \"/\" = \"api\" }");
    project.run(&["up", "-d"]).code(0);
    let load = Load::begin(project.port("front"), 4, "/");
    load.answered(20);
    for _ in 0..rounds(3) {
        project.run(&["restart", "front"]).code(0);
        load.answered(20);
    }
    let restarted = load.so_far();
    assert_eq!(restarted.failed, Vec::<String>::new(), "of {}", restarted.good);
    // Killed, it breaks what it was answering; connections wait for the next one.
    let pid = project.service("front")["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("its pid");
    signal(pid, Signal::SIGKILL);
    eventually("another process", PATIENCE, || {
        let now = project.service("front")["pid"].as_i64()?;
        (now != i64::from(pid)).then_some(())
    });
    load.answered(20);
    let tally = load.end();
    assert!(tally.failed.len() <= 4, "one in flight for each thread: {:?}", tally.failed);
    assert!(tally.failed.iter().all(|why| !why.starts_with("connect:")), "{:?}", tally.failed);
    project.run(&["down"]).code(0);
    project.nothing_left();
}
