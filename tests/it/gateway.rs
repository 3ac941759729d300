//! `use = "gateway"` with the real binary: services behind one address, files, upgrades, streams in both directions, what is
//! answered while a service is down, and its place in the order of starts and stops.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{PATIENCE, Project, eventually, signal};

/// A small HTTP server whose framing is in the test's hands: `/headers` gives the request's own, `/sse` an event and after
/// the file `go` another, `/ws` echoes bytes after a change of protocol, a `POST` is counted, its first bytes are noted in `got`.
/// Each request's first line is noted in `seen-NAME`.
pub const SERVER: &str = r#"
import os, socket, sys, threading, time
name, port = os.environ["DEVRUN_SERVICE"] + "." + os.environ["DEVRUN_REPLICA"], int(os.environ["PORT"])
family, host = (socket.AF_INET6, "::1") if "--v6" in sys.argv else (socket.AF_INET, "127.0.0.1")

def lines(file):
    out = []
    while True:
        line = file.readline()
        if line in (b"\r\n", b"\n", b""):
            return out
        out.append(line.decode("latin-1").rstrip("\r\n"))

def chunks(file):
    while True:
        size = int(file.readline().split(b";")[0], 16)
        data = file.read(size)
        file.readline()
        if size == 0:
            return
        yield data

def serve(sock):
    file = sock.makefile("rb")
    while True:
        head = lines(file)
        if not head:
            return
        with open("seen-" + os.environ["DEVRUN_SERVICE"], "a") as seen:
            seen.write(head[0] + "\n")
        method, path, _ = head[0].split(" ", 2)
        headers = dict((line.split(":", 1)[0].lower(), line.split(":", 1)[1].strip()) for line in head[1:])
        if headers.get("upgrade"):
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            while True:
                data = sock.recv(65536)
                if not data:
                    return
                sock.sendall(data)
        if path.endswith("/sse"):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
            while not os.path.exists("go"):
                time.sleep(0.01)
            sock.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
            continue
        count = 0
        if headers.get("transfer-encoding") == "chunked":
            for data in chunks(file):
                count += len(data)
                open("got", "w").write(str(count))
        else:
            length = int(headers.get("content-length", "0"))
            while count < length:
                data = file.read(min(65536, length - count))
                if not data:
                    return
                count += len(data)
        body = "%s %s %d\n%s\n" % (name, path, count, "\n".join(head[1:]))
        sock.sendall(("HTTP/1.1 200 OK\r\nX-Hop: 1\r\nConnection: x-hop\r\nServer: toy\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)).encode("latin-1"))

listener = socket.socket(family, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((host, port))
listener.listen(128)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// Two services and a gateway.
fn shop(more: &str) -> Project {
    let project = Project::new().procfile(&format!(
        r#"
        [services.web]
        run = "python3 srv.py {{token}}-web-"
        port = "auto"
        ready = {{ tcp = true }}
        [services.api]
        run = "python3 srv.py {{token}}-api-"
        port = "auto"
        ready = {{ tcp = true }}
        [services.front]
        use = "gateway"
        port = "auto"
        {more}
        "#
    ));
    project.write("srv.py", SERVER);
    project
}

const ROUTES: &str = r#"
        routes = { "/" = "web", "/api/*" = { to = "api", max_body = "1K" }, "/ws" = { to = "web" }, "/site" = { files = "public", fallback = "index.html" }, "/health" = { reply = 200 }, "/old/*" = { redirect = "/api/*" }, "/v1/*" = { to = "api", strip = "/v1" } }
        headers = { X-Content-Type-Options = "nosniff", Server = false }
"#;

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// Everything that comes back; the request says `Connection: close`, or the gateway closes.
fn ask(port: u16, request: &[u8]) -> String {
    let mut stream = connect(port);
    // A gateway that refuses a request early may close before all of it is sent.
    let _refused = stream.write_all(request);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(port: u16, path: &str, headers: &str) -> String {
    ask(port, format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{headers}\r\n").as_bytes())
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[track_caller]
fn has(answer: &str, parts: &[&str]) {
    for part in parts {
        assert!(answer.contains(part), "no {part:?} in:\n{answer}");
    }
}

/// Reads until what has come holds `text`.
#[track_caller]
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let count = stream.read(&mut buffer).unwrap_or(0);
        assert!(count > 0, "the connection ended before {text:?}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// Shows: service.routes, service.headers, route.to, route.strip, route.files, route.fallback, route.reply, route.redirect.
#[test]
fn requests_reach_the_service_of_the_longest_path() {
    let project = shop(ROUTES);
    project.write("public/index.html", "the site");
    project.write("public/app.js", "0123456789");
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    let answer = get(front, "/shop?q=1", "X-Own: kept\r\nConnection: x-hop\r\nX-Hop: gone\r\n");
    has(&answer, &["200 OK", "web.1 /shop?q=1 0", "host: shop.test", "x-own: kept", "x-forwarded-for: 127.0.0.1"]);
    has(&answer, &["x-forwarded-proto: http", "x-forwarded-host: shop.test", "x-content-type-options: nosniff"]);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    for gone in ["x-hop", "server: toy"] {
        assert!(!head.to_lowercase().contains(gone) && !body.contains("x-hop"), "{gone}: {answer}");
    }
    for (path, part) in [
        ("/api", "api.1 /api "),
        ("/api/x%20y?a=b", "api.1 /api/x%20y?a=b "),
        ("/apix", "web.1 /apix "),
        ("/%61pi/x", "api.1 /%61pi/x "),
        ("/ws/x", "web.1 /ws/x "),
        ("/v1/items", "api.1 /items "),
        ("/%76%31/items?q=%41", "api.1 /items?q=%41 "),
        ("//v1/items", "api.1 /items "),
        ("/health", "OK"),
        ("/old/a/b?c", "location: /api/a/b?c"),
        ("/site", "location: /site/"),
        ("/site/", "the site"),
        ("/site/some/page", "the site"),
    ] {
        has(&get(front, path, ""), &[part]);
    }
    assert_eq!(status(&get(front, "/site/missing.js", "")), 404);
    assert_eq!(status(&get(front, "/site/%2e%2e/procfile.toml", "")), 400);
    has(&get(front, "/site/app.js", "Range: bytes=2-4\r\n"), &["206 Partial Content", "\r\n\r\n234"]);
    eventually("the access log", PATIENCE, || {
        let log = project.run(&["logs", "front"]).code(0).stdout;
        let line = log.lines().find(|line| line.contains(" GET /v1/items /v1/* api@127.0.0.1:"))?;
        line.contains(" 200 ").then_some(())
    });
    project.run(&["down"]).code(0);
}

/// Vite and others listen on `localhost`, which is `::1` for them.
#[test]
fn a_service_on_the_other_loopback_address_is_reached() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return crate::harness::skipped("no IPv6");
    }
    let project = shop("routes = { \"/\" = \"web\" }");
    let text = project.read("procfile.toml").replacen("srv.py ", "srv.py --v6 ", 1).replacen(
        "ready = { tcp = true }",
        "ready = false",
        1,
    );
    project.rewrite(&text);
    project.run(&["up", "-d"]).code(0);
    has(&get(project.port("front"), "/x", ""), &["200 OK", "web.1 /x"]);
    project.run(&["down"]).code(0);
}

#[test]
fn a_websocket_is_a_pipe_in_both_directions() {
    let project = shop(ROUTES);
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    let mut stream = connect(front);
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).expect("sent");
    let head = read_until(&mut stream, "\r\n\r\n").to_lowercase();
    has(&head, &["101 switching protocols", "upgrade: websocket", "connection: upgrade"]);
    let sent: Vec<u8> = (0..300_000_u32).map(|number| u8::try_from(number % 251).expect("below 251")).collect();
    let mut writer = stream.try_clone().expect("a socket");
    let copy = sent.clone();
    let sender = std::thread::spawn(move || writer.write_all(&copy));
    let mut echoed = vec![0; sent.len()];
    stream.read_exact(&mut echoed).expect("all of it comes back");
    sender.join().expect("no panic").expect("sent");
    assert!(echoed == sent, "the bytes differ");
    // A change to HTTP/2 would lead past the routes.
    let answer = get(front, "/x", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n");
    has(&answer, &["200 OK", "web.1 /x"]);
    project.run(&["down"]).code(0);
}

#[test]
fn streams_are_handed_on_as_they_come_in_both_directions() {
    let project = shop("routes = { \"/\" = \"web\" }");
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    let mut events = connect(front);
    events.write_all(b"GET /sse HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    // The second event is not sent before the first has been seen here.
    read_until(&mut events, "data: 1");
    project.write("go", "");
    read_until(&mut events, "data: 2");
    let mut upload = connect(front);
    upload
        .write_all(b"POST /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .expect("sent");
    eventually("the first chunk is there before the second is sent", PATIENCE, || (project.read("got") == "3").then_some(()));
    upload.write_all(b"4\r\ndefg\r\n0\r\n\r\n").expect("sent");
    has(&read_until(&mut upload, "web.1"), &["web.1 /up 7"]);
    project.run(&["down"]).code(0);
}

/// Shows: route.max_body.
#[test]
fn a_body_over_the_limit_is_refused_and_one_below_it_passes() {
    let project = shop(ROUTES);
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    let post = |path: &str, size: usize| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n");
        ask(front, &[head.as_bytes(), &vec![b'x'; size]].concat())
    };
    has(&post("/api/up", 1024), &["200 OK", "api.1 /api/up 1024"]);
    has(&post("/api/up", 1025), &["413 Payload Too Large", "max_body, 1K"]);
    has(&post("/api/up", 3_000_000), &["413 Payload Too Large"]);
    has(&post("/other", 3_000_000), &["200 OK", "web.1 /other 3000000"]);
    // Without a length it is only known as it comes.
    let chunked = format!(
        "POST /api/up HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n{}\r\n0\r\n\r\n",
        "x".repeat(2048)
    );
    has(&ask(front, chunked.as_bytes()), &["413 Payload Too Large"]);
    project.run(&["down"]).code(0);
}

#[test]
fn a_service_that_is_down_is_named_with_its_state_and_what_to_type() {
    let project = shop(ROUTES);
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    project.run(&["stop", "api"]).code(0);
    let answer = eventually("the stop is known", PATIENCE, || {
        let answer = get(front, "/api/x", "");
        (status(&answer) == 502).then_some(answer)
    });
    has(&answer, &["service `api` is stopped", "devrun start api", "x-content-type-options: nosniff"]);
    let json = get(front, "/api/x", "Accept: application/json\r\n");
    let body: Value = serde_json::from_str(json.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    assert_eq!((&body["service"], &body["state"], &body["status"]), (&"api".into(), &"stopped".into(), &502.into()));
    assert_eq!(body["command"], "devrun start api");
    assert_eq!(status(&get(front, "/health", "")), 200, "the gateway's own reply needs no service");
    has(&get(front, "/", ""), &["web.1 / 0"]);
    project.run(&["start", "api"]).code(0);
    has(&get(front, "/api/x", ""), &["api.1 /api/x"]);
    // One that dies is known as dead.
    signal(i32::try_from(project.service("api")["pid"].as_i64().expect("its pid")).expect("a pid"), Signal::SIGKILL);
    let answer = eventually("the death is known", PATIENCE, || {
        let answer = get(front, "/api/x", "");
        answer.contains("is failed").then_some(answer)
    });
    has(&answer, &["502 Bad Gateway", "devrun logs api"]);
    project.run(&["down"]).code(0);
}

#[test]
fn a_request_waits_for_a_service_that_is_starting() {
    let project = Project::new().procfile(
        r#"
        [services.api]
        run = "until test -e go; do sleep 0.05; done; exec {svc:api} --listen $PORT"
        port = "auto"
        ready = { http = "/" }
        [services.front]
        use = "gateway"
        port = "auto"
        routes = { "/" = "api" }
        "#,
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    project.wait_state("front", "running");
    let front = project.port("front");
    let mut stream = connect(front);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
    let early = stream.read(&mut [0; 1]);
    assert!(early.is_err(), "answered while the service is starting: {early:?}");
    // One that leaves meanwhile is not forgotten.
    eventually("it is in the log", PATIENCE, || {
        let mut left = connect(front);
        left.write_all(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        left.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        assert!(left.read(&mut [0; 1]).is_err(), "answered while the service is starting");
        drop(left);
        project.run(&["logs", "front"]).stdout.contains(" GET /left - - 499 ").then_some(())
    });
    project.write("go", "");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    has(&read_until(&mut stream, "\r\n\r\n"), &["200 OK"]);
    project.run(&["stop", "api"]).code(0);
    project.run_in_shell("rm go").code(0);
    // One that does not come up in time.
    let start = project.start(&["start", "api"]);
    project.wait_state("api", "starting");
    let began = Instant::now();
    let answer = get(front, "/", "");
    has(&answer, &["503 Service Unavailable", "service `api` is starting", "not ready within 10s", "retry-after: 1"]);
    assert!(began.elapsed() >= Duration::from_secs(9), "it waited {:?}", began.elapsed());
    start.signal(Signal::SIGINT);
    start.outcome();
    project.run(&["down"]).code(0);
}

/// Shows: routes, routes --json, routes --check.
#[test]
fn routes_are_shown_and_asked() {
    let project = shop(ROUTES);
    project.write("public/index.html", "the site");
    project.run(&["routes"]).code(0).says("/api/*");
    let refused = project.run(&["routes", "--check"]).code(6);
    assert!(refused.last_line().contains("nothing is running"), "{refused}");
    project.run(&["up", "-d"]).code(0);
    let rows = project.run(&["routes", "--check", "--json"]).code(0).json();
    let rows = rows.as_array().expect("a list").clone();
    let answered: Vec<(String, String, u64)> = rows
        .iter()
        .map(|row| {
            assert_eq!(row["check"]["ok"], true, "{row}");
            let by = row["check"]["answered_by"].as_str().unwrap_or("-").to_owned();
            (row["path"].as_str().expect("a path").to_owned(), by, row["check"]["status"].as_u64().expect("a status"))
        })
        .collect();
    let expected =
        [("/health", "-", 200), ("/site/*", "-", 200), ("/api/*", "api", 200), ("/old/*", "-", 307), ("/v1/*", "api", 200)];
    for (path, by, status) in expected.into_iter().chain([("/ws", "web", 200), ("/", "web", 200)]) {
        assert!(answered.contains(&(path.to_owned(), by.to_owned(), status)), "{path}: {answered:?}");
    }
    let tried: Vec<&Value> = rows.iter().filter(|row| row["host"].is_null()).collect();
    assert_eq!(tried.last().map(|row| &row["path"]), Some(&"/".into()), "in the order in which they are tried");
    for row in &rows {
        let host = row["host"].as_str().unwrap_or("127.0.0.1");
        assert!(row["url"].as_str().is_some_and(|url| url.starts_with(&format!("http://{host}:"))), "{row}");
    }
    project.run(&["routes", "--check"]).code(0).says_not("any HTTP answer counts");
    // A service cannot pretend to be another, nor can anybody learn from outside which one answers.
    assert!(!get(project.port("front"), "/api/x", "").to_lowercase().contains("x-devrun-service"));
    project.run(&["stop", "api"]).code(0);
    let failed = project.run(&["routes", "--check"]).code(1).says("api did not answer");
    assert!(failed.last_line().contains("3 of 9 routes"), "{failed}");
    project.run(&["down"]).code(0);
}

#[test]
fn a_404_of_a_service_is_an_answer_and_said_to_be_one() {
    let project = Project::new().procfile(
        r#"
        [services.web]
        run = "python3 -m http.server $PORT --bind 127.0.0.1"
        port = "auto"
        [services.front]
        use = "gateway"
        port = "auto"
        depends_on = ["web"]
        routes = { "/absent/*" = "web" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let asked = project.run(&["routes", "--check"]).code(0).says("any HTTP answer counts");
    drop(asked.says("404 is what web says to GET http://127.0.0.1:"));
    project.run(&["down"]).code(0);
}

#[test]
fn a_gateway_that_is_killed_comes_back_and_a_stop_begins_with_it() {
    let project = shop(ROUTES);
    project.run(&["up", "-d"]).code(0);
    let (front, pid) = (project.port("front"), project.service("front")["pid"].as_i64().expect("a pid"));
    assert_ne!(pid, i64::from(project.supervisor()), "it is a process of its own");
    signal(i32::try_from(pid).expect("a pid"), Signal::SIGKILL);
    eventually("it is back", PATIENCE, || {
        let now = project.service("front");
        (now["state"] == "running" && now["pid"].as_i64().is_some_and(|now| now != pid)).then_some(())
    });
    has(&get(front, "/api/x", ""), &["api.1 /api/x"]);
    project.run(&["down"]).code(0);
    let events = project.run(&["events", "--json"]).code(0).json_lines();
    let at = |service: &str, to: &str| {
        events
            .iter()
            .rposition(|event| event["service"] == service && event["to"] == to)
            .unwrap_or_else(|| panic!("{service} {to}"))
    };
    for service in ["web", "api"] {
        assert!(at("front", "stopping") < at(service, "stopping"), "front goes first");
        assert!(at("front", "stopped") < at(service, "stopped"), "front goes first");
        assert!(at(service, "starting") < at("front", "starting"), "front comes last");
    }
}

/// An open stream of events does not hold up a stop, and a request in progress is not cut.
#[test]
fn a_stop_lets_requests_end_and_cuts_streams() {
    let project = shop("routes = { \"/\" = \"web\" }\n        stop = { grace = \"60s\" }");
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    let mut events = connect(front);
    events.write_all(b"GET /sse HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    read_until(&mut events, "data: 1");
    let mut upload = connect(front);
    upload.write_all(b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").expect("sent");
    eventually("it is under way", PATIENCE, || (project.read("got") == "3").then_some(()));
    let down = project.start(&["down"]);
    eventually("no new connections", PATIENCE, || TcpStream::connect(("127.0.0.1", front)).err().map(|_| ()));
    assert_eq!(project.service("web")["state"], "running", "what it leads to is stopped after it");
    upload.write_all(b"0\r\n\r\n").expect("sent");
    has(&read_until(&mut upload, "web.1"), &["web.1 /up 3"]);
    down.outcome().code(0);
}

/// Shows: service.replicas.
#[test]
fn copies_share_the_requests_and_the_death_of_one_fails_none() {
    let project = shop("routes = { \"/\" = \"api\" }");
    let text = project.read("procfile.toml").replacen("[services.api]", "[services.api]\nreplicas = 2", 1);
    project.rewrite(&text);
    let checked = project.run(&["check"]).code(0);
    assert!(!checked.stderr.contains("not built yet"), "{checked}");
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    let answered = |count: usize| -> Vec<String> {
        let answers = (0..count).map(|_| get(front, "/x", ""));
        answers
            .map(|answer| {
                assert_eq!(status(&answer), 200, "{answer}");
                answer.split("\r\n\r\n").nth(1).and_then(|body| body.split(' ').next()).unwrap_or_default().to_owned()
            })
            .collect()
    };
    let names = answered(20);
    for name in ["api.1", "api.2"] {
        assert!(names.iter().filter(|seen| *seen == name).count() >= 5, "{names:?}");
    }
    let pid = project.service("api.1")["pid"].as_i64().expect("a pid");
    signal(i32::try_from(pid).expect("a pid"), Signal::SIGKILL);
    let names = answered(20);
    assert!(names.iter().skip(2).all(|name| name == "api.2"), "{names:?}");
    project.run(&["routes", "--check"]).code(0).says("api.2");
    project.run(&["down"]).code(0);
}

/// What `config` prints says the same when it is read again.
#[test]
fn the_resolved_configuration_has_the_routes() {
    let project = shop(ROUTES);
    // Nothing is started: the numbers only have to be some.
    let ports = ["18101", "18102", "18103"];
    let text = project.read("procfile.toml");
    let fixed = ports.iter().fold(text, |text, port| text.replacen("\"auto\"", port, 1));
    project.rewrite(&fixed);
    let resolved = project.run(&["config"]).code(0).says("X-Content-Type-Options").stdout;
    project.write("resolved.toml", &resolved);
    let rows = |file: &str| project.run(&["-f", file, "routes", "--json"]).code(0).json();
    assert_eq!(rows("resolved.toml"), rows("procfile.toml"));
    has(&resolved, &["Server = false", "max_body = \"1024\"", "strip = \"/v1\"", "fallback = \"index.html\""]);
}

/// Shows: service.names.
#[test]
fn key_service_names_give_each_service_a_host_of_its_own() {
    let project = shop("routes = { \"/\" = \"web\" }");
    let text = project.read("procfile.toml");
    project.rewrite(&format!(
        "[project]\nname = \"shop\"\n{text}\n[services.hidden]\nrun = \"{{svc:hidden}} --listen $PORT\"\nport = \"private\"\n"
    ));
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    let of = |host: &str| ask(front, format!("GET /api HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes());
    has(&of(&format!("api.shop.localhost:{front}")), &["api.1 /api 0", "host: api.shop.localhost:"]);
    has(&of("API.Shop.LOCALHOST"), &["api.1 /api 0"]);
    // Anything else is the gateway's own address.
    for host in
        ["shop.localhost", "web.shop.localhost", "api.other.localhost", "api.shop.localhost.evil.test", "hidden.shop.localhost"]
    {
        has(&of(host), &["web.1 /api 0"]);
    }
    project.run(&["routes", "--check"]).code(0).says("api.shop.localhost");
    project.rewrite(&format!(
        "[project]\nname = \"shop\"\n{}",
        text.replace("use = \"gateway\"", "use = \"gateway\"\nnames = false")
    ));
    project.run(&["up", "-d"]).code(0);
    eventually("the names are gone", PATIENCE, || of("api.shop.localhost").contains("web.1 /api").then_some(()));
    project.run(&["down"]).code(0);
    // An instance has its own.
    let rows = project.run(&["--instance", "fix-login", "routes", "--json"]).code(0).json();
    assert!(rows.as_array().is_some_and(|rows| rows.iter().all(|row| row["host"].is_null())), "{rows}");
    project.rewrite(&format!("[project]\nname = \"shop\"\n{text}"));
    project.run(&["--instance", "fix-login", "routes"]).code(0).says("api.fix-login.shop.localhost");
}

/// Shows: exit 5.
#[test]
fn a_port_that_may_not_be_bound_is_named() {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if !crate::harness::is_root() || first.trim().parse::<u16>().is_ok_and(|first| first <= 80) {
        return crate::harness::skipped("not root, or everybody may bind port 80");
    }
    let project = Project::new()
        .for_user(54_321)
        .procfile("[services.front]\nuse = \"gateway\"\nport = 80\nroutes = { \"/\" = { reply = 200 } }\n");
    let up = project.run(&["up", "-d"]).code(5).says("only root may listen on ports below").says("services.front.port = 8080");
    assert!(up.last_line().contains("front"), "{up}");
}

/// What two servers could read in two ways never reaches a service.
#[test]
fn hostile_requests_are_refused() {
    let project = shop("routes = { \"/\" = \"web\", \"/admin/*\" = { reply = 403 }, \"/files\" = { files = \"public\" } }");
    project.write("public/a.txt", "a");
    project.write("public/.env", "SECRET=1");
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    let long = "x".repeat(70_000);
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let h = "Host: a\r\n";
    let refused: Vec<(&str, String)> = vec![
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        ("an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned()),
        ("a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned()),
        ("a Host with a login", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".to_owned()),
        ("absolute form of another host", format!("GET http://b/ HTTP/1.1\r\n{h}\r\n")),
        ("CONNECT", "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n".to_owned()),
        ("two lengths", format!("POST / HTTP/1.1\r\n{h}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")),
        ("a list of lengths", format!("POST / HTTP/1.1\r\n{h}Content-Length: 3, 4\r\n\r\nabcd")),
        ("a signed length", format!("POST / HTTP/1.1\r\n{h}Content-Length: +3\r\n\r\nabc")),
        ("a hexadecimal length", format!("POST / HTTP/1.1\r\n{h}Content-Length: 0x3\r\n\r\nabc")),
        ("a huge length", format!("POST / HTTP/1.1\r\n{h}Content-Length: 99999999999999999999\r\n\r\n")),
        ("an unknown encoding", format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        (
            "two encodings",
            format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        ),
        ("gzip, chunked", format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        ("chunked twice", format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n")),
        (
            "a length and an encoding",
            format!(
                "POST / HTTP/1.1\r\n{h}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n{h}\r\n"
            ),
        ),
        (
            "an encoding and a length",
            format!(
                "POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\ncontent-length: 40\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n{h}\r\n"
            ),
        ),
        ("an encoding in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        ("a vertical tab before chunked", format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n")),
        ("a blank before the colon", format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n")),
        ("a folded line", format!("GET / HTTP/1.1\r\n{h}X-A: b\r\n c\r\n\r\n")),
        ("a blank before the first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned()),
        ("a NUL in a header", format!("GET / HTTP/1.1\r\n{h}X-A: a\0b\r\n\r\n")),
        ("a header without a colon", format!("GET / HTTP/1.1\r\n{h}nonsense\r\n\r\n")),
        ("a blank in the path", format!("GET /a b HTTP/1.1\r\n{h}\r\n")),
        ("HTTP/9.9", format!("GET / HTTP/9.9\r\n{h}\r\n")),
        ("no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned()),
        ("a head too large", format!("GET / HTTP/1.1\r\n{h}X-A: {long}\r\n\r\n")),
        ("too many headers", format!("GET / HTTP/1.1\r\n{h}{many}\r\n")),
        ("a path that climbs", format!("GET /x/../admin/a HTTP/1.1\r\n{h}\r\n")),
        ("one that climbs encoded", format!("GET /x/%2e%2E/admin/a HTTP/1.1\r\n{h}\r\n")),
        ("one with an encoded slash", format!("GET /x/..%2fadmin/a HTTP/1.1\r\n{h}\r\n")),
        ("one with a backslash", format!("GET /x/..%5cadmin/a HTTP/1.1\r\n{h}\r\n")),
        ("an encoded NUL", format!("GET /files/a.txt%00.html HTTP/1.1\r\n{h}\r\n")),
        ("a blocked path with two slashes", format!("GET //admin//a HTTP/1.1\r\n{h}\r\n")),
        ("a blocked path encoded", format!("GET /%61dmin/a HTTP/1.1\r\n{h}\r\n")),
        ("a hidden file", format!("GET /files/.env HTTP/1.1\r\n{h}\r\n")),
        ("files written to", format!("PUT /files/a.txt HTTP/1.1\r\n{h}Content-Length: 0\r\n\r\n")),
    ];
    for (name, request) in &refused {
        let mut stream = connect(front);
        let _refused_early = stream.write_all(request.as_bytes());
        let mut answer = vec![0; 4096];
        // Closed without an answer is refused too.
        let count = stream.read(&mut answer).unwrap_or(0);
        let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
        assert!(count == 0 || (400..500).contains(&status(&answer)) || status(&answer) == 505, "{name}: {answer}");
    }
    assert_eq!(project.read("seen-web"), "", "none of them reached the service");
    // A pair of both framings that comes together with the request before it: the encoding counts, the service sees one framing
    // only, and the connection is closed.
    let pair = format!(
        "GET /first HTTP/1.1\r\n{h}\r\nPOST /pair HTTP/1.1\r\n{h}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\n{h}\r\n"
    );
    let answer = ask(front, pair.as_bytes());
    assert!(answer.contains("/first") && !answer.contains("smuggled"), "{answer}");
    assert!(!project.read("seen-web").contains("smuggled"));
    assert!(!answer.to_lowercase().contains("content-length: 4"), "{answer}");
    // And after a response.
    let mut stream = connect(front);
    stream.write_all(format!("GET /first HTTP/1.1\r\n{h}\r\n").as_bytes()).expect("a socket");
    read_until(&mut stream, "/first");
    let late = format!("POST /late HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n");
    stream.write_all(late.as_bytes()).expect("a socket");
    read_until(&mut stream, "400 Bad Request");
    assert!(!project.read("seen-web").contains("/late"));
    project.run(&["down"]).code(0);
}

#[test]
fn a_volume_holds_the_logs_and_others_can_name_its_address() {
    let project = shop("routes = { \"/\" = \"web\", \"/gone\" = \"api\" }\n        data = \"front-logs\"");
    let text = project.read("procfile.toml").replacen(
        "[services.api]",
        "[services.api]\nenv = { FRONT = \"${front.url}\" }\nprofiles = [\"extra\"]",
        1,
    );
    project.rewrite(&format!("{text}\n[services.asks]\nrun = \"sh -c 'echo $FRONT > address; exec sleep 1000'\"\nenv = {{ FRONT = \"${{front.url}}\" }}\n"));
    project.run(&["check"]).code(0).says("in no active profile: this route answers 502");
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    assert_eq!(project.read("address").trim(), format!("http://127.0.0.1:{front}"));
    has(&get(front, "/gone", ""), &["502 Bad Gateway", "service `api` is not started", "devrun up --profile extra"]);
    has(&get(front, "/x?token=secret", ""), &["200 OK"]);
    let folder = ".devrun/data/front-logs/gateway/data";
    eventually("the files", PATIENCE, || project.read(&format!("{folder}/access.log")).contains(" GET /x / web@").then_some(()));
    assert!(!project.read(&format!("{folder}/access.log")).contains("secret"), "the query is not written down");
    assert!(project.read(&format!("{folder}/error.log")).contains("GET /gone: 502: service `api` is not started"));
    project.run(&["down"]).code(0);
}

/// Asks `/metrics` of `devrun web`.
fn metrics(project: &Project) -> String {
    let mut page = project.start(&["web"]);
    page.wait_for("#token=");
    let address = page
        .stdout()
        .lines()
        .next()
        .and_then(|line| line.split_once("/#token=").map(|(at, token)| (at.to_owned(), token.to_owned())));
    let (at, token) = address.expect("an address with a token");
    let host = at.trim_start_matches("http://").to_owned();
    let web = host.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let head = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
    let answer = ask(web, head.as_bytes());
    page.signal(Signal::SIGINT);
    page.outcome().code(130);
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

/// Shows: top --json.
#[test]
fn top_and_metrics_show_how_routes_are_used() {
    let project = shop("routes = { \"/\" = \"web\", \"/api/*\" = \"api\" }");
    project.run(&["up", "-d"]).code(0);
    let front = project.port("front");
    for _ in 0..20 {
        assert_eq!(status(&get(front, "/api/x", "")), 200);
    }
    assert_eq!(status(&get(front, "/../x", "")), 400);
    let top = project.run(&["top", "--once", "--json"]).code(0).json();
    let routes = top["routes"].as_array().expect("routes");
    let of = |route: &str| routes.iter().find(|row| row["route"] == route);
    let api = of("/api/*").unwrap_or_else(|| panic!("{routes:?}"));
    assert_eq!((&api["gateway"], &api["requests"]), (&Value::from("front"), &Value::from(20)));
    let (p50, p99) = (api["p50_ms"].as_f64().expect("a time"), api["p99_ms"].as_f64().expect("a time"));
    assert!(p50 > 0.0 && p50 <= p99, "{api}");
    assert!(of("-").is_some_and(|row| row["requests"] == 1) && of("/").is_none(), "{routes:?}");
    let text = project.run(&["top", "--once"]).code(0).stdout;
    assert!(text.contains("REQUESTS/S") && text.lines().any(|line| line.contains("/api/*") && line.ends_with("ms")), "{text}");

    let text = metrics(&project);
    let labels = "service=\"front\",replica=\"1\",route=\"/api/*\"";
    for line in [
        "# TYPE devrun_gateway_request_duration_seconds histogram".to_owned(),
        format!("devrun_gateway_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 20"),
        format!("devrun_gateway_request_duration_seconds_count{{{labels}}} 20"),
        format!("devrun_gateway_responses_total{{{labels},status=\"2xx\"}} 20"),
    ] {
        assert!(text.contains(&line), "no {line:?} in {text}");
    }
    project.run(&["down"]).code(0);
}
