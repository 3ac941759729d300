//! What keeps the tests honest, in every crate: none sleeps where it should poll, none is left out, none returns early as if it had
//! passed, and each of them can fail.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::runner::Test;
use crate::source_tree::none;
use crate::test_functions::{TestFunction, test_files};

/// The files that may name a sleep: where tests wait, the rule itself, and the reading of tests.
const MAY_SLEEP: &[&str] = &["tests/it/waits.rs", "tests/it/test_hygiene.rs"];

/// Whether a line sleeps by a function of std or tokio. A method (`clock.sleep`) and the trait of a fake clock are other things.
fn is_bare_sleep(line: &str) -> bool {
    if line.trim_start().starts_with("//") {
        return false;
    }
    ["sleep(", "sleep_until(", "park_timeout("].iter().any(|call| {
        line.match_indices(call).any(|(at, _)| {
            let before = &line[..at];
            let is_imported = !before.ends_with(|char: char| char.is_alphanumeric() || "_.:".contains(char));
            before.ends_with("thread::") || before.ends_with("time::") || is_imported && !before.ends_with("fn ")
        })
    })
}

#[test]
fn tests_sleep_in_one_file_only() {
    let files = test_files();
    let lines: Vec<_> = files.iter().flat_map(|file| file.lines()).collect();
    assert!(lines.iter().any(|(at, line)| at.starts_with("tests/it/waits.rs") && is_bare_sleep(line)), "the rule sees a sleep");
    for place in [
        "crates/core/src/",
        "crates/gateway/src/tests.rs",
        "crates/runtime/src/stats.rs",
        "src/ui/dashboard/tests.rs",
        "tests/real/",
    ] {
        assert!(lines.iter().any(|(at, _)| at.starts_with(place)), "{place} is looked at");
    }
    let broken: Vec<String> = lines
        .iter()
        .filter(|(at, line)| !MAY_SLEEP.iter().any(|file| at.starts_with(file)) && is_bare_sleep(line))
        .map(|(at, line)| format!("{at}: {}", line.trim()))
        .collect();
    none(&broken, "a bare sleep in a test; `waits.rs` has what to use instead, and a fake clock needs none");
}

#[test]
fn a_sleep_is_seen_however_it_is_written() {
    for line in [
        "std::thread::sleep(PAUSE);",
        "    sleep(PAUSE).await;",
        "tokio::time::sleep_until(end).await;",
        "thread::park_timeout(x)",
    ] {
        assert!(is_bare_sleep(line), "{line}");
    }
    for line in [
        "fn sleep(&self) {}",
        "world.time.sleep(x).await",
        "TimeSource::sleep(self, x)",
        "select pg_sleep(3)",
        "// thread::sleep(x)",
    ] {
        assert!(!is_bare_sleep(line), "{line}");
    }
}

/// The runner knows only what the attribute registered; a test of the standard harness or of tokio is not even compiled here.
#[test]
fn every_test_is_registered() {
    let files = test_files();
    let of_it: Vec<_> = files.iter().filter(|file| file.name.starts_with("tests/it/")).flat_map(|file| file.lines()).collect();
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

/// An ignored test never runs, and a panic that is expected without its text may be any.
#[test]
fn none_is_ignored_and_no_panic_is_expected() {
    let files = test_files();
    let broken: Vec<String> = files
        .iter()
        .flat_map(|file| file.lines())
        .filter(|(_, line)| line.trim_start().starts_with("#[ignore") || line.trim() == "#[should_panic]")
        .map(|(at, line)| format!("{at}: {}", line.trim()))
        .collect();
    none(&broken, "a test that is ignored, or that any panic satisfies");
}

/// The names that a text calls.
fn calls(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |char: char| char.is_alphanumeric() || char == '_';
    text.match_indices('(').filter_map(move |(at, _)| {
        let before = &text[..at];
        // `name::<Type>(`
        let before = if before.ends_with('>') { before.rsplit_once("::<").map_or(before, |(name, _)| name) } else { before };
        let name = &before[before.rfind(|char| !is_name(char)).map_or(0, |at| at + 1)..];
        (!name.is_empty()).then_some(name)
    })
}

/// Early returns of a test: `return;` in a block of its own, `else { return };` in one line, each with the line of its condition.
fn early_returns(test: &TestFunction) -> impl Iterator<Item = (usize, String)> {
    let (own, inner) = (" ".repeat(test.indent + 4), " ".repeat(test.indent + 8));
    test.lines.iter().enumerate().filter_map(move |(at, line)| {
        let at_top =
            line.strip_prefix(own.as_str()).is_some_and(|rest| !rest.starts_with(' ') && rest.ends_with("else { return };"));
        let in_block = *line == format!("{inner}return;");
        let opens = |line: &&String| line.strip_prefix(own.as_str()).is_some_and(|rest| !rest.starts_with([' ', '}']));
        let condition = test.lines[..at].iter().rev().find(opens).filter(|_| in_block).unwrap_or(line);
        (at_top || in_block).then(|| (at, condition.clone()))
    })
}

/// A condition in front of a test ends it with `skipped`, so that it is reported. In `tests/real` the condition may call what says so;
/// a unit test cannot be skipped: it asserts something on every machine.
#[test]
fn no_test_returns_early_without_a_reason() {
    let files: Vec<_> = test_files().iter().map(|file| (file.name.starts_with("tests/real/"), file.functions())).collect();
    let mut reporting: BTreeSet<&str> = ["skip", "skipped"].into();
    loop {
        let of_real = files.iter().filter(|(is_real, _)| *is_real).flat_map(|(_, functions)| functions);
        let more: Vec<&str> = of_real
            .filter(|one| !one.is_test && !reporting.contains(one.name.as_str()))
            .filter(|one| one.lines.iter().skip(1).any(|line| calls(line).any(|name| reporting.contains(name))))
            .map(|one| one.name.as_str())
            .collect();
        if more.is_empty() {
            break;
        }
        reporting.extend(more);
    }
    let mut broken = Vec::new();
    for (is_real, functions) in &files {
        for test in functions.iter().filter(|one| one.is_test) {
            for (at, condition) in early_returns(test) {
                // A process of a test, started by that test.
                let is_part = condition.contains("DEVRUN_TEST_");
                let says_why = *is_real && calls(&condition).any(|name| reporting.contains(name));
                if !is_part && !says_why {
                    broken.push(format!("{}, line {} of {}", test.at, at + 1, test.name));
                }
            }
        }
    }
    none(&broken, "a test that returns early: `return skipped(\"the reason\")`, or assert on every machine");
}

/// Tests that can fail by nothing but an assertion, a panic or an error of their own, or of a function of the tests that they call.
fn cannot_fail(functions: &[TestFunction]) -> Vec<&TestFunction> {
    let fails = Regex::new(r"\b(assert|panic|unreachable|prop_assert|debug_assert)\w*!|\.(unwrap|expect)(_err)?\(|\?[;,.)]|\?$")
        .expect("a pattern");
    let mut able: BTreeSet<&str> = BTreeSet::new();
    let mut open: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for (at, one) in functions.iter().enumerate() {
        if one.lines.iter().any(|line| fails.is_match(line)) {
            able.insert(&one.name);
        } else {
            open.insert(at, one.lines.iter().skip(1).flat_map(|line| calls(line)).collect());
        }
    }
    loop {
        let more: Vec<usize> = open.iter().filter(|(_, called)| !called.is_disjoint(&able)).map(|(at, _)| *at).collect();
        if more.is_empty() {
            break;
        }
        for at in more {
            able.insert(&functions[at].name);
            open.remove(&at);
        }
    }
    open.into_keys().map(|at| &functions[at]).filter(|one| one.is_test).collect()
}

#[test]
fn every_test_can_fail() {
    let functions: Vec<TestFunction> = test_files().iter().flat_map(|file| file.functions()).collect();
    assert!(functions.iter().filter(|one| one.is_test).count() > 1400, "the tests of all crates are looked at");
    let broken: Vec<String> = cannot_fail(&functions)
        .into_iter()
        // What these check is that the code under test does not.
        .filter(|test| !test.name.contains("panic"))
        .map(|test| format!("{} {}", test.at, test.name))
        .collect();
    none(&broken, "a test without an assertion");
}

#[test]
fn a_test_without_an_assertion_is_found() {
    let function = |name: &str, is_test, text: &str| TestFunction {
        at: String::new(),
        name: name.to_owned(),
        is_test,
        indent: 0,
        lines: text.lines().map(str::to_owned).collect(),
    };
    let functions = [
        function("idle", true, "fn idle() {\n    let _ = run(1);\n}"),
        function("direct", true, "fn direct() {\n    assert_eq!(run(1), 2);\n}"),
        function("through", true, "fn through() {\n    outer::<u8>(1);\n}"),
        function("outer", false, "fn outer() {\n    inner();\n}"),
        function("inner", false, "fn inner() {\n    x.unwrap();\n}"),
        function("run", false, "fn run() -> u8 { 1 }"),
    ];
    let found: Vec<&str> = cannot_fail(&functions).into_iter().map(|one| one.name.as_str()).collect();
    assert_eq!(found, ["idle"]);
    let early = function(
        "early",
        true,
        "fn early() {\n    let Ok(x) = y() else { return };\n    if !root() {\n        return;\n    }\n    for a in b {\n        if a { return; }\n    }\n}",
    );
    let found: Vec<_> = early_returns(&early).collect();
    assert_eq!(found, [(1, "    let Ok(x) = y() else { return };".to_owned()), (3, "    if !root() {".to_owned())]);
}
