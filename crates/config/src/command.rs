//! Commands of the procfile → [`CommandLine`]: which go through a shell, and how values get into them.

use std::collections::{BTreeMap, BTreeSet};

use super::command_words::{self, BadCommand};
use super::declared_service::DeclaredService;
use super::diagnostic::Diagnostic;
use super::interpolate::{Reported, Resolved, Resolver, Scope};
use super::template::{self, Operator, Part};
use super::toml_node::{TomlNode, TomlValue, get};
use super::variable_names::names_secret;
use devrun_model::CommandLine;

/// What `shell` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    Auto,
    Always,
    Never,
}

fn shell(service: &DeclaredService) -> Shell {
    match service.tree.get("shell").map(|node| &node.value) {
        Some(TomlValue::Bool(true)) => Shell::Always,
        Some(TomlValue::Bool(false)) => Shell::Never,
        _ => Shell::Auto,
    }
}

/// Lowers one command: a string by the rules of `shell`, a list word by word.
pub(crate) fn lower(
    resolver: &Resolver<'_>,
    service: &DeclaredService,
    node: &TomlNode,
    scope: Scope<'_>,
) -> Resolved<CommandLine> {
    match &node.value {
        TomlValue::Text(text) => {
            match shell(service) {
                Shell::Always => script(resolver, text, node, scope, false),
                // A line that fails must not be followed by the next one as if it had succeeded.
                Shell::Auto if command_words::needs_shell(text) => {
                    script(resolver, text, node, scope, command_words::has_several_commands(text))
                }
                Shell::Auto | Shell::Never => split(resolver, text, node, scope),
            }
        }
        TomlValue::Array(elements) => {
            let mut argv = Vec::with_capacity(elements.len());
            let mut failed = false;
            for element in elements {
                if let Some(Ok(parts)) = element.text().map(|text| template::parse(text, false)) {
                    warn_of_secret(resolver, element, &parts, scope);
                }
                match resolver.text(element, scope) {
                    Ok(word) => argv.push(word),
                    Err(Reported) => failed = true,
                }
            }
            if failed {
                return Err(Reported);
            }
            checked(resolver, node, argv, BTreeMap::new())
        }
        _ => Err(Reported),
    }
}

fn split(resolver: &Resolver<'_>, text: &str, node: &TomlNode, scope: Scope<'_>) -> Resolved<CommandLine> {
    let words = command_words::split(text).map_err(|bad| report(resolver, node, bad))?;
    let mut argv = Vec::with_capacity(words.len());
    let mut failed = false;
    for word in &words {
        warn_of_secret(resolver, node, word, scope);
        match resolver.fill(word, node.span, scope) {
            Ok(word) => argv.push(word),
            Err(Reported) => failed = true,
        }
    }
    if failed { Err(Reported) } else { checked(resolver, node, argv, BTreeMap::new()) }
}

/// A secret among the words of a command can be read by every user of the machine; one in a shell script travels in a variable.
fn warn_of_secret(resolver: &Resolver<'_>, node: &TomlNode, word: &[Part], scope: Scope<'_>) {
    // The other copies have the same words.
    if scope.service.is_some_and(|(_, replica)| replica > 1) {
        return;
    }
    for part in word {
        if let Part::Hole(hole) = part
            && !matches!(hole.operator, Operator::Alternative(..))
            && names_secret(&hole.name, &BTreeSet::new())
        {
            let at = resolver.locate(node.span, &hole.written);
            let message = format!("`{}` on a command line can be read by every user of this machine", hole.written);
            let help = format!("pass it in the environment: env = {{ NAME = \"{}\" }}", hole.written);
            resolver.report(Diagnostic::warning(at, message).help(help));
        }
    }
}

/// Lines of a file with Windows line ends keep none of their carriage returns, which a shell would take for text.
fn script(
    resolver: &Resolver<'_>,
    text: &str,
    node: &TomlNode,
    scope: Scope<'_>,
    stops_at_failure: bool,
) -> Resolved<CommandLine> {
    let (script, holes) = command_words::script(&text.replace("\r\n", "\n")).map_err(|bad| report(resolver, node, bad))?;
    let mut env = BTreeMap::new();
    let mut failed = false;
    for (index, hole) in holes.iter().enumerate() {
        match resolver.hole(hole, node.span, scope) {
            Ok(value) => {
                env.insert(format!("DEVRUN_ARG_{}", index + 1), value);
            }
            Err(Reported) => failed = true,
        }
    }
    if failed {
        return Err(Reported);
    }
    let mut argv = vec!["sh".to_owned()];
    if stops_at_failure {
        argv.push("-e".to_owned());
    }
    argv.extend(["-c".to_owned(), command_words::with_exec(&script).unwrap_or(script)]);
    checked(resolver, node, argv, env)
}

fn checked(resolver: &Resolver<'_>, node: &TomlNode, argv: Vec<String>, env: BTreeMap<String, String>) -> Resolved<CommandLine> {
    if argv.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(resolver.report(
            Diagnostic::error(node.span, "the command is empty once its placeholders are filled in")
                .help("its first word is the program to run"),
        ));
    }
    if argv.iter().chain(env.values()).any(|word| word.contains('\0')) {
        return Err(resolver.report(
            Diagnostic::error(node.span, "a command cannot hold a zero byte")
                .help("write it into a file, and give the command its name"),
        ));
    }
    Ok(CommandLine { argv, env })
}

fn report(resolver: &Resolver<'_>, node: &TomlNode, bad: BadCommand) -> Reported {
    match bad {
        BadCommand::Template(bad) => resolver.bad_template(&bad, node.span),
        BadCommand::Quote(quote) => {
            let help = if resolver.document.plain {
                "close it; an apostrophe in a text is written as \"it's\""
            } else {
                "close it, or give a list of words: run = [\"echo\", \"it's\"]"
            };
            resolver.report(Diagnostic::error(node.span, format!("the command has a {quote} that is never closed")).help(help))
        }
    }
}

/// Lowers a command that a key of a service gives.
pub(crate) fn optional(
    resolver: &Resolver<'_>,
    service: &DeclaredService,
    key: &str,
    scope: Scope<'_>,
) -> Resolved<Option<CommandLine>> {
    service.get(key).map(|node| lower(resolver, service, node, scope)).transpose()
}

/// Lowers a command that stands in a table of a service.
pub(crate) fn inside(
    resolver: &Resolver<'_>,
    service: &DeclaredService,
    table: &super::toml_node::Table,
    key: &str,
    scope: Scope<'_>,
) -> Resolved<Option<CommandLine>> {
    let node = get(table, key).filter(|node| node.text() != Some(""));
    node.map(|node| lower(resolver, service, node, scope)).transpose()
}
