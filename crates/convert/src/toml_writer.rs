//! A procfile as it is built up, and its text.
//!
//! Our own writer and not `toml`'s: what is read by people wants comments, short tables on one line, and the order in
//! which the foreign file named things.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The entries of a table, in order.
pub(crate) type TomlEntries = Vec<(String, Toml)>;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Toml {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Toml>),
    Table(TomlEntries),
}

impl Toml {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
    pub(crate) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(|text| Self::Text(text.into())).collect())
    }
    /// A size, port or count: a number where it is one, else text (a placeholder).
    #[cfg(feature = "compose")]
    pub(crate) fn number(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::text(text), Self::Integer)
    }
    /// From a parsed document.
    pub(crate) fn from_toml(value: &toml::Value) -> Self {
        match value {
            toml::Value::String(text) => Self::text(text),
            toml::Value::Integer(number) => Self::Integer(*number),
            toml::Value::Float(number) => Self::Float(*number),
            toml::Value::Boolean(value) => Self::Bool(*value),
            toml::Value::Datetime(value) => Self::text(value.to_string()),
            toml::Value::Array(list) => Self::List(list.iter().map(Self::from_toml).collect()),
            toml::Value::Table(table) => {
                Self::Table(table.iter().map(|(name, value)| (name.clone(), Self::from_toml(value))).collect())
            }
        }
    }
    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(&quoted(text)),
            Self::Integer(number) => {
                let _infallible = write!(out, "{number}");
            }
            Self::Float(number) => {
                let _infallible = write!(out, "{number:?}");
            }
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::List(list) => {
                out.push('[');
                for (index, item) in list.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Table(table) if table.is_empty() => out.push_str("{}"),
            Self::Table(table) => {
                out.push_str("{ ");
                for (index, (name, value)) in table.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    let _infallible = write!(out, "{} = ", key(name));
                    value.write(out);
                }
                out.push_str(" }");
            }
        }
    }
    /// On one line.
    pub(crate) fn line(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

/// A key, quoted where it must be.
pub(crate) fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_' || char == '-');
    if bare { name.to_owned() } else { quoted(name) }
}

/// A basic string; line breaks are escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if char.is_control() => {
                let _infallible = write!(out, "\\u{:04X}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// A text of several lines as it is read best; each line is escaped as in [`quoted`].
fn lines(text: &str) -> String {
    let mut out = "\"\"\"\n".to_owned();
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        // Three quotes would end it; what stands at the end of a line may not be a blank that an editor takes away.
        let plain = !line.contains(['\\', '\r'])
            && !line.contains("\"\"")
            && !line.ends_with(['"', ' ', '\t'])
            && !line.chars().any(|char| char.is_control() && char != '\t');
        if plain {
            out.push_str(line);
        } else {
            let line = quoted(line);
            out.push_str(&line[1..line.len() - 1]);
        }
    }
    out.push_str("\"\"\"");
    out
}

/// A line of a comment: nothing in it may break out of it.
pub(crate) fn comment(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// One `[table]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Section {
    /// Lines above the header, without `#`.
    pub above: Vec<String>,
    /// Behind the header.
    pub behind: String,
    pub keys: Vec<(String, Toml)>,
    /// Lines below the keys, without `#`: hints.
    pub below: Vec<String>,
}

impl Section {
    pub(crate) fn set(&mut self, name: &str, value: Toml) {
        match self.keys.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.keys.push((name.to_owned(), value)),
        }
    }
    #[cfg(feature = "compose")]
    pub(crate) fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|(key, _)| key == name)
    }
    #[cfg(feature = "compose")]
    pub(crate) fn get(&self, name: &str) -> Option<&Toml> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
    #[cfg(feature = "compose")]
    pub(crate) fn take(&mut self, name: &str) -> Option<Toml> {
        let at = self.keys.iter().position(|(key, _)| key == name)?;
        Some(self.keys.remove(at).1)
    }
    /// Alone, for a comment.
    #[cfg(feature = "compose")]
    pub(crate) fn text(&self, header: &str) -> String {
        let mut out = String::new();
        self.write(header, &mut out);
        out
    }
    fn write(&self, header: &str, out: &mut String) {
        out.push('\n');
        for line in &self.above {
            let _infallible = writeln!(out, "# {}", comment(line));
        }
        let behind = if self.behind.is_empty() { String::new() } else { format!("  # {}", comment(&self.behind)) };
        let _infallible = writeln!(out, "[{header}]{behind}");
        let width = self.keys.iter().filter(|(_, value)| !is_long(value)).map(|(name, _)| key(name).len()).max().unwrap_or(0);
        // A table of its own comes last: what follows its header would belong to it.
        let (tables, plain): (Vec<_>, Vec<_>) = self.keys.iter().partition(|(_, value)| is_long(value));
        for (name, value) in plain {
            let name = key(name);
            let _infallible = writeln!(out, "{name:width$} = {}", value.line());
        }
        for line in &self.below {
            let _infallible = writeln!(out, "# {}", comment(line));
        }
        for (name, value) in tables {
            if let Toml::Table(entries) = value {
                let _infallible = writeln!(out, "\n[{header}.{}]", key(name));
                for (name, value) in entries {
                    let value = match value {
                        Toml::Text(text) if text.contains('\n') => lines(text),
                        value => value.line(),
                    };
                    let _infallible = writeln!(out, "{} = {value}", key(name));
                }
            }
        }
    }
}

/// A table that is easier to read under a header of its own.
fn is_long(value: &Toml) -> bool {
    let lines =
        |entries: &[(String, Toml)]| entries.iter().any(|(_, value)| matches!(value, Toml::Text(text) if text.contains('\n')));
    matches!(value, Toml::Table(entries) if (entries.len() > 1 && value.line().len() > 90) || lines(entries))
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Procfile {
    /// The comment at the top.
    pub above: Vec<String>,
    pub project: Section,
    pub env: Section,
    pub secrets: Section,
    pub volumes: Section,
    pub services: Vec<(String, Section)>,
    pub tasks: Vec<(String, Section)>,
    /// What else stands at the top level, as it is.
    pub rest: BTreeMap<String, Section>,
    /// Lines at the end, without `#`.
    pub below: Vec<String>,
}

impl Procfile {
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for line in &self.above {
            let line = comment(line);
            let _infallible = writeln!(out, "{}", format!("# {line}").trim_end());
        }
        for (name, section) in
            [("project", &self.project), ("env", &self.env), ("secrets", &self.secrets), ("volumes", &self.volumes)]
        {
            if !section.keys.is_empty() {
                section.write(name, &mut out);
            }
        }
        for (name, section) in &self.rest {
            section.write(&key(name), &mut out);
        }
        for (name, section) in &self.services {
            section.write(&format!("services.{}", key(name)), &mut out);
        }
        for (name, section) in &self.tasks {
            section.write(&format!("tasks.{}", key(name)), &mut out);
        }
        if !self.below.is_empty() {
            out.push('\n');
        }
        for line in &self.below {
            let line = comment(line);
            let _infallible = writeln!(out, "{}", format!("# {line}").trim_end());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back() {
        let mut section = Section::default();
        let texts = ["", "a\"b\\c", "line\nline\ttab\r", "\u{1}\u{7f}\u{85}", "ä€𝄞", "#x ${y}", "'''"];
        for (index, text) in texts.iter().enumerate() {
            section.set(&format!("k {index}\n"), Toml::text(*text));
        }
        let table = texts
            .iter()
            .enumerate()
            .map(|(index, text)| (format!("t {index}"), Toml::text(format!("{text}\n{text} \"\"\" {text}\""))));
        section.set("table", Toml::Table(table.collect()));
        section.behind = "a\nb = 1".to_owned();
        section.above.push("x\r\ny = 2".to_owned());
        let file = Procfile { services: vec![("a.b".to_owned(), section)], ..Procfile::default() };
        let text = file.text();
        let table: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        for (index, text) in texts.iter().enumerate() {
            assert_eq!(table["services"]["a.b"][&format!("k {index}\n")].as_str(), Some(*text));
            let twice = format!("{text}\n{text} \"\"\" {text}\"");
            assert_eq!(table["services"]["a.b"]["table"][&format!("t {index}")].as_str(), Some(twice.as_str()));
        }
    }
}
