//! Reads a command line by the definition of the one command that is typed (docs/adr/0016-typed-command.md).
//!
//! clap copies each option that all commands share into each of the commands before it reads a word, which took longer than the rest of a
//! short command. Here the same definitions are used with the other commands left out. What cannot be read so is read again with all of
//! them: help, errors and suggestions come from there.

use std::ffi::OsString;

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser};

use super::args::Cli;
use crate::globals::{self, Globals};

/// Set, and not empty: every command line is read with all commands.
const OFF: &str = "DEVRUN_READ_ALL_COMMANDS";

/// Reads a command line.
///
/// # Errors
/// Those of [`Cli::try_parse_from`], help among them.
pub fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let is_off = std::env::var_os(OFF).is_some_and(|value| !value.is_empty());
    match parse_typed(words).filter(|_| !is_off) {
        Some(cli) => Ok(cli),
        None => Cli::try_parse_from(words),
    }
}

fn parse_typed(words: &[OsString]) -> Option<Cli> {
    let typed = words.get(globals::verb_at(words)?)?.to_str()?;
    let command = Cli::command().find_subcommand(typed)?.clone();
    let alone = Globals::augment_args(Command::new("devrun").disable_help_subcommand(true)).subcommand(command);
    let matches = alone.try_get_matches_from(words).ok()?;
    Cli::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    /// The examples of every command that are complete in one line.
    fn examples() -> Vec<String> {
        fn collect(command: &Command, found: &mut Vec<String>) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let line = |line: &str| line.trim().split("   ").next().unwrap_or_default().trim().to_owned();
            found.extend(
                text.lines().map(line).filter(|line| line.starts_with("devrun ") && !line.contains(['"', '\'', '|', '…'])),
            );
            command.get_subcommands().for_each(|command| collect(command, found));
        }
        let mut found = Vec::new();
        let mut all = Cli::command();
        all.build();
        collect(&all, &mut found);
        found
    }

    #[test]
    fn each_command_is_read_as_with_all_commands() {
        let all = examples();
        assert!(all.len() > 60, "{all:?}");
        let options = [
            "devrun -y --mode=prod ps --json -C /x -f a -f b",
            "devrun --color never status",
            "devrun -p n up -d --progress json api",
        ];
        let mut read = 0;
        for line in all.iter().map(String::as_str).chain(options) {
            let words = words(line);
            let expected = Cli::try_parse_from(&words).map(|cli| format!("{cli:?}"));
            let typed = parse_typed(&words).map(|cli| format!("{cli:?}"));
            read += usize::from(typed.is_some());
            assert_eq!(typed, expected.ok(), "{line}");
        }
        assert!(read > 60, "{read}");
    }

    #[test]
    fn whatever_is_not_complete_is_left_to_all_commands() {
        for line in [
            "devrun",
            "devrun --version",
            "devrun up --help",
            "devrun upp",
            "devrun up --detatch",
            "devrun -yf x up",
            "devrun exec",
        ] {
            let words = words(line);
            let both = (
                parse(&words).map_err(|error| error.to_string()),
                Cli::try_parse_from(&words).map_err(|error| error.to_string()),
            );
            assert_eq!(format!("{:?}", both.0), format!("{:?}", both.1), "{line}");
        }
    }
}
