//! The tip for a command that was typed without the `--` before it: `devrun run api python3 -c x`.
//!
//! clap proposes `-- -c`, which would make the program a service. What was meant is the whole line with the `--` where it belongs.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::Cli;
use crate::app::trust::quoted;
use crate::globals;

/// What was meant.
#[derive(Debug, PartialEq, Eq)]
pub struct CorrectedLine {
    /// To type.
    pub line: String,
    /// The option stands behind a name and a program, so that it can only be the program's.
    pub is_certain: bool,
}

/// The line to type, where a command of this program takes another command and its first option was taken for one of ours.
#[must_use]
pub fn corrected(words: &[OsString], error: &clap::Error) -> Option<CorrectedLine> {
    // One that is only misspelt has a tip of its own.
    if error.kind() != ErrorKind::UnknownArgument || error.get(ContextKind::SuggestedArg).is_some() {
        return None;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return None };
    let at = globals::verb_at(words)?;
    let mut all = Cli::command();
    // A command has the options that all share only then.
    all.build();
    let command = all.find_subcommand(words.get(at)?)?;
    if !command.get_positionals().any(clap::Arg::is_last_set) {
        return None;
    }
    let mut names = Vec::new();
    let mut is_value = false;
    for (position, word) in words.iter().enumerate().skip(at + 1) {
        let text = word.to_string_lossy();
        if std::mem::take(&mut is_value) {
            continue;
        }
        if !text.starts_with('-') {
            names.push(position);
            continue;
        }
        if text == "--" {
            return None;
        }
        if text.starts_with(unknown.as_str()) {
            break;
        }
        is_value = takes_value(command, &text);
    }
    // As compose has it, the first name is the service; a single one is the program.
    let program = *names.get(1).or_else(|| names.first())?;
    let (before, after) = words.split_at_checked(program)?;
    let typed = |words: &[OsString]| words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ");
    let line = format!("devrun {} -- {}", typed(before.get(1..)?), typed(after));
    Some(CorrectedLine { line, is_certain: names.len() > 1 })
}

/// Whether the next word belongs to this option.
fn takes_value(command: &clap::Command, typed: &str) -> bool {
    let mut options = command.get_arguments().filter(|arg| arg.get_action().takes_values());
    match typed.strip_prefix("--") {
        Some(long) => options.any(|arg| arg.get_long_and_visible_aliases().is_some_and(|names| names.contains(&long))),
        None => options.any(|arg| arg.get_short().is_some_and(|short| typed.ends_with(short))),
    }
}

fn shell_word(word: &OsStr) -> String {
    if word.is_empty() { "''".to_owned() } else { quoted(Path::new(word)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_line_is_shown_with_the_separator_before_the_program() {
        for (typed, expected) in [
            (vec!["run", "api", "python3", "-c", "print(1)"], Some("devrun run api -- python3 -c 'print(1)'")),
            (vec!["run", "python3", "-c", ""], Some("devrun run -- python3 -c ''")),
            (
                vec!["run", "--ephemeral", "-e", "A=b", "npm", "-s", "test"],
                Some("devrun run --ephemeral -e 'A=b' -- npm -s test"),
            ),
            (vec!["-C", "x", "run", "api", "npm", "test", "-x"], Some("devrun -C x run api -- npm test -x")),
            (vec!["wait", "db", "psql", "-c", "select"], Some("devrun wait db -- psql -c select")),
            (vec!["run", "-c", "x"], None),
            (vec!["run", "--ephemerl", "api"], None),
            (vec!["ps", "api", "-c"], None),
        ] {
            let words: Vec<OsString> = ["devrun"].into_iter().chain(typed).map(OsString::from).collect();
            let error = Cli::try_parse_from(&words).expect_err("an unknown option");
            assert_eq!(corrected(&words, &error).map(|found| found.line).as_deref(), expected, "{words:?}");
        }
    }
}
