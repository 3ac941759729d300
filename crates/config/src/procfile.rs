//! A plain `Procfile`: `NAME: COMMAND` lines → the same tree that a procfile.toml gives, its spans pointing at the lines.
//!
//! Commands are for the shell as they stand: every `$` is the shell's, nothing is filled in by us. What a user of such
//! files expects comes along: `.env` reaches the processes, `PORT` is 5000 for the first line, 5100 for the second, ….
//! Only `web` is said to listen there, as nobody knows it of the others.

use super::diagnostic::Diagnostic;
use super::source_map::{Span, Text};
use super::toml_node::{MAX_BYTES, Table, TomlNode, TomlValue};

/// The first line's port where nothing else is said, and the step to the next.
const PORTS: (i64, i64) = (5000, 100);

/// Whether a file of this name is one.
pub(crate) fn is_procfile(path: &std::path::Path) -> bool {
    path.extension().is_none_or(|ending| ending != "toml")
        && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("Procfile"))
}

/// Parses; lines that are none are reported. `base` is the first line's port.
pub(crate) fn parse(file: u32, text: &Text, base: Option<u16>, out: &mut Vec<Diagnostic>) -> Table {
    let mut root = Table::new();
    if text.text.len() > MAX_BYTES {
        let span = Span::new(file, 0..0);
        out.push(Diagnostic::error(span, format!("not a Procfile: larger than {} MiB", MAX_BYTES >> 20)));
        return root;
    }
    let mut services = Table::new();
    let mut is_past_the_last = false;
    let mut start = 0;
    for line in text.text.split_inclusive('\n') {
        let mark = if start == 0 && line.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let at = start + mark;
        start += line.len();
        let body = line[mark..].trim_end();
        if body.trim_start().is_empty() || body.trim_start().starts_with('#') {
            continue;
        }
        let whole = Span::new(file, at..at + body.len());
        let Some((name, command)) = body.split_once(':') else {
            out.push(Diagnostic::error(whole, "this line has no `NAME: COMMAND`").help("write for instance web: npm start"));
            continue;
        };
        let key = Span::new(file, at..at + name.len());
        let trimmed = command.trim_start();
        let value = Span::new(file, at + body.len() - trimmed.len()..at + body.len());
        if trimmed.is_empty() {
            out.push(Diagnostic::error(whole, format!("`{name}` has no command")).help("write for instance web: npm start"));
            continue;
        }
        let first_port = base.map_or(PORTS.0, i64::from);
        let port = first_port.saturating_add(PORTS.1.saturating_mul(i64::try_from(services.len()).unwrap_or(i64::MAX)));
        if let Some(first) = services.get(name) {
            let note = first.key;
            out.push(Diagnostic::error(key, format!("there are two lines for `{name}`")).note(note, "the first one"));
            continue;
        }
        if port > i64::from(u16::MAX) && !is_past_the_last {
            is_past_the_last = true;
            let message = format!("`{name}` would get the port {port}, and the last one is {}", u16::MAX);
            let help = format!(
                "each line gets {} more than the one before, from PORT={first_port} on: set PORT={} in .env",
                PORTS.1, PORTS.0
            );
            out.push(Diagnostic::error(key, message).help(help));
        }
        let port = port.min(i64::from(u16::MAX));
        let node = |span, inner| TomlNode { span, key: span, value: inner };
        let mut service = Table::new();
        service.insert("run".to_owned(), node(value, TomlValue::Text(trimmed.replace('$', "$$"))));
        service.insert("shell".to_owned(), node(key, TomlValue::Bool(true)));
        service.insert("env_file".to_owned(), node(key, TomlValue::Text(".env".to_owned())));
        if name == "web" {
            service.insert("port".to_owned(), node(key, TomlValue::Integer(port)));
        } else {
            let env = Table::from([("PORT".to_owned(), node(key, TomlValue::Text(port.to_string())))]);
            service.insert("env".to_owned(), node(key, TomlValue::Table(env)));
        }
        services.insert(name.to_owned(), TomlNode { span: whole, key, value: TomlValue::Table(service) });
    }
    if !services.is_empty() {
        root.insert("services".to_owned(), TomlNode::new(Span::new(file, 0..0), TomlValue::Table(services)));
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_services() {
        let text =
            Text::new("Procfile", "\u{feff}# all\nweb: bundle exec puma -p $PORT\n\nworker:  rake jobs:work\r\n".to_owned());
        let mut problems = Vec::new();
        let moved = parse(0, &text, Some(7000), &mut problems);
        let moved = moved["services"].table().unwrap();
        assert!(matches!(moved["web"].table().unwrap()["port"].value, TomlValue::Integer(7000)));
        let root = parse(0, &text, None, &mut problems);
        assert!(problems.is_empty());
        let services = root["services"].table().unwrap();
        let of = |name: &str, key: &str| services[name].table().unwrap()[key].clone();
        assert_eq!(of("web", "run").text(), Some("bundle exec puma -p $$PORT"));
        assert_eq!(of("worker", "run").text(), Some("rake jobs:work"));
        assert_eq!(text.slice(of("worker", "run").span), "rake jobs:work");
        assert!(matches!(of("web", "port").value, TomlValue::Integer(5000)));
        assert_eq!(of("worker", "env").table().unwrap()["PORT"].text(), Some("5100"));
    }

    #[test]
    fn a_port_past_the_last_one_is_an_error_at_its_line() {
        let text = Text::new("Procfile", "web: a\nworker: b\nclock: c\n".to_owned());
        let mut problems = Vec::new();
        parse(0, &text, Some(65500), &mut problems);
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!(problem.message, "`worker` would get the port 65600, and the last one is 65535");
        assert_eq!(problem.span.map(|span| text.slice(span)), Some("worker"));
        problems.clear();
        parse(0, &text, Some(65335), &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn what_is_no_line_is_said() {
        let text = Text::new("Procfile", "web\nweb:\na: x\na: y\n".to_owned());
        let mut problems = Vec::new();
        parse(0, &text, None, &mut problems);
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, ["this line has no `NAME: COMMAND`", "`web` has no command", "there are two lines for `a`"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(web: |[:#\n\r $]|\\PC){0,60}") {
            parse(0, &Text::new("Procfile", text), None, &mut Vec::new());
        }
    }
}
