//! Which of several published ports is the program's own: that of `PORT`, or the one that its command names. A debugger's port is
//! mostly published first and is never the one that clients mean.

use super::draft::{ContainerCommand, Draft, NativeKind};
use super::relations::texts;
use super::values::Values;

/// The usual ports of debuggers: Node.js, debugpy, the JVM, Delve.
const DEBUGGERS: &[u16] = &[9229, 9230, 5678, 5005, 2345];
/// What an option is called that gives a port for something else than the program's work.
const OTHER_PORTS: &[&str] = &["metric", "prometheus", "admin", "manage", "health", "debug", "inspect", "jdwp", "livereload"];

/// Puts the program's own port first, as the first one becomes `port`.
pub(super) fn put_first(draft: &mut Draft, values: &Values) {
    if draft.ports.len() < 2 {
        return;
    }
    let filled = |word: &String| split(&values.fill(word).unwrap_or_else(|| word.clone()));
    let (words, dockerfile): (Vec<String>, _) = match &draft.kind {
        NativeKind::Run { command: ContainerCommand::Words(words), dockerfile } => {
            (words.iter().flat_map(filled).collect(), dockerfile.as_ref())
        }
        // Its dollars are the shell's.
        NativeKind::Run { command: ContainerCommand::Foreign(words), dockerfile } => {
            (words.iter().flat_map(|word| split(word)).collect(), dockerfile.as_ref())
        }
        // The comment that stands in its place has ports as well.
        NativeKind::Absent { .. } => (draft.server_words().iter().flat_map(filled).collect(), None),
        _ => return,
    };
    let mut lines = vec![words.clone()];
    lines.extend(draft.get("environment").map(texts).unwrap_or_default().iter().map(|text| split(text)));
    lines.extend(dockerfile.iter().flat_map(|file| &file.env).map(|(_, value)| split(value)));
    let debuggers: Vec<u16> = lines.iter().flat_map(|words| debugger_ports(words)).collect();
    let numbers: Vec<Option<u16>> = draft.ports.iter().map(|(port, _)| port.container.parse().ok()).collect();
    let is_own = |number: Option<u16>| number.is_none_or(|number| !DEBUGGERS.contains(&number) && !debuggers.contains(&number));
    let at = |wanted: u16| numbers.iter().position(|number| *number == Some(wanted) && is_own(*number));
    let given = draft.variable("PORT").and_then(|text| values.fill(&text));
    let of_image = || dockerfile?.variable("PORT").map(str::to_owned);
    let by_variable = || given.or_else(of_image)?.trim().parse().ok().and_then(at);
    let by_command = || {
        let named = named_ports(&words);
        numbers.iter().position(|number| is_own(*number) && number.is_some_and(|number| named.contains(&number)))
    };
    let by_order = || numbers.iter().position(|number| is_own(*number));
    let Some(first) = by_variable().or_else(by_command).or_else(by_order) else { return };
    draft.ports[..=first].rotate_right(1);
}

/// The words of a line for a shell as well as of a list.
fn split(text: &str) -> Vec<String> {
    text.split(|char: char| char.is_whitespace() || matches!(char, ';' | '"' | '\'')).map(str::to_owned).collect()
}

fn numbers(text: &str) -> impl Iterator<Item = u16> {
    text.split(|char: char| !char.is_ascii_alphanumeric()).filter_map(|part| part.parse().ok())
}

/// The ports that a debugger gets to listen on.
fn debugger_ports(words: &[String]) -> Vec<u16> {
    let mut found = Vec::new();
    let mut is_debugger = false;
    for (index, word) in words.iter().enumerate() {
        is_debugger |= ["debugpy", "ptvsd", "dlv"].iter().any(|name| word.rsplit('/').next() == Some(name));
        if word.contains("--inspect") || word.contains("jdwp") {
            found.extend(numbers(word));
        } else if is_debugger && word.starts_with("--listen") {
            let next = words.get(index + 1).filter(|_| !word.contains('='));
            found.extend(numbers(next.unwrap_or(word)));
            // A second one is the program's.
            is_debugger = false;
        }
    }
    found
}

/// The ports that a command names for the program's work.
fn named_ports(words: &[String]) -> Vec<u16> {
    let is_other = |word: &str| OTHER_PORTS.iter().any(|name| word.to_ascii_lowercase().contains(name));
    let before = std::iter::once("").chain(words.iter().map(String::as_str));
    let own = words.iter().zip(before).filter(|(word, before)| !(is_other(word) || before.starts_with('-') && is_other(before)));
    own.flat_map(|(word, _)| numbers(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debugger_has_a_port_of_its_own() {
        for (command, debugger, named) in [
            ("node --inspect=0.0.0.0:9999 server.js --port 3000", Some(9999), Some(3000)),
            ("python -m debugpy --listen 0.0.0.0:7777 -m uvicorn main:app --port 8000", Some(7777), Some(8000)),
            ("java -agentlib:jdwp=transport=dt_socket,server=y,address=*:8787 -jar x.jar", Some(8787), None),
            ("dlv debug --headless --listen=:4000 .", Some(4000), None),
            ("server --metrics-port 9090 --bind 0.0.0.0:8080", None, Some(8080)),
        ] {
            let words = split(command);
            let usable = |ports: Vec<u16>| ports.into_iter().filter(|port| *port > 1024).collect::<Vec<_>>();
            assert_eq!(usable(debugger_ports(&words)).first().copied(), debugger, "{command}");
            if let Some(named) = named {
                assert!(named_ports(&words).contains(&named), "{command}");
            }
        }
        assert!(!named_ports(&split("server --metrics-port 9090 --bind 0.0.0.0:8080")).contains(&9090));
    }
}
