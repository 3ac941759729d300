//! The name of a command that a shell did not find, from what the shell said last.

use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, FailureKind, ServiceId};

/// A failure with the exit code of a missing command, with the name of that command where the last lines tell it. `exit`: how the
/// last process of the service ended; `build`: what runs a build that may make it.
pub(super) fn named(
    failure: Failure,
    id: &ServiceId,
    exit: Option<ExitStatus>,
    log: &[String],
    build: Option<String>,
) -> Failure {
    let is_missing = failure.kind == FailureKind::Binary && exit == Some(ExitStatus::Code(127));
    let Some(name) = log.iter().rev().find_map(|line| command_of(line)).filter(|_| is_missing) else { return failure };
    let reason = format!("`{name}` was not found (exit 127 of a shell)");
    // A restart limit or the like stays in the reason.
    let reason = failure.reason.split_once("; ").map_or_else(|| reason.clone(), |(_, rest)| format!("{reason}; {rest}"));
    let build = build.map_or(String::new(), |build| format!("{build}; or "));
    let help = format!(
        "{build}install {name}, or correct its name where {id} runs it; .venv/bin and node_modules/.bin of its directory are on its PATH"
    );
    Failure { reason, ..failure }.help(help)
}

/// `sh: 1: NAME: not found` (dash), `sh: NAME: not found` (busybox), `bash: line 1: NAME: command not found`,
/// `zsh:1: command not found: NAME`, `fish: Unknown command: NAME`.
fn command_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let name = if let Some((_, name)) = line.rsplit_once("command not found: ").or_else(|| line.rsplit_once("Unknown command: "))
    {
        name
    } else {
        let before = line.strip_suffix(": command not found").or_else(|| line.strip_suffix(": not found"))?;
        before.rsplit_once(": ")?.1
    };
    let is_word =
        !name.is_empty() && name.len() <= 255 && !name.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    is_word.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;

    #[test]
    fn every_shell_names_the_command() {
        for (line, name) in [
            ("sh: 1: uvicron: not found", Some("uvicron")),
            ("/bin/sh: 3: uvicron: not found", Some("uvicron")),
            ("./start.sh: 12: uvicron: not found", Some("uvicron")),
            ("sh: uvicron: not found", Some("uvicron")),
            ("bash: line 1: uvicron: command not found", Some("uvicron")),
            ("zsh:1: command not found: uvicron", Some("uvicron")),
            ("fish: Unknown command: uvicron", Some("uvicron")),
            ("page not found", None),
            ("error: the file a b: not found", None),
            ("", None),
        ] {
            assert_eq!(command_of(line), name, "{line}");
        }
    }

    #[test]
    fn only_the_code_of_a_missing_command_is_explained() {
        let id = ServiceId::single(&ServiceName::new("web").unwrap());
        let exit = Some(ExitStatus::Code(127));
        let log = ["starting".to_owned(), "sh: 1: uvicron: not found".to_owned()];
        let missing = Failure::new(FailureKind::Binary, "exit 127: a command that it runs was not found").help("devrun logs web");
        let found = named(missing.clone(), &id, exit, &log, None);
        assert_eq!(found.reason, "`uvicron` was not found (exit 127 of a shell)");
        assert!(found.help.is_some_and(|help| help.starts_with("install uvicron, or correct its name where web runs it")));
        let built = named(missing.clone(), &id, exit, &log, Some("devrun up --build".to_owned()));
        assert!(built.help.is_some_and(|help| help.starts_with("devrun up --build; or install uvicron")));
        assert_eq!(named(missing.clone(), &id, exit, &["bye".to_owned()], None), missing);
        let again = Failure { reason: format!("{}; given up after 5 restarts in a row", missing.reason), ..missing };
        assert!(
            named(again, &id, exit, &log, None).reason.ends_with("(exit 127 of a shell); given up after 5 restarts in a row")
        );
        let other = Failure::new(FailureKind::Service, "exit 1");
        assert_eq!(named(other.clone(), &id, Some(ExitStatus::Code(1)), &log, None), other);
    }
}
