//! Programs with the stock OpenTelemetry SDKs of Python and Node, as anybody would install them, and the receiver of the stack.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::{PATIENCE, Project, eventually, figures, skipped};
use crate::services;
use crate::viewers::npm_packages;

trials![programs_with_a_stock_sdk_give_one_trace_through_the_gateway, a_python_and_a_node_program_give_one_trace_within_a_second,];

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

/// Serves with Node's own server, which the stock instrumentation watches.
const NODE_SERVER: &str = r#"
const { NodeSDK } = require("@opentelemetry/sdk-node");
const { HttpInstrumentation } = require("@opentelemetry/instrumentation-http");
new NodeSDK({ instrumentations: [new HttpInstrumentation()] }).start();
require("http").createServer((request, response) => response.end("ok")).listen(Number(process.env.PORT), "127.0.0.1");
"#;

/// The SDK in an environment that the tests share, installed once; why not, where it cannot be installed.
fn python_sdk() -> Result<PathBuf, String> {
    let dir = services::store().join("tools/otel-python");
    let done = dir.join("installed");
    if done.exists() {
        return Ok(dir);
    }
    if std::env::var_os("DEVRUN_OFFLINE").is_some_and(|value| !value.is_empty()) {
        return Err("it is absent, and DEVRUN_OFFLINE is set".to_owned());
    }
    let run = |program: &str, args: &[&str]| {
        let output =
            Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    };
    run("python3", &["-m", "venv", &dir.display().to_string()])?;
    let pip = dir.join("bin/pip").display().to_string();
    let packages = ["opentelemetry-sdk>=1.27,<2", "opentelemetry-exporter-otlp-proto-http>=1.27,<2"];
    run(&pip, &[&["install", "--quiet", "--retries", "1"][..], &packages[..]].concat())?;
    std::fs::write(done, "").map_err(|error| error.to_string())?;
    Ok(dir)
}

/// A project whose Python has the SDK.
fn python_project() -> Option<Project> {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let installed = {
        let _held = ONE_AT_A_TIME.lock();
        python_sdk()
    };
    let dir = match installed {
        Ok(dir) => dir,
        Err(why) => {
            skipped(&format!("the OpenTelemetry SDK of Python cannot be installed: {why}"));
            return None;
        }
    };
    let project = Project::new();
    std::os::unix::fs::symlink(dir, project.path(".venv")).expect("our own directory");
    project.write("server.py", SERVER);
    project.write("client.py", CLIENT);
    Some(project)
}

/// A receiver, a server behind the gateway, and a caller, whose table stands last. `more` are further keys of the server.
fn stack(server: &str, more: &str, caller: &str) -> String {
    format!(
        r#"
[project]
name = "shop"
[services.telemetry]
use = "telemetry"
port = "auto"
[services.api]
run = "{server}"
port = "auto"
{more}
depends_on = ["telemetry"]
[services.front]
use = "gateway"
port = "auto"
routes = {{ "/api/*" = "api" }}
{caller}
env = {{ SHOP = "${{front.url}}" }}
depends_on = ["front", "api"]
"#
    )
}

/// What the receiver has kept.
fn records(project: &Project) -> Vec<serde_json::Value> {
    let files = std::fs::read_dir(project.path(".devrun/logs/.telemetry")).into_iter().flatten().flatten();
    let text: String = files.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn programs_with_a_stock_sdk_give_one_trace_through_the_gateway() {
    let Some(project) = python_project() else { return };
    project.rewrite(&stack(
        "python3 server.py {token}",
        "ready = { http = \"/health\" }",
        "[tasks.buy]\nrun = \"python3 client.py\"",
    ));
    project.run(&["up", "-d"]).code(0);
    let mut records: Vec<serde_json::Value> = Vec::new();
    eventually("both spans and the log record have come", PATIENCE, || {
        records = self::records(&project);
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

/// Nothing but the variables of the stack tells either SDK where to send and how soon. A busy machine gets some more tries.
fn a_python_and_a_node_program_give_one_trace_within_a_second() {
    let packages = ["@opentelemetry/sdk-node@0", "@opentelemetry/instrumentation-http@0"];
    let modules = match npm_packages("otel-node", &packages) {
        Ok(place) => place.join("node_modules"),
        Err(why) => return skipped(&format!("the OpenTelemetry SDK of Node cannot be installed: {why}")),
    };
    let Some(project) = python_project() else { return };
    project.write("server.js", NODE_SERVER);
    let server = format!("env = {{ NODE_PATH = \"{}\" }}\nready = {{ tcp = true, within = \"60s\" }}", modules.display());
    project.rewrite(&stack("node server.js {token}", &server, "[services.buyer]\nrun = \"sleep 1000\""));
    project.run(&["up", "-d"]).code(0);
    let mut seen = Vec::new();
    let mut within_a_second = false;
    for bought in 1..=8 {
        project.run(&["exec", "buyer", "--", "python3", "client.py"]).code(0);
        let (ended_us, services) = eventually("the trace", PATIENCE, || {
            let found = records(&project);
            let client = found.iter().filter(|one| one["name"] == "buy").nth(bought - 1)?;
            let server = found.iter().find(|one| one["parent"] == client["span"] && one["trace"] == client["trace"])?;
            let ended = client["start_us"].as_u64()? + client["took_us"].as_u64()?;
            Some((ended, (client["service"].clone(), server["service"].clone())))
        });
        assert_eq!(services, ("buyer".into(), "api".into()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        let took = now.saturating_sub(Duration::from_micros(ended_us));
        seen.push(took.as_millis());
        within_a_second = took < Duration::from_secs(1);
        if within_a_second {
            break;
        }
    }
    figures(&format!("a trace of Python and Node was there after (ms): {seen:?}"));
    assert!(within_a_second, "{seen:?}");
    project.run(&["down"]).code(0);
    project.nothing_left();
}
