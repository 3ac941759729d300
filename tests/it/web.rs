//! `devrun web`: the page, its data, the checks on every request, metrics.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{PATIENCE, Project, Running, ask_http, eventually};
use crate::waits::within;

/// A running `devrun web`.
pub struct Page {
    running: Running,
    port: u16,
    token: String,
}

impl Page {
    pub fn start(project: &Project) -> Self {
        Self::start_with(project, &[])
    }
    pub fn start_with(project: &Project, options: &[&str]) -> Self {
        let mut running = project.start(&[&["web"], options].concat());
        running.wait_for("#token=");
        let url = running.stdout().lines().next().expect("an address").to_owned();
        let (address, token) = url.split_once("/#token=").expect("a token");
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        Self { running, port, token: token.to_owned() }
    }
    /// Sends a request as it is and gives status and the whole answer.
    pub fn raw(&self, request: &str) -> (u16, String) {
        ask_http(self.port, request, b"")
    }
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{headers}{length}Connection: close\r\n\r\n{body}",
            self.port
        ))
    }
    /// Sends a request whose answer does not end, and gives the connection.
    pub fn open(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{}\r\n", self.port, self.cookie());
        stream.write_all(request.as_bytes()).expect("it reads");
        stream
    }
    pub fn cookie(&self) -> String {
        format!("Cookie: devrun_{}={}\r\n", self.port, self.token)
    }
    pub fn own(&self) -> String {
        format!("{}Origin: http://127.0.0.1:{}\r\nContent-Type: application/json\r\n", self.cookie(), self.port)
    }
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let (status, text) = self.ask("GET", path, &self.cookie(), "");
        assert_eq!(status, 200, "{text}");
        let body = text.split_once("\r\n\r\n").expect("a body").1;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
    pub fn stop(self) {
        self.running.signal(Signal::SIGINT);
        self.running.outcome().code(130);
    }
}

const STACK: &str = r#"
    [services.api]
    run = ["sh", "-c", "echo '<script>alert(1)</script>'; echo key is hunter2secret; exec sleep 1000", "{token}"]
    env = { DB_PASSWORD = "hunter2secret", PLAIN = "seen" }
    [services.web]
    run = "{svc:web}"
    depends_on = ["api"]
"#;

/// Shows: web.
#[test]
fn the_page_gives_data_to_who_has_the_token_and_acts() {
    let project = Project::new().procfile(STACK);
    project.run(&["up", "-d"]).code(0);
    let page = Page::start(&project);
    let (status, text) = page.ask("GET", "/", "", "");
    assert_eq!(status, 200);
    let head = text.split_once("\r\n\r\n").unwrap().0.to_lowercase();
    for header in
        ["content-security-policy: default-src 'none'", "x-content-type-options: nosniff", "referrer-policy: no-referrer"]
    {
        assert!(head.contains(header), "{head}");
    }
    let login = format!("{{\"token\":\"{}\"}}", page.token);
    let (status, text) = page.ask("POST", "/login", &page.own(), &login);
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("HttpOnly; SameSite=Strict"), "{text}");
    assert_eq!(page.ask("POST", "/login", &page.own(), "{\"token\":\"guess\"}").0, 401);

    let found = page.json("/api/status");
    assert_eq!((found["up"].as_bool(), found["services"].as_array().map(Vec::len)), (Some(true), Some(2)), "{found:#}");
    let graph = page.json("/api/graph");
    assert_eq!(graph["edges"][0]["from"], "web", "{graph:#}");
    let service = page.json("/api/service?name=api");
    assert_eq!(service["env"]["PLAIN"], "seen", "{service:#}");
    assert!(!service.to_string().contains("hunter2secret"), "{service:#}");
    let logs = page.json("/api/logs?service=api&older=10");
    let lines: Vec<&str> = logs["lines"].as_array().unwrap().iter().filter_map(|line| line["text"].as_str()).collect();
    assert!(lines.contains(&"<script>alert(1)</script>"), "text stays text: {logs:#}");
    assert!(!logs.to_string().contains("hunter2secret"), "{logs:#}");
    let searched = page.json("/api/logs?service=api&search=scr.pt&older=1&newer=1");
    assert_eq!(searched["found"], 0, "{searched:#}");
    assert!(page.json("/api/events")["events"].as_array().is_some_and(|events| events.len() > 2));

    let act = |action: &str, service: &str| {
        page.ask("POST", "/api/act", &page.own(), &format!("{{\"action\":\"{action}\",\"service\":\"{service}\"}}"))
    };
    assert_eq!(act("stop", "api").0, 200);
    project.wait_state("api", "stopped");
    assert_eq!(act("start", "api").0, 200);
    project.wait_state("api", "running");
    let pid = project.service("web")["pid"].clone();
    assert_eq!(act("restart", "web").0, 200);
    assert_ne!(project.wait_state("web", "running")["pid"], pid);
    assert_eq!(act("restart", "--all").0, 400, "a name is never an option");
    assert_eq!(act("remove", "web").0, 400);
    assert_eq!(act("scale", "web").0, 400, "a scale needs a number");
    project.run(&["down"]).code(0);
    assert_eq!(page.json("/api/status")["up"], false);
    page.stop();
}

/// What a hostile page in the same browser, or a program without the token, can send.
#[test]
fn hostile_requests_are_refused() {
    let project = Project::new().procfile("[services.api]\nrun = \"{svc:api}\"\n");
    project.run(&["up", "-d"]).code(0);
    let page = Page::start(&project);
    let (cookie, port) = (page.cookie(), page.port);
    let raw = |host: &str, line: &str, headers: &str| {
        page.raw(&format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n")).0
    };
    let own = format!("127.0.0.1:{port}");
    for (host, line, headers, expected) in [
        ("evil.example".to_owned(), "GET / ", String::new(), 421),
        (format!("evil.example:{port}"), "GET /api/status", cookie.clone(), 421),
        (own.clone(), "GET /api/status", String::new(), 401),
        (own.clone(), "GET /metrics", String::new(), 401),
        (own.clone(), "GET /api/stream", format!("{cookie}Origin: https://evil.example\r\n"), 403),
        (own.clone(), "GET /api/logs", format!("{cookie}Sec-Fetch-Site: cross-site\r\n"), 403),
        (own.clone(), "POST /api/act", cookie.clone(), 403),
        (own.clone(), "POST /api/act", format!("{cookie}Origin: http://evil.example\r\nContent-Type: application/json\r\n"), 403),
        (own.clone(), "GET /../../etc/passwd", cookie.clone(), 404),
        (own.clone(), "GET /%2e%2e/%2e%2e/etc/passwd", cookie.clone(), 404),
        (own.clone(), "GET /app.js/../../../Cargo.toml", cookie.clone(), 404),
        (own.clone(), "GET /api/logs?service=../../../etc/passwd&older=5", cookie.clone(), 200),
        (own.clone(), "GET /api/logs?at=../../x:1:1&older=5", cookie.clone(), 400),
        (own.clone(), "GET /api/logs?file=/etc/passwd", cookie.clone(), 400),
        (own.clone(), "GET /api/logs?filter=(", cookie.clone(), 400),
        (own.clone(), "TRACE /", cookie.clone(), 405),
        // Rebinding by other spellings of the host, and by none.
        (format!("127.0.0.1.evil.example:{port}"), "GET /api/status", cookie.clone(), 421),
        (format!("127.0.0.1:{port}@evil.example"), "GET /api/status", cookie.clone(), 421),
        (format!("127.0.0.1:{}", port ^ 1), "GET /api/status", cookie.clone(), 421),
        (format!("0.0.0.0:{port}"), "GET /api/status", cookie.clone(), 421),
        (String::new(), "GET /api/status", cookie.clone(), 421),
        (own.clone(), "GET http://evil.example/api/status", cookie.clone(), 421),
        // Cross-site requests of every kind a browser sends.
        (own.clone(), "GET /api/stream", format!("{cookie}Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n"), 403),
        (own.clone(), "GET /api/status", format!("{cookie}Origin: null\r\n"), 403),
        (own.clone(), "GET /api/service?name=api", format!("{cookie}Origin: https://127.0.0.1:{port}\r\n"), 403),
        (own.clone(), "GET /metrics", format!("{cookie}Origin: http://localhost.evil.example:{port}\r\n"), 403),
        (own.clone(), "POST /login", "Origin: https://evil.example\r\nContent-Type: application/json\r\n".to_owned(), 403),
        (
            own.clone(),
            "OPTIONS /api/act",
            "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n".to_owned(),
            403,
        ),
        // Tokens that are none.
        (own.clone(), "GET /api/status", format!("Cookie: devrun_{port}=\r\n"), 401),
        (own.clone(), "GET /api/status", format!("Cookie: devrun_{}={}\r\n", port ^ 1, page.token), 401),
        (own.clone(), "GET /metrics", format!("Authorization: Bearer {}x\r\n", page.token), 401),
        (own.clone(), "GET /api/logs?token=", format!("Authorization: Basic {}\r\n", page.token), 401),
        (own, "CONNECT evil.example:443", cookie.clone(), 400),
    ] {
        let line = line.trim_end();
        let got = raw(&host, line, &headers);
        if line.starts_with("CONNECT") {
            assert!((400..500).contains(&got), "{line}: {got}");
        } else {
            assert_eq!(got, expected, "{host} {line} {headers}");
        }
    }
    // A body over the limit, and one that is not JSON.
    assert_eq!(page.ask("POST", "/api/act", &page.own(), &"x".repeat(100_000)).0, 413);
    assert_eq!(page.ask("POST", "/api/act", &page.own(), "action=stop").0, 400);
    let (_, logs) = page.ask("GET", "/api/logs?service=../../../etc/passwd&older=5", &cookie, "");
    assert!(!logs.contains("root:"), "{logs}");
    assert_eq!(project.service("api")["state"], "running", "nothing of this has done anything");
    project.run(&["down"]).code(0);
    page.stop();
}

#[test]
fn the_stream_tells_of_changes_and_survives_a_restart_of_the_supervisor() {
    let project = Project::new().procfile("[services.api]\nrun = \"{svc:api}\"\n");
    project.run(&["up", "-d"]).code(0);
    let page = Page::start(&project);
    let mut stream = page.open("/api/stream");
    let mut text = String::new();
    let mut notices = |least: usize| {
        eventually("notices", PATIENCE, || {
            let mut buffer = [0; 4096];
            if let Ok(count) = stream.read(&mut buffer) {
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            (text.matches("data: ").count() >= least).then(|| text.matches("data: ").count())
        })
    };
    let first = notices(1);
    project.run(&["restart", "api"]).code(0);
    let second = notices(first + 1);
    project.run(&["down"]).code(0);
    let third = notices(second + 1);
    project.run(&["up", "-d"]).code(0);
    notices(third + 1);
    assert_eq!(page.json("/api/status")["up"], true);
    project.run(&["down"]).code(0);
    page.stop();
}

#[test]
fn connections_that_send_nothing_keep_no_request_waiting() {
    let project = Project::new().procfile("[services.api]\nrun = \"{svc:api}\"\n");
    let page = Page::start(&project);
    let half = [
        String::new(),
        format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", page.port),
        // A whole head, and a body that does not come.
        format!("POST /login HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{}Content-Length: 40\r\n\r\n", page.port, page.own()),
    ];
    let idle: Vec<TcpStream> = (0..240)
        .map(|number| {
            let mut stream = TcpStream::connect(("127.0.0.1", page.port)).expect("it listens");
            // The oldest may be closed already.
            let _closed = stream.write_all(half[number % half.len()].as_bytes());
            stream
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(page.ask("GET", "/metrics", &page.cookie(), "").0, 200);
    }
    // The first ones were closed for the later ones.
    let mut first = &idle[0];
    first.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    assert!(
        matches!(first.read(&mut [0]), Ok(0))
            || first.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    );
    drop(idle);
    page.stop();
}

/// Shows: web --port.
#[test]
fn a_port_that_is_taken_is_named_with_its_holder_and_a_free_one() {
    let project = Project::new().procfile("[services.api]\nrun = \"{svc:api}\"\n");
    let stranger = crate::test_ports::listener();
    let port = stranger.local_addr().expect("bound").port();
    let refused = project.run(&["web", "--port", &port.to_string()]).code(5);
    assert!(refused.last_line().contains(&format!("port {port} is held by")), "{refused}");
    let refused = refused.says(&format!("(pid {})", std::process::id()));
    let offered = refused.stderr.split_once("help: devrun web --port ").expect("another port").1;
    let offered = offered.split(';').next().expect("its end");
    let mut running = project.start(&["web", "--port", offered]);
    running.wait_for(&format!("127.0.0.1:{offered}/"));
    running.signal(Signal::SIGINT);
    drop((running.outcome(), stranger));
}

#[test]
fn metrics_are_read_with_the_token_as_a_bearer() {
    let project = Project::new().procfile("[services.api]\nrun = \"{svc:api} --lines 5\"\nready = { log = \"line\" }\n");
    project.run(&["up", "-d", "--no-wait"]).code(0);
    let taken = project.start(&["web", "--port", "1"]);
    if crate::harness::is_root() {
        taken.signal(Signal::SIGINT);
    }
    let _ended = taken.outcome();
    let page = Page::start(&project);
    let (status, text) = page.ask("GET", "/metrics", &format!("Authorization: Bearer {}\r\n", page.token), "");
    assert_eq!(status, 200, "{text}");
    for line in
        ["devrun_up 1", "devrun_service_up{service=\"api\",replica=\"1\"}", "# TYPE devrun_service_restarts_total counter"]
    {
        assert!(text.contains(line), "{text}");
    }
    if let Ok(promtool) = std::env::var("PROMTOOL") {
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let mut child = std::process::Command::new(promtool)
            .args(["check", "metrics"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("promtool runs");
        child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.trim().is_empty(), "{said}");
    }
    project.run(&["down"]).code(0);
    page.stop();
}

/// Shows: web --open.
#[test]
fn the_page_is_opened_without_the_token_on_a_command_line() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.write(
        "bin/xdg-open",
        "#!/bin/sh\nstat -c %a \"$1\" > opened.mode; cat \"$1\" > opened.tmp; echo \"$1\" > opened.path; mv opened.tmp opened\n",
    );
    let opener = project.path("bin/xdg-open");
    std::fs::set_permissions(&opener, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("our own file");
    let path = format!("{}:/usr/bin:/bin", project.path("bin").display());
    let project = project.env("PATH", &path);
    let mut running = project.start(&["web", "--open"]);
    running.wait_for("#token=");
    let url = running.stdout().lines().next().expect("an address").to_owned();
    let page = eventually("the page", PATIENCE, || std::fs::read_to_string(project.path("opened")).ok());
    assert!(page.contains(&url), "{page}");
    assert_eq!(project.read("opened.mode").trim(), "600");
    assert!(!project.read("opened.path").contains("token"));
    running.signal(Signal::SIGINT);
    running.outcome().code(130);
}

/// What was read until a text came.
#[track_caller]
fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let found = within(PATIENCE, || {
        let mut buffer = [0; 65536];
        if let Ok(count) = stream.read(&mut buffer) {
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        text.contains(wanted).then_some(())
    });
    assert!(found.is_some(), "{wanted:?} never came: {text}");
    text
}

#[test]
fn copies_are_scaled_from_the_page() {
    let project = Project::new().procfile("[services.api]\nrun = \"{svc:api} --listen $PORT\"\nport = \"auto\"\n");
    project.run(&["up", "-d"]).code(0);
    let page = Page::start(&project);
    let scale = |replicas: &str| {
        let body = format!("{{\"action\":\"scale\",\"service\":\"api\",\"replicas\":{replicas}}}");
        page.ask("POST", "/api/act", &page.own(), &body)
    };
    let (status, text) = scale("3");
    assert!(status == 200 && text.contains("\"code\":0"), "{text}");
    eventually("three copies", PATIENCE, || {
        let services = page.json("/api/status")["services"].as_array().cloned()?;
        (services.len() == 3 && services.iter().all(|one| one["state"] == "running")).then_some(())
    });
    for wrong in ["-1", "1.5", "\"2\"", "null", "99999999999"] {
        assert_eq!(scale(wrong).0, 400, "{wrong}");
    }
    let (_, text) = page.ask("POST", "/api/act", &page.own(), "{\"action\":\"stop\",\"service\":\"api\",\"replicas\":1}");
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    assert_eq!(scale("1").0, 200);
    project.run(&["down"]).code(0);
    page.stop();
}

/// The terminal of a service: shown as text, typed at, resized, and closed with the page; nobody else reaches it.
#[test]
fn a_terminal_is_shown_and_typed_at_and_closed_with_the_page() {
    let project = Project::new().procfile(
        "[services.console]\nrun = [\"sh\", \"con.sh\", \"{token}\"]\ntty = true\n[services.plain]\nrun = \"{svc:plain}\"\n",
    );
    project.write(
        "con.sh",
        "printf 'prompt> '\nwhile read -r line; do case $line in size) stty size ;; bye) exit 0 ;; *) printf '\\033[31m<b>got %s</b>\\033[0m\\n' \"$line\" ;; esac; done\n",
    );
    project.run(&["up", "-d"]).code(0);
    let page = Page::start(&project);
    let type_keys = |body: &str| page.ask("POST", "/api/keys", &page.own(), body).0;
    let mut terminal = page.open("/api/terminal?service=console&columns=90&rows=20");
    read_until(&mut terminal, "\"terminal\":1");
    assert_eq!(type_keys("{\"terminal\":1,\"keys\":\"hello\\r\"}"), 200);
    // The colour is a number and the text stays text: no sequence goes through.
    let shown = read_until(&mut terminal, "[\"<b>got hello</b>\",\"\",1]");
    assert!(!shown.contains("\\u001b") && !shown.contains('\u{1b}'), "{shown}");
    assert_eq!(type_keys("{\"terminal\":1,\"keys\":\"size\\r\"}"), 200);
    read_until(&mut terminal, "20 90");
    assert_eq!(type_keys("{\"terminal\":1,\"size\":[70,15],\"keys\":\"size\\r\"}"), 200);
    read_until(&mut terminal, "15 70");

    // Another page, a program without the token, a request that no page of ours sends.
    let (cookie, port) = (page.cookie(), page.port);
    let foreign = format!("{cookie}Origin: https://evil.example\r\nContent-Type: application/json\r\n");
    let own_form = format!("{cookie}Origin: http://127.0.0.1:{port}\r\nContent-Type: text/plain\r\n");
    let bearer = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", page.token);
    let keys = "{\"terminal\":1,\"keys\":\"hacked\\r\"}";
    let attach = "/api/terminal?service=console";
    for (method, path, headers, body, expected) in [
        ("GET", attach, String::new(), "", 401),
        ("GET", attach, format!("{cookie}Origin: https://evil.example\r\n"), "", 403),
        ("GET", attach, format!("{cookie}Origin: null\r\n"), "", 403),
        ("GET", attach, format!("{cookie}Sec-Fetch-Site: cross-site\r\n"), "", 403),
        ("GET", attach, format!("{cookie}Sec-Fetch-Site: same-site\r\n"), "", 403),
        ("POST", attach, page.own(), "{}", 405),
        ("POST", "/api/keys", foreign, keys, 403),
        ("POST", "/api/keys", own_form, keys, 415),
        ("POST", "/api/keys", bearer, keys, 403),
        ("POST", "/api/keys", cookie.clone(), keys, 403),
        ("POST", "/api/keys", format!("Origin: http://127.0.0.1:{port}\r\nContent-Type: application/json\r\n"), keys, 401),
        ("GET", "/api/keys", cookie.clone(), "", 405),
        ("POST", "/api/keys", page.own(), "{\"terminal\":2,\"keys\":\"x\"}", 410),
        ("POST", "/api/keys", page.own(), "{\"terminal\":1,\"run\":\"x\"}", 400),
        ("GET", "/api/terminal?service=plain", cookie.clone(), "", 400),
        ("GET", "/api/terminal?service=--help", cookie.clone(), "", 400),
        ("GET", "/api/terminal?service=console&columns=many", cookie.clone(), "", 400),
    ] {
        let (status, text) = page.ask(method, path, &headers, body);
        assert_eq!(status, expected, "{method} {path} {headers}{body}: {text}");
    }
    // The page has gone, and its terminal with it.
    drop(terminal);
    // Without a key: until the end is noticed, it would be typed.
    eventually("the terminal's end", PATIENCE, || (type_keys("{\"terminal\":1,\"keys\":\"\"}") == 410).then_some(()));
    assert_eq!(project.service("console")["state"], "running", "detaching ends nothing");
    project.run(&["logs", "console"]).code(0).says("got hello").says_not("hacked");
    // It ends with the service.
    let mut terminal = page.open(attach);
    read_until(&mut terminal, "\"terminal\":2");
    assert_eq!(type_keys("{\"terminal\":2,\"keys\":\"bye\\r\"}"), 200);
    read_until(&mut terminal, "\"ended\":true");
    project.wait_state("console", "completed");
    assert_eq!(page.ask("GET", attach, &cookie, "").0, 503, "nothing to attach to");
    project.run(&["down"]).code(0);
    page.stop();
}

/// A browser that reads nothing, a flood, a line of 10 MB, sequences and markup: the services do not wait, and another page is served.
#[test]
fn a_flood_and_a_browser_that_does_not_read_hold_nobody_up() {
    let project = Project::new().procfile(
        r#"
        [services.flood]
        run = ["sh", "-c", "while ! [ -e go ]; do sleep 0.05; done; seq -f 'flood line %g of many' 1 400000; touch done; exec sleep 1000", "{token}"]
        [services.odd]
        run = ["sh", "-c", "head -c 10000000 /dev/zero | tr '\\0' x; echo; printf '\\033]52;c;aGk=\\007\\033[2J<script>alert(1)</script>\\n'; exec sleep 1000", "{token}"]
        [services.screen]
        run = ["sh", "-c", "while ! [ -e go ]; do sleep 0.05; done; seq -f 'screen line %g' 1 50000; touch shown; exec sleep 1000", "{token}"]
        tty = true
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let page = Page::start(&project);
    let mut unread = Vec::new();
    for path in ["/api/stream", "/api/logs?older=2000", "/api/terminal?service=screen"] {
        unread.push(page.open(path));
    }
    // The terminal is attached before the flood begins.
    read_until(&mut unread[2], "\"terminal\":1");
    let begun = std::time::Instant::now();
    project.write("go", "");
    eventually("all of the flood was written", PATIENCE, || project.path("done").exists().then_some(()));
    eventually("all of the screen was written", PATIENCE, || project.path("shown").exists().then_some(()));
    crate::harness::figures(&format!("450000 lines with three browsers that do not read: {} ms", begun.elapsed().as_millis()));
    let last = eventually("the last line on another page", PATIENCE, || {
        let found = page.json("/api/logs?service=flood&older=1");
        (found["lines"][0]["text"] == "flood line 400000 of many").then_some(found)
    });
    assert_eq!(last["lines"].as_array().map(Vec::len), Some(1), "{last:#}");
    let found = page.json("/api/logs?service=flood&search=line%20399000%20&older=0&newer=1");
    assert_eq!(found["lines"][0]["text"], "flood line 399000 of many", "{found:#}");
    let (_, odd) = page.ask("GET", "/api/logs?service=odd&older=2000", &page.cookie(), "");
    assert!(odd.contains("<script>alert(1)</script>"), "text stays text");
    assert!(!odd.contains("\\u001b") && !odd.contains('\u{1b}') && !odd.contains("aGk="), "no sequence is handed on");
    assert!(odd.len() < 5 << 20, "a line of 10 MB is cut: {} bytes", odd.len());
    assert!(odd.contains("more bytes)"));
    drop(unread);
    project.run(&["down"]).code(0);
    page.stop();
}

/// Shows: web --token-file.
#[test]
fn a_token_is_kept_in_a_private_file() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    let page = Page::start_with(&project, &["--token-file", "token"]);
    let token = page.token.clone();
    page.stop();
    assert_eq!(project.read("token").trim(), token);
    let mode = || std::fs::metadata(project.path("token")).expect("it is there").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode()) & 0o777, 0o600);
    let again = Page::start_with(&project, &["--token-file", "token"]);
    assert_eq!(again.token, token);
    again.stop();
    std::fs::set_permissions(project.path("token"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("our own file");
    project.run(&["web", "--token-file", "token"]).code(2).says("readable by other users").says("chmod 600");
    std::fs::set_permissions(project.path("token"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our own file");
    project.write("token", "short\n");
    project.run(&["web", "--token-file", "token"]).code(2).says("holds no token");
    project.run(&["web", "--token-file", "no/such/token"]).code(2).says("cannot use no/such/token");
}
