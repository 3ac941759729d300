//! What it means that a process exited with an error by itself.

use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, FailureKind, Kind, Launch, ServiceSpec};

/// What a shell exits with when it does not find a command (POSIX, 2.8.2 "Exit Status for Commands").
const NOT_FOUND: i32 = 127;
/// What it exits with when the command that it found cannot be executed.
const NOT_EXECUTABLE: i32 = 126;

/// The failure of a process that exited with an error. A command of the user's may be a shell's: its 126 and 127 are about another
/// program, which is then missing as one that devrun itself does not find.
#[must_use]
pub(super) fn exit_failure(spec: &ServiceSpec, status: ExitStatus) -> Failure {
    let missing = |what: &str| {
        Failure::new(FailureKind::Binary, format!("{status}: {what}"))
            .help(format!("install that command, or correct its name in `run` of {}; devrun logs {}", spec.service, spec.id))
    };
    match (&spec.launch, status) {
        (Launch::Run(_), ExitStatus::Code(NOT_FOUND)) => missing("a command that it runs was not found"),
        (Launch::Run(_), ExitStatus::Code(NOT_EXECUTABLE)) => missing("a command that it runs cannot be executed"),
        _ => {
            let kind = if spec.kind == Kind::Task { FailureKind::Task } else { FailureKind::Service };
            Failure::new(kind, status.to_string()).help(format!("devrun logs {}", spec.id))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;

    #[test]
    fn codes_of_a_shell_are_about_another_program() {
        let service = ServiceSpec::bare(ServiceName::new("web").unwrap(), "/".into(), vec!["sh".to_owned()]);
        let task = ServiceSpec { kind: Kind::Task, ..service.clone() };
        let foreign = ServiceSpec { launch: Launch::External { url: "tcp://127.0.0.1:1".to_owned() }, ..service.clone() };
        for (spec, status, kind, reason) in [
            (&service, ExitStatus::Code(127), FailureKind::Binary, "exit 127: a command that it runs was not found"),
            (&service, ExitStatus::Code(126), FailureKind::Binary, "exit 126: a command that it runs cannot be executed"),
            (&task, ExitStatus::Code(127), FailureKind::Binary, "exit 127: a command that it runs was not found"),
            (&service, ExitStatus::Code(1), FailureKind::Service, "exit 1"),
            (&task, ExitStatus::Code(1), FailureKind::Task, "exit 1"),
            (&foreign, ExitStatus::Code(127), FailureKind::Service, "exit 127"),
        ] {
            let failure = exit_failure(spec, status);
            assert_eq!((failure.kind, failure.reason.as_str()), (kind, reason));
            assert!(failure.help.is_some_and(|help| help.contains("devrun logs web")), "{reason}");
        }
    }
}
