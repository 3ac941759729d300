//! The answer to an option of docker compose that does not exist here: the command that does it, or why nothing does.
//!
//! Options whose meaning is always so here are accepted instead, hidden, by the commands themselves.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::Cli;

/// Command (empty: every one), option and answer. `{rest}` is what follows the option on the command line.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("", "--dry-run", "devrun up --plan shows what would be done"),
    ("", "--ansi", "devrun --color always|never|auto"),
    ("", "--verbose", "devrun --debug"),
    ("", "--parallel", "services start as soon as what they need is ready; leave it out"),
    ("", "--compatibility", "leave it out: there is one format"),
    ("", "--all-resources", "leave it out: volumes that no service uses are listed by devrun volumes"),
    ("attach", "--index", "devrun attach SERVICE.N"),
    ("attach", "--no-stdin", "devrun logs -f SERVICE only shows the output"),
    ("attach", "--detach-keys", "Ctrl-] detaches; leave it out"),
    ("attach", "--sig-proxy", "every key goes to the service's terminal; leave it out"),
    (
        "build",
        "--build-arg",
        "build commands read the service's environment: NAME=VALUE devrun build, or env = { NAME = \"VALUE\" }",
    ),
    ("build", "--push", "images are not used; leave it out"),
    ("config", "--environment", "devrun env"),
    ("config", "--images", "devrun which shows the binaries in use"),
    ("config", "--hash", "devrun up --plan says what has changed"),
    ("config", "--variables", "devrun config --origin shows where each value comes from"),
    ("config", "--no-interpolate", "devrun export procfile keeps the placeholders"),
    ("config", "--output", "devrun config > FILE"),
    ("config", "-o", "devrun config > FILE"),
    ("config", "--networks", "services share the network of this machine; devrun ports lists what they listen on"),
    ("config", "--resolve-image-digests", "devrun lock pins the binaries"),
    ("down", "", "devrun stop {rest} stops one service; devrun down stops the stack"),
    ("events", "--until", "devrun events --since T lists from a time on"),
    ("exec", "--index", "devrun exec SERVICE.N -- CMD"),
    ("exec", "-d", "a command in the background belongs to your shell: devrun exec SERVICE -- CMD &"),
    ("exec", "--detach", "a command in the background belongs to your shell: devrun exec SERVICE -- CMD &"),
    ("exec", "-u", "it runs as you, or as the service's user_id where root runs devrun; devrun exec SERVICE -- sudo -u USER CMD"),
    (
        "exec",
        "--user",
        "it runs as you, or as the service's user_id where root runs devrun; devrun exec SERVICE -- sudo -u USER CMD",
    ),
    ("exec", "--privileged", "commands run with your own rights; leave it out"),
    ("logs", "--index", "devrun logs SERVICE.N"),
    ("ls", "--filter", "devrun ls --json | jq selects"),
    ("ps", "--filter", "devrun ps --status running"),
    ("restart", "--no-wait", "devrun restart SERVICE &"),
    ("run", "--build", "devrun build, then devrun run"),
    ("run", "-d", "devrun up -d SERVICE"),
    ("run", "--detach", "devrun up -d SERVICE"),
    ("run", "--entrypoint", "the command is what follows `--`: devrun run SERVICE -- CMD"),
    ("run", "--name", "devrun --instance NAME run keeps it apart"),
    ("run", "--no-deps", "devrun exec SERVICE -- CMD starts nothing"),
    ("run", "--publish", "services listen on this machine: change `port` of the service, or devrun run --ephemeral"),
    ("run", "-u", "it runs as you: devrun run -- sudo -u USER CMD"),
    ("run", "--user", "it runs as you: devrun run -- sudo -u USER CMD"),
    ("run", "--volume", "files are used where they are; leave it out"),
    ("run", "-v", "files are used where they are; leave it out"),
    ("run", "--label", "processes have no labels; leave it out"),
    ("run", "-l", "processes have no labels; leave it out"),
    ("run", "--pull", "devrun fetch fetches binaries; leave it out"),
    ("run", "--cap-add", "commands run with your own rights; leave it out"),
    ("run", "--env-from-file", "devrun --env-file FILE run"),
    ("start", "--wait-timeout", "devrun up -d --timeout 60s SERVICE"),
    ("up", "--always-recreate-deps", "devrun up -d --force-recreate restarts all that is named and needed"),
    ("up", "--attach", "devrun up -d, then devrun logs -f SERVICE"),
    ("up", "--attach-dependencies", "devrun up -d, then devrun logs -f SERVICE"),
    ("up", "--no-attach", "devrun up -d, then devrun logs -f SERVICE"),
    ("up", "--no-start", "devrun up --plan shows what would be started; devrun fetch and devrun build prepare it"),
    ("volumes", "--filter", "devrun volumes --json | jq selects"),
    ("wait", "--down-project", "devrun wait --for exited SERVICE && devrun down"),
];

/// What was typed and the answer.
#[must_use]
pub fn answer(words: &[OsString], error: &clap::Error) -> Option<(String, String)> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = command_name(words);
    let is_option = option.starts_with('-');
    let (_, _, help) = OPTIONS.iter().find(|(command, known, _)| {
        (command.is_empty() || *command == name) && if is_option { known == option } else { known.is_empty() && *command == name }
    })?;
    Some((option.clone(), help.replace("{rest}", option)))
}

/// The command of a command line by its own name, not by an alias.
fn command_name(words: &[OsString]) -> String {
    let command = Cli::command();
    let found = words.iter().skip(1).filter_map(|word| word.to_str()).find_map(|word| command.find_subcommand(word));
    found.map(|command| command.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn ask(line: &str) -> Option<String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = Cli::try_parse_from(&words).expect_err(line);
        answer(&words, &error).map(|(_, help)| help)
    }

    #[test]
    fn every_option_of_the_table_is_unknown_and_answered() {
        for (command, option, help) in OPTIONS.iter().filter(|(_, option, _)| !option.is_empty()) {
            let command = if command.is_empty() { "ps" } else { command };
            let required = match command {
                "attach" | "exec" => " web true",
                "wait" => " web",
                _ => "",
            };
            let line = format!("devrun {command} {option}{required}");
            assert_eq!(ask(&line).as_deref(), Some(*help), "{line}");
        }
    }

    #[test]
    fn an_alias_and_a_name_in_the_place_of_an_option_are_answered() {
        assert_eq!(ask("devrun down web").as_deref(), Some("devrun stop web stops one service; devrun down stops the stack"));
        assert_eq!(ask("devrun stats --format x"), None, "it is known, its value is not");
        assert_eq!(ask("devrun ps --unknown"), None);
    }
}
