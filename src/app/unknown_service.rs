//! The error for a name on the command line that is no service or task.

use std::collections::BTreeSet;

use devrun_model::{Failure, FailureKind, Plan};

/// As [`unknown_service`], unless the name is in a profile that is not active: then the error says so.
#[must_use]
pub fn unknown_or_inactive<'a>(plan: Option<&Plan>, name: &str, lead: &str, known: impl IntoIterator<Item = &'a str>) -> Failure {
    let inactive = plan.and_then(|plan| plan.inactive.iter().find(|(inactive, _)| inactive.as_str() == name));
    let Some((_, profiles)) = inactive else { return unknown_service(name, lead, known) };
    Failure::new(FailureKind::Config, format!("{name} is in the profile {}", profiles.join(", "))).help(format!(
        "start it with its profile: devrun --profile {} up -d {name}",
        profiles.first().map_or("P", String::as_str)
    ))
}

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
