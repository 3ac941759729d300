//! A YAML document as it is written: every text in double quotes, so that no reader takes one for something else, and two
//! exports of the same procfile are the same text.

use std::fmt::Write as _;

/// A value. Maps keep the order in which they were filled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Yaml {
    ExportText(String),
    Integer(i64),
    Bool(bool),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::ExportText(text.into())
    }
    pub(crate) fn texts<T: Into<String>>(list: impl IntoIterator<Item = T>) -> Self {
        Self::List(list.into_iter().map(Self::text).collect())
    }
    pub(crate) fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Yaml)>) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }
    /// Nothing in it: such a key is left out.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
            _ => false,
        }
    }
    /// The document's text.
    pub(crate) fn document(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }
    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::Map(map) => {
                for (key, value) in map {
                    let _infallible = write!(out, "{:indent$}{}:", "", plain_key(key), indent = depth * 2);
                    value.write_after_key(out, depth);
                }
            }
            Self::List(list) => {
                for value in list {
                    let mut inner = String::new();
                    value.write_item(&mut inner, depth + 1);
                    let _infallible = write!(out, "{:indent$}- {inner}", "", indent = depth * 2);
                }
            }
            scalar => {
                let _infallible = writeln!(out, "{}", scalar.scalar());
            }
        }
    }
    fn write_after_key(&self, out: &mut String, depth: usize) {
        match self {
            Self::Map(map) if map.is_empty() => out.push_str(" {}\n"),
            Self::List(list) if list.is_empty() => out.push_str(" []\n"),
            Self::Map(_) | Self::List(_) => {
                out.push('\n');
                self.write(out, depth + 1);
            }
            scalar => {
                let _infallible = writeln!(out, " {}", scalar.scalar());
            }
        }
    }
    fn write_item(&self, out: &mut String, depth: usize) {
        match self {
            Self::Map(map) if map.is_empty() => out.push_str("{}\n"),
            Self::List(list) if list.is_empty() => out.push_str("[]\n"),
            Self::Map(_) | Self::List(_) => {
                let mut text = String::new();
                self.write(&mut text, depth);
                out.push_str(text.trim_start_matches(' '));
            }
            scalar => {
                let _infallible = writeln!(out, "{}", scalar.scalar());
            }
        }
    }
    fn scalar(&self) -> String {
        match self {
            Self::ExportText(text) => quoted(text),
            Self::Integer(number) => number.to_string(),
            Self::Bool(flag) => flag.to_string(),
            Self::List(_) | Self::Map(_) => String::new(),
        }
    }
}

/// Keys of the formats themselves stand bare; names of the user's in quotes.
fn plain_key(key: &str) -> String {
    let is_plain = key.starts_with(|char: char| char.is_ascii_alphabetic())
        && key.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.' | '/'))
        && !matches!(key.to_ascii_lowercase().as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null");
    if is_plain { key.to_owned() } else { quoted(key) }
}

/// A double-quoted scalar.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            char if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_nest() {
        let document = Yaml::map([
            ("name", Yaml::text("a\"b")),
            ("no", Yaml::Bool(false)),
            ("list", Yaml::List(vec![Yaml::text("x"), Yaml::map([("k", Yaml::Integer(1)), ("l", Yaml::texts(["y"]))])])),
            ("empty", Yaml::Map(Vec::new())),
        ]);
        let expected = "name: \"a\\\"b\"\n\"no\": false\nlist:\n  - \"x\"\n  - k: 1\n    l:\n      - \"y\"\nempty: {}\n";
        assert_eq!(document.document(), expected);
    }
}
