//! The error for a name on the command line that is no service or task.

use std::collections::BTreeSet;

use devrun_model::{Failure, FailureKind};

/// `lead`: what has the known names, as `the procfile has`.
#[must_use]
pub fn unknown_service<'a>(name: &str, lead: &str, known: impl IntoIterator<Item = &'a str>) -> Failure {
    let known: BTreeSet<&str> = known.into_iter().collect();
    let failure = Failure::new(FailureKind::Config, format!("unknown service or task `{name}`"));
    match devrun_config::nearest(name, known.iter().copied()) {
        Some(near) => failure.help(format!("did you mean `{near}`?")),
        None => failure.help(format!("{lead}: {}", known.into_iter().collect::<Vec<_>>().join(", "))),
    }
}
