//! The sources of all crates as text, for the tests that read them: `layers`, `type_names`, `import_circles`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file below `src` of some crate.
pub(crate) struct Source {
    /// From the root of the workspace.
    pub path: PathBuf,
    /// The crate's directory name; `devrun` for the one at the root.
    pub of: String,
    /// The first directory or file under `src`.
    pub module: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Its lines up to the unit tests, which may do as they like, with line numbers.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_attribute = |line: &str| line.trim() == "#[cfg(test)]" || line.trim().starts_with("#[cfg(all(test,");
        let opens_module = |line: &&str| line.contains("mod ") && line.ends_with('{');
        let opens_tests = |at: &usize| {
            is_attribute(lines[*at]) && lines[at + 1..].iter().find(|line| !line.starts_with("#[")).is_some_and(opens_module)
        };
        let end = (0..lines.len()).find(opens_tests).unwrap_or(lines.len());
        lines.into_iter().take(end).enumerate().map(|(at, line)| (at + 1, line))
    }
    /// Its path and a line.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
    /// Whether it is in one of these directories.
    pub fn is_below(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

/// The directories with sources, by crate.
fn crates() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::from([("devrun".to_owned(), root.join("src"))]);
    for entry in fs::read_dir(root.join("crates")).expect("crates can be listed").flatten() {
        found.insert(entry.file_name().to_string_lossy().into_owned(), entry.path().join("src"));
    }
    found
}

/// All sources outside unit tests, by path.
pub(crate) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for (of, top) in crates() {
        let mut folders = vec![top.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("src can be listed").flatten() {
                let path = entry.path();
                if path.is_dir() && path.ends_with("tests") {
                    // Unit tests that grew into a directory of their own.
                } else if path.is_dir() {
                    folders.push(path);
                } else if path.file_stem().is_some_and(|stem| stem == "tests" || stem == "testkit") {
                    // Unit tests that grew into a file of their own.
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let inside = path.strip_prefix(&top).expect("found below src");
                    let first = inside.components().next().expect("a path has a component");
                    let module = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
                    let text = fs::read_to_string(&path).expect("a source file is text");
                    let path = path.strip_prefix(root).expect("below the root").to_path_buf();
                    found.push(Source { path, of: of.clone(), module, text });
                }
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// Whether the line is a comment and nothing else.
pub(crate) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Fails with the list of what breaks the rule.
#[track_caller]
pub(crate) fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}
