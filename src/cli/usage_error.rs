//! A mistake on the command line: the whole message as clap explains it, what to type for more, and the last line, which names
//! what is missing or wrong and can be read by itself.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::Cli;
use super::command_tip;

/// Where clap names `--help`, whatever the command is.
const MORE: &str = "For more information, try";

/// A mistake as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError {
    /// Several lines, the last of them a `help:`.
    pub text: String,
    /// The cause in one line, and what to type.
    pub reason: String,
}

impl UsageError {
    /// From what was typed and what clap says. `colors`: `text` may have them.
    #[must_use]
    pub fn new(words: &[OsString], mut error: clap::Error, colors: bool) -> Self {
        let corrected = command_tip::corrected(words, &error);
        if corrected.is_some() {
            // `-- -c`, which is not what was meant.
            error.remove(ContextKind::Suggested);
        }
        let help = corrected.map_or_else(|| format!("{} --help", command(words)), |corrected| corrected.line);
        let plain = error.to_string();
        let shown = if colors { error.render().ansi().to_string() } else { plain.clone() };
        let printed = shown.rfind(MORE).map_or(shown.as_str(), |at| &shown[..at]).trim_end();
        let cause = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => "missing command".to_owned(),
            ErrorKind::MissingRequiredArgument => missing(&error),
            _ => {
                let first = plain.lines().next().unwrap_or_default();
                first.strip_prefix("error: ").unwrap_or(first).trim_end_matches(':').to_owned()
            }
        };
        Self { text: format!("{printed}\nhelp: {help}"), reason: format!("{cause}; try {help}") }
    }
}

/// `missing argument <SERVICE>`.
fn missing(error: &clap::Error) -> String {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(names)) if names.len() > 1 => format!("missing arguments {}", names.join(" ")),
        Some(ContextValue::Strings(names)) => format!("missing argument {}", names.concat()),
        Some(ContextValue::String(name)) => format!("missing argument {name}"),
        _ => "missing argument".to_owned(),
    }
}

/// The command that was typed, without its options: `devrun secret rotate`.
fn command(words: &[OsString]) -> String {
    let (mut path, mut command) = ("devrun".to_owned(), Cli::command());
    // A command has its own commands only then.
    command.build();
    for word in words.iter().skip(1) {
        match word.to_str().and_then(|word| command.find_subcommand(word)).cloned() {
            Some(found) => {
                path.push(' ');
                path.push_str(found.get_name());
                command = found;
            }
            // An option of the whole program, or its value, may come first.
            None if path == "devrun" => {}
            None => break,
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn asked(words: &[&str]) -> UsageError {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let error = Cli::try_parse_from(&words).err().unwrap_or_else(|| panic!("{words:?} is complete"));
        UsageError::new(&words, error, false)
    }

    /// Every command with an argument that must be there, with its path.
    fn demanding(command: &clap::Command, path: &[String], found: &mut Vec<(Vec<String>, Vec<String>)>) {
        for sub in command.get_subcommands() {
            let path: Vec<String> = path.iter().cloned().chain([sub.get_name().to_owned()]).collect();
            let needed: Vec<String> =
                sub.get_arguments().filter(|arg| arg.is_required_set()).map(|arg| format!("<{}>", name(arg))).collect();
            if !needed.is_empty() {
                found.push((path.clone(), needed));
            }
            demanding(sub, &path, found);
        }
    }

    fn name(arg: &clap::Arg) -> String {
        arg.get_value_names().and_then(|names| names.first()).map_or_else(String::new, ToString::to_string)
    }

    #[test]
    fn the_last_line_of_every_command_names_what_is_missing_and_what_to_type() {
        let mut found = Vec::new();
        let mut command = Cli::command();
        // The commands have their arguments only then.
        command.build();
        demanding(&command, &["devrun".to_owned()], &mut found);
        assert!(found.len() > 10, "{found:?}");
        for (path, needed) in found {
            let typed: Vec<&str> = path.iter().map(String::as_str).collect();
            let said = asked(&typed);
            let help = format!("{} --help", typed.join(" "));
            assert!(said.reason.starts_with("missing argument") && said.reason.ends_with(&format!("; try {help}")), "{said:?}");
            for name in needed {
                assert!(said.reason.contains(&name) && said.text.contains(&name), "{name}: {said:?}");
            }
            assert_eq!(said.text.lines().last(), Some(format!("help: {help}").as_str()));
            assert!(said.text.contains("Usage: devrun"), "{said:?}");
        }
    }

    #[test]
    fn a_mistake_is_answered_for_its_own_command() {
        let reason = |words: &[&str]| asked(words).reason;
        assert_eq!(reason(&["devrun", "why"]), "missing argument <SERVICE>; try devrun why --help");
        assert_eq!(reason(&["devrun", "-C", "x", "restore"]), "missing arguments <SERVICE> <FILE>; try devrun restore --help");
        assert_eq!(reason(&["devrun", "secret"]), "missing command; try devrun secret --help");
        let odd = reason(&["devrun", "clean", "x"]);
        assert_eq!(odd, "unexpected argument 'x' found; try devrun clean --help");
        let command = asked(&["devrun", "run", "api", "python3", "-c", "x"]);
        assert_eq!(command.reason, "unexpected argument '-c' found; try devrun run api -- python3 -c x");
        assert!(!command.text.contains("tip:"), "{command:?}");
        let value = reason(&["devrun", "kill", "-s"]);
        assert!(value.starts_with("a value is required for '--signal"), "{value}");
        assert!(value.ends_with("; try devrun kill --help"), "{value}");
    }
}
