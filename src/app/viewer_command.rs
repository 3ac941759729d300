//! Another command of this program, run for a viewer: what a dashboard, the page and the agent's tools do is exactly what a
//! person would type, with the same checks, messages and exit codes.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use devrun_keeper::file_size_limit;
use devrun_model::{Failure, FailureKind};

use crate::app::own_command;
use crate::globals::{Color, Globals, ProgressArg};

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl CommandOutput {
    /// The last thing that was said, or else printed.
    #[must_use]
    pub fn last_line(&self) -> &str {
        let last = |text: &'_ str| -> usize { text.trim_end().rfind('\n').map_or(0, |at| at + 1) };
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        text.trim_end().get(last(text)..).unwrap_or_default()
    }
}

fn command(globals: &Globals) -> Command {
    let mut command = own_program();
    // Options first: what follows a `--` of the words is not an option any more.
    command.args(own_command::arguments(globals));
    command
}

fn own_program() -> Command {
    let mut command = Command::new(devrun_keeper::own_program::path());
    command.arg0("devrun");
    file_size_limit::restore_in_child(&mut command);
    command
}

fn cannot(error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("cannot run devrun itself: {error}"))
}

/// Runs a command to its end and collects what it says; it is asked no questions.
///
/// # Errors
/// `Internal` when it cannot be started.
pub fn run(globals: &Globals, words: &[&str]) -> Result<CommandOutput, Failure> {
    let plain = Globals { color: Color::Never, progress: ProgressArg::Plain, ..globals.clone() };
    let output = command(&plain).args(words).stdin(Stdio::null()).output().map_err(|error| cannot(&error))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(CommandOutput {
        code: output.status.code().unwrap_or(devrun_model::exit::INTERNAL),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}

/// As [`run`], without holding up the tasks of this runtime.
///
/// # Errors
/// As [`run`].
pub async fn run_aside(globals: &Globals, words: Vec<String>) -> Result<CommandOutput, Failure> {
    let globals = globals.clone();
    let work = move || run(&globals, &words.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Failure::new(FailureKind::Internal, format!("cannot run devrun itself: {error}"))))
}

/// Runs a command on this terminal to its end.
///
/// # Errors
/// `Internal` when it cannot be started.
pub fn run_on_terminal(globals: &Globals, words: &[&str]) -> Result<i32, Failure> {
    let status = command(globals).args(words).status().map_err(|error| cannot(&error))?;
    Ok(status.code().unwrap_or(devrun_model::exit::INTERNAL))
}

/// Runs this program with these words on this terminal.
///
/// # Errors
/// `Internal` when it cannot be started.
pub fn run_words(words: &[OsString]) -> Result<i32, Failure> {
    let status = own_program().args(words).status().map_err(|error| cannot(&error))?;
    Ok(status.code().unwrap_or(devrun_model::exit::INTERNAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_that_of_what_was_said() {
        let output = |stdout: &str, stderr: &str| CommandOutput { code: 0, stdout: stdout.to_owned(), stderr: stderr.to_owned() };
        assert_eq!(output("a\nb\n", "").last_line(), "b");
        assert_eq!(output("a\nb\n", "error: x\ndevrun: exit 1: x\n\n").last_line(), "devrun: exit 1: x");
        assert_eq!(output("", "").last_line(), "");
    }
}
