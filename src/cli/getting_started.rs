//! `devrun` with no arguments: the next steps, chosen by what the directory holds.

use std::path::Path;

use clap::Parser;
use devrun_model::exit;
use devrun_model::{Failure, FailureKind};

use super::args::Cli;
use crate::app::load;
use crate::app::procfile_port;
use crate::ui::term::data;

/// What the directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Present<'a> {
    /// A procfile, by its file name.
    Procfile(&'a str),
    /// A compose file or another file that devrun can run as it is.
    Convertible(&'a str),
    /// The file of another tool, which must be converted first.
    Importable(&'a str),
    /// None of them.
    Nothing,
}

/// Prints the next steps to standard output.
///
/// # Errors
/// When a procfile is there and may not be used, for example because another user owns it.
pub(super) fn run() -> Result<i32, Failure> {
    // The defaults and the variables of the global options; a command has to be named for them to be read.
    let globals = match Cli::try_parse_from(["devrun", "version"]) {
        Ok(cli) => cli.globals,
        Err(error) => return Err(Failure::new(FailureKind::Config, error.to_string())),
    };
    let file = match load::find_procfile(&globals)? {
        Some(file) => file,
        None => {
            let directory = globals.project_directory.as_deref().unwrap_or(Path::new("."));
            match procfile_port::importable(directory) {
                Some(name) => print(Present::Importable(name)),
                None => print(Present::Nothing),
            }
            return Ok(exit::DONE);
        }
    };
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_procfile = Path::new(&name).extension().is_some_and(|end| end == "toml");
    print(if is_procfile { Present::Procfile(&name) } else { Present::Convertible(&name) });
    Ok(exit::DONE)
}

fn print(present: Present<'_>) {
    // A reader that has closed the pipe is not an error.
    let _reader_gone = data(text(present));
}

fn text(present: Present<'_>) -> String {
    let import = match present {
        Present::Convertible(name) | Present::Importable(name) => format!("devrun import {name}"),
        _ => String::new(),
    };
    let (found, steps): (String, [(&str, &str); 3]) = match present {
        Present::Procfile(name) => (
            format!("{name} describes the stack of this directory:"),
            [
                ("devrun up", "start it and follow its logs; Ctrl-C stops it"),
                ("devrun ps", "show what runs"),
                ("devrun check", "validate the procfile"),
            ],
        ),
        Present::Convertible(name) => (
            format!("{name} can be run as it is:"),
            [
                ("devrun up", "start the services that have a native binary"),
                (&import, "write a procfile.toml from it, and list what could not be converted"),
                ("devrun check", "show what would be started, without starting it"),
            ],
        ),
        Present::Importable(name) => (
            format!("{name} can be converted:"),
            [
                (&import, "write a procfile.toml from it, and list what could not be converted"),
                ("devrun up", "then start it and follow its logs; Ctrl-C stops it"),
                ("devrun demo", "start a small stack that needs no file"),
            ],
        ),
        Present::Nothing => (
            "No procfile in this directory. Three ways to start:".to_owned(),
            [
                ("devrun init", "write a procfile.toml for what is in this directory"),
                ("devrun demo", "start a small stack that needs no file"),
                ("devrun run --with postgres -- CMD", "run a command with a database of its own"),
            ],
        ),
    };
    let width = steps.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let lines: Vec<String> = steps.iter().map(|(command, does)| format!("  {command:width$}   {does}")).collect();
    format!("{found}\n\n{}\n\n`devrun help` lists all commands.", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_steps_for_each_kind_of_directory() {
        for (present, first) in [
            (Present::Nothing, "devrun init"),
            (Present::Procfile("procfile.toml"), "devrun up"),
            (Present::Convertible("compose.yml"), "devrun up"),
            (Present::Importable("process-compose.yaml"), "devrun import process-compose.yaml"),
        ] {
            let text = text(present);
            let steps: Vec<&str> = text.lines().filter(|line| line.starts_with("  devrun")).collect();
            assert_eq!(steps.len(), 3, "{text}");
            assert!(steps.first().is_some_and(|step| step.trim_start().starts_with(first)), "{text}");
        }
    }
}
