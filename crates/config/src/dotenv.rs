//! Env files, by compose's rules. Read into a map of their own, never into our environment.
//!
//! `NAME=value`, `NAME: value`, `export NAME=value`, `#` comments. Unquoted values end at ` #` or the line's end; single
//! quotes are literal; double quotes know escapes; both may span lines. `${…}` is resolved in unquoted and double-quoted
//! values, from the environment first and then from lines above; `$NAME` only where there is such a variable, so that a
//! password with a dollar sign survives. The result is never expanded again.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::masked_lines::is_showable_name;
use super::template::{self, Name, Operator, Part};
use super::value_limits::{LARGEST_SUM, LARGEST_VALUE};

/// One variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EnvVariable {
    pub value: String,
    /// Where its line begins, in bytes.
    pub at: usize,
    /// The end of its name.
    pub end: usize,
}

/// A fault in an env file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    pub at: usize,
    pub end: usize,
    pub message: String,
    pub help: String,
    /// A warning only.
    pub minor: bool,
}

/// One variable of a template: what its line says, before any placeholder of it is filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TemplateVariable {
    /// Where its line begins, `export` included, in bytes.
    pub start: usize,
    /// Where the next line begins: a quoted value may span several.
    pub next: usize,
    /// Where its name begins.
    pub at: usize,
    pub name: String,
    /// Unquoted, escapes resolved; a dollar that was escaped is `$$`.
    pub value: String,
    /// It stood in single quotes: nothing in it is a placeholder.
    pub literal: bool,
}

/// Reads a text. `environment` is asked first, as compose does.
pub(crate) fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> (IndexMap<String, EnvVariable>, Vec<Fault>) {
    let mut reader =
        DotenvParser { text, at: 0, found: IndexMap::new(), faults: Vec::new(), environment, entries: None, filled: 0 };
    reader.lines();
    (reader.found, reader.faults)
}

/// Reads a template: its variables in order, with their placeholders as they stand.
pub(crate) fn entries(text: &str) -> (Vec<TemplateVariable>, Vec<Fault>) {
    let nothing = |_: &str| None;
    let entries = Some(Vec::new());
    let mut reader =
        DotenvParser { text, at: 0, found: IndexMap::new(), faults: Vec::new(), environment: &nothing, entries, filled: 0 };
    reader.lines();
    (reader.entries.unwrap_or_default(), reader.faults)
}

/// A value as an env file takes it: bare where nothing in it could be misread; else in single quotes, as no reader expands
/// those; in double quotes where those cannot hold it.
#[must_use]
pub fn quote(value: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "_-./:@%+,=?&".contains(char);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    // A backslash before the closing quote would escape it.
    if !value.contains(['\'', '\n', '\r']) && !value.ends_with('\\') {
        return format!("'{value}'");
    }
    let mut out = String::from("\"");
    for char in value.chars() {
        match char {
            '"' | '\\' | '$' => out.extend(['\\', char]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

struct DotenvParser<'a> {
    text: &'a str,
    at: usize,
    found: IndexMap<String, EnvVariable>,
    faults: Vec<Fault>,
    environment: &'a dyn Fn(&str) -> Option<String>,
    /// Of a template; then nothing is expanded.
    entries: Option<Vec<TemplateVariable>>,
    /// Bytes that placeholders have become so far.
    filled: usize,
}

const HELP: &str = "write NAME=value, or # before a comment";

impl DotenvParser<'_> {
    fn lines(&mut self) {
        if self.text.starts_with('\u{feff}') {
            self.at = '\u{feff}'.len_utf8();
        }
        while self.at < self.text.len() {
            self.line();
        }
    }
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }
    fn line_end(&self) -> usize {
        self.rest().find('\n').map_or(self.text.len(), |n| self.at + n)
    }
    fn skip_line(&mut self) {
        self.at = (self.line_end() + 1).min(self.text.len());
    }
    fn skip_blanks(&mut self) {
        let blanks = self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r']).len();
        self.at += blanks;
    }
    fn fault(&mut self, at: usize, end: usize, message: impl Into<String>, help: &str, minor: bool) {
        self.faults.push(Fault { at, end: end.max(at), message: message.into(), help: help.to_owned(), minor });
    }

    fn line(&mut self) {
        self.skip_blanks();
        let start = self.at;
        let rest = self.rest();
        if rest.is_empty() || rest.starts_with(['\n', '#']) {
            self.skip_line();
            return;
        }
        if let Some(after) = rest.strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            self.at += "export".len();
            self.skip_blanks();
        }
        let name_at = self.at;
        let length = self.rest().find(['=', ':', '\n', '#']).unwrap_or(self.rest().len());
        let name = self.rest()[..length].trim_end().to_owned();
        let name_end = name_at + name.len();
        let separator = self.rest()[length..].chars().next();
        let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if !good {
            let shown = match name.as_str() {
                "" => "the line names no variable".to_owned(),
                // It may be the value of a secret.
                name if separator.is_none_or(|c| c == '\n') || !is_showable_name(name) => "invalid variable name".to_owned(),
                name => format!("invalid variable name {name:?}"),
            };
            let end = self.line_end();
            self.fault(start, end, shown, HELP, false);
            self.skip_line();
            return;
        }
        match separator {
            Some('=' | ':') => {
                self.at += length + 1;
                self.skip_blanks();
                let literal = self.rest().starts_with('\'');
                if let Some(value) = self.value(name_at) {
                    self.entry(start, name_at, &name, &value, literal);
                    self.found.insert(name, EnvVariable { value, at: name_at, end: name_end });
                }
            }
            // A name by itself is taken from the environment, where it is set.
            _ => {
                self.skip_line();
                self.entry(start, name_at, &name, &format!("${{{name}}}"), false);
                if let Some(value) = (self.environment)(&name) {
                    self.found.insert(name, EnvVariable { value, at: name_at, end: name_end });
                }
            }
        }
    }

    fn entry(&mut self, start: usize, at: usize, name: &str, value: &str, literal: bool) {
        let next = self.at;
        if let Some(entries) = &mut self.entries {
            entries.push(TemplateVariable { start, next, at, name: name.to_owned(), value: value.to_owned(), literal });
        }
    }

    /// The value that starts here; reads past the end of its line.
    fn value(&mut self, name_at: usize) -> Option<String> {
        match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let open = self.at;
                self.at += 1;
                let Some(raw) = self.quoted(quote) else {
                    self.at = open;
                    let end = self.line_end();
                    self.fault(
                        open,
                        end,
                        "the quote is never closed",
                        "add the closing quote; inside double quotes a quote is \\\"",
                        false,
                    );
                    self.skip_line();
                    return None;
                };
                let tail = self.text[self.at..self.line_end()].trim();
                if !tail.is_empty() && !tail.starts_with('#') {
                    let (at, end) = (self.at, self.line_end());
                    self.fault(at, end, "text after the closing quote", "put the whole value into the quotes", false);
                }
                self.skip_line();
                if quote == '"' { Some(self.expand(&unescape(&raw), name_at)) } else { Some(raw) }
            }
            _ => {
                let line = &self.text[self.at..self.line_end()];
                let mut value = line;
                if let Some(cut) = comment(line, self.text[..self.at].chars().next_back()) {
                    value = &line[..cut];
                }
                let value = value.trim_end().to_owned();
                self.skip_line();
                Some(self.expand(&value, name_at))
            }
        }
    }

    /// Up to the closing quote; escapes are kept but for the quote's own.
    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut value = String::new();
        let mut chars = self.text[self.at..].char_indices();
        while let Some((offset, c)) = chars.next() {
            if c == quote {
                self.at += offset + c.len_utf8();
                return Some(value);
            }
            if c == '\\' {
                match chars.next() {
                    Some((_, next)) if next == quote => value.push(next),
                    Some((_, next)) => value.extend([c, next]),
                    None => value.push(c),
                }
                continue;
            }
            value.push(c);
        }
        None
    }

    fn lookup(&self, name: &str) -> Option<String> {
        (self.environment)(name).or_else(|| self.found.get(name).map(|variable| variable.value.clone()))
    }

    fn expand(&mut self, text: &str, name_at: usize) -> String {
        if !text.contains('$') || self.entries.is_some() {
            return text.to_owned();
        }
        match template::parse(text, true) {
            Ok(parts) => self.fill(&parts, name_at),
            Err(bad) => {
                let end = self.text[name_at..].find('\n').map_or(self.text.len(), |n| name_at + n);
                self.fault(
                    name_at,
                    end,
                    format!("`{}`: {}", bad.written, bad.reason),
                    "in single quotes a value is taken as it is: NAME='…'",
                    false,
                );
                text.to_owned()
            }
        }
    }

    fn fill(&mut self, parts: &[Part], name_at: usize) -> String {
        let mut out = String::new();
        for part in parts {
            if out.len() > LARGEST_VALUE || self.filled > LARGEST_SUM {
                let message = "the value is too large once its placeholders are filled in";
                self.fault(name_at, name_at + 1, message, "at most 1 MiB, and 64 MiB for all of a file", false);
                return String::new();
            }
            let hole = match part {
                Part::Literal(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Hole(hole) => hole,
            };
            let Name::Variable(name) = &hole.name else {
                out.push_str(&hole.written);
                continue;
            };
            let value = self.lookup(name);
            let counts = |empty: &bool, value: &Option<String>| value.as_ref().is_some_and(|v| !(*empty && v.is_empty()));
            match &hole.operator {
                Operator::Default(empty, word) if !counts(empty, &value) => {
                    let word = self.fill(word, name_at);
                    out.push_str(&word);
                }
                Operator::Alternative(empty, word) => {
                    if counts(empty, &value) {
                        let word = self.fill(word, name_at);
                        out.push_str(&word);
                    }
                }
                Operator::Required(empty, word) if !counts(empty, &value) => {
                    let word = self.fill(word, name_at);
                    let message =
                        if word.is_empty() { format!("`{name}` is not set") } else { format!("`{name}` is not set: {word}") };
                    self.fault(name_at, name_at + 1, message, "set it above, or in the shell", false);
                }
                _ => match value {
                    Some(value) => out.push_str(&value),
                    None if hole.written.starts_with("${") => {
                        let message = format!("`{name}` is not set, and becomes an empty string");
                        self.fault(name_at, name_at + 1, message, "in single quotes a value is taken as it is: NAME='…'", true);
                    }
                    None => out.push_str(&hole.written),
                },
            }
        }
        self.filled = self.filled.saturating_add(out.len());
        if out.len() > LARGEST_VALUE {
            let message = "the value is larger than 1 MiB once its placeholders are filled in";
            self.fault(name_at, name_at + 1, message, "put it into a file and name that", false);
            return String::new();
        }
        out
    }
}

/// Where an unquoted value's comment starts: a `#` after a blank. `before` is the character in front of the value.
fn comment(line: &str, before: Option<char>) -> Option<usize> {
    let mut before = before;
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_some_and(|b: char| b == ' ' || b == '\t') {
            return Some(at);
        }
        before = Some(c);
    }
    None
}

/// The escapes of double quotes; `\$` becomes `$$`, which the expansion turns into a dollar.
fn unescape(raw: &str) -> String {
    let mut out = String::new();
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('v') => out.push('\u{b}'),
            Some('c') => out.push_str("\\c"),
            Some('\\') => out.push('\\'),
            Some('"') => out.push('"'),
            Some('$') => out.push_str("$$"),
            Some('0') => {
                let mut number = 0u32;
                for _ in 0..3 {
                    match chars.peek().and_then(|c| c.to_digit(8)) {
                        Some(digit) => {
                            number = number * 8 + digit;
                            chars.next();
                        }
                        None => break,
                    }
                }
                out.push(char::from_u32(number).unwrap_or('\u{fffd}'));
            }
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// The variables of an env file; a placeholder in a value is filled in from `environment`. Faults are those of `check`.
#[must_use]
pub fn env_file_values(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    parse(text, environment).0.into_iter().map(|(name, variable)| (name, variable.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Option<String> {
        let environment = |name: &str| (name == "HOME").then(|| "/home/u".to_owned());
        let (found, faults) = parse(text, &environment);
        assert!(faults.iter().all(|fault| fault.minor), "{text:?}: {faults:?}");
        found.get("A").map(|variable| variable.value.clone())
    }

    #[test]
    fn the_table_of_compose() {
        for (text, expected) in [
            ("A=1", "1"),
            ("A = 1 ", "1"),
            ("A: yaml", "yaml"),
            ("export A=1", "1"),
            ("\u{feff}A=1\r\n", "1"),
            ("A=", ""),
            ("A=b # comment", "b"),
            ("A=b#c # d", "b#c"),
            ("A=#c", "#c"),
            ("A=   # paste yours here", ""),
            ("A=\t# note\r\nB=1", ""),
            ("A: # note", ""),
            ("export A = # note", ""),
            ("# x\n\nA=b", "b"),
            ("A=Application (Docker Dev)", "Application (Docker Dev)"),
            ("A='$HOME \\n'", "$HOME \\n"),
            ("A='it\\'s'", "it's"),
            ("A=\"a\\nb\"", "a\nb"),
            ("A=\"a\nb\"\nB=1", "a\nb"),
            ("A=\"say \\\"hi\\\"\" # c", "say \"hi\""),
            ("A=\"#ThawZin2k77!\"", "#ThawZin2k77!"),
            ("A=\"\\$HOME\"", "$HOME"),
            ("A=\"\\z\"", "\\z"),
            ("A=$HOME/x", "/home/u/x"),
            ("A=${HOME}/x", "/home/u/x"),
            ("B=2\nA=${B}${C:-3}${B:+4}", "234"),
            ("A=pa$$word", "pa$word"),
            ("A=pa$word!", "pa$word!"),
            ("A=${NONE}", ""),
            ("A=1\nA=2", "2"),
            ("A=a=b", "a=b"),
            ("A=\\n", "\\n"),
            ("A=\"x\"#y", "x"),
        ] {
            assert_eq!(one(text).as_deref(), Some(expected), "{text:?}");
        }
        assert_eq!(entries("A= # note").0[0].value, "", "a template's too");
        assert_eq!(one("A"), None);
        assert_eq!(one("HOME\nA=${HOME}").as_deref(), Some("/home/u"));
    }

    #[test]
    fn faults_have_places_and_do_not_stop_the_rest() {
        let (found, faults) = parse("A='open\nnot a line\nB=2\n=3\nC=\"x\" y\n", &|_| None);
        assert_eq!(found["B"].value, "2");
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert_eq!(faults[0].at, 2);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([A-Z=\"'$\\\\{}# \n:]|\\PC){0,60}") {
            let _ = parse(&text, &|_| None);
        }

        #[test]
        fn what_is_quoted_is_read_back_as_it_was(value in "([#!$@%:'\"`\\\\ \n\r\t={}]|\\PC){0,30}") {
            // Set variables change nothing either: what is quoted is never expanded.
            let (found, faults) = parse(&format!("A={}\nB=1\n", quote(&value)), &|_| Some("x".to_owned()));
            proptest::prop_assert!(faults.is_empty(), "{faults:?}");
            proptest::prop_assert_eq!(&found["A"].value, &value);
            proptest::prop_assert_eq!(&found["B"].value, "1");
        }

        #[test]
        fn single_quotes_keep_everything(value in "[^'\\\\]{0,30}") {
            let (found, _) = parse(&format!("A='{value}'\n"), &|_| None);
            proptest::prop_assert_eq!(&found["A"].value, &value);
        }
    }
}
