//! `devrun completions`: the script that clap makes, with the services of the project at hand where a command takes some.
//!
//! The names come from `devrun __services`, which reads the procfile of the directory that the shell is in.

use std::collections::BTreeSet;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::ui::term::Term;
use devrun_model::Failure;
use devrun_runtime::engine::state_files;

use crate::app::load::{self, Wanted};
use crate::app::readonly;
use crate::cli::args::{Cli, CompletionsArgs};
use crate::globals::Globals;

/// The command that prints the names.
const NAMES: &str = "devrun __services 2>/dev/null";

/// `devrun completions`.
///
/// # Errors
/// Never; the words were checked.
pub fn run(args: &CompletionsArgs, _term: Term) -> Result<i32, Failure> {
    Ok(readonly::text(&script(args.shell)))
}

/// `devrun __services`: one name a line.
///
/// # Errors
/// `Config` where there is no procfile, or one with errors and nothing was started; the shell shows neither.
pub fn services(globals: &Globals) -> Result<i32, Failure> {
    let planned = load::project(globals).and_then(|project| load::plan(globals, &project, &Wanted::look()));
    let names: BTreeSet<String> = match planned {
        Ok(plan) => plan.services.values().map(|spec| spec.service.to_string()).collect(),
        // What runs, or ran last, is what was started.
        Err(failure) => {
            let last = load::project_by_state(globals).ok().and_then(|project| state_files::last_snapshot(&project.places));
            last.ok_or(failure)?.services.into_iter().map(|status| status.service).collect()
        }
    };
    Ok(readonly::text(&names.into_iter().map(|name| format!("{name}\n")).collect::<String>()))
}

fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "devrun", &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    let commands = commands_with_services();
    match shell {
        Shell::Bash => format!("{text}\n{}", bash(&commands)),
        Shell::Fish => format!("{text}{}", fish(&commands)),
        Shell::Zsh => zsh(&text),
        _ => text,
    }
}

/// The commands that take names of services, with their aliases.
fn commands_with_services() -> Vec<String> {
    let takes_services = |command: &&clap::Command| {
        let is_service = |name: &clap::builder::Str| ["SERVICE", "TARGET", "S=N"].contains(&name.as_str());
        command.get_positionals().any(|argument| argument.get_value_names().is_some_and(|names| names.iter().any(is_service)))
    };
    let mut command = Cli::command();
    command.build();
    let found = command.get_subcommands().filter(|command| !command.is_hide_set()).filter(takes_services);
    found
        .flat_map(|command| std::iter::once(command.get_name()).chain(command.get_visible_aliases()))
        .map(str::to_owned)
        .collect()
}

fn bash(commands: &[String]) -> String {
    format!(
        r#"_devrun_with_services() {{
    _devrun "$@"
    local cur="${{COMP_WORDS[COMP_CWORD]}}" word
    [[ $cur == -* ]] && return
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$word" in
            --) return ;;
            {})
                COMPREPLY+=($(compgen -W "$({NAMES})" -- "$cur"))
                return
                ;;
        esac
    done
}}
complete -F _devrun_with_services -o nosort -o bashdefault -o default devrun
"#,
        commands.join("|")
    )
}

fn fish(commands: &[String]) -> String {
    format!("complete -c devrun -n \"__fish_seen_subcommand_from {}\" -f -a \"({NAMES})\"\n", commands.join(" "))
}

/// clap names the argument's id before its help: `service`, `services` or `targets`.
fn zsh(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let is_service = ["::services -- ", "::service -- ", ":service -- ", ":services -- ", "::targets -- "]
            .iter()
            .any(|id| line.contains(id));
        if is_service { line.replace(":_default'", ":_devrun_services'") } else { line.to_owned() }
    });
    let body: Vec<String> = lines.collect();
    let function = format!("_devrun_services() {{\n    compadd -- ${{(f)\"$({NAMES})\"}}\n}}\n");
    // The first line is `#compdef`, which must stay the first.
    match body.split_first() {
        Some((first, rest)) => format!("{first}\n\n{function}\n{}\n", rest.join("\n")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_take_services_complete_them() {
        let commands = commands_with_services();
        for name in [
            "up", "logs", "restart", "exec", "stop", "ps", "status", "inspect", "wait", "start", "attach", "why", "scale", "kill",
        ] {
            assert!(commands.iter().any(|command| command == name), "{name}: {commands:?}");
        }
        assert!(!commands.iter().any(|command| command == "down"));
        let zsh = script(Shell::Zsh);
        assert!(zsh.starts_with("#compdef devrun\n") && zsh.contains(":_devrun_services'"), "{zsh}");
        assert!(script(Shell::Fish).contains("devrun __services") && script(Shell::Bash).contains("devrun __services"));
    }
}
