//! Lines of output as people see them: colours and carriage returns under a pattern, text without a line end, and whose
//! lines a report of a failure quotes.

use crate::harness::{PATIENCE, Project, eventually};
use crate::test_ports;

#[test]
fn patterns_are_tried_on_the_text_that_people_see() {
    let project = Project::new().procfile(
        r#"
        [defaults]
        ready = { within = "20s" }
        [services.colour]
        run = "sh -c \"printf '  \\033[32mready\\033[39m in \\033[1m632\\033[22m ms\\n'; exec {svc:colour}\""
        ready = { log = "ready in \\d+ ms" }
        [services.terminal]
        run = "sh -c 'echo Server up; exec {svc:terminal}'"
        tty = true
        ready = { log = "^Server up$" }
        [services.crlf]
        run = "sh -c \"printf 'Server up\\r\\n'; exec {svc:crlf}\""
        ready = { log = "^Server up$" }
        [services.progress]
        run = "sh -c \"printf 'load 1%%\\rload 50%%\\rServer up\\n'; exec {svc:progress}\""
        ready = { log = "^Server up$" }
        [services.prompt]
        run = "sh -c \"printf 'ready> '; exec sleep 1000\""
        ready = { log = "^ready> $" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    for name in ["colour", "terminal", "crlf", "progress", "prompt"] {
        assert_eq!(project.service(name)["health"], "healthy", "{name}");
    }
    project.run(&["logs", "colour", "--no-prefix", "--grep", "^ *ready in 632 ms$"]).code(0).says("632");
    project.run(&["logs", "terminal", "--no-prefix", "--grep", "up$"]).code(0).says("Server up");
    // The file keeps the bytes.
    assert!(project.read(".devrun/logs/colour.log").contains("\u{1b}[32mready"));
    project.run(&["down"]).code(0);
}

#[test]
fn text_without_a_line_end_is_shown_while_the_service_lives() {
    let project = Project::new().procfile(
        r#"
        [services.ask]
        run = "sh -c \"printf 'Password: '; exec sleep 1000\""
        [services.dots]
        run = "sh -c \"printf '..'; while ! [ -e go ]; do sleep 0.05; done; echo passed; exec sleep 1000\""
        log = { format = "json" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let logs = |args: &[&str]| project.run(&[&["logs"], args].concat()).code(0).stdout;
    eventually("the prompt in the log", PATIENCE, || (logs(&["ask", "--no-prefix"]) == "Password: \n").then_some(()));
    eventually("the dots in the log", PATIENCE, || (logs(&["dots", "--no-prefix"]) == "..\n").then_some(()));
    assert!(logs(&["ask", "--json"]).contains("\"line\":\"Password: \""));
    let mut follower = project.start(&["logs", "-f", "ask"]);
    follower.wait_for("Password: ");
    follower.signal(nix::sys::signal::Signal::SIGINT);
    let _ended = follower.outcome();
    project.write("go", "");
    eventually("the end of the line", PATIENCE, || (logs(&["dots", "--no-prefix"]) == "..\npassed\n").then_some(()));
    project.run(&["down"]).code(0);
}

#[test]
fn an_attached_start_shows_text_without_a_line_end() {
    let project = Project::new().procfile(
        r#"
        [services.ask]
        run = "sh -c \"printf 'Password: '; while ! [ -e go ]; do sleep 0.05; done; echo taken; exec sleep 1000\""
        "#,
    );
    let mut up = project.start(&["up"]);
    up.wait_for("ask | Password: ");
    project.write("go", "");
    up.wait_for("ask | Password: taken\n");
    up.signal(nix::sys::signal::Signal::SIGINT);
    let _ended = up.outcome();
}

#[test]
fn a_failure_is_reported_with_lines_of_its_own_start_only() {
    let port = test_ports::free_port();
    let procfile = |run: &str| format!("[services.web]\nrun = {run:?}\nport = {port}\nready = {{ uptime = \"0s\" }}\n");
    let project = Project::new().procfile(&procfile("sh -c 'echo hello from the run before; exec {svc:web}'"));
    project.run(&["up", "-d"]).code(0);
    eventually("the line", PATIENCE, || project.run(&["logs", "web"]).stdout.contains("run before").then_some(()));
    project.run(&["down"]).code(0);
    let held = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port that was free a moment ago");
    project.run(&["up", "-d"]).code(5).says_not("run before").says_not("its last");
    drop(held);
    let project = project.procfile(&procfile("no-such-binary"));
    project.run(&["up", "-d"]).code(7).says_not("run before").says_not("its last");
    // Its own lines are shown, without their colours.
    let project =
        project.procfile(&procfile("sh -c \"printf '\\\\033[31mno spoon\\\\033[0m\\\\n'; exit 3\"").replace("0s", "5s"));
    project.run(&["up", "-d"]).code(1).says("its last line:").says("web | no spoon").says_not("run before");
}

#[test]
fn an_address_that_is_probed_by_https_is_shown_as_one() {
    // The probe need not pass for the address to be known.
    let project = Project::new().procfile(
        r#"
        [services.web]
        run = "{svc:web}"
        port = 23901
        ready = { http = "https://localhost:${PORT}/health", within = "300ms" }
        [services.plain]
        run = "{svc:plain}"
        port = 23902
        ready = { http = "https://other.example:23902/health" }
        [services.client]
        run = "{svc:client}"
        env = { WEB = "${web.url}", PLAIN = "${plain.url}", FORCED = "${web.url:http}" }
        "#,
    );
    let env = project.run(&["env", "client", "--format", "dotenv"]).code(0).stdout;
    for line in ["https://127.0.0.1:23901", "PLAIN=http://127.0.0.1:23902", "FORCED=http://127.0.0.1:23901"] {
        assert!(env.contains(line), "{line}\n{env}");
    }
}
