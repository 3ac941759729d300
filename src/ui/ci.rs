//! What a CI service shows next to the log: errors at their lines, failed services, and a summary of the start.
//!
//! GitHub reads workflow commands from the output of a step and a Markdown file that `GITHUB_STEP_SUMMARY` names. Elsewhere
//! nothing is written. <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use devrun_config::ErrorPlace;
use devrun_model::duration::human;
use devrun_model::feed::Outcome;
use devrun_model::{Health, Snapshot, State};

use super::start_times::StartTimes;
use super::term::say;

/// Whether a GitHub runner reads the output.
fn is_github() -> bool {
    std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true")
}

/// Marks the errors of a procfile at their lines.
pub fn procfile_errors(errors: &[ErrorPlace]) {
    if is_github() {
        for error in errors {
            say(procfile_error(error));
        }
    }
}

/// Names the services that failed, with their reasons.
pub fn failures(outcome: &Outcome) {
    if is_github() {
        for failed in &outcome.failures {
            say(command("error", &[("title", &format!("{} failed", failed.id))], &failed.failure.reason));
        }
    }
}

/// Adds a table of the services and how long each took to the summary of the step.
pub fn step_summary(snapshot: &Snapshot, times: &StartTimes, outcome: &Outcome) {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").map(PathBuf::from).filter(|_| is_github()) else { return };
    let text = summary(snapshot, |name| times.took(name), outcome);
    let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
    if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
        say(format!("warning: cannot write the step summary {}: {error}", path.display()));
    }
}

fn procfile_error(error: &ErrorPlace) -> String {
    let (line, column) = (error.line.to_string(), error.column.to_string());
    let mut properties = Vec::new();
    if let Some(file) = &error.file {
        properties.extend([("file", file.as_str()), ("line", &line), ("col", &column)]);
    }
    properties.push(("title", "devrun"));
    command("error", &properties, &error.message)
}

/// A workflow command; line breaks and the separators are escaped as the runner decodes them.
fn command(name: &str, properties: &[(&str, &str)], message: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let properties: Vec<String> = properties.iter().map(|(key, value)| format!("{key}={}", property(value))).collect();
    format!("::{name} {}::{}", properties.join(","), data(message))
}

fn summary(snapshot: &Snapshot, took: impl Fn(&str) -> Option<Duration>, outcome: &Outcome) -> String {
    // A pipe ends a cell, and names and reasons are text of the procfile or of a program.
    let cell = |text: &str| text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ");
    let mut out = String::from("### devrun\n\n| service | state | ready after | reason |\n|---|---|---|---|\n");
    for service in &snapshot.services {
        let state = match (service.state, service.health) {
            (State::Running, Health::Healthy) => "healthy".to_owned(),
            (state, _) => state.to_string(),
        };
        let after = took(&service.name).map(human).unwrap_or_default();
        let reason = service.reason.as_deref().unwrap_or_default();
        let _ = writeln!(out, "| {} | {state} | {after} | {} |", cell(&service.name), cell(reason));
    }
    for failed in &outcome.failures {
        let _ = writeln!(out, "\n**{}** failed: {}", cell(failed.id.as_str()), cell(&failed.failure.reason));
        if !failed.log.is_empty() {
            // Longer than any run of back-ticks in it, so that the text cannot end the block.
            let longest = failed.log.iter().flat_map(|line| line.split(|c| c != '`').map(str::len)).max().unwrap_or(0);
            let fence = "`".repeat(longest.max(2) + 1);
            let _ = writeln!(out, "\n{fence}text\n{}\n{fence}", failed.log.join("\n"));
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_procfile_is_marked_at_its_line() {
        let error = ErrorPlace {
            file: Some("sub,dir/procfile.toml".to_owned()),
            line: 12,
            column: 3,
            message: "unknown key `prot`\n100 %".to_owned(),
        };
        assert_eq!(
            procfile_error(&error),
            "::error file=sub%2Cdir/procfile.toml,line=12,col=3,title=devrun::unknown key `prot`%0A100 %25"
        );
    }

    #[test]
    fn text_of_a_service_cannot_become_a_command_or_end_a_block() {
        let line = command("error", &[("title", "a::b")], "x\n::set-env name=A::b");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert_eq!(line, "::error title=a%3A%3Ab::x%0A::set-env name=A::b");
    }
}
