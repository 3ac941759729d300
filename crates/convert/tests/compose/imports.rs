//! A project of a few files, imported; and what its procfile and its report hold.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use devrun_convert::{Converted, ForeignFormat, KeyOutcome, Surroundings, format_of, import_with};

/// Imports `/p/NAME` with these files in its directory.
pub(crate) fn import_in(name: &str, files: &[(&str, &str)], around: &Surroundings) -> Converted {
    let read = |path: &Path| {
        let name = path.strip_prefix("/p").ok()?;
        files.iter().find(|(known, _)| Path::new(known) == name).map(|(_, text)| (*text).to_owned())
    };
    let path = PathBuf::from("/p").join(name);
    let format = format_of(&path, &read(&path).unwrap_or_default()).unwrap_or(ForeignFormat::Compose);
    import_with(format, &[path], Path::new("/p"), &read, around).unwrap_or_else(|failure| panic!("{}", failure.reason))
}

pub(crate) fn project(name: &str, files: &[(&str, &str)]) -> Converted {
    import_in(name, files, &Surroundings::default())
}

pub(crate) fn import(files: &[(&str, &str)]) -> Converted {
    project("compose.yaml", files)
}

pub(crate) fn compose(text: &str) -> Converted {
    import(&[("compose.yaml", text)])
}

/// Where a value stands in a procfile: `services/db/use`, or a list where a key has a slash of its own.
pub(crate) trait KeyPath: Copy + Debug {
    fn keys(&self) -> Vec<&str>;
}

impl KeyPath for &str {
    fn keys(&self) -> Vec<&str> {
        self.split('/').collect()
    }
}

impl KeyPath for &String {
    fn keys(&self) -> Vec<&str> {
        self.split('/').collect()
    }
}

impl<const N: usize> KeyPath for &[&str; N] {
    fn keys(&self) -> Vec<&str> {
        self.to_vec()
    }
}

pub(crate) fn value(converted: &Converted, path: impl KeyPath) -> Option<toml::Value> {
    let table: toml::Table = toml::from_str(&converted.text).unwrap_or_else(|error| panic!("{error}\n{}", converted.text));
    path.keys().into_iter().try_fold(toml::Value::Table(table), |value, key| value.get(key).cloned())
}

#[track_caller]
pub(crate) fn has(converted: &Converted, path: impl KeyPath, expected: impl Into<toml::Value>) {
    assert_eq!(value(converted, path), Some(expected.into()), "{path:?}\n{}", converted.text);
}

#[track_caller]
pub(crate) fn lacks(converted: &Converted, path: impl KeyPath) {
    assert_eq!(value(converted, path), None, "{path:?}\n{}", converted.text);
}

#[track_caller]
pub(crate) fn says(converted: &Converted, outcome: KeyOutcome, text: &str) {
    let lines = converted.report.render(&[outcome]);
    assert!(lines.contains(text), "{text}\n{lines}");
}
