//! Text of a procfile, of a path and of the command line on a terminal: nothing of it is obeyed, and it is shown.

use crate::harness::{Outcome, Project};

const HOSTILE: &str = r#"
[project]
name = "shop"
[env]
ALL = "a\u001b]52;c;aGk=\u0007b"
[services.a]
run = ["sh", "-c", "exec sleep 1000", "\u001b[2J{token}"]
description = "x\u009b2Jy\u202ez\u001b[8mhidden"
links = { "l\u0007ink" = "/\u2066x" }
env = { FOO = "1\u001b]0;title\u00072\u202e\u009b3" }
[queries]
q = "select 1 -- \u001bc"
"#;

/// What a terminal would obey of all that: everything but text, newlines and colours.
#[track_caller]
fn nothing_is_obeyed(what: &str, shown: &Outcome) {
    let mut rest = shown.stdout.as_str();
    while let Some(at) = rest.find(|char: char| char.is_control() || "\u{202e}\u{2066}".contains(char)) {
        rest = &rest[at..];
        let colour = rest.strip_prefix("\u{1b}[").and_then(|rest| {
            let end = rest.find(|char: char| !char.is_ascii_digit() && char != ';')?;
            rest[end..].strip_prefix('m')
        });
        rest = match (colour, rest.chars().next()) {
            (Some(rest), _) => rest,
            // The terminal itself makes a carriage return and a newline of a newline.
            (None, Some('\n' | '\r' | '\t')) => &rest[1..],
            (None, other) => panic!("{what}: {other:?} reaches the terminal\n{:?}", shown.stdout),
        };
    }
    assert!(!shown.stdout.contains("\u{1b}[8m"), "{what}: text is hidden\n{:?}", shown.stdout);
}

#[test]
fn x05_nothing_of_a_procfile_is_obeyed_by_a_terminal() {
    let project = Project::new().procfile(HOSTILE);
    for words in [
        &["config"][..],
        &["config", "--origin"],
        &["config", "--json"],
        &["config", "a"],
        &["env"],
        &["env", "a"],
        &["env", "a", "--format", "json"],
        &["env", "a", "--format", "shell"],
        &["export", "compose"],
        &["export", "procfile"],
        &["inspect", "a"],
        &["inspect", "a", "--json"],
        &["check"],
        &["graph"],
        &["urls"],
        &["ps"],
        &["ps", "--json"],
    ] {
        nothing_is_obeyed(&words.join(" "), &project.terminal(words).outcome());
    }
    let shown = project.terminal(&["env", "a"]).outcome();
    assert!(shown.stdout.contains("\\u001b]0;title\\u0007"), "it is shown: {:?}", shown.stdout);
    // Not a terminal: as it is.
    let piped = project.run(&["env", "a", "--format", "shell"]).code(0);
    assert!(piped.stdout.contains("1\u{1b}]0;title\u{7}2\u{202e}\u{9b}3"), "{:?}", piped.stdout);
}

#[test]
fn x05_nothing_of_a_path_or_a_word_is_obeyed_by_a_terminal() {
    let project = Project::new().procfile(HOSTILE);
    let odd = "o\u{1b}]0;t\u{7}\u{202e}\u{9b}d";
    project.write(&format!("{odd}.toml"), "x");
    project.write(&format!("{odd}/procfile.toml"), "[services.a]\nrun = \"\"\n");
    for words in [
        &["-f", &format!("{odd}.toml"), "config"][..],
        &["-f", &format!("{odd}.missing"), "check"],
        &["-C", odd, "check"],
        &["ps", odd],
        &["wait", odd, "--timeout", "1s"],
        &["logs", odd],
        &["restart", odd],
        &[&format!("--{odd}")],
        &[odd],
        &["--mode", odd, "config"],
        &["--debug", "-f", &format!("{odd}.toml"), "config"],
    ] {
        let shown = project.terminal(words).outcome();
        assert_ne!(shown.code, Some(0), "{shown}");
        nothing_is_obeyed(&words.join(" "), &shown);
        // The last line, for scripts, goes to files and pipes.
        let piped = project.run(words);
        assert!(!piped.stderr.contains('\u{1b}') && !piped.stderr.contains('\u{202e}'), "{:?}", piped.stderr);
    }
}
