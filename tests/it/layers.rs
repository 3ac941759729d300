//! Rules of the house that neither the compiler nor Cargo polices. Who may import whom between crates is in their
//! `Cargo.toml`; here is what holds inside a crate.
//!
//! It reads the source as text (`source_tree`). That is coarse, yet it sees every `use crate::X` and every `crate::X::` in a
//! path, and a rule that is broken names file and line.

use crate::source_tree::{is_comment, none, sources};

/// A module and what it may import.
type Table = &'static [(&'static str, &'static [&'static str])];

/// For each crate, its modules that have a rule, and what they may import of their own crate. `main` reaches the library by
/// its name.
const MAY_IMPORT: &[(&str, Table)] = &[
    (
        "devrun",
        &[
            ("main", &["cli"]),
            ("lib", &[]),
            ("ui", &[]),
            ("globals", &[]),
            ("app", &["globals", "ui"]),
            ("cli", &["app", "globals", "ui"]),
        ],
    ),
    (
        "runtime",
        &[
            ("lib", &[]),
            // Drivers know one another and nothing above them.
            ("drivers", &["drivers"]),
            ("recipes", &["drivers"]),
            ("engine", &["drivers", "recipes"]),
            ("control", &["engine"]),
        ],
    ),
];

/// The modules of `runtime` that are no drivers.
const ABOVE_DRIVERS: &[&str] = &["lib", "recipes", "engine", "control"];

/// These decide, or read what strangers send; a panic in them on any input is a bug, so they hold none of the calls that can.
const NEVER_PANIC: &[&str] = &[
    "crates/model/",
    "crates/config/",
    "crates/convert/",
    "crates/core/",
    "crates/connections/",
    "crates/gateway/",
    "crates/telemetry/",
    "crates/web/",
    "crates/runtime/src/engine/",
];

/// `unwrap` and `expect` that may stay: the line's text and why it cannot fail.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Where `unsafe` may be. The other crates forbid it; `runtime` expects it in single files of `ports`.
const MAY_BE_UNSAFE: &[&str] = &["crates/keeper/", "crates/runtime/src/ports/"];

/// Lines without the unit tests.
const LONG: usize = 600;

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

/// The row of the table that a module belongs to.
fn row<'a>(of: &str, module: &'a str) -> &'a str {
    if of == "runtime" && !ABOVE_DRIVERS.contains(&module) { "drivers" } else { module }
}

fn allowed(of: &str, module: &str, path: &str) -> bool {
    let first = path.split("::").next().unwrap_or_default();
    // `crate::Thing` is the crate's root.
    if first == module || first.chars().next().is_some_and(char::is_uppercase) {
        return true;
    }
    let Some((_, table)) = MAY_IMPORT.iter().find(|(name, _)| *name == of) else { return true };
    let mine = row(of, module);
    // A group hides its parts, so it matches no row.
    !first.starts_with('{') && table.iter().find(|(name, _)| *name == mine).is_some_and(|(_, may)| may.contains(&row(of, first)))
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
                if !allowed(&source.of, &source.module, &path) {
                    broken.push(format!("{}: {} may not import {path}", source.at(number), source.module));
                }
            }
            at += 1;
        }
    }
    none(&broken, "an edge outside the table");
}

#[test]
fn the_reader_of_imports_sees_all_spellings() {
    assert_eq!(imports("use crate::engine::Status;"), ["engine::Status"]);
    assert_eq!(imports("use crate::{engine::{Status, live}, probe};"), ["engine::{Status, live}", "probe"]);
    assert_eq!(imports("    let x: crate::probe::Bell = crate::logs::now();"), ["probe::Bell", "logs::now"]);
    assert!(imports("$crate::x my_crate::y").iter().all(|path| path != "y"));
    assert!(allowed("runtime", "engine", "recipes::fill"));
    assert!(allowed("runtime", "recipes", "probe::Bell"));
    assert!(allowed("runtime", "probe", "ports::Owner"));
    assert!(!allowed("runtime", "recipes", "engine::Engine"));
    assert!(!allowed("runtime", "ports", "{engine, probe}"), "a group hides its parts: spell them out");
    assert!(!allowed("devrun", "ui", "cli::args"));
    assert!(allowed("core", "health", "service::Service"), "a crate without a table");
}

#[test]
fn the_table_knows_every_module() {
    let mut unknown = Vec::new();
    for source in sources() {
        let Some((_, table)) = MAY_IMPORT.iter().find(|(name, _)| *name == source.of) else { continue };
        if !table.iter().any(|(name, _)| *name == row(&source.of, &source.module)) {
            unknown.push(source.at(1));
        }
    }
    none(&unknown, "a module that the table does not name");
}

#[test]
fn no_command_imports_a_command() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/cli")) {
        // The folder and the name, such as `service::up`; a command may be several files in a folder of its name.
        let inside = source.path.strip_prefix("src/cli").expect("below it").with_extension("");
        let parts: Vec<_> = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let [folder, name, ..] = parts.as_slice() else { continue };
        for (number, line) in source.code().filter(|(_, line)| !is_comment(line)) {
            for path in imports(line).iter().filter_map(|path| path.strip_prefix("cli::")) {
                let mut of = path.split("::");
                let own = of.next() == Some(folder) && of.next() == Some(name);
                if path.contains("::") && !path.starts_with("args::") && !path.starts_with("table_args::") && !own {
                    broken.push(format!("{}: {}", source.at(number), line.trim()));
                }
            }
        }
    }
    none(&broken, "what two commands need belongs into `app`");
}

#[test]
fn what_decides_never_panics() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.is_below(NEVER_PANIC)) {
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
fn a_module_file_holds_docs_and_re_exports() {
    const ITEMS: &[&str] = &[
        "fn ",
        "async ",
        "unsafe ",
        "const ",
        "static ",
        "struct ",
        "enum ",
        "trait ",
        "impl ",
        "impl<",
        "type ",
        "macro_rules!",
    ];
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.path.ends_with("mod.rs") || source.path.ends_with("lib.rs")) {
        for (number, line) in source.code() {
            let line = line.strip_prefix("pub").map_or(line, |rest| rest.split_once(' ').map_or(rest, |(_, rest)| rest));
            if ITEMS.iter().any(|item| line.starts_with(item)) {
                broken.push(source.at(number));
            }
        }
    }
    none(&broken, "code in a `mod.rs` or `lib.rs`: give it a file that is named after it");
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
        if source.is_below(MAY_BE_UNSAFE) {
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

/// The files that a line compiles in.
fn included(line: &str) -> Option<&str> {
    let (_, rest) = ["include_str!(\"", "include_bytes!(\"", "include!(\""].iter().find_map(|call| line.split_once(call))?;
    rest.split_once('"').map(|(file, _)| file)
}

#[test]
fn a_crate_compiles_in_files_of_its_own() {
    let (mut seen, mut broken) = (0, Vec::new());
    for source in sources() {
        for (number, line) in source.code().filter(|(_, line)| !is_comment(line)) {
            let Some(file) = included(line) else { continue };
            seen += 1;
            // Directories between the file and the root of its crate; `src` is one, `crates/NAME` is above.
            let above_root = if source.of == "devrun" { 0 } else { 2 };
            let depth = source.path.components().count() - 1 - above_root;
            if file.split('/').take_while(|part| *part == "..").count() > depth {
                broken.push(format!("{}: {file}", source.at(number)));
            }
        }
    }
    assert!(seen > 40, "the catalogue alone has more: {seen}");
    none(&broken, "a file outside the crate, which a packed crate does not hold; a link in the crate leads to it");
}
