//! What looks at a stack, against the tools that people use: the page in a real Chromium with axe, the metrics by promtool, the
//! agent's tools by the official inspector of the Model Context Protocol.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Project, devrun, skipped};
use crate::services;
use crate::test_ports;

trials![
    chromium_clicks_every_action_and_axe_finds_nothing,
    promtool_finds_nothing_in_the_metrics,
    prometheus_of_the_stack_scrapes_the_metrics,
    the_official_inspector_lists_and_calls_every_tool,
];

/// The first line of a program's output; `Err`: why it cannot be run.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{name}: {}\n{}", text(&output.stderr), text(&output.stdout)))
}

/// Packages of npm in a directory of the tests' store, installed once: a directory that exists is complete.
pub fn npm_packages(directory: &str, packages: &[&str]) -> Result<PathBuf, String> {
    // Several tests want the same packages, at the same time.
    static ONE_INSTALLS: Mutex<()> = Mutex::new(());
    let _turn = ONE_INSTALLS.lock().unwrap_or_else(PoisonError::into_inner);
    let tools = services::store().join("tools");
    let place = tools.join(directory);
    if place.exists() {
        return Ok(place);
    }
    if std::env::var_os("DEVRUN_OFFLINE").is_some_and(|value| !value.is_empty()) {
        return Err("the packages of npm are absent, and DEVRUN_OFFLINE is set".to_owned());
    }
    std::fs::create_dir_all(&tools).map_err(|error| error.to_string())?;
    let part = tempfile::tempdir_in(&tools).map_err(|error| error.to_string())?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]).arg(part.path()).args(packages);
    output(&mut npm)?;
    std::fs::rename(part.path(), &place).map_err(|error| error.to_string())?;
    Ok(place)
}

/// Runs `scripts/browser-dashboard`: every view, every action, the keyboard, a restart of the supervisor.
fn chromium_clicks_every_action_and_axe_finds_nothing() {
    let chromium = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    if !Path::new(&chromium).exists() {
        return skipped("chromium is not installed");
    }
    let tools = match npm_packages("browser", &["playwright-core@1", "axe-core@4"]) {
        Ok(tools) => tools,
        Err(why) => return skipped(&format!("playwright and axe are absent: {why}")),
    };
    let mut script = Command::new("scripts/browser-dashboard");
    script.current_dir(env!("CARGO_MANIFEST_DIR")).env("DEVRUN_BINARY", devrun()).env("BROWSER_TOOLS", tools);
    let said = output(&mut script).unwrap_or_else(|why| panic!("{why}"));
    for step in ["ok services", "ok stop, start, restart", "ok timeline", "ok traces", "all passed"] {
        assert!(said.contains(step), "{step}\n{said}");
    }
}

fn promtool_finds_nothing_in_the_metrics() {
    let promtool = match promtool() {
        Ok(promtool) => promtool,
        Err(why) => return skipped(&format!("promtool is absent: {why}")),
    };
    let project = Project::new();
    project.rewrite(
        "[services.api]\nrun = \"{svc:api}\"\nport = \"auto\"\nready = false\n[services.\"odd_one\"]\nrun = \"{svc:odd}\"\nreplicas = 2\n\
         [services.back]\nrun = \"{svc:back} --listen $PORT\"\nport = \"auto\"\n\
         [services.front]\nuse = \"gateway\"\nport = \"auto\"\nroutes = { \"/api/*\" = \"back\" }\n\
         [tasks.seed]\nrun = \"true\"\n[tasks.broken]\nrun = \"false\"\n",
    );
    project.run(&["up", "-d"]).code(4);
    project.run(&["up", "-d", "api", "odd_one", "front"]).code(0);
    let gateway = project.service("front")["url"].as_str().expect("an address").to_owned();
    // A response of the server, and one of the gateway itself: no route.
    for path in ["/api/x", "/nothing"] {
        let _answered = output(Command::new("curl").args(["-s", &format!("{gateway}{path}")]));
    }
    let mut page = project.start(&["web"]);
    page.wait_for("#token=");
    let address = page.stdout().lines().next().expect("an address").to_owned();
    let (address, token) = address.split_once("/#token=").expect("a token");
    let header = format!("Authorization: Bearer {token}");
    let metrics = output(Command::new("curl").args(["-sSf", "-H", &header, &format!("{address}/metrics")]))
        .unwrap_or_else(|why| panic!("{why}"));
    assert!(metrics.contains("devrun_service_up{") && metrics.contains("service=\"odd_one\""), "{metrics}");
    for of_the_gateway in ["request_duration_seconds_bucket{", "responses_total{"] {
        assert!(metrics.contains(&format!("devrun_gateway_{of_the_gateway}")), "{of_the_gateway}\n{metrics}");
    }
    project.write("metrics", &format!("{metrics}\n"));
    let file = std::fs::File::open(project.path("metrics")).expect("it was written");
    let checked = Command::new(promtool).args(["check", "metrics"]).stdin(file).output().expect("promtool runs");
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success() && said.is_empty(), "{}\n{metrics}", String::from_utf8_lossy(&said));
    page.signal(Signal::SIGINT);
    page.outcome().code(130);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A stack's own Prometheus reads the token from the file that `devrun web` keeps.
fn prometheus_of_the_stack_scrapes_the_metrics() {
    let Some(project) = services::project("prometheus", true) else { return };
    let page_port = test_ports::free_port();
    let scrapes = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: devrun\n    \
         authorization: {{ credentials_file: \"${{dir.project}}/web.token\" }}\n    \
         static_configs: [{{ targets: [\"127.0.0.1:{page_port}\"] }}]\n"
    );
    project.write("prometheus.yml.in", &scrapes);
    project.rewrite(
        "[services.x]\nuse = \"prometheus\"\nport = \"auto\"\nrender = { \"prometheus.yml.in\" = \"prometheus.yml\" }\n\
         [services.api]\nrun = \"{svc:api}\"\n",
    );
    let mut page = project.start(&["web", "--port", &page_port.to_string(), "--token-file", "web.token"]);
    page.wait_for("#token=");
    services::up(&project);
    let port = services::port(&project, "main");
    crate::harness::eventually("a scrape", services::UP, || {
        let (status, body) = services::get(port, "/api/v1/query?query=devrun_service_up%7Bservice%3D%22api%22%7D");
        (status == 200 && body.contains(",\"1\"]")).then_some(())
    });
    page.signal(Signal::SIGINT);
    page.outcome().code(130);
    services::down(&project);
}

/// From PATH, or of the store's Prometheus.
fn promtool() -> Result<PathBuf, String> {
    if output(Command::new("promtool").arg("--version")).is_ok() {
        return Ok("promtool".into());
    }
    let stored = || {
        let versions = std::fs::read_dir(services::store().join("prometheus")).into_iter().flatten().flatten();
        versions.map(|entry| entry.path()).find_map(|dir| named(&dir, "promtool", 4))
    };
    if let Some(found) = stored() {
        return Ok(found);
    }
    services::fetched("prometheus")?;
    stored().ok_or_else(|| "the store's prometheus brings none".to_owned())
}

/// A file of this name below a directory.
fn named(dir: &Path, name: &str, depth: u32) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    let here = entries.iter().find(|path| path.is_file() && path.file_name().is_some_and(|file| file == name));
    here.cloned().or_else(|| if depth == 0 { None } else { entries.iter().find_map(|path| named(path, name, depth - 1)) })
}

fn the_official_inspector_lists_and_calls_every_tool() {
    let package = "@modelcontextprotocol/inspector";
    let place = match npm_packages("mcp-inspector", &[package]) {
        Ok(place) => place,
        Err(why) => return skipped(&format!("the inspector is absent: {why}")),
    };
    let project = Project::new().procfile(
        "[services.api]\nrun = \"{svc:api}\"\nenv = { DB_PASSWORD = \"hunter2secret\" }\n[services.worker]\nrun = \"{svc:worker}\"\n",
    );
    let inspector = place.join("node_modules/.bin/mcp-inspector");
    let ask = |words: &[&str]| -> Value {
        let mut command = Command::new(&inspector);
        command.arg("--cli");
        // The inspector hands nothing of its own environment on but the usual.
        for (name, value) in project.variables() {
            command.args(["-e", &format!("{name}={value}")]);
        }
        command.arg(devrun()).arg("-C").arg(project.dir()).arg("mcp").args(words);
        let done = command.stdin(Stdio::null()).output().expect("the inspector runs");
        // Its later versions print the answer of a tool that refuses, and exit with 1.
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| {
            let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
            panic!("{words:?}: {error}\n{said}")
        })
    };
    let listed = ask(&["--method", "tools/list"]);
    let mut names: Vec<&str> =
        listed["tools"].as_array().expect("tools").iter().filter_map(|tool| tool["name"].as_str()).collect();
    names.sort_unstable();
    // In an order in which each call has something to find; `query` is refused, as there is no Postgres.
    let calls: &[(&str, &[&str], bool)] = &[
        ("up", &[], false),
        ("status", &[], false),
        ("wait", &["services=[\"api\"]", "for=ready", "timeout_seconds=30"], false),
        ("why", &["service=api"], false),
        ("logs", &["service=api", "budget=500"], false),
        ("env", &["service=api"], false),
        ("urls", &[], false),
        ("explain_failure", &[], false),
        ("query", &["sql=SELECT 1"], true),
        ("restart", &["services=[\"worker\"]"], false),
        ("stop", &["services=[\"worker\"]"], false),
        ("down", &[], false),
        ("clean", &[], false),
    ];
    let mut called: Vec<&str> = calls.iter().map(|(name, ..)| *name).collect();
    called.sort_unstable();
    assert_eq!(names, called, "every tool is called");
    for (name, arguments, refused) in calls {
        let mut words = vec!["--method", "tools/call", "--tool-name", name];
        for argument in *arguments {
            words.extend(["--tool-arg", argument]);
        }
        let answer = ask(&words);
        assert_eq!(answer["isError"] == true, *refused, "{name}: {answer:#}");
        assert!(answer["content"][0]["text"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {answer:#}");
        assert!(!answer.to_string().contains("hunter2secret"), "{name}: {answer:#}");
    }
    project.nothing_left();
}
