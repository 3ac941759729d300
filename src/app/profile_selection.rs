//! What profiles select: the error of a start that would start nothing.

use std::collections::BTreeSet;

use devrun_model::{Failure, FailureKind};

use crate::app::load::Read;

/// Says which profiles would select something.
#[must_use]
pub fn nothing_selected(read: &Read) -> Failure {
    let merged = read.document.merged();
    let tables = ["services", "tasks"].into_iter().filter_map(|kind| merged.get(kind)?.as_table());
    let of = |node: &toml::Value| match node.get("profiles") {
        Some(toml::Value::Array(list)) => list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect::<Vec<_>>(),
        Some(toml::Value::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    };
    let profiles: BTreeSet<String> = tables.flat_map(|table| table.values().flat_map(of)).collect();
    let names: Vec<String> = profiles.into_iter().collect();
    let known = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    Failure::new(FailureKind::Config, format!("no service selected: all have profiles that are off{known}"))
        .help(format!("select a profile: devrun --profile {} up", names.first().map_or("NAME", String::as_str)))
}
