//! The answer to a command that does not exist: compose's commands are answered with the one that does it here, a misspelt one
//! with the nearest.

use std::ffi::OsString;

use clap::CommandFactory;
use devrun_model::{Failure, FailureKind};

use super::args::Cli;

/// What docker compose calls it, and what does it here.
const COMPOSE: &[(&str, &str)] = &[
    ("convert", "devrun config prints the resolved configuration"),
    ("cp", "services run on this machine: cp copies their files; devrun inspect SERVICE shows their directory"),
    ("create", "devrun up --plan says what would be started; devrun fetch fetches binaries"),
    ("images", "devrun which shows the binaries in use"),
    ("pause", "devrun kill -s STOP SERVICE suspends it; devrun kill -s CONT SERVICE resumes it"),
    ("port", "devrun ports"),
    ("publish", "devrun export writes the stack in another format"),
    ("pull", "devrun fetch"),
    ("push", "images are not used; devrun lock pins the binaries"),
    ("rm", "devrun stop SERVICE stops it, and nothing else is left of it; devrun clean deletes data"),
    ("unpause", "devrun kill -s CONT SERVICE"),
    ("watch", "write watch = [\"src/**/*.py\"] at the service: devrun up restarts it on a change"),
];

/// The failure, with the nearest command.
#[must_use]
pub fn failure(words: &[OsString]) -> Failure {
    let name = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let failure = Failure::new(FailureKind::Config, format!("unknown command `{name}`"));
    if let Some((_, here)) = COMPOSE.iter().find(|(compose, _)| *compose == name) {
        return failure.help(*here);
    }
    let command = Cli::command();
    let known: Vec<&str> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .flat_map(|command| std::iter::once(command.get_name()).chain(command.get_visible_aliases()))
        .collect();
    match devrun_config::nearest(&name, known) {
        Some(near) => failure.help(format!("did you mean `devrun {near}`?")),
        None => failure.help("`devrun help` lists the commands"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(word: &str) -> String {
        failure(&[OsString::from(word)]).help.unwrap_or_default()
    }

    #[test]
    fn a_command_of_compose_is_answered_with_ours() {
        assert_eq!(help("port"), "devrun ports");
        assert!(help("pause").contains("kill -s STOP") && help("watch").contains("watch = ["));
        let command = Cli::command();
        for (compose, _) in COMPOSE {
            assert!(command.find_subcommand(compose).is_none(), "{compose} exists");
        }
    }

    #[test]
    fn a_misspelt_command_is_answered_with_the_nearest() {
        assert_eq!(help("psx"), "did you mean `devrun ps`?");
        assert_eq!(help("restrat"), "did you mean `devrun restart`?");
        assert_eq!(help("frobnicate"), "`devrun help` lists the commands");
    }
}
