//! Files that list commands: a Procfile, the tasks of Deno, the targets of a Makefile.

use super::super::open_quote::open_quote;
use super::script::Script;
use super::service_names::service_name;
use super::source_directory::SourceDirectory;

/// The lines of `Procfile.dev`, or else of `Procfile`.
pub(super) fn procfile(directory: &SourceDirectory) -> Vec<Script> {
    let Some((file, text)) = ["Procfile.dev", "Procfile"].into_iter().find_map(|file| Some((file, directory.text(file)?))) else {
        return Vec::new();
    };
    let mut found: Vec<Script> = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let Some((name, command)) = line.split_once(':').map(|(name, command)| (name.trim(), command.trim())) else { continue };
        // What a deployment does before it starts is not a process.
        if name.is_empty() || command.is_empty() || name == "release" || found.iter().any(|script| script.role == name) {
            continue;
        }
        let port = if command.contains("rails s") {
            Some(3000)
        } else {
            // As foreman counts.
            command.contains("PORT").then(|| 5000 + 100 * u16::try_from(found.len()).unwrap_or(0))
        };
        let mut script = Script { is_shell: true, ..Script::new(name, command, port, file) };
        if service_name(name) != name {
            script.from = format!("{file}, where it is `{name}`");
        }
        if let Some(quote) = open_quote(command) {
            script.fault = Some(format!("a {quote} in its command is never closed: correct it"));
        }
        found.push(script);
    }
    found
}

/// `deno task dev`, or a target of a Makefile where nothing else was found.
pub(super) fn others(directory: &SourceDirectory) -> Option<Script> {
    let usual = ["dev", "start", "serve", "run"];
    if let Some(file) = directory.first_of(&["deno.json", "deno.jsonc"]) {
        let text = directory.text(file)?;
        let task = usual.into_iter().find(|name| text.contains(&format!("\"{name}\"")));
        return task.map(|name| Script::new("app", format!("deno task {name}"), None, file));
    }
    let text = directory.text("Makefile")?;
    let is_target =
        |name: &&str| text.lines().any(|line| line.strip_prefix(*name).is_some_and(|rest| is_rule(rest.trim_start())));
    let target = usual.into_iter().find(is_target)?;
    Some(Script::new("app", format!("make {target}"), None, "Makefile"))
}

/// Whether this is what follows the name of a target, not of a variable.
fn is_rule(rest: &str) -> bool {
    rest.starts_with(':') && !rest.starts_with(":=") && !rest.starts_with("::=")
}
