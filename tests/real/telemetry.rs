//! Programs with the stock OpenTelemetry SDK of Python, as anybody would install it, and the receiver of the stack.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{PATIENCE, Project, eventually, skipped};

trials![programs_with_a_stock_sdk_give_one_trace_through_the_gateway];

/// Serves, with a span for each request that continues the caller's trace, and a log record in it.
const SERVER: &str = r#"
import http.server, logging, os
from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
logs = LoggerProvider()
logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter()))
logger = logging.getLogger("server")
logger.addHandler(LoggingHandler(logger_provider=logs))
tracer = trace.get_tracer("server")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with tracer.start_as_current_span("serve", context=extract(self.headers), kind=trace.SpanKind.SERVER):
            if self.path != "/health":
                logger.error("stock is empty")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// One request through the gateway, in a span.
const CLIENT: &str = r#"
import os, urllib.request
from opentelemetry import trace
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
with provider.get_tracer("client").start_as_current_span("buy", kind=trace.SpanKind.CLIENT) as span:
    headers = {}
    inject(headers)
    urllib.request.urlopen(urllib.request.Request(os.environ["SHOP"] + "/api/buy", headers=headers)).read()
provider.shutdown()
"#;

/// The SDK in an environment of its own; why not, where it cannot be installed.
fn install(dir: &Path) -> Result<(), String> {
    let run = |program: &str, args: &[&str]| {
        let output =
            Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    };
    run("python3", &["-m", "venv", &dir.display().to_string()])?;
    let pip = dir.join("bin/pip").display().to_string();
    run(
        &pip,
        &[
            "install",
            "--quiet",
            "--retries",
            "1",
            "opentelemetry-sdk>=1.27,<2",
            "opentelemetry-exporter-otlp-proto-http>=1.27,<2",
        ],
    )
}

fn programs_with_a_stock_sdk_give_one_trace_through_the_gateway() {
    let project = Project::new();
    if let Err(why) = install(&project.path(".venv")) {
        return skipped(&format!("the OpenTelemetry SDK cannot be installed: {why}"));
    }
    project.write("server.py", SERVER);
    project.write("client.py", CLIENT);
    project.rewrite(
        r#"
[project]
name = "shop"
[services.telemetry]
use = "telemetry"
port = "auto"
[services.api]
run = "python3 server.py {token}"
port = "auto"
ready = { http = "/health" }
depends_on = ["telemetry"]
[services.front]
use = "gateway"
port = "auto"
routes = { "/api/*" = "api" }
[tasks.buy]
run = "python3 client.py"
env = { SHOP = "${front.url}" }
depends_on = ["front", "api"]
"#,
    );
    project.run(&["up", "-d"]).code(0);
    let dir = project.path(".devrun/logs/.telemetry");
    let mut records: Vec<serde_json::Value> = Vec::new();
    eventually("both spans and the log record have come", PATIENCE, || {
        let files = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let text: String = files.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect();
        records = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let has = |name: &str| records.iter().any(|one: &serde_json::Value| one["name"] == name || one["body"] == name);
        (has("buy") && has("stock is empty")).then_some(())
    });
    let client = records.iter().find(|one| one["name"] == "buy").expect("it is there").clone();
    let server = records.iter().find(|one| one["trace"] == client["trace"] && one["name"] == "serve").expect("one trace");
    let log = records.iter().find(|one| one["kind"] == "log").expect("it is there");
    assert_eq!((&client["service"], &server["service"]), (&"buy".into(), &"api".into()));
    assert_eq!(server["parent"], client["span"], "{records:#?}");
    assert_eq!((&log["trace"], &log["span"], &log["severity"]), (&client["trace"], &server["span"], &"error".into()));
    project.run(&["down"]).code(0);
    project.nothing_left();
}
