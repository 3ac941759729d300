//! The grammar of placeholders: text → parts, with the place of each placeholder. Nothing is looked up here.
//!
//! `${NAME}` with `:-` `-` `:?` `?` `:+` `+` and a nested word; `${SERVICE.ATTR}`, `${SERVICE.url:SCHEME}`,
//! `${secret.NAME}`, `${dir.NAME}`, `${replica.NAME}`; `$$` is a dollar. `$NAME` only in commands.

/// One stretch of a template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    /// Text as it is.
    Literal(String),
    /// A placeholder.
    Hole(Hole),
}

/// One placeholder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hole {
    /// What it names.
    pub name: Name,
    /// What follows the name.
    pub operator: Operator,
    /// As written, for messages and to find its place in the file.
    pub written: String,
}

/// What a placeholder names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Name {
    /// A variable, or one of `project`, `mode`, `instance`.
    Variable(String),
    /// `HEAD.REST`: a service's attribute, a secret, a folder, or the copy's name.
    Dotted(String, String),
}

/// What follows the name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operator {
    /// Nothing.
    None,
    /// `:-` (`true`: also for an empty value) and `-`.
    Default(bool, Vec<Part>),
    /// `:?` and `?`.
    Required(bool, Vec<Part>),
    /// `:+` and `+`.
    Alternative(bool, Vec<Part>),
    /// `:SCHEME` of a `.url`.
    Scheme(String),
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BadTemplate {
    /// The faulty stretch.
    pub written: String,
    /// What is wrong with it.
    pub reason: String,
    /// What would do.
    pub help: String,
}

/// Deeper defaults of defaults are refused.
const MAX_NESTING: usize = 16;

/// Parses a whole text. `bare`: `$NAME` counts too.
pub(crate) fn parse(text: &str, bare: bool) -> Result<Vec<Part>, BadTemplate> {
    parse_at(text, bare, 0)
}

fn parse_at(text: &str, bare: bool, depth: usize) -> Result<Vec<Part>, BadTemplate> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        let tail = &rest[at..];
        match dollar(tail, bare, depth)? {
            Dollar::Text(text, used) => {
                literal.push_str(&text);
                rest = &tail[used..];
            }
            Dollar::Hole(hole, used) => {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Hole(hole));
                rest = &tail[used..];
            }
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// What stands at a dollar, and how many bytes it takes.
pub(crate) enum Dollar {
    Text(String, usize),
    Hole(Hole, usize),
}

/// Reads what starts at a dollar sign; `text` begins with it.
pub(crate) fn dollar(text: &str, bare: bool, depth: usize) -> Result<Dollar, BadTemplate> {
    let after = &text[1..];
    if after.starts_with('$') {
        return Ok(Dollar::Text("$".to_owned(), 2));
    }
    if let Some(inner) = after.strip_prefix('{') {
        let Some(length) = closing(inner) else {
            return Err(BadTemplate {
                written: text.chars().take(40).collect(),
                reason: "the placeholder is never closed".to_owned(),
                help: "add the `}`; a dollar sign by itself is `$$`".to_owned(),
            });
        };
        let written = &text[..length + 3];
        return hole(&inner[..length], written, bare, depth).map(|hole| Dollar::Hole(hole, written.len()));
    }
    if bare {
        let length = variable_length(after);
        if length > 0 {
            let hole = Hole {
                name: Name::Variable(after[..length].to_owned()),
                operator: Operator::None,
                written: text[..=length].to_owned(),
            };
            return Ok(Dollar::Hole(hole, length + 1));
        }
    }
    Ok(Dollar::Text("$".to_owned(), 1))
}

/// The length of the variable name at the start of a text.
pub(crate) fn variable_length(text: &str) -> usize {
    let first_ok = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if first_ok { text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len()) } else { 0 }
}

/// Where the brace closes that was opened before `inner`.
fn closing(inner: &str) -> Option<usize> {
    let mut open = 1usize;
    let bytes = inner.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                open += 1;
                at += 1;
            }
            b'$' if bytes.get(at + 1) == Some(&b'$') => at += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn hole(inner: &str, written: &str, bare: bool, depth: usize) -> Result<Hole, BadTemplate> {
    let bad = |reason: &str, help: &str| BadTemplate {
        written: written.chars().take(60).collect(),
        reason: reason.to_owned(),
        help: help.to_owned(),
    };
    if depth >= MAX_NESTING {
        return Err(bad(&format!("placeholders are nested more than {MAX_NESTING} deep"), "give the inner one a name in [env]"));
    }
    let (name, rest) = match dotted(inner) {
        Some(found) => found,
        None => {
            let length = variable_length(inner);
            if length == 0 {
                let help = "write `${NAME}`, `${NAME:-default}` or `${SERVICE.url}`; a dollar sign by itself is `$$`";
                let reason = if inner.is_empty() { "the placeholder names nothing" } else { "invalid placeholder" };
                return Err(bad(reason, help));
            }
            (Name::Variable(inner[..length].to_owned()), &inner[length..])
        }
    };
    let word = |text: &str| parse_at(text, bare, depth + 1);
    let operator = if rest.is_empty() {
        Operator::None
    } else if let Some(text) = rest.strip_prefix(":-") {
        Operator::Default(true, word(text)?)
    } else if let Some(text) = rest.strip_prefix('-') {
        Operator::Default(false, word(text)?)
    } else if let Some(text) = rest.strip_prefix(":?") {
        Operator::Required(true, word(text)?)
    } else if let Some(text) = rest.strip_prefix('?') {
        Operator::Required(false, word(text)?)
    } else if let Some(text) = rest.strip_prefix(":+") {
        Operator::Alternative(true, word(text)?)
    } else if let Some(text) = rest.strip_prefix('+') {
        Operator::Alternative(false, word(text)?)
    } else if let (Some(scheme), Name::Dotted(_, attribute)) = (rest.strip_prefix(':'), &name) {
        if attribute != "url" {
            return Err(bad("only `.url` takes a scheme", "write `${SERVICE.url:postgresql+psycopg}`"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if scheme.is_empty() || !scheme.chars().all(plain) {
            return Err(bad("invalid URL scheme", "write `${SERVICE.url:postgresql+psycopg}`"));
        }
        Operator::Scheme(scheme.to_owned())
    } else {
        let help = "after the name may stand `:-default`, `-default`, `:?message`, `:+value`; the shell's own is `$${…}`";
        return Err(bad("invalid placeholder", help));
    };
    Ok(Hole { name, operator, written: written.to_owned() })
}

/// `HEAD.REST`, where that is what stands at the start. A dash may be part of a service's name, so `${my-api.url}` must
/// win over a variable `my` with the default `api.url`; the words after the dot decide.
fn dotted(inner: &str) -> Option<(Name, &str)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let head = &inner[..inner.find(|c: char| !word(c))?];
    if head.is_empty() || !inner[head.len()..].starts_with('.') {
        return None;
    }
    let tail = &inner[head.len() + 1..];
    let (first, length) = match head {
        // A secret is named like a file, so dashes and dots belong to it.
        "secret" => ("", tail.find(|c: char| !(word(c) || c == '.')).unwrap_or(tail.len())),
        _ => {
            let first = &tail[..tail.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(tail.len())];
            let length = match (first, tail[first.len()..].strip_prefix('.')) {
                ("ports", Some(port)) => first.len() + 1 + port.find(|c: char| !(word(c))).unwrap_or(port.len()),
                _ => first.len(),
            };
            (first, length)
        }
    };
    // `${NAME-some.file}` is a variable with a default, unless what follows the dot can only be an attribute.
    let variable = variable_length(inner);
    let is_attribute =
        super::schema::ATTRIBUTES.contains(&first) || first == "ports" || matches!(head, "secret" | "dir" | "replica");
    if variable < head.len() && !is_attribute && head.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    Some((Name::Dotted(head.to_owned(), tail[..length].to_owned()), &tail[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(parts: &[Part]) -> String {
        parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => format!("[{text}]"),
                Part::Hole(hole) => {
                    let name = match &hole.name {
                        Name::Variable(name) => name.clone(),
                        Name::Dotted(head, rest) => format!("{head}|{rest}"),
                    };
                    match &hole.operator {
                        Operator::None => format!("<{name}>"),
                        Operator::Default(empty, word) => format!("<{name} {}- {}>", if *empty { ":" } else { "" }, show(word)),
                        Operator::Required(empty, word) => format!("<{name} {}? {}>", if *empty { ":" } else { "" }, show(word)),
                        Operator::Alternative(empty, word) => {
                            format!("<{name} {}+ {}>", if *empty { ":" } else { "" }, show(word))
                        }
                        Operator::Scheme(scheme) => format!("<{name} scheme {scheme}>"),
                    }
                }
            })
            .collect()
    }

    #[test]
    fn the_grammar() {
        for (text, expected) in [
            ("", ""),
            ("plain", "[plain]"),
            ("a$$b", "[a$b]"),
            ("^x$", "[^x$]"),
            ("$NAME", "[$NAME]"),
            ("${A}b", "<A>[b]"),
            ("${A:-b c}", "<A :- [b c]>"),
            ("${A-b}", "<A - [b]>"),
            ("${A:-}", "<A :- >"),
            ("${A:-${B:-c}}", "<A :- <B :- [c]>>"),
            ("${A:?say so}", "<A :? [say so]>"),
            ("${A:+x}${A+y}", "<A :+ [x]><A + [y]>"),
            ("${db.url}", "<db|url>"),
            ("${airtable-gateway.url}", "<airtable-gateway|url>"),
            ("${postgres.url:postgresql+psycopg}", "<postgres|url scheme postgresql+psycopg>"),
            ("${db.ports.http}", "<db|ports.http>"),
            ("${db.password:-none}", "<db|password :- [none]>"),
            ("${secret.db-password}", "<secret|db-password>"),
            ("${FILE-some.txt}", "<FILE - [some.txt]>"),
            ("${A:-a$$b}", "<A :- [a$b]>"),
            ("$${A}", "[${A}]"),
        ] {
            assert_eq!(show(&parse(text, false).unwrap()), expected, "{text}");
        }
        assert_eq!(show(&parse("$A-$$A $1", true).unwrap()), "<A>[-$A $1]");
    }

    #[test]
    fn what_is_no_placeholder_says_what_would_do() {
        for bad in ["${", "${}", "${A", "${A:x}", "${1}", "${A!}", "${A##*/}", "${db.port:tcp}", "${db.url:}"] {
            let error = parse(bad, false).unwrap_err();
            assert!(!error.reason.is_empty() && !error.help.is_empty(), "{bad}");
        }
        let deep = format!("{}x{}", "${A:-".repeat(5000), "}".repeat(5000));
        assert!(parse(&deep, false).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(\\$\\{?|\\}|[A-Za-z_.:?+-]|\\PC){0,40}", bare: bool) {
            let _ = parse(&text, bare);
        }

        #[test]
        fn text_without_dollars_is_itself(text in "[^$]{0,40}") {
            let parts = parse(&text, true).unwrap();
            let whole: String = parts.into_iter().map(|part| match part { Part::Literal(text) => text, Part::Hole(_) => String::from("?") }).collect();
            proptest::prop_assert_eq!(whole, text);
        }
    }
}
