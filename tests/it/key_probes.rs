//! Every kind of `ready`, through the binary, against small servers that speak just enough.

use std::time::Duration;

use crate::harness::{PATIENCE, Project, eventually};
use crate::waits::stays_true_for;

/// `python3 serve.py KIND [ARGUMENT]`: listens on `$PORT` and speaks just enough of KIND.
const SERVER: &str = r#"
import os, socket, sys, threading, time
kind = sys.argv[1]
port = int(os.environ.get("PORT", "0"))
host = os.environ.get("BIND", "127.0.0.1")

def until(stream, end):
    data = b""
    while not data.endswith(end):
        piece = stream.recv(1)
        if not piece:
            return data
        data += piece
    return data

def http(stream, status, body, headers=""):
    until(stream, b"\r\n\r\n")
    stream.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n{body}".encode())

def redis(stream):
    store = {}
    while True:
        line = until(stream, b"\r\n")
        if not line:
            return
        if not line.startswith(b"*"):
            continue
        words = []
        for _ in range(int(line[1:])):
            length = int(until(stream, b"\r\n")[1:])
            words.append(stream.recv(length + 2)[:-2])
        name = words[0].upper()
        if name == b"PING":
            stream.sendall(b"+PONG\r\n")
        elif name == b"SET":
            store[words[1]] = words[2]
            stream.sendall(b"+OK\r\n")
        elif name == b"GET":
            value = store.get(words[1])
            stream.sendall(b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value))
        elif name == b"DEL":
            stream.sendall(b":%d\r\n" % (1 if store.pop(words[1], None) is not None else 0))
        elif name == b"HELLO":
            stream.sendall(b"-ERR unknown command\r\n")
        else:
            stream.sendall(b"+OK\r\n")

def frame(kind, flags, stream_id, body):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + body

def answer(stream):
    if kind == "http":
        http(stream, "200 OK", "all is well")
    elif kind == "teapot":
        http(stream, "418 I'm a teapot", "short and stout")
    elif kind == "redis":
        redis(stream)
    elif kind == "pg":
        stream.recv(1024)
        stream.sendall(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
        stream.recv(1024)
    elif kind == "bolt":
        stream.recv(20)
        stream.sendall(bytes([0, 0, 4, 5]))
    elif kind == "s3":
        request = until(stream, b"\r\n\r\n")
        if b"Authorization: AWS4-HMAC-SHA256 Credential=me/" in request:
            body = "<ListAllMyBucketsResult/>"
            stream.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        else:
            stream.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    elif kind == "grpc":
        stream.recv(65536)
        stream.sendall(frame(4, 0, 0, b""))
        stream.sendall(frame(1, 4, 1, b"\x88"))
        stream.sendall(frame(0, 0, 1, b"\0\0\0\0\x02\x08\x01"))
        stream.sendall(frame(1, 5, 1, b"\0\x0bgrpc-status\x010"))
        time.sleep(1)
    elif kind == "mute":
        time.sleep(1000)

if kind == "unix":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[2])
elif kind == "notify":
    time.sleep(0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(b"STATUS=almost\nREADY=1\n", os.environ["NOTIFY_SOCKET"])
    time.sleep(1000)
else:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    time.sleep(0.15)
    listener.bind((host, port))
listener.listen(16)
while True:
    stream, _ = listener.accept()
    threading.Thread(target=answer, args=(stream,), daemon=True).start()
"#;

fn project(text: &str) -> Project {
    let project = Project::new().procfile(text);
    project.write("serve.py", SERVER);
    project
}

fn healthy(text: &str, names: &[&str]) {
    let project = project(text);
    project.run(&["up", "-d"]).code(0);
    for name in names {
        let service = project.service(name);
        assert_eq!((service["state"].as_str(), service["health"].as_str()), (Some("running"), Some("healthy")), "{service:#}");
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: service.ready, ready.http, ready.tcp, ready.unix, ready.status, ready.headers, ready.body.
#[test]
fn http_tcp_and_unix() {
    healthy(
        r#"
        [services.http]
        run = ["python3", "serve.py", "http"]
        port = "auto"
        ready = { http = "/health", status = [200], body = "all is (well|fine)", headers = { X-Probe = "yes" } }
        [services.teapot]
        run = ["python3", "serve.py", "teapot"]
        port = "auto"
        ready = { http = "/", status = 418 }
        [services.url]
        run = ["python3", "serve.py", "http"]
        port = "auto"
        ready = { http = "http://${url.addr}/x" }
        [services.tcp]
        run = ["python3", "serve.py", "mute"]
        port = "auto"
        ready = { tcp = true }
        [services.unix]
        run = ["python3", "serve.py", "unix", "own.sock"]
        ready = { unix = "own.sock" }
        "#,
        &["http", "teapot", "url", "tcp", "unix"],
    );
}

/// Shows: ready.pg, ready.redis, ready.bolt, ready.grpc, ready.s3.
#[test]
fn pg_redis_bolt_grpc_and_s3() {
    healthy(
        r#"
        [defaults]
        port = "auto"
        [services.pg]
        run = ["python3", "serve.py", "pg"]
        ready = { pg = true }
        [services.ping]
        run = ["python3", "serve.py", "redis"]
        ready = { redis = "PING" }
        [services.trip]
        run = ["python3", "serve.py", "redis"]
        ready = { redis = "roundtrip" }
        [services.bolt]
        run = ["python3", "serve.py", "bolt"]
        ready = { bolt = true }
        [services.grpc]
        run = ["python3", "serve.py", "grpc"]
        ready = { grpc = true }
        [services.s3]
        run = ["python3", "serve.py", "s3"]
        user = "me"
        password = "secret key"
        ready = { s3 = true }
        "#,
        &["pg", "ping", "trip", "bolt", "grpc", "s3"],
    );
}

/// Shows: ready.cmd, ready.log, ready.file, ready.notify, ready.uptime, ready.max_age.
#[test]
fn cmd_log_file_notify_and_uptime() {
    healthy(
        r#"
        [services.cmd]
        run = ["sh", "-c", "sleep 0.2; touch made; exec sleep 1000"]
        ready = { cmd = "test -e made && test \"$WHO\" = me" }
        env = { WHO = "me" }
        [services.log]
        run = ["sh", "-c", "echo starting; sleep 0.2; echo 'listening on 8080' >&2; exec sleep 1000"]
        ready = { log = "listening on [0-9]+" }
        [services.file]
        run = ["sh", "-c", "sleep 0.2; touch there; exec sleep 1000"]
        ready = { file = "there", max_age = "1h" }
        [services.notify]
        run = ["python3", "serve.py", "notify"]
        ready = { notify = true }
        [services.uptime]
        run = "{svc:uptime}"
        ready = { uptime = "300ms" }
        "#,
        &["cmd", "log", "file", "notify", "uptime"],
    );
}

/// Shows: ready.any.
#[test]
fn several_kinds_must_all_pass_and_any_needs_one() {
    let project = project(
        r#"
        [services.all]
        run = "{svc:all}"
        ready = { file = "one", cmd = "test -e two" }
        [services.any]
        run = "{svc:any}"
        ready = { file = "one", cmd = "test -e two", any = true }
        "#,
    );
    let up = project.start(&["up", "-d"]);
    project.wait_state("all", "starting");
    project.write("one", "");
    eventually("one is enough", PATIENCE, || (project.service("any")["health"] == "healthy").then_some(()));
    assert_eq!(project.service("all")["health"], "starting");
    project.write("two", "");
    up.outcome().code(0);
    assert_eq!(project.service("all")["health"], "healthy");
}

/// Shows: service.bind.
#[test]
fn both_families_of_addresses_are_probed() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return crate::harness::skipped("no IPv6 here");
    }
    healthy(
        r#"
        [services.six]
        run = ["python3", "serve.py", "http"]
        port = "auto"
        bind = "::1"
        env = { BIND = "::1" }
        ready = { http = "/" }
        [services.name]
        run = ["python3", "serve.py", "http"]
        port = "auto"
        bind = "::1"
        env = { BIND = "::1" }
        ready = { http = "http://localhost:${name.port}/" }
        [services.four]
        run = ["python3", "serve.py", "http"]
        port = "auto"
        ready = { tcp = true }
        "#,
        &["six", "name", "four"],
    );
}

/// Shows: ready.timeout, ready.start_interval.
#[test]
fn a_cmd_probe_that_hangs_or_forks_is_ended_with_its_tree() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        ready = { cmd = "test -e ok || exec {svc:probe} --children 2 --setsid-escape --ignore-term", timeout = "400ms", start_interval = "10ms" }
        "#,
    );
    let up = project.start(&["up", "-d"]);
    eventually("a probe with all its processes", PATIENCE, || (project.alive("probe").len() >= 4).then_some(()));
    // Attempts follow one another and never pile up: leader, two children, the escapee and what makes it.
    stays_true_for("attempts do not pile up", Duration::from_millis(1600), || {
        let alive = project.alive("probe");
        assert!(alive.len() <= 6, "{alive:#?}");
        true
    });
    project.write("ok", "");
    up.outcome().code(0);
    eventually("nothing is left of the probes", PATIENCE, || project.alive("probe").is_empty().then_some(()));
    assert_eq!(project.alive("a").len(), 1);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_not_ready() {
    let project = project(
        r#"
        [services.mute]
        run = ["python3", "serve.py", "mute"]
        port = "auto"
        ready = { http = "/", timeout = "150ms", within = "1s" }
        "#,
    );
    project.run(&["up", "-d"]).code(3).says("mute");
    assert_eq!(project.service("mute")["state"], "failed");
}

/// Shows: ready.start_period, ready.retries, ready.interval.
#[test]
fn start_period_and_retries_decide_when_it_is_unhealthy() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        ready = { file = "never", interval = "100ms", retries = 2, within = "60s" }
        [services.patient]
        run = "{svc:patient}"
        ready = { file = "never", interval = "100ms", retries = 2, start_period = "60s", within = "60s" }
        "#,
    );
    let up = project.start(&["up", "-d"]);
    eventually("unhealthy before its first pass", PATIENCE, || (project.service("a")["health"] == "unhealthy").then_some(()));
    assert_eq!(project.service("patient")["health"], "starting");
    project.write("never", "");
    up.outcome().code(0);
    assert_eq!(project.service("a")["health"], "healthy");
}

/// Shows: inspect --json.
#[test]
fn inspect_tells_the_history_of_the_probe() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        ready = { cmd = "test -e there || { echo not yet >&2; exit 7; }", interval = "100ms" }
        "#,
    );
    let up = project.start(&["up", "-d"]);
    project.wait_state("a", "starting");
    let probes = |project: &Project| {
        let seen = project.run(&["inspect", "a", "--json"]).code(0).json();
        seen["probes"].as_array().cloned().unwrap_or_default()
    };
    eventually("failed attempts", PATIENCE, || {
        probes(&project)
            .iter()
            .any(|one| one["passed"] == false && one["answer"].as_str().is_some_and(|text| text.contains('7')))
            .then_some(())
    });
    project.write("there", "");
    up.outcome().code(0);
    eventually("a pass", PATIENCE, || probes(&project).iter().any(|one| one["passed"] == true).then_some(()));
    assert!(probes(&project).iter().all(|one| one["took_ms"].as_f64().is_some()));
}

#[test]
fn an_unhealthy_service_that_others_wait_for_is_probed_as_at_its_start() {
    let project = Project::new().procfile(
        r#"
        [services.db]
        run = "{svc:db}"
        ready = { cmd = "echo x >> attempts; test -f up", interval = "10s", retries = 1 }
        [services.api]
        run = "{svc:api}"
        depends_on = ["db"]
        "#,
    );
    project.write("up", "");
    project.run(&["up", "-d"]).code(0);
    std::fs::remove_file(project.path("up")).expect("it is there");
    eventually("db is unhealthy", PATIENCE, || (project.service("db")["health"] == "unhealthy").then_some(()));
    let attempts = || project.read("attempts").lines().count();
    let restart = project.start(&["restart", "api"]);
    project.wait_state("api", "waiting");
    let before = attempts();
    // By the interval it would take a minute.
    eventually("it is probed often", PATIENCE, || (attempts() > before + 6).then_some(()));
    project.write("up", "");
    restart.outcome().code(0).says("waiting for db (healthy)");
    assert_eq!(project.service("db")["health"], "healthy");
    project.run(&["down"]).code(0);
}
