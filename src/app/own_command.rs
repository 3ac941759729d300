//! Runs another command of this program on the same project, as somebody would type it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use devrun_keeper::{file_size_limit, own_program};
use devrun_model::{Failure, FailureKind};

use crate::globals::Globals;

/// Variables that say which stack is meant, and what a service of another stack has of its own.
const OF_A_STACK: &[&str] = &[
    "DEVRUN_FILE",
    "DEVRUN_PROJECT_DIRECTORY",
    "DEVRUN_PROJECT_NAME",
    "DEVRUN_MODE",
    "DEVRUN_PROFILE",
    "DEVRUN_ENV_FILE",
    "DEVRUN_INSTANCE",
    "DEVRUN_STATE_DIR",
    "DEVRUN_PROJECT",
    "DEVRUN_SERVICE",
    "DEVRUN_REPLICA",
    "DEVRUN_RUN_ID",
];

/// For a command on another stack than the caller's: its arguments alone say which.
pub fn of_no_stack(command: &mut Command) {
    for name in OF_A_STACK {
        command.env_remove(name);
    }
}

/// Runs it in the foreground and returns its exit code. What it prints on standard output goes to standard error: the data
/// there are those of the command that was typed.
///
/// # Errors
/// `Internal` when it cannot be started.
pub fn run(globals: &Globals, words: &[OsString]) -> Result<i32, Failure> {
    wait_for(&mut in_foreground(globals, words))
}

/// As [`run`], but Ctrl-C does not reach it: for the second half of a change that is completed once it has begun.
///
/// # Errors
/// `Internal` when it cannot be started.
pub fn run_to_completion(globals: &Globals, words: &[OsString]) -> Result<i32, Failure> {
    wait_for(in_foreground(globals, words).process_group(0))
}

fn in_foreground(globals: &Globals, words: &[OsString]) -> Command {
    let mut command = Command::new(own_program::path());
    command.arg0("devrun").args(arguments(globals)).args(words).stdin(Stdio::null()).stdout(std::io::stderr());
    file_size_limit::restore_in_child(&mut command);
    command
}

fn wait_for(command: &mut Command) -> Result<i32, Failure> {
    let failed = |error: std::io::Error| Failure::new(FailureKind::Internal, format!("cannot run devrun itself: {error}"));
    let status = command.status().map_err(failed)?;
    Ok(status.code().unwrap_or(devrun_model::exit::INTERNAL))
}

/// Starts it and leaves it to itself: in a process group of its own, with nothing to read or to write.
///
/// # Errors
/// `Internal` when it cannot be started.
pub fn spawn(globals: &Globals, words: &[OsString]) -> Result<(), Failure> {
    let mut command = Command::new(own_program::path());
    command.arg0("devrun").args(arguments(globals)).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    file_size_limit::restore_in_child(&mut command);
    let spawned = command.process_group(0).spawn();
    spawned.map(drop).map_err(|error| Failure::new(FailureKind::Internal, format!("cannot run devrun itself: {error}")))
}

/// The global options, in a form that reads as they were read. Those that came from variables are inherited with these.
#[must_use]
pub fn arguments(globals: &Globals) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut add = |name: &str, value: OsString| words.extend([OsString::from(name), value]);
    for file in &globals.file {
        add("--file", file.clone().into());
    }
    for (name, value) in [
        ("--project-directory", &globals.project_directory),
        ("--env-file", &globals.env_file),
        ("--state-dir", &globals.state_dir),
    ] {
        if let Some(value) = value {
            add(name, value.clone().into());
        }
    }
    for (name, value) in [("--project-name", &globals.project_name), ("--mode", &globals.mode), ("--instance", &globals.instance)]
    {
        if let Some(value) = value {
            add(name, value.clone().into());
        }
    }
    for profile in &globals.profile {
        add("--profile", profile.clone().into());
    }
    add("--color", globals.color.as_str().into());
    add("--progress", globals.progress.as_str().into());
    if globals.debug {
        words.push("--debug".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        globals: Globals,
    }

    #[test]
    fn every_global_option_is_passed_on() {
        let words = [
            "devrun",
            "-f",
            "a.toml",
            "-f",
            "b.toml",
            "-C",
            "dir",
            "-p",
            "shop",
            "--mode",
            "prod",
            "--profile",
            "x",
            "--profile",
            "y",
            "--env-file",
            "e",
            "--instance",
            "i",
            "--state-dir",
            "s",
            "--color",
            "never",
            "--progress",
            "plain",
            "--debug",
        ];
        let once = Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).globals;
        let mut typed = vec![OsString::from("devrun")];
        typed.extend(arguments(&once));
        let again = Line::try_parse_from(typed).unwrap_or_else(|error| panic!("{error}")).globals;
        assert_eq!(format!("{once:?}"), format!("{again:?}"));
    }
}
