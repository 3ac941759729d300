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
    let base = directory.text(".env").and_then(port_of).unwrap_or(5000);
    let mut found: Vec<Script> = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let Some((name, command)) = line.split_once(':').map(|(name, command)| (name.trim(), command.trim())) else { continue };
        // What a deployment does before it starts is not a process.
        if name.is_empty() || command.is_empty() || name == "release" || found.iter().any(|script| script.role == name) {
            continue;
        }
        // As foreman counts; of `web` alone it is known that it listens there.
        let number = u16::try_from(found.len()).ok().and_then(|at| base.checked_add(at.checked_mul(100)?));
        let is_rails = command.contains("rails s");
        let port = if is_rails { Some(3000) } else { number.filter(|_| name == "web") };
        let mut script = Script { is_shell: true, ..Script::new(name, command, port, file) };
        if port.is_none() && (command.contains("$PORT") || command.contains("${PORT")) {
            script.env.extend(number.map(|number| ("PORT", number.to_string())));
        }
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

/// The port of the first line, where an env file says one.
fn port_of(env: &str) -> Option<u16> {
    let values = env.lines().filter_map(|line| line.trim().trim_start_matches("export ").trim_start().strip_prefix("PORT="));
    values.filter_map(|value| value.trim().trim_matches(['"', '\'']).parse().ok()).next_back().filter(|port| *port > 0)
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
