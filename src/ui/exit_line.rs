//! The last line of a failing command: the code's meaning, the service and the reason.

use devrun_model::feed::Outcome;
use devrun_model::{Failure, ServiceId, exit};

/// How the line about a panic ends.
pub const PANIC_ADVICE: &str = "please report it";

/// `devrun: exit 3 (not ready in time): api: no answer`.
#[must_use]
pub fn last_line(code: i32, service: Option<&str>, reason: &str) -> String {
    let reason = reason.lines().next().unwrap_or_default();
    match service {
        Some(service) => format!("devrun: exit {code} ({}): {service}: {reason}", exit::meaning(code)),
        None => format!("devrun: exit {code} ({}): {reason}", exit::meaning(code)),
    }
}

/// The line for a failure that belongs to no start; its reason may have been masked.
#[must_use]
pub fn of_failure(failure: &Failure, reason: &str) -> String {
    let reason = reason.lines().next().unwrap_or_default();
    format!("devrun: exit {} ({}): {reason}", exit::of(failure.kind), exit::meaning_of(failure.kind))
}

/// Why devrun itself failed, by what it has written: the reason of a failure or the place of a panic, and the help.
#[must_use]
pub fn own_failure(log: &str) -> Option<(&str, Option<&str>)> {
    let start = format!("devrun: exit {} ({}): ", exit::INTERNAL, exit::meaning(exit::INTERNAL));
    let reason = log.lines().rev().find_map(|line| {
        let panic = || line.find("devrun failed at ").filter(|_| line.ends_with(PANIC_ADVICE)).and_then(|at| line.get(at..));
        line.find(&start).and_then(|at| line.get(at + start.len()..)).or_else(panic)
    })?;
    Some((reason, log.lines().rev().find_map(|line| line.split_once("help: ").map(|(_, help)| help))))
}

/// The line for the first root cause of an outcome; for the service whose exit code is passed on, where it has ended.
#[must_use]
pub fn of_outcome(outcome: &Outcome, code_from: Option<&ServiceId>) -> Option<String> {
    if let Some(code) = outcome.code_from {
        let failed = outcome.failures.iter().find(|failed| code_from.is_none_or(|id| failed.id == *id));
        let id = code_from.or_else(|| Some(&failed?.id))?;
        let reason = failed.map_or_else(|| format!("exit {code}"), |failed| failed.failure.reason.clone());
        let reason = reason.lines().next().unwrap_or_default();
        // Its own numbers do not have the meanings of ours.
        return (code != exit::DONE).then(|| format!("devrun: exit {code} (the exit code of the service): {id}: {reason}"));
    }
    let failed = outcome.failures.first()?;
    Some(last_line(outcome.code(), Some(failed.id.as_str()), &failed.failure.reason))
}

#[cfg(test)]
mod tests {
    use devrun_model::FailureKind;
    use devrun_model::feed::FailedService;

    use super::*;

    #[test]
    fn a_code_that_is_passed_on_is_not_explained_as_one_of_ours() {
        let id = |name: &str| ServiceId::parse(name).unwrap();
        let failed = |name: &str, reason: &str| FailedService {
            id: id(name),
            failure: Failure::new(FailureKind::Service, reason),
            last_answer: None,
            log: Vec::new(),
        };
        let outcome =
            Outcome { failures: vec![failed("a", "exit 1"), failed("b", "exit 7")], code_from: Some(7), ..Outcome::default() };
        let line = of_outcome(&outcome, Some(&id("b")));
        assert_eq!(line.as_deref(), Some("devrun: exit 7 (the exit code of the service): b: exit 7"));
        let alone = Outcome { failures: Vec::new(), ..outcome.clone() };
        assert_eq!(of_outcome(&alone, Some(&id("b"))), line);
        assert_eq!(of_outcome(&Outcome { code_from: Some(0), ..outcome.clone() }, Some(&id("b"))), None);
        let without = Outcome { code_from: None, ..outcome };
        assert_eq!(of_outcome(&without, Some(&id("b"))).as_deref(), Some("devrun: exit 1 (a service failed): a: exit 1"));
    }

    #[test]
    fn the_last_failure_of_ones_own_is_found() {
        let panic = "devrun failed at src/x.rs:1:2: text; please report it";
        assert_eq!(own_failure(&format!("started\n{panic}\nstopped\n")), Some((panic, None)));
        let limit = "error: no thread\nhelp: end some\ndevrun: exit 125 (devrun itself failed): no thread\n";
        assert_eq!(own_failure(limit), Some(("no thread", Some("end some"))));
        assert_eq!(own_failure("devrun: exit 1 (a service failed): api: exit 1\n"), None);
    }
}
