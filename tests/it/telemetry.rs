//! `use = "telemetry"`: the receiver of OTLP, who hears of it, and what the page shows.

use serde_json::Value;

use crate::harness::{PATIENCE, Project, ask_http, eventually};
use crate::web::Page;

const STACK: &str = r#"
    [project]
    name = "shop"
    [services.telemetry]
    use = "telemetry"
    port = "auto"
    [services.api]
    run = "{svc:api}"
    env = { DB_PASSWORD = "hunter2secret" }
    [services.quiet]
    run = "{svc:quiet}"
    telemetry = false
    [services.elsewhere]
    run = "{svc:elsewhere}"
    env = { OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:1" }
    [services.named]
    run = "{svc:named}"
    env = { OTEL_SERVICE_NAME = "mine", OTEL_RESOURCE_ATTRIBUTES = false }
    replicas = 2
    port = "auto"
    ready = false
"#;

fn variables(project: &Project, service: &str) -> Vec<String> {
    let text = project.run(&["exec", service, "--", "env"]).code(0).stdout;
    let mut lines: Vec<String> = text.lines().filter(|line| line.starts_with("OTEL_")).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn port(project: &Project) -> u64 {
    project.service("telemetry")["ports"]["main"].as_u64().expect("a port")
}

/// Shows: project.telemetry, service.telemetry.
#[test]
fn key_service_telemetry_and_who_hears_of_the_receiver() {
    let project = Project::new().procfile(STACK);
    project.run(&["up", "-d"]).code(0);
    let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{}", port(&project));
    let delays = ["OTEL_BLRP_SCHEDULE_DELAY=300", "OTEL_BSP_SCHEDULE_DELAY=300"];
    let expected = [
        delays[0],
        delays[1],
        endpoint.as_str(),
        "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        "OTEL_RESOURCE_ATTRIBUTES=service.namespace=shop,service.instance.id=api",
        "OTEL_SERVICE_NAME=api",
    ];
    assert_eq!(variables(&project, "api"), expected);
    assert_eq!(variables(&project, "quiet"), Vec::<String>::new());
    // With another receiver nothing of this is set.
    assert_eq!(variables(&project, "elsewhere"), ["OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"]);
    let expected =
        [delays[0], delays[1], endpoint.as_str(), "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_SERVICE_NAME=mine"];
    assert_eq!(variables(&project, "named.2"), expected);
    project.run(&["down"]).code(0);
    project.rewrite(&STACK.replace("name = \"shop\"", "name = \"shop\"\n    telemetry = false"));
    project.run(&["up", "-d"]).code(0);
    assert_eq!(variables(&project, "api"), Vec::<String>::new());
    project.run(&["down"]).code(0);
    project.rewrite("[services.api]\nrun = \"{svc:api}\"\n");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(variables(&project, "api"), Vec::<String>::new());
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Sends a request as it is and gives its status.
fn send(port: u64, head: &str, body: &[u8]) -> u16 {
    let port = u16::try_from(port).expect("a port");
    let head = format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    ask_http(port, &head, body).0
}

fn head(path: &str, kind: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:4318\r\nContent-Type: {kind}{more}")
}

/// A field of a protobuf message with a length.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = body.len();
    while length >= 128 {
        out.push(u8::try_from(length & 127 | 128).expect("a byte"));
        length >>= 7;
    }
    out.push(u8::try_from(length).expect("a byte"));
    out.extend(body);
    out
}

/// A request with one span of the service `worker`.
fn protobuf_span() -> Vec<u8> {
    let name = field(1, &[field(1, b"service.name"), field(2, &field(1, b"worker"))].concat());
    let time = |number: u8, nanos: u64| [&[number << 3 | 1][..], &nanos.to_le_bytes()].concat();
    let token = field(9, &[field(1, b"http.token"), field(2, &field(1, b"abc"))].concat());
    let span = [
        field(1, &[0xaa; 16]),
        field(2, &[0x02; 8]),
        field(4, &[0x01; 8]),
        field(5, b"job with hunter2secret"),
        time(7, 1_700_000_000_001_000_000),
        time(8, 1_700_000_000_003_000_000),
        token,
    ]
    .concat();
    field(1, &[field(1, &name), field(2, &field(2, &span))].concat())
}

const JSON_SPAN: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"api"}}]},
    "scopeSpans":[{"spans":[{"traceId":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","spanId":"0101010101010101","name":"GET /<b>","kind":2,
    "startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000005000000","status":{"code":2,"message":"boom"}}]}]}]}"#;
const JSON_LOG: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"api"}}]},
    "scopeLogs":[{"logRecords":[{"timeUnixNano":"1700000000002000000","severityNumber":17,"body":{"stringValue":"login as hunter2secret failed"},
    "traceId":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","spanId":"0101010101010101"}]}]}]}"#;

/// Both encodings become one trace on the page, with secrets masked; what a page of another site could send is refused.
#[test]
fn traces_and_logs_of_both_encodings_are_shown_masked() {
    let project = Project::new().procfile(STACK);
    project.run(&["up", "-d", "telemetry", "api"]).code(0);
    let at = port(&project);
    let (json, proto) = ("application/json", "application/x-protobuf");
    assert_eq!(send(at, &head("/v1/traces", json, ""), JSON_SPAN.as_bytes()), 200);
    assert_eq!(send(at, &head("/v1/traces", proto, ""), &protobuf_span()), 200);
    assert_eq!(send(at, &head("/v1/logs", "application/json; charset=utf-8", ""), JSON_LOG.as_bytes()), 200);
    assert_eq!(send(at, &head("/v1/metrics", json, ""), br#"{"resourceMetrics":[]}"#), 200);
    let page = Page::start(&project);
    let found = page.json("/api/telemetry");
    let records = found["records"].as_array().expect("records");
    assert_eq!(records.len(), 3, "{found:#}");
    let (root, child, log): (&Value, &Value, &Value) = (&records[0], &records[1], &records[2]);
    assert_eq!((&root["service"], &root["name"], &root["error"]), (&"api".into(), &"GET /<b>".into(), &"boom".into()));
    assert_eq!((&child["service"], &child["trace"], &child["parent"]), (&"worker".into(), &root["trace"], &root["span"]));
    assert_eq!((child["start_us"].as_u64(), child["took_us"].as_u64()), (Some(1_700_000_000_001_000), Some(2000)));
    assert_eq!(child["attributes"]["http.token"], "••••");
    assert_eq!((&log["severity"], &log["trace"]), (&"error".into(), &root["trace"]));
    assert!(!found.to_string().contains("hunter2secret"), "{found:#}");
    page.stop();

    let long = vec![b' '; 9 << 20];
    for (status, head, body) in [
        (404, head("/v1/other", json, ""), b"{}".as_slice()),
        (405, head("/v1/traces", json, "").replace("POST", "PUT"), b"{}"),
        (415, head("/v1/traces", "text/plain", ""), b"{}"),
        (415, head("/v1/traces", json, "\r\nContent-Encoding: br"), b"{}"),
        (400, head("/v1/traces", json, "\r\nContent-Encoding: gzip"), b"{}"),
        (400, head("/v1/traces", json, ""), b"{"),
        (400, head("/v1/traces", proto, ""), b"\xff\xff"),
        (403, head("/v1/traces", json, "\r\nOrigin: http://evil.example"), b"{}"),
        (403, head("/v1/traces", json, "\r\nOrigin: http://127.0.0.1:4318"), b"{}"),
        (403, head("/v1/traces", json, "\r\nSec-Fetch-Site: cross-site"), b"{}"),
        (403, head("/v1/traces", json, "").replace("127.0.0.1:4318", "rebound.example"), b"{}"),
        (413, head("/v1/traces", json, ""), long.as_slice()),
    ] {
        assert_eq!(send(at, &head, body), status, "{head}");
    }
    // It is down, and what it kept is still shown; then it is cleaned away.
    project.run(&["down"]).code(0);
    let page = Page::start(&project);
    assert_eq!(page.json("/api/telemetry")["records"].as_array().map(Vec::len), Some(3));
    page.stop();
    project.run(&["clean", "--yes"]).code(0);
    let page = Page::start(&project);
    assert_eq!(page.json("/api/telemetry")["records"].as_array().map(Vec::len), Some(0));
    page.stop();
    project.nothing_left();
}

/// A receiver that is killed comes back, and its address is kept meanwhile.
#[test]
fn a_receiver_that_is_killed_loses_no_request() {
    let project = Project::new().procfile(STACK);
    project.run(&["up", "-d", "telemetry"]).code(0);
    let at = port(&project);
    let before = project.service("telemetry")["pid"].as_i64().expect("a pid");
    project.run(&["kill", "-s", "KILL", "telemetry"]).code(0);
    assert_eq!(send(at, &head("/v1/traces", "application/json", ""), JSON_SPAN.as_bytes()), 200);
    eventually("another process", PATIENCE, || project.service("telemetry")["pid"].as_i64().filter(|pid| *pid != before));
    project.run(&["down"]).code(0);
    project.nothing_left();
}
