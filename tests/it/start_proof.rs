//! Ready means ready: a port is probed without being told so, and what dies within moments was never up.

use crate::harness::Project;
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

#[test]
fn a_service_that_listens_elsewhere_is_told_where() {
    let port = test_ports::free_port();
    let text = format!("[services.web]\nrun = \"{{svc:web}} --listen {port}\"\nport = \"auto\"\nready = {{ within = \"4s\" }}\n");
    let project = Project::new().procfile(&text);
    let up = project.run(&["up", "-d"]).code(3);
    if cfg!(target_os = "linux") {
        assert!(up.last_line().contains(&format!("it listens on 127.0.0.1:{port}, not on $PORT (")), "{up}");
    }
    project.run(&["down"]).code(0);
}
