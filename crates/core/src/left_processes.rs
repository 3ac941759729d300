//! The exit of a leader that leaves processes running.
//!
//! Such an exit is held for a moment: what is left may only be on its way out. If it is not, a service has put itself into
//! the background, where devrun could neither tell whether it lives nor restart it, and a task has not waited for its own
//! work. A service then fails rather than counts as ready with nothing running; what is left is stopped as after every exit.

use std::time::Duration;

use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, FailureKind, Kind, ServiceSpec};

use super::foreground;

/// How long an exit is held.
pub const EXIT_HOLD: Duration = Duration::from_millis(250);

/// Whether an exit is held. After a request to stop, and after a crash, what is left is stopped at once.
#[must_use]
pub fn holds_exit(status: ExitStatus, is_stop_requested: bool, left: &[(i32, String)]) -> bool {
    !is_stop_requested && status.success() && !left.is_empty()
}

/// What it means that a leader exited with 0 and these still run after [`EXIT_HOLD`]: something to say, or a failure. `names`
/// lists them for a message.
///
/// # Errors
/// For a service, and for a task that is done once.
pub fn judge_left_processes(spec: &ServiceSpec, left: &[(i32, String)], names: &str) -> Result<String, Failure> {
    if spec.kind == Kind::Service {
        let message = format!("exited with code 0 and left {names} running in the background");
        return Err(Failure::new(FailureKind::Background, message).help(foreground::advice(spec, left)));
    }
    if spec.task.as_ref().is_some_and(|task| task.once.is_some()) {
        let message = format!("exited with code 0 and left {names} running; its work may be half done");
        let command = left.first().map_or("NAME", |(_, command)| command.as_str());
        return Err(Failure::new(FailureKind::Task, message).help(format!(
            "let it wait for what it starts; for what may stay, write: [tasks.{}] stop = {{ spare = [\"{command}\"] }}",
            spec.service
        )));
    }
    Ok(format!("left {names} running; ended"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;

    fn left() -> Vec<(i32, String)> {
        vec![(7, "nginx".to_owned())]
    }

    #[test]
    fn only_a_good_exit_that_was_not_asked_for_is_held() {
        for (status, is_stop_requested, left, expected) in [
            (ExitStatus::Code(0), false, left(), true),
            (ExitStatus::Code(0), true, left(), false),
            (ExitStatus::Code(1), false, left(), false),
            (ExitStatus::Code(0), false, Vec::new(), false),
        ] {
            assert_eq!(holds_exit(status, is_stop_requested, &left), expected, "{status:?} {is_stop_requested} {left:?}");
        }
    }

    #[test]
    fn a_daemon_fails_and_a_plain_task_is_only_told() {
        let service = ServiceSpec::bare(ServiceName::new("web").unwrap(), "/".into(), vec!["nginx".to_owned()]);
        let failure = judge_left_processes(&service, &left(), "nginx (pid 7)").unwrap_err();
        assert_eq!(failure.kind, FailureKind::Background);
        assert!(failure.help.is_some_and(|help| help.contains("daemon off")));
        let task = ServiceSpec { kind: Kind::Task, ..service };
        assert_eq!(judge_left_processes(&task, &left(), "nginx (pid 7)").unwrap(), "left nginx (pid 7) running; ended");
    }
}
