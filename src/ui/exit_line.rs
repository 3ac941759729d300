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

/// The line for the first root cause of an outcome.
#[must_use]
pub fn of_outcome(outcome: &Outcome) -> Option<String> {
    let failed = outcome.failures.first()?;
    Some(last_line(outcome.code(), Some(failed.id.as_str()), &failed.failure.reason))
}
