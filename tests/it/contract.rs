//! Every key, verb, flag, variable, exit code and JSON key of the contract, and the test that shows it: the page
//! `docs/contract-tests.md` is made here, and an item that is in effect and has no test fails this one.
//!
//! A test says what it shows in its comment, `/// Shows: stop.check, up --detach, exit 6.`, and what it names must stand in
//! its file; or its name begins with the item: `key_stop_check`, `verb_up`, `exit_6`. The sources are read as text, as the
//! layers are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use devrun::cli::args::Cli;
use devrun_config::schema::{KEYS, TableKind};
use devrun_model::exit;

/// Verbs of the contract, one for each name in the first column of its table.
const VERBS: &[&str] = &[
    "up",
    "down",
    "stop",
    "start",
    "restart",
    "kill",
    "wait",
    "run",
    "exec",
    "shell",
    "psql",
    "redis-cli",
    "sql",
    "cypher",
    "ps",
    "logs",
    "events",
    "inspect",
    "top",
    "ui",
    "web",
    "urls",
    "ports",
    "routes",
    "trust",
    "volumes",
    "df",
    "resources",
    "graph",
    "analyze",
    "attach",
    "config",
    "check",
    "env",
    "init",
    "import",
    "export",
    "task",
    "migrate",
    "fetch",
    "lock",
    "which",
    "catalog",
    "secret",
    "snapshot",
    "backup",
    "restore",
    "db",
    "branch",
    "scale",
    "clean",
    "rebuild",
    "build",
    "report",
    "doctor",
    "ls",
    "completions",
    "schema",
    "man",
    "version",
    "why",
    "mcp",
    "help",
    "self",
];

const EXIT_CODES: &[i32] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 124, 125, 126, 127, 129, 130, 143];

/// The JSON of the contract: what prints it, and its keys.
const JSON: &[(&str, &str)] = &[
    ("ps --json", "project instance mode supervisor_pid supervisor_version services"),
    (
        "ps --json services[]",
        "name service replica kind tier state health pid exit_code signal restarts started_at ready_at uptime_ms ready_ms \
         ports url binary version reason",
    ),
    ("events --json", "ts seq service replica from to health reason pid exit_code"),
    ("logs --json", "ts service replica stream line"),
];

/// Variables that are read without being an option's.
const VARIABLES: &[&str] = &["DEVRUN_INSTANCE", "DEVRUN_BIN_CACHE", "NO_COLOR", "CI", "DEBUG", "DEVRUN_LOG"];

/// Variables that every child gets.
const CHILD: &[&str] =
    &["PYTHONUNBUFFERED", "PORT", "DEVRUN_PROJECT", "DEVRUN_SERVICE", "DEVRUN_REPLICA", "DEVRUN_INSTANCE", "DEVRUN_RUN_ID"];

/// One row of the page.
struct Item {
    section: &'static str,
    /// As it stands in a `Shows:` line.
    name: String,
    /// The first words of a test's name that is about it.
    stem: String,
    /// One of these must stand in the file of a test that names it.
    traces: Vec<String>,
    in_effect: bool,
}

fn words(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.ends_with('_') && !out.is_empty() {
            out.push('_');
        }
    }
    out.trim_end_matches('_').to_owned()
}

fn item(section: &'static str, kind: &str, name: String, traces: Vec<String>, in_effect: bool) -> Item {
    let stem = format!("{kind}_{}", words(&name));
    Item { section, name, stem, traces, in_effect }
}

fn table_name(place: TableKind) -> String {
    match place {
        TableKind::Root => "file".to_owned(),
        place => format!("{place:?}").to_ascii_lowercase(),
    }
}

fn items() -> Vec<Item> {
    let mut all = Vec::new();
    for key in KEYS {
        let place = key.places[0];
        let name = format!("{}.{}", table_name(place), key.name);
        all.push(item("Keys of procfile.toml", "key", name, vec![key.name.to_owned()], true));
    }
    let mut command = Cli::command();
    command.build();
    let flags = |command: &clap::Command, verb: &str, globals: bool, all: &mut Vec<Item>| {
        for argument in command.get_arguments().filter(|argument| argument.is_global_set() == globals) {
            let Some(long) = argument.get_long().filter(|long| !matches!(*long, "help" | "version")) else { continue };
            let mut traces = vec![format!("--{long}")];
            traces.extend(argument.get_short().map(|short| format!("\"-{short}")));
            all.push(item("Commands and their options", "verb", format!("{verb} --{long}"), traces, true));
            if globals && let Some(variable) = argument.get_env() {
                let variable = variable.to_string_lossy().into_owned();
                all.push(item("Variables", "variable", variable.clone(), vec![variable], true));
            }
        }
    };
    flags(&command, "devrun", true, &mut all);
    for verb in VERBS {
        let built = command.find_subcommand(verb);
        assert!(built.is_some(), "{verb} does not exist");
        all.push(item("Commands and their options", "verb", (*verb).to_owned(), vec![format!("\"{verb}\"")], built.is_some()));
        // `help` repeats every verb, `rebuild` every option of `up`.
        let Some(built) = built.filter(|_| !matches!(*verb, "help" | "rebuild")) else { continue };
        flags(built, verb, false, &mut all);
        for below in built.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
            let name = format!("{verb} {}", below.get_name());
            all.push(item("Commands and their options", "verb", name.clone(), vec![format!("\"{}\"", below.get_name())], true));
            flags(below, &name, false, &mut all);
        }
    }
    for name in VARIABLES {
        all.push(item("Variables", "variable", (*name).to_owned(), vec![(*name).to_owned()], true));
    }
    for name in CHILD {
        all.push(item("Variables", "child", format!("{name} of a child"), vec![(*name).to_owned()], true));
    }
    for code in EXIT_CODES {
        all.push(item("Exit codes", "exit", format!("exit {code}"), vec![format!("code({code})"), code.to_string()], true));
    }
    for (printed, keys) in JSON {
        for key in keys.split_whitespace() {
            all.push(item("JSON", "json", format!("{printed}: {key}"), vec![key.to_owned()], true));
        }
    }
    for item in &mut all {
        item.stem = item.stem.replace("exit_exit", "exit");
    }
    all
}

/// One test of the sources.
struct Test {
    /// `tests/it/failing.rs`.
    file: String,
    name: String,
    shows: Vec<String>,
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// Every test, and the text of each file without its comments.
fn tests() -> (Vec<Test>, BTreeMap<String, String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["tests", "src", "crates"] {
        sources(&root.join(folder), &mut paths);
    }
    paths.sort();
    let (mut tests, mut texts) = (Vec::new(), BTreeMap::new());
    for path in paths {
        let text = fs::read_to_string(&path).expect("our own source");
        let file = path.strip_prefix(root).expect("below the root").display().to_string();
        // Tests of `tests/real` are named in a list, as they have a harness of their own.
        let list = text.split_once("\ntrials![").and_then(|(_, rest)| rest.split_once("];")).map_or("", |(list, _)| list);
        let trials: Vec<&str> = list.split([',', '\n']).map(str::trim).collect();
        let (mut comment, mut marked) = (String::new(), false);
        for line in text.lines().map(str::trim) {
            if let Some(said) = line.strip_prefix("///") {
                comment.push_str(said);
            } else if line.starts_with("#[") {
                marked |= line.ends_with("test]") && !line.starts_with("#[cfg");
            } else if let Some(name) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn ")) {
                let is_trial = trials.contains(&name.split('(').next().unwrap_or_default());
                if std::mem::take(&mut marked) || is_trial {
                    let shows = comment.split_once("Shows: ").map_or("", |(_, list)| list);
                    // A list ends with the sentence; a name may hold a full stop, and none ends with one.
                    let list = shows.split(". ").next().unwrap_or_default().trim().trim_end_matches('.');
                    let shows = list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
                    let name = name.split('(').next().unwrap_or_default().to_owned();
                    tests.push(Test { file: file.clone(), name, shows });
                }
                comment.clear();
            } else {
                comment.clear();
                marked = false;
            }
        }
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        texts.insert(file, code.join("\n"));
    }
    (tests, texts)
}

fn page(items: &[Item], shown: &BTreeMap<String, Vec<String>>) -> String {
    let mut out =
        "# The contract and its tests\n\n<!-- Made by `INSTA_UPDATE=always cargo test --test it contract`; do not edit. -->\n\n\
                   What `procfile.toml` and the command line promise, row by row, and the test that shows it. A row without a \
                   test fails `tests/it/contract.rs`.\n"
            .to_owned();
    let mut section = "";
    let mut sorted: Vec<&Item> = items.iter().collect();
    let order: Vec<&str> = ["Keys of procfile.toml", "Commands and their options", "Variables", "Exit codes", "JSON"].to_vec();
    sorted.sort_by_key(|item| order.iter().position(|name| *name == item.section));
    for item in sorted {
        if item.section != section {
            section = item.section;
            out.push_str(&format!("\n## {section}\n\n| what | shown by |\n|---|---|\n"));
        }
        let by = match shown.get(&item.name) {
            Some(tests) => tests.iter().take(3).map(|test| format!("`{test}`")).collect::<Vec<_>>().join(", "),
            None => "not in effect yet".to_owned(),
        };
        out.push_str(&format!("| `{}` | {by} |\n", item.name));
    }
    out
}

#[test]
fn every_item_of_the_contract_has_a_test_that_shows_it() {
    let (items, (tests, texts)) = (items(), tests());
    let by_name: BTreeMap<&str, &Item> = items.iter().map(|item| (item.name.as_str(), item)).collect();
    assert_eq!(by_name.len(), items.len(), "two items have one name");
    let mut faults = BTreeSet::new();
    let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for test in &tests {
        let place = format!("{}::{}", test.file.trim_end_matches(".rs").replace("tests/", ""), test.name);
        // A star stands for all that begin so.
        let all = test.shows.iter().flat_map(|name| match name.strip_suffix('*') {
            Some(start) => by_name.keys().filter(|name| name.starts_with(start)).map(|name| (*name).to_owned()).collect(),
            None => vec![name.clone()],
        });
        for name in all {
            match by_name.get(name.as_str()) {
                None => _ = faults.insert(format!("{place} shows `{name}`, which is nothing of the contract")),
                Some(item) if !item.traces.iter().any(|trace| texts[&test.file].contains(trace.as_str())) => {
                    faults.insert(format!("{place} shows `{name}`, and its file never says {:?}", item.traces));
                }
                Some(_) => shown.entry(name).or_default().push(place.clone()),
            }
        }
        // The item with the longest name that the test's name begins with.
        let begins = |stem: &str| test.name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        let named = items.iter().filter(|item| begins(item.stem.as_str())).max_by_key(|item| item.stem.len());
        if let Some(item) = named {
            let list = shown.entry(item.name.clone()).or_default();
            if !list.contains(&place) {
                list.insert(0, place.clone());
            }
        }
    }
    for item in items.iter().filter(|item| item.in_effect && !shown.contains_key(&item.name)) {
        faults.insert(format!(
            "no test shows `{}`: write one, named {}_… or with `/// Shows: {}.`",
            item.name, item.stem, item.name
        ));
    }
    assert!(faults.is_empty(), "{}", faults.into_iter().collect::<Vec<_>>().join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/contract-tests.md");
    let made = page(&items, &shown);
    if std::env::var_os("INSTA_UPDATE").is_some_and(|wish| wish == "always") {
        fs::write(&path, &made).expect("docs can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "docs/contract-tests.md is out of date: INSTA_UPDATE=always cargo test --test it contract");
}

#[test]
fn exit_codes_have_their_meaning() {
    for code in EXIT_CODES {
        assert!(!exit::meaning(*code).is_empty(), "{code}");
    }
}
