//! What keeps the tests honest: none sleeps where it should poll, none is left out, and none that cannot run here counts as passed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::runner::Test;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory.
fn rust_files(top: &Path) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![top.to_path_buf()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The lines of every test, with the file and the number: those below `tests`, and the unit tests of the sources.
fn test_lines() -> Vec<(String, String)> {
    let mut files = rust_files(&root().join("tests"));
    let mut sources = rust_files(&root().join("src"));
    for entry in fs::read_dir(root().join("crates")).expect("our own directory").flatten() {
        files.extend(rust_files(&entry.path().join("tests")));
        sources.extend(rust_files(&entry.path().join("src")));
    }
    let mut lines = Vec::new();
    for (file, is_source) in files.iter().map(|file| (file, false)).chain(sources.iter().map(|file| (file, true))) {
        let text = fs::read_to_string(file).expect("our own source");
        let only_tests = !is_source || file.iter().any(|part| part == "tests" || part == "tests.rs");
        let from = if only_tests { Some(0) } else { text.lines().position(|line| line == "#[cfg(test)]") };
        let name = file.strip_prefix(root()).unwrap_or(file).display().to_string();
        let numbered = text.lines().enumerate().skip(from.unwrap_or(usize::MAX));
        lines.extend(numbered.map(|(at, line)| (format!("{name}:{}", at + 1), line.to_owned())));
    }
    lines
}

#[track_caller]
fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

fn is_bare_sleep(line: &str) -> bool {
    !line.trim_start().starts_with("//") && ["thread::sleep", "time::sleep"].iter().any(|call| line.contains(call))
}

#[test]
fn tests_sleep_in_one_file_only() {
    let lines = test_lines();
    assert!(lines.iter().any(|(at, line)| at.starts_with("tests/it/waits.rs") && is_bare_sleep(line)), "the rule sees a sleep");
    assert!(lines.iter().any(|(at, _)| at.starts_with("crates/core/src/")), "unit tests are looked at");
    let broken: Vec<String> = lines
        .iter()
        .filter(|(at, line)| {
            let may = ["tests/it/waits.rs", "tests/it/test_hygiene.rs"].iter().any(|file| at.starts_with(file));
            !may && is_bare_sleep(line)
        })
        .map(|(at, line)| format!("{at}: {}", line.trim()))
        .collect();
    none(&broken, "a bare sleep in a test; `waits.rs` has what to use instead");
}

/// The runner knows only what the attribute registered; a test of the standard harness or of tokio is not even compiled here.
#[test]
fn every_test_is_registered() {
    let of_it: Vec<(String, String)> = test_lines().into_iter().filter(|(at, _)| at.starts_with("tests/it/")).collect();
    let foreign: Vec<String> = of_it
        .iter()
        .filter(|(_, line)| {
            ["#[tokio::test", "#[std::prelude", "#[core::prelude"].iter().any(|word| line.trim().starts_with(word))
        })
        .map(|(at, line)| format!("{at}: {}", line.trim()))
        .collect();
    none(&foreign, "an attribute that this test binary leaves out; use #[test]");
    let written =
        of_it.iter().filter(|(_, line)| ["#[test]", "#[test("].iter().any(|word| line.trim().starts_with(word))).count();
    let registered = inventory::iter::<Test>.into_iter().count();
    assert!(registered > 400, "{registered}");
    if cfg!(all(feature = "postgres", feature = "redis", feature = "compose")) {
        assert_eq!(registered, written);
    }
}

/// A condition in front of a test ends it with `skipped`, so that it is reported.
#[test]
fn no_test_returns_early_without_a_reason() {
    let (mut broken, mut is_test) = (Vec::new(), false);
    for (at, line) in test_lines().into_iter().filter(|(at, _)| at.starts_with("tests/it/")) {
        if line.starts_with("#[test") {
            is_test = true;
        } else if line.starts_with('}') {
            is_test = false;
        }
        let at_top = line.starts_with("    ") && !line.starts_with("     ") && line.ends_with("else { return };");
        let in_block = line == "        return;";
        if is_test && (at_top || in_block) {
            broken.push(format!("{at}: {}", line.trim()));
        }
    }
    none(&broken, "a test that returns early: `return skipped(\"the reason\")`");
}
