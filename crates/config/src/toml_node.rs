//! The spanned tree: TOML as values that know where they stand.
//!
//! The tree is our own rather than serde structs, so that one walk over the schema finds every unknown key and wrong
//! type at once, layers merge key by key, and each value keeps its span after merging. `convert` builds the same tree
//! from foreign files.

use indexmap::IndexMap;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Diagnostic;
use super::source_map::{Span, Text};

/// A table in the order of the file.
pub(crate) type Table = IndexMap<String, TomlNode>;

/// A value, the key it stands at and where both are.
#[derive(Debug, Clone)]
pub(crate) struct TomlNode {
    /// The value's span.
    pub span: Span,
    /// The key's span; that of the value for elements of arrays.
    pub key: Span,
    /// The value.
    pub value: TomlValue,
}

/// What a key holds.
#[derive(Debug, Clone)]
pub(crate) enum TomlValue {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Array(Vec<TomlNode>),
    Table(Table),
    /// A TOML type that no key takes.
    Date(String),
}

impl TomlNode {
    /// A value at a span that stands for key and value alike.
    pub(crate) fn new(span: Span, value: TomlValue) -> Self {
        Self { span, key: span, value }
    }
    /// The text, where it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            TomlValue::Text(text) => Some(text),
            _ => None,
        }
    }
    /// The table, where it is one.
    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.value {
            TomlValue::Table(table) => Some(table),
            _ => None,
        }
    }
    /// The elements: of an array, or the single value a list may be written as.
    pub(crate) fn elements(&self) -> &[TomlNode] {
        match &self.value {
            TomlValue::Array(elements) => elements,
            TomlValue::Bool(false) => &[],
            _ => std::slice::from_ref(self),
        }
    }
    /// `false`, which removes what was inherited.
    pub(crate) fn is_false(&self) -> bool {
        matches!(self.value, TomlValue::Bool(false))
    }
    /// A scalar as the text a variable or an engine setting gets.
    pub(crate) fn scalar(&self) -> Option<String> {
        match &self.value {
            TomlValue::Text(text) => Some(text.clone()),
            TomlValue::Integer(number) => Some(number.to_string()),
            TomlValue::Float(number) => Some(number.to_string()),
            TomlValue::Bool(flag) => Some(flag.to_string()),
            TomlValue::Date(text) => Some(text.clone()),
            TomlValue::Array(_) | TomlValue::Table(_) => None,
        }
    }
    /// How messages call it.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            TomlValue::Text(_) => "a string",
            TomlValue::Integer(_) => "an integer",
            TomlValue::Float(_) => "a float",
            TomlValue::Bool(_) => "a boolean",
            TomlValue::Array(_) => "a list",
            TomlValue::Table(_) => "a table",
            TomlValue::Date(_) => "a date",
        }
    }
}

/// Looks a key up; `false` counts as absent, as it removes what was inherited.
pub(crate) fn get<'a>(table: &'a Table, key: &str) -> Option<&'a TomlNode> {
    table.get(key).filter(|node| !node.is_false())
}

/// Larger texts are no procfile, and not worth a parse.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Deeper trees are refused, so that no walk over one can run out of stack.
const MAX_DEPTH: usize = 64;

/// Brackets deeper than this, or dotted keys longer, are refused before the parser recurses into them.
const MAX_BRACKETS: usize = 24;

/// Where a text nests too deep. Strings and comments are stepped over as well as can be told without parsing; an open
/// string ends with its line, so that one missing quote does not hide the rest.
fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut dots, mut at) = (0usize, 0usize, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            b'#' => at += bytes[at..].iter().position(|b| *b == b'\n').unwrap_or(bytes.len() - at),
            quote @ (b'"' | b'\'') => {
                let triple = [quote; 3];
                if bytes[at..].starts_with(&triple) {
                    let body = at + 3;
                    at = bytes[body..].windows(3).position(|w| w == triple).map_or(body, |n| body + n + 2);
                } else {
                    let mut end = at + 1;
                    while end < bytes.len() && bytes[end] != quote && bytes[end] != b'\n' {
                        end += if quote == b'"' && bytes[end] == b'\\' { 2 } else { 1 };
                    }
                    at = end;
                }
            }
            b'[' | b'{' => {
                depth += 1;
                dots = 0;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                dots = 0;
            }
            b'=' | b',' | b'\n' => dots = 0,
            b'.' => dots += 1,
            _ => {}
        }
        if depth > MAX_BRACKETS || dots > MAX_BRACKETS {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Parses one text. Every syntax error is reported; what could be read is returned all the same.
pub(crate) fn parse(file: u32, text: &Text, out: &mut Vec<Diagnostic>) -> Table {
    if text.text.len() > MAX_BYTES {
        out.push(
            Diagnostic::error(Span::new(file, 0..0), format!("not a procfile: larger than {} MiB", MAX_BYTES >> 20))
                .help("name the right file with `-f FILE`"),
        );
        return Table::new();
    }
    if let Some(at) = too_deep(&text.text) {
        out.push(
            Diagnostic::error(Span::new(file, at..at + 1), format!("this is nested more than {MAX_BRACKETS} deep"))
                .help("no key of a procfile is; a bracket above may not be closed"),
        );
        return Table::new();
    }
    let (table, errors) = DeTable::parse_recoverable(&text.text);
    for error in errors.iter().take(1000) {
        out.push(syntax_error(file, text, error.message(), error.span()));
    }
    convert_table(file, table.get_ref(), 0, out)
}

fn syntax_error(file: u32, text: &Text, message: &str, span: Option<std::ops::Range<usize>>) -> Diagnostic {
    let span = span.unwrap_or(0..0);
    let under = text.text.get(span.clone()).unwrap_or_default().trim();
    let (message, help) = if message.starts_with("duplicate key") {
        (format!("{message}: `{under}` stands here twice"), "keep one of the two; a [table] may stand once in a file")
    } else if message.starts_with("string values must be quoted") && under.is_empty() {
        ("the value is missing".to_owned(), "write key = \"value\"")
    } else if message.starts_with("string values must be quoted") {
        ("invalid value".to_owned(), "strings stand in quotes: key = \"value\"")
    } else if message.starts_with("invalid basic string") || message.starts_with("invalid literal string") {
        (
            "the string is not closed, or holds what a string cannot".to_owned(),
            "add the closing quote; a backslash is written \\\\",
        )
    } else if message.contains("unclosed array") {
        let key = key_before(&text.text, span.start);
        let key = if key.is_empty() { "key" } else { key };
        let message = format!("the list of `{key}` is not closed: expected `]`");
        let at = Span::new(file, span.start.min(text.text.len())..span.end.min(text.text.len()));
        return Diagnostic::error(at, message).help(format!("write {key} = [\"a\", \"b\"]"));
    } else if message.contains("unclosed inline table") {
        let key = key_before(&text.text, span.start);
        let key = if key.is_empty() { "key" } else { key };
        let message = format!("the table of `{key}` is not closed: expected `}}`");
        let at = Span::new(file, span.start.min(text.text.len())..span.end.min(text.text.len()));
        return Diagnostic::error(at, message).help(format!("write {key} = {{ name = \"value\" }}"));
    } else if message.contains("unclosed table") {
        (message.to_owned(), "add the `]`")
    } else if message.contains("expected `=`") || message.contains("key with no value") {
        (message.to_owned(), "a line is either [a.table] or key = value")
    } else if message.contains("expected newline") {
        (message.to_owned(), "each key = value stands on a line of its own")
    } else if message.is_empty() {
        ("this is not TOML".to_owned(), "a line is either [a.table] or key = value")
    } else {
        (message.replace('\n', "; "), "a line is either [a.table] or key = value")
    };
    let end = span.end.min(text.text.len());
    Diagnostic::error(Span::new(file, span.start.min(end)..end), message).help(help)
}

/// The key whose value begins last before this place.
fn key_before(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or_default();
    let lines = before.lines().rev().filter_map(|line| line.split_once('='));
    let keys = lines.map(|(key, _)| key.trim());
    let is_bare = |key: &&str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    keys.into_iter().find(is_bare).unwrap_or_default()
}

fn convert_table(file: u32, table: &DeTable<'_>, depth: usize, out: &mut Vec<Diagnostic>) -> Table {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut result = Table::with_capacity(entries.len());
    for (key, value) in entries {
        let key_span = Span::new(file, key.span());
        let span = Span::new(file, value.span());
        if depth >= MAX_DEPTH {
            out.push(Diagnostic::error(key_span, format!("tables are nested more than {MAX_DEPTH} deep")));
            break;
        }
        let node = TomlNode { span, key: key_span, value: convert(file, value.get_ref(), span, depth + 1, out) };
        result.insert(key.get_ref().to_string(), node);
    }
    result
}

fn convert(file: u32, value: &DeValue<'_>, span: Span, depth: usize, out: &mut Vec<Diagnostic>) -> TomlValue {
    match value {
        DeValue::String(text) => TomlValue::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => TomlValue::Integer(number),
            Err(_) => {
                out.push(Diagnostic::error(span, format!("invalid integer {number}: it does not fit into 64 bits")));
                TomlValue::Integer(0)
            }
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) => TomlValue::Float(number),
            Err(_) => {
                out.push(Diagnostic::error(span, format!("invalid number {number}")));
                TomlValue::Float(0.0)
            }
        },
        DeValue::Boolean(flag) => TomlValue::Bool(*flag),
        DeValue::Datetime(date) => TomlValue::Date(date.to_string()),
        DeValue::Array(elements) => {
            if depth >= MAX_DEPTH {
                out.push(Diagnostic::error(span, format!("lists are nested more than {MAX_DEPTH} deep")));
                return TomlValue::Array(Vec::new());
            }
            TomlValue::Array(
                elements
                    .iter()
                    .map(|element| {
                        let span = Span::new(file, element.span());
                        TomlNode::new(span, convert(file, element.get_ref(), span, depth + 1, out))
                    })
                    .collect(),
            )
        }
        DeValue::Table(table) => TomlValue::Table(convert_table(file, table, depth, out)),
    }
}

/// A tree without spans of its own, as recipes bring it.
pub(crate) fn from_toml(table: &toml::Table, span: Span) -> Table {
    table.iter().map(|(key, value)| (key.clone(), TomlNode::new(span, from_value(value, span)))).collect()
}

fn from_value(value: &toml::Value, span: Span) -> TomlValue {
    match value {
        toml::Value::String(text) => TomlValue::Text(text.clone()),
        toml::Value::Integer(number) => TomlValue::Integer(*number),
        toml::Value::Float(number) => TomlValue::Float(*number),
        toml::Value::Boolean(flag) => TomlValue::Bool(*flag),
        toml::Value::Datetime(date) => TomlValue::Date(date.to_string()),
        toml::Value::Array(elements) => {
            TomlValue::Array(elements.iter().map(|element| TomlNode::new(span, from_value(element, span))).collect())
        }
        toml::Value::Table(table) => TomlValue::Table(from_toml(table, span)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Table, Vec<Diagnostic>) {
        let mut out = Vec::new();
        let table = parse(0, &Text::new("f", text.to_owned()), &mut out);
        (table, out)
    }

    #[test]
    fn order_and_spans_are_those_of_the_file() {
        let (table, out) = read("[b]\nz = 1\na = \"x\"\n[a]\n");
        assert!(out.is_empty(), "{out:?}");
        assert_eq!(table.keys().collect::<Vec<_>>(), ["b", "a"]);
        let b = table["b"].table().unwrap();
        assert_eq!(b.keys().collect::<Vec<_>>(), ["z", "a"]);
        assert_eq!((b["a"].key.start, b["a"].span.start, b["a"].span.end), (10, 14, 17));
    }

    #[test]
    fn all_syntax_errors_at_once() {
        let (_, out) = read("a = \nb = nope\n[c\nd = 1\nd = 2\n");
        assert!(out.len() >= 3, "{out:?}");
    }

    #[test]
    fn depth_and_size_are_bounded() {
        for text in [
            format!("a = {}{}", "[".repeat(50_000), "]".repeat(50_000)),
            format!("a = {}", "{a=".repeat(50_000)),
            format!("{}a = 1", "a.".repeat(50_000)),
            format!("[{}a]", "a.".repeat(50_000)),
            format!("a = {}", format!("{{{}a=", "a.".repeat(60)).repeat(70)),
            "x".repeat(2 << 20),
            "[".repeat(900_000),
            "=\n".repeat(400_000),
        ] {
            let (_, out) = read(&text);
            assert!(!out.is_empty());
        }
    }
}
