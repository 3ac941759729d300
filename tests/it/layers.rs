//! The table of who may import whom, and other rules of the house that the compiler does not police.
//!
//! It reads the source as text. That is coarse, yet it sees every `use crate::X` and every `crate::X::` in a path, and a
//! rule that is broken names file and line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// For each module, what it may import of ours. A name with a path narrows it to that part.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &["model"]),
    ("convert", &["model", "config"]),
    ("core", &["model"]),
    ("drivers", &["model"]),
    ("recipes", &["model", "drivers"]),
    ("keeper", &["model", "core::shutdown", "drivers::process", "drivers::journal", "drivers::lock"]),
    ("engine", &["model", "core", "drivers", "recipes", "exit"]),
    ("control", &["model", "engine"]),
    // Of the engine its feed, of the drivers what a view shows: log lines, progress of a download.
    ("ui", &["model", "control", "engine", "drivers::logs", "drivers::fetch", "exit"]),
    ("exit", &["model"]),
    ("cli", &["model", "config", "convert", "core", "drivers", "recipes", "keeper", "engine", "control", "ui", "exit"]),
    ("main", &["cli", "exit", "keeper"]),
    ("lib", &[]),
];

/// What one part of a module may import beyond its row.
const PART_MAY_IMPORT: &[(&str, &[&str])] = &[("src/drivers/process/", &["core::shutdown"])];

/// These decide; a panic in them on any input is a bug, so they hold none of the calls that can.
const NEVER_PANIC: &[&str] = &["model", "config", "convert", "core", "engine"];

/// `unwrap` and `expect` that may stay: the line's text and why it cannot fail.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Modules that may hold `unsafe`.
const MAY_BE_UNSAFE: &[&str] = &["src/drivers/process", "src/drivers/ports", "src/keeper"];

/// Lines without the unit tests.
const LONG: usize = 600;

struct Source {
    path: PathBuf,
    /// The first folder or file under `src`.
    layer: String,
    text: String,
}

impl Source {
    /// Its lines up to the unit tests, which may do as they like, with line numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let opens_tests =
            |pair: &[&str]| pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        let end = lines.windows(2).position(opens_tests).unwrap_or(lines.len());
        lines.into_iter().take(end).enumerate().map(|(at, line)| (at + 1, line))
    }
    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be listed").flatten() {
            let path = entry.path();
            if path.is_dir() && path.ends_with("tests") {
                // Unit tests that grew into a folder of their own.
            } else if path.is_dir() {
                folders.push(path);
            } else if path.file_stem().is_some_and(|stem| stem == "tests" || stem == "testkit") {
                // Unit tests that grew into a file of their own.
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(root.join("src")).expect("found below src").to_path_buf();
                let first = inside.components().next().expect("a path has a component");
                let layer = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).expect("a source file is text");
                found.push(Source { path: Path::new("src").join(inside), layer, text });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The paths after `crate::` (and, in the binary, after `devrun::`) on one line, a group in braces taken apart.
fn imports(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for prefix in ["crate::", "devrun::"] {
        let mut rest = line;
        while let Some(at) = rest.find(prefix) {
            let before = rest[..at].chars().next_back();
            let after = &rest[at + prefix.len()..];
            rest = after;
            // `$crate::` in a macro and `my_crate::` are other things.
            if before.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == '"') {
                continue;
            }
            match after.strip_prefix('{') {
                Some(group) => {
                    let mut depth = 0;
                    let mut part = String::new();
                    for char in group.chars() {
                        match char {
                            '{' => depth += 1,
                            '}' if depth == 0 => break,
                            '}' => depth -= 1,
                            ',' if depth == 0 => {
                                found.push(std::mem::take(&mut part));
                                continue;
                            }
                            _ => {}
                        }
                        part.push(char);
                    }
                    found.push(part);
                }
                None => {
                    let path = after.split(|char: char| !(char.is_alphanumeric() || char == '_' || char == ':')).next();
                    found.push(path.unwrap_or_default().to_owned());
                }
            }
        }
    }
    found.into_iter().map(|path| path.trim().to_owned()).filter(|path| !path.is_empty()).collect()
}

fn allowed(layer: &str, path: &str) -> bool {
    let first = path.split("::").next().unwrap_or_default();
    // `crate::Thing` is the crate's root: `lib.rs` re-exports nothing of its own.
    if first == layer || first.chars().next().is_some_and(char::is_uppercase) {
        return true;
    }
    let table: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    table.get(layer).is_some_and(|may| {
        may.iter().any(|one| path == *one || path.starts_with(&format!("{one}::")) || (!one.contains("::") && first == *one))
    })
}

fn allowed_in_part(file: &Path, path: &str) -> bool {
    let matches = |one: &&str| path == *one || path.starts_with(&format!("{one}::"));
    PART_MAY_IMPORT.iter().any(|(part, may)| file.starts_with(part) && may.iter().any(matches))
}

#[track_caller]
fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn every_import_is_an_edge_of_the_table() {
    let mut broken = Vec::new();
    for source in sources() {
        // Multi-line groups are joined first, so that `use crate::{` is read whole.
        let code: Vec<(usize, &str)> = source.code().filter(|(_, line)| !is_comment(line)).collect();
        let mut at = 0;
        while at < code.len() {
            let (number, first) = code[at];
            let mut statement = first.to_owned();
            if first.trim_start().starts_with("use ") || first.trim_start().starts_with("pub use ") {
                while !statement.contains(';') && at + 1 < code.len() {
                    at += 1;
                    statement.push_str(code[at].1.trim());
                }
            }
            for path in imports(&statement) {
                if !allowed(&source.layer, &path) && !allowed_in_part(&source.path, &path) {
                    broken.push(format!("{}: {} may not import {path}", source.at(number), source.layer));
                }
            }
            at += 1;
        }
    }
    none(&broken, "an edge outside the table");
}

#[test]
fn the_reader_of_imports_sees_all_spellings() {
    assert_eq!(imports("use crate::model::Plan;"), ["model::Plan"]);
    assert_eq!(imports("use crate::{model::{Plan, Health}, core};"), ["model::{Plan, Health}", "core"]);
    assert_eq!(imports("    let x: crate::core::Tick = crate::core::now();"), ["core::Tick", "core::now"]);
    assert!(imports("$crate::x my_crate::y").iter().all(|path| path != "y"));
    assert!(allowed("config", "model::Plan"));
    assert!(!allowed("config", "core::Tick"));
    assert!(allowed("keeper", "drivers::process::Link"));
    assert!(!allowed("keeper", "drivers::probe"));
    assert!(!allowed("keeper", "drivers::{process, probe}"), "a group hides its parts: spell them out");
    assert!(!allowed("model", "config"));
    assert!(allowed_in_part(Path::new("src/drivers/process/tree.rs"), "core::shutdown::Tick"));
    assert!(!allowed_in_part(Path::new("src/drivers/process/tree.rs"), "core::Supervisor"));
    assert!(!allowed_in_part(Path::new("src/drivers/lock.rs"), "core::shutdown::Tick"));
}

#[test]
fn the_table_knows_every_module() {
    let known: Vec<&str> = MAY_IMPORT.iter().map(|(layer, _)| *layer).collect();
    let unknown: Vec<String> =
        sources().iter().filter(|source| !known.contains(&source.layer.as_str())).map(|source| source.at(1)).collect();
    none(&unknown, "a module that the table does not name");
}

#[test]
fn what_decides_never_panics() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| NEVER_PANIC.contains(&source.layer.as_str())) {
        for (number, line) in source.code().filter(|(_, line)| !is_comment(line)) {
            let panics = [".unwrap()", ".expect(\"", ".expect(&", "panic!(", "unreachable!(", "todo!(", "unimplemented!("];
            let excused = EXCEPTIONS.iter().any(|(text, _)| line.contains(text));
            if panics.iter().any(|call| line.contains(call)) && !excused {
                broken.push(format!("{}: {}", source.at(number), line.trim()));
            }
        }
    }
    none(&broken, "a panic in a layer that decides");
}

#[test]
fn every_module_says_what_it_owns() {
    let silent: Vec<String> =
        sources().iter().filter(|source| !source.text.starts_with("//!")).map(|source| source.at(1)).collect();
    none(&silent, "a module that does not open with `//!`");
}

#[test]
fn long_files_give_their_reason() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| {
            source.code().count() > LONG && !source.text.lines().take(40).any(|line| line.starts_with("//! Long because"))
        })
        .map(|source| format!("{} ({} lines)", source.path.display(), source.code().count()))
        .collect();
    none(&long, "a file over the limit whose head has no line `//! Long because`");
}

#[test]
fn unsafe_stays_where_the_kernel_is() {
    let mut broken = Vec::new();
    for source in sources() {
        let path = source.path.display().to_string();
        if MAY_BE_UNSAFE.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        for (number, line) in source.code().filter(|(_, line)| !is_comment(line)) {
            if line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl") {
                broken.push(format!("{}: {}", source.at(number), line.trim()));
            }
        }
    }
    none(&broken, "`unsafe` outside its places");
}
