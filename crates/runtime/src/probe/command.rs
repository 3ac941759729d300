//! `cmd`: exit 0 passes. The command is a process of the keeper's like any other of the service, so that whatever it
//! leaves behind is ended with it: at its timeout, and when the probe is dropped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::result::{ProbeError, ProbeOk, ProbeResult, excerpt, unusable};
use devrun_keeper::{CommandRequest, CommandResult, Runner};
use devrun_model::keeper::{Role, RunAs};
use devrun_model::{CommandLine, Failure};

/// What `cmd` checks run with.
pub struct CommandContext {
    /// Starts them.
    pub runner: Runner,
    /// The service's environment.
    pub env: BTreeMap<String, String>,
    /// The service's directory.
    pub dir: PathBuf,
    /// The service's user.
    pub run_as: RunAs,
}

/// The check.
pub(super) async fn check(command: &CommandLine, commands: Option<&CommandContext>, timeout: Duration) -> ProbeResult {
    let Some(commands) = commands else {
        return Err(ProbeError::fatal(unusable("a cmd check belongs to a service", "name the service: `devrun wait SERVICE`")));
    };
    let Some(first) = command.argv.first() else {
        return Err(ProbeError::fatal(unusable("a cmd check without a command", "write `cmd = \"pg_isready\"`")));
    };
    let mut env = commands.env.clone();
    env.extend(command.env.clone());
    let path = env.get("PATH").cloned().or_else(|| std::env::var("PATH").ok()).unwrap_or_default();
    let Ok(program) = which::which_in(first, Some(path), &commands.dir) else {
        // It may be built by the very service that is starting, so this is worth waiting for.
        return Err(ProbeError::new(format!("{first} is not found in the service's PATH")));
    };
    let request = CommandRequest {
        role: Role::Probe,
        program,
        argv: command.argv.clone(),
        env,
        dir: commands.dir.clone(),
        run_as: commands.run_as.clone(),
        timeout,
    };
    judge(commands.runner.run(request).await, timeout)
}

fn judge(outcome: Result<CommandResult, Failure>, timeout: Duration) -> ProbeResult {
    let finished = outcome.map_err(|failure| ProbeError::new(failure.reason))?;
    if finished.timed_out {
        return Err(ProbeError::new(format!("timed out after {}", devrun_model::duration::format(timeout))));
    }
    let last = finished.tail.split(|byte| *byte == b'\n').rev().map(excerpt).find(|line| !line.is_empty());
    let answer = match last {
        Some(line) => format!("{}: {line}", finished.status),
        None => finished.status.to_string(),
    };
    if !finished.status.success() {
        return Err(ProbeError::new(answer));
    }
    let note = finished.left_running().map(|left| format!("its probe command left {left} running; ended"));
    Ok(ProbeOk::new(answer).note(note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::keeper::ExitStatus;
    use devrun_model::{FailureKind, Signal};

    #[test]
    fn exit_zero_passes_and_the_last_line_is_told() {
        let finished = |status, timed_out, tail: &str| {
            Ok(CommandResult { status, timed_out, tail: tail.as_bytes().to_vec(), left: Vec::new() })
        };
        let judge = |outcome| judge(outcome, Duration::from_secs(5));
        assert_eq!(judge(finished(ExitStatus::Code(0), false, "a\nok\n")).unwrap().answer, "exit 0: ok");
        assert_eq!(judge(finished(ExitStatus::Code(2), false, "")).unwrap_err().answer, "exit 2");
        assert_eq!(judge(finished(ExitStatus::Code(0), true, "")).unwrap_err().answer, "timed out after 5s");
        assert!(judge(finished(ExitStatus::Signal(Signal(9)), false, "")).is_err());
        let failed = judge(Err(Failure::new(FailureKind::Service, "no fork"))).unwrap_err();
        assert_eq!((failed.answer.as_str(), failed.fatal), ("no fork", None));
    }
}
