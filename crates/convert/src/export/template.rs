//! Texts of the procfile for another tool: what is known here is filled in, what is not stays a variable or a secret, and each
//! target writes those two in its own way.
//!
//! The grammar is that of `crates/config/src/template.rs`, which has been read and found right before anything is exported.

use super::losses::Losses;

/// One stretch of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// As it is.
    Literal(String),
    /// A variable of whoever starts the exported stack.
    Variable(String, PlaceholderOperator),
    /// A generated secret of the procfile.
    Secret(String),
}

/// What follows a variable's name; `true`: an empty value counts as unset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlaceholderOperator {
    None,
    Default(bool, ExportText),
    Required(bool, ExportText),
    Alternative(bool, ExportText),
}

/// A text in pieces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ExportText(pub Vec<Piece>);

impl ExportText {
    pub(crate) fn literal(text: impl Into<String>) -> Self {
        Self(vec![Piece::Literal(text.into())])
    }
    pub(crate) fn secret(name: impl Into<String>) -> Self {
        Self(vec![Piece::Secret(name.into())])
    }
    pub(crate) fn push(&mut self, piece: Piece) {
        match (self.0.last_mut(), piece) {
            (_, Piece::Literal(text)) if text.is_empty() => {}
            (Some(Piece::Literal(before)), Piece::Literal(text)) => before.push_str(&text),
            (_, piece) => self.0.push(piece),
        }
    }
    pub(crate) fn append(&mut self, other: Self) {
        other.0.into_iter().for_each(|piece| self.push(piece));
    }
    pub(crate) fn join(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut out = Self::default();
        parts.into_iter().for_each(|part| out.append(part));
        out
    }
    /// The text, where nothing in it is a variable or a secret.
    pub(crate) fn as_literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }
    /// The secret that is the whole text.
    pub(crate) fn as_secret(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Secret(name)] => Some(name),
            _ => None,
        }
    }
    /// Every secret in it.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        self.0
            .iter()
            .flat_map(|piece| match piece {
                Piece::Secret(name) => vec![name.as_str()],
                Piece::Variable(_, PlaceholderOperator::Default(_, text) | PlaceholderOperator::Alternative(_, text)) => {
                    text.secrets()
                }
                _ => Vec::new(),
            })
            .collect()
    }
    /// Whether a change of a literal part keeps the meaning: percent-encodes it for a URL.
    pub(crate) fn percent_encoded(self, lookup: &dyn Fn(&str) -> Option<String>, key: &str, losses: &mut Losses) -> Self {
        let pieces = self.0.into_iter().map(|piece| match piece {
            Piece::Literal(text) => Piece::Literal(percent_encode(&text)),
            Piece::Variable(name, operator) => {
                if lookup(&name).is_some_and(|value| percent_encode(&value) != value) {
                    losses.add(key, format!("the value of {name} must be percent-encoded in a URL, and nothing does that there"));
                }
                let operator = match operator {
                    PlaceholderOperator::Default(empty, text) => {
                        PlaceholderOperator::Default(empty, text.percent_encoded(lookup, key, losses))
                    }
                    other => other,
                };
                Piece::Variable(name, operator)
            }
            // Generated ones are letters and digits.
            secret => secret,
        });
        Self(pieces.collect())
    }
    /// The value with the variables that `lookup` knows; `None` where one has neither a value nor a default. Secrets are left to
    /// `secret`.
    pub(crate) fn resolve(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
        secret: &dyn Fn(&str) -> String,
    ) -> Result<String, String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Secret(name) => out.push_str(&secret(name)),
                Piece::Variable(name, operator) => {
                    let value = lookup(name);
                    let given = |empty: bool| value.clone().filter(|value| !(empty && value.is_empty()));
                    match operator {
                        PlaceholderOperator::None => out.push_str(&value.ok_or_else(|| name.clone())?),
                        PlaceholderOperator::Required(empty, _) => out.push_str(&given(*empty).ok_or_else(|| name.clone())?),
                        PlaceholderOperator::Default(empty, text) => match given(*empty) {
                            Some(value) => out.push_str(&value),
                            None => out.push_str(&text.resolve(lookup, secret)?),
                        },
                        PlaceholderOperator::Alternative(empty, text) => {
                            if given(*empty).is_some() {
                                out.push_str(&text.resolve(lookup, secret)?);
                            }
                        }
                    }
                }
            }
        }
        Ok(out)
    }
}

/// Percent-encodes all but A-Z a-z 0-9 - . _ ~.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        }
    }
    out
}

/// A placeholder as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExportPlaceholder {
    /// `NAME`, or `HEAD.REST`.
    pub name: String,
    /// `:-`, `-`, `:?`, `?`, `:+`, `+`, `:` before a scheme, or nothing.
    pub operator: &'static str,
    /// What follows the operator, unparsed.
    pub word: String,
}

/// A part of a text of the procfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextPart {
    Literal(String),
    ExportPlaceholder(ExportPlaceholder),
}

/// Takes a text apart. `bare`: `$NAME` counts too.
pub(crate) fn parts(text: &str, bare: bool) -> Vec<TextPart> {
    let mut out: Vec<TextPart> = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let hole = if let Some(left) = after.strip_prefix('$') {
            literal.push('$');
            rest = left;
            continue;
        } else if let Some((inner, length)) = after.strip_prefix('{').and_then(|inner| Some((inner, closing(inner)?))) {
            rest = &inner[length + 1..];
            Some(hole(&inner[..length]))
        } else {
            let length = if bare { variable_length(after) } else { 0 };
            rest = &after[length..];
            (length > 0).then(|| ExportPlaceholder { name: after[..length].to_owned(), operator: "", word: String::new() })
        };
        match hole {
            Some(hole) => {
                if !literal.is_empty() {
                    out.push(TextPart::Literal(std::mem::take(&mut literal)));
                }
                out.push(TextPart::ExportPlaceholder(hole));
            }
            None => literal.push('$'),
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        out.push(TextPart::Literal(literal));
    }
    out
}

fn variable_length(text: &str) -> usize {
    let is_first = text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_');
    if is_first { text.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).unwrap_or(text.len()) } else { 0 }
}

/// Where the brace closes that was opened before `inner`.
fn closing(inner: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let bytes = inner.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn hole(inner: &str) -> ExportPlaceholder {
    let length =
        inner.find(|char: char| !(char.is_ascii_alphanumeric() || matches!(char, '_' | '.' | '-'))).unwrap_or(inner.len());
    // `-` belongs to the names of services, and is an operator after the name of a variable.
    let length = if inner[..length].contains('.') { length } else { variable_length(inner) };
    let (name, rest) = inner.split_at(length);
    let operator = [":-", ":?", ":+", "-", "?", "+", ":"].into_iter().find(|operator| rest.starts_with(operator)).unwrap_or("");
    ExportPlaceholder { name: name.to_owned(), operator, word: rest[operator.len()..].to_owned() }
}

/// Splits a command by shell rules; a placeholder stays within its word, whatever it holds.
pub(crate) fn words(text: &str) -> Option<Vec<Vec<TextPart>>> {
    const FIRST: u32 = 0xE000;
    let mut holes = Vec::new();
    let mut plain = String::new();
    for part in parts(text, true) {
        match part {
            TextPart::Literal(text) => plain.push_str(&text),
            TextPart::ExportPlaceholder(hole) => {
                plain.push(char::from_u32(FIRST + u32::try_from(holes.len()).ok()?)?);
                holes.push(hole);
            }
        }
    }
    let split = shell_words::split(&plain).ok()?;
    let index = |char: char| usize::try_from(u32::from(char).checked_sub(FIRST)?).ok().filter(|index| *index < holes.len());
    let word = |word: String| {
        let mut out: Vec<TextPart> = Vec::new();
        for char in word.chars() {
            match (index(char), out.last_mut()) {
                (Some(index), _) => out.push(TextPart::ExportPlaceholder(holes[index].clone())),
                (None, Some(TextPart::Literal(text))) => text.push(char),
                (None, _) => out.push(TextPart::Literal(char.to_string())),
            }
        }
        out
    };
    Some(split.into_iter().map(word).collect())
}

/// The variables that a procfile takes from outside, wherever a placeholder stands. In commands `$NAME` counts too.
#[must_use]
pub fn variables_of(merged: &toml::Table) -> Vec<String> {
    fn visit(value: &toml::Value, is_command: bool, found: &mut std::collections::BTreeSet<String>) {
        match value {
            toml::Value::String(text) => holes(text, is_command, found),
            toml::Value::Array(list) => list.iter().for_each(|value| visit(value, false, found)),
            toml::Value::Table(table) => {
                for (key, value) in table {
                    visit(value, matches!(key.as_str(), "run" | "build" | "pre_start"), found);
                }
            }
            _ => {}
        }
    }
    fn holes(text: &str, is_bare: bool, found: &mut std::collections::BTreeSet<String>) {
        for part in parts(text, is_bare) {
            if let TextPart::ExportPlaceholder(hole) = part {
                if !hole.name.contains('.') && !hole.name.is_empty() {
                    found.insert(hole.name);
                }
                holes(&hole.word, is_bare, found);
            }
        }
    }
    let mut found = std::collections::BTreeSet::new();
    visit(&toml::Value::Table(merged.clone()), false, &mut found);
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, operator: &'static str, word: &str) -> TextPart {
        TextPart::ExportPlaceholder(ExportPlaceholder { name: name.to_owned(), operator, word: word.to_owned() })
    }

    #[test]
    fn texts_come_apart() {
        let literal = |text: &str| TextPart::Literal(text.to_owned());
        for (text, bare, expected) in [
            ("a$$b", false, vec![literal("a$b")]),
            ("$X", false, vec![literal("$X")]),
            ("$X/y", true, vec![named("X", "", ""), literal("/y")]),
            ("${X:-a${Y-b}c}!", false, vec![named("X", ":-", "a${Y-b}c"), literal("!")]),
            ("${X-d}", false, vec![named("X", "-", "d")]),
            ("${my-db.url:postgresql}", false, vec![named("my-db.url", ":", "postgresql")]),
            ("${secret.db-password}", false, vec![named("secret.db-password", "", "")]),
            ("${X:?say so}", false, vec![named("X", ":?", "say so")]),
            ("100$", true, vec![literal("100$")]),
            ("${open", false, vec![literal("${open")]),
        ] {
            assert_eq!(parts(text, bare), expected, "{text}");
        }
    }

    #[test]
    fn the_variables_of_a_procfile_are_found_in_defaults_too() {
        let text = "[services.a]\nrun = \"x $A ${B:-${C-d}}\"\nenv = { X = \"$D ${E} ${db.url} $${F}\" }\nports = [\"${G}\"]\n";
        let merged: toml::Table = toml::from_str(text).expect("TOML");
        assert_eq!(variables_of(&merged), ["A", "B", "C", "E", "G"]);
    }

    #[test]
    fn a_placeholder_stays_one_word() {
        let split = words("run --a ${X:-b c} 'it s' \"$Y z\"").expect("words");
        assert_eq!(split.len(), 5);
        assert_eq!(split[2], vec![named("X", ":-", "b c")]);
        assert_eq!(split[4], vec![named("Y", "", ""), TextPart::Literal(" z".to_owned())]);
    }

    #[test]
    fn a_text_is_resolved_as_the_procfile_would() {
        let lookup = |name: &str| match name {
            "SET" => Some("s".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let variable = |name: &str, operator| ExportText(vec![Piece::Variable(name.to_owned(), operator)]);
        let d = ExportText::literal("d");
        for (text, expected) in [
            (variable("SET", PlaceholderOperator::None), Ok("s")),
            (variable("EMPTY", PlaceholderOperator::None), Ok("")),
            (variable("EMPTY", PlaceholderOperator::Default(true, d.clone())), Ok("d")),
            (variable("EMPTY", PlaceholderOperator::Default(false, d.clone())), Ok("")),
            (variable("NONE", PlaceholderOperator::Default(false, d.clone())), Ok("d")),
            (variable("SET", PlaceholderOperator::Alternative(true, d.clone())), Ok("d")),
            (variable("NONE", PlaceholderOperator::Alternative(true, d)), Ok("")),
            (variable("NONE", PlaceholderOperator::None), Err("NONE")),
            (ExportText::secret("x"), Ok("<x>")),
        ] {
            let found = text.resolve(&lookup, &|name| format!("<{name}>"));
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text:?}");
        }
        assert_eq!(percent_encode("a b/ü"), "a%20b%2F%C3%BC");
    }
}
