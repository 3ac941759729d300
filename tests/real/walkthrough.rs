//! `docs/walkthrough.md`, word for word: its commands are run in the order of the page, its procfile is the one that stands there. Only the
//! fixed port is another one.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Project, devrun, skipped};
use crate::services::{fetched, store};
use crate::waits::eventually;

trials![the_commands_of_the_page_do_what_it_says];

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What the page asks for beside devrun.
const TOOLS: [&str; 5] = ["python3", "npm", "git", "curl", "sh"];

/// Code blocks with their language, in order.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// The caller's variables that the clients of PyPI and npm need.
fn with_registries(mut project: Project) -> Project {
    for (name, value) in std::env::vars() {
        let upper = name.to_uppercase();
        if ["PIP_", "NPM_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT", "REQUESTS_CA", "NODE_EXTRA_CA"]
            .iter()
            .any(|start| upper.starts_with(start))
            || name == "HOME"
        {
            project = project.env(&name, &value);
        }
    }
    project
}

fn the_commands_of_the_page_do_what_it_says() {
    let missing: Vec<&str> =
        TOOLS.into_iter().filter(|tool| Command::new(tool).arg("--version").output().is_err() && *tool != "sh").collect();
    if !missing.is_empty() {
        return skipped(&format!("{} not on this machine", missing.join(", ")));
    }
    let has_venv = Command::new("python3").args(["-c", "import ensurepip, venv"]).status().is_ok_and(|status| status.success());
    if !has_venv {
        return skipped("python3 has no venv module on this machine");
    }
    for recipe in ["postgres@16", "redis"] {
        if let Err(why) = fetched(recipe) {
            return skipped(&format!("{recipe} is absent: {why}"));
        }
    }
    let page = std::fs::read_to_string(format!("{ROOT}/docs/walkthrough.md")).expect("the page");
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|one| one.local_addr()).expect("a loopback port").port();
    let page = page.replace("8080", &port.to_string());
    let path = format!("{}:{}", devrun().parent().unwrap_or(Path::new("/")).display(), std::env::var("PATH").unwrap_or_default());
    let project = with_registries(Project::new()).env("PATH", &path).env("DEVRUN_BIN_CACHE", &store().display().to_string());
    let copied = Command::new("cp").args(["-r", &format!("{ROOT}/examples"), "."]).current_dir(project.dir()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let mut directory = String::from(".");
    let mut said = String::new();
    for (language, text) in blocks(&page) {
        match language.as_str() {
            "toml" => {
                let name =
                    text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("its name stands in the first line");
                project.write(&format!("{directory}/{name}"), &text);
            }
            "sh" => {
                let script = format!("cd {directory} && set -e\n{text}");
                let run = project.start_in_shell(&script).outcome_within(Duration::from_secs(900));
                let run = run.code(0);
                said.push_str(&run.to_string());
                if text.contains("cd notes") {
                    directory = "notes".to_owned();
                }
                if text.contains("/api/notes/hello") {
                    eventually("the worker writes the note", Duration::from_secs(60), || {
                        let notes = project.run_in_shell(&format!("curl -sf http://127.0.0.1:{port}/api/notes"));
                        notes.stdout.contains("\"hello\"").then_some(())
                    });
                }
            }
            other => panic!("a block of {other:?}, which no reader could type"),
        }
    }
    for wanted in ["the first note", "waiting for notes", "redis://", "installed", "tests would use postgres"] {
        assert!(said.contains(wanted), "{wanted:?} is missing in\n{said}");
    }
}
