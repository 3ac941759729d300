//! Names of foreign files as names that a procfile takes. Two that would become one are an error, as neither of them could keep it.

use super::report::ConversionReport;
use super::yaml::Map;
use devrun_model::{Failure, FailureKind};

/// A name that a procfile takes. `first` stands before one that begins with another character than a letter or a digit.
pub(crate) fn procfile_name(name: &str, first: char) -> String {
    let mut out: String = name
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '_' || char == '-' { char } else { '-' })
        .take(60)
        .collect();
    if !out.starts_with(|char: char| char.is_ascii_alphanumeric()) {
        out.insert(0, first);
    }
    // These have a meaning in placeholders.
    if matches!(out.as_str(), "secret" | "dir" | "replica" | "project" | "mode" | "instance") {
        out.push_str("-service");
    }
    out
}

/// What the report says of a name that had to become another one.
pub(crate) fn is_called(name: &str) -> String {
    format!("is called `{name}`: a procfile's names hold letters, digits, `_` and `-`")
}

/// Refuses keys of a table that would become one name.
///
/// # Errors
/// `Config` with the place of the second one.
pub(crate) fn ensure_distinct(map: &Map, first: char, report: &ConversionReport) -> Result<(), Failure> {
    let mut known = std::collections::BTreeMap::new();
    for (key, _) in map {
        let name = procfile_name(&key.name, first);
        if let Some(other) = known.insert(name.clone(), key.name.as_str()).filter(|other| *other != key.name) {
            let place = report.exactly(key.at);
            let message = format!("{place}: `{other}` and `{}` would both be called `{name}` in a procfile", key.name);
            return Err(Failure::new(FailureKind::Config, message).help("rename one of them"));
        }
    }
    Ok(())
}
