//! Whether the warnings of a procfile were shown already by this very process: `fit_to_fork` executes everything typed once more in
//! its place, and reading them twice helps no one.

use std::sync::atomic::{AtomicBool, Ordering};

/// Holds the number of the process that has shown them. A process that inherits it has another number.
pub(crate) const VARIABLE: &str = "_DEVRUN_WARNINGS_SHOWN_BY";

static ARE_SHOWN: AtomicBool = AtomicBool::new(false);

/// Notes that they are shown.
pub(crate) fn note() {
    ARE_SHOWN.store(true, Ordering::Relaxed);
}

/// Whether they were shown before this process executed itself once more.
pub(crate) fn were_shown() -> bool {
    std::env::var(VARIABLE).is_ok_and(|process| process == std::process::id().to_string())
}

/// The variable for the execution in this process's place, where they are shown.
pub(crate) fn variable() -> Option<(&'static str, String)> {
    ARE_SHOWN.load(Ordering::Relaxed).then(|| (VARIABLE, std::process::id().to_string()))
}
