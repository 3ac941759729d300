//! `docs/walkthrough.md` as it stands: its commands run in the order of the page, with the procfile that the page shows. Only the fixed
//! port differs, as 8080 may be in use on this machine.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Project, devrun};
use crate::services::{fetched, store, with_registries};
use crate::stack::skip;
use crate::test_ports;
use crate::waits::eventually;

trials![the_commands_of_the_page_do_what_it_says];

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The address of the page's gateway.
const PORT: &str = "8080";

/// One block of commands; the longest one installs packages of PyPI and npm.
const BLOCK: Duration = Duration::from_secs(900);

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

/// Why the page's commands cannot be run on this machine.
fn missing() -> Option<String> {
    let runs = |program: &str, args: &[&str]| {
        let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if let Some(tool) = ["npm", "git", "curl"].into_iter().find(|tool| !runs(tool, &["--version"])) {
        return Some(format!("{tool} is not installed"));
    }
    if !runs("python3", &["-c", "import ensurepip, venv"]) {
        return Some("python3 with its venv module is not installed".to_owned());
    }
    let absent = |recipe: &str| fetched(recipe).err().map(|why| format!("{recipe} is absent: {why}"));
    ["postgres@16", "redis"].into_iter().find_map(absent)
}

fn the_commands_of_the_page_do_what_it_says() {
    if let Some(why) = missing() {
        return skip(&why);
    }
    let page = std::fs::read_to_string(format!("{ROOT}/docs/walkthrough.md")).expect("the page can be read");
    let port = test_ports::free_port();
    let page = page.replace(PORT, &port.to_string());
    let path = format!("{}:{}", devrun().parent().unwrap_or(Path::new("/")).display(), std::env::var("PATH").unwrap_or_default());
    let project = with_registries(Project::new()).env("PATH", &path).env("DEVRUN_BIN_CACHE", &store().display().to_string());
    let copied = Command::new("cp").args(["-r", &format!("{ROOT}/examples"), "."]).current_dir(project.dir()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let mut directory = ".";
    let mut output = String::new();
    for (language, text) in blocks(&page) {
        match language.as_str() {
            "toml" => {
                let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("the first line names the file");
                project.write(&format!("{directory}/{name}"), &text);
            }
            "sh" => {
                let block = project.start_in_shell(&format!("cd {directory} && set -e\n{text}")).outcome_within(BLOCK).code(0);
                output.push_str(&block.to_string());
                if text.contains("cd notes") {
                    directory = "notes";
                }
                if text.contains("/api/notes/hello") {
                    // What the page shows next is written by the worker.
                    eventually("the worker writes the note", Duration::from_secs(60), || {
                        let notes = project.run_in_shell(&format!("curl -sf http://127.0.0.1:{port}/api/notes"));
                        notes.stdout.contains("\"hello\"").then_some(())
                    });
                }
            }
            other => panic!("a reader cannot type a block of {other:?}:\n{text}"),
        }
    }
    for expected in ["the first note", "waiting for notes", "redis://", "installed", "tests would use postgres"] {
        assert!(output.contains(expected), "{expected:?} is missing in\n{output}");
    }
    project.nothing_left();
}
