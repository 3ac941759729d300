//! The last line of a failing command: the code's meaning, the service and the reason.

use devrun_model::feed::Outcome;
use devrun_model::{Failure, exit};

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

/// The line for the first root cause of an outcome.
#[must_use]
pub fn of_outcome(outcome: &Outcome) -> Option<String> {
    let failed = outcome.failures.first()?;
    Some(last_line(outcome.code(), Some(failed.id.as_str()), &failed.failure.reason))
}

#[cfg(test)]
mod tests {
    use super::own_failure;

    #[test]
    fn the_last_failure_of_ones_own_is_found() {
        let panic = "devrun failed at src/x.rs:1:2: text; please report it";
        assert_eq!(own_failure(&format!("started\n{panic}\nstopped\n")), Some((panic, None)));
        let limit = "error: no thread\nhelp: end some\ndevrun: exit 125 (devrun itself failed): no thread\n";
        assert_eq!(own_failure(limit), Some(("no thread", Some("end some"))));
        assert_eq!(own_failure("devrun: exit 1 (a service failed): api: exit 1\n"), None);
    }
}
