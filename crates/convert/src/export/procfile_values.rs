//! Values of the merged procfile as exports need them.

use std::path::Path;

use toml::Value;

use super::references::References;

/// A path of the project, relative to its directory.
pub(crate) fn relative(references: &References<'_>, path: &Path) -> Option<String> {
    let inside = path.strip_prefix(&references.source.plan.root).ok()?;
    let text = inside.display().to_string();
    Some(if text.is_empty() { ".".to_owned() } else { text })
}

/// A text, or a list of texts.
pub(crate) fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(value) => value.as_str().map(str::to_owned).into_iter().collect(),
        None => Vec::new(),
    }
}
