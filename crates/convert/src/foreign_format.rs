//! Which foreign format a file has.

use std::path::Path;

/// Which kind of file a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignFormat {
    /// `compose.yaml` and its other names.
    Compose,
    /// `process-compose.yaml`.
    ProcessCompose,
}

/// The format of a YAML file: by its name, and where that says nothing by its `processes:` or `services:`.
#[must_use]
pub fn format_of(path: &Path, text: &str) -> Option<ForeignFormat> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let yaml = name.ends_with(".yml") || name.ends_with(".yaml");
    let says = |key: &str| text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')));
    if !yaml {
        return None;
    }
    if name.starts_with("process-compose") || (says("processes") && !says("services")) {
        return Some(ForeignFormat::ProcessCompose);
    }
    Some(ForeignFormat::Compose)
}
