//! A command string → words or a shell script, with its placeholders kept apart from its text.
//!
//! Splitting comes first and substitution after, so a value can never become two words, a quote or an operator. Where a
//! shell is used, each placeholder becomes a reference to a variable that carries the value; how the reference must be
//! quoted depends on where it stands, so the script's quoting is followed here.

use super::template::{BadTemplate, Dollar, Hole, Part, dollar};

/// One word: text and placeholders.
pub(crate) type Word = Vec<Part>;

/// Whether a string must go through a shell under `shell = "auto"`.
pub(crate) fn needs_shell(text: &str) -> bool {
    text.contains(['|', '&', ';', '<', '>', '*', '(', ')', '`'])
}

/// Why a string is no command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BadCommand {
    /// A faulty placeholder.
    Template(BadTemplate),
    /// A quote that is never closed.
    Quote(char),
}

impl From<BadTemplate> for BadCommand {
    fn from(bad: BadTemplate) -> Self {
        Self::Template(bad)
    }
}

#[derive(Default)]
struct Building {
    word: Word,
    text: String,
    open: bool,
}

impl Building {
    fn push(&mut self, c: char) {
        self.text.push(c);
        self.open = true;
    }
    fn hole(&mut self, hole: Hole) {
        if !self.text.is_empty() {
            self.word.push(Part::Literal(std::mem::take(&mut self.text)));
        }
        self.word.push(Part::Hole(hole));
        self.open = true;
    }
    fn finish(&mut self, words: &mut Vec<Word>) {
        if !self.text.is_empty() {
            self.word.push(Part::Literal(std::mem::take(&mut self.text)));
        }
        if std::mem::take(&mut self.open) {
            words.push(std::mem::take(&mut self.word));
        }
    }
}

/// Splits by the rules of a POSIX shell. Placeholders are resolved in every kind of quote; a backslash keeps a dollar.
pub(crate) fn split(text: &str) -> Result<Vec<Word>, BadCommand> {
    let mut words = Vec::new();
    let mut building = Building::default();
    let mut quote: Option<char> = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut used = c.len_utf8();
        match (quote, c) {
            (_, '$') => match dollar(rest, true, 0)? {
                Dollar::Text(text, bytes) => {
                    text.chars().for_each(|c| building.push(c));
                    used = bytes;
                }
                Dollar::Hole(hole, bytes) => {
                    building.hole(hole);
                    used = bytes;
                }
            },
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => building.push(c),
            (Some(_), '\\') => match rest[1..].chars().next() {
                Some('\n') => used = 2,
                Some(next @ ('$' | '`' | '"' | '\\')) => {
                    building.push(next);
                    used = 2;
                }
                _ => building.push('\\'),
            },
            (Some(_), c) => building.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                building.open = true;
            }
            (None, '\\') => match rest[1..].chars().next() {
                Some('\n') => used = 2,
                Some(next) => {
                    building.push(next);
                    used = 1 + next.len_utf8();
                }
                None => building.push('\\'),
            },
            (None, ' ' | '\t' | '\n' | '\r') => building.finish(&mut words),
            (None, '#') if !building.open => {
                used = rest.find('\n').unwrap_or(rest.len());
            }
            (None, c) => building.push(c),
        }
        rest = &rest[used..];
    }
    if let Some(quote) = quote {
        return Err(BadCommand::Quote(quote));
    }
    building.finish(&mut words);
    Ok(words)
}

/// Where in a script we are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Context {
    /// Words; inside `$(…)`, `(…)` or backquotes too.
    Plain,
    /// Inside `(…)` or `$(…)`.
    Paren,
    /// Inside backquotes.
    Back,
    /// Inside `"…"`.
    Double,
    /// Inside `$((…))`.
    Arithmetic,
}

/// A script whose placeholders are references to `DEVRUN_ARG_N`, and the placeholders in that order.
pub(crate) fn script(text: &str) -> Result<(String, Vec<Hole>), BadCommand> {
    let mut out = String::new();
    let mut holes: Vec<Hole> = Vec::new();
    let mut stack = vec![Context::Plain];
    let mut single = false;
    let mut word_start = true;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut used = c.len_utf8();
        let context = *stack.last().unwrap_or(&Context::Plain);
        let was_word_start = std::mem::replace(&mut word_start, false);
        match (single, context, c) {
            (false, _, '$') if rest.starts_with("$((") => {
                stack.push(Context::Arithmetic);
                out.push_str("$((");
                used = 3;
            }
            (false, _, '$') if rest.starts_with("$(") => {
                stack.push(Context::Paren);
                out.push_str("$(");
                used = 2;
                word_start = true;
            }
            (_, _, '$') => match dollar(rest, true, 0)? {
                Dollar::Text(text, bytes) => {
                    out.push_str(&text);
                    used = bytes;
                }
                Dollar::Hole(hole, bytes) => {
                    let number = holes.iter().position(|known| known.written == hole.written).unwrap_or_else(|| {
                        holes.push(hole);
                        holes.len() - 1
                    }) + 1;
                    let reference = format!("${{DEVRUN_ARG_{number}}}");
                    match (single, context) {
                        // Out of the quotes and back in: the value is glued to its neighbours and stays one word.
                        (true, _) => out.push_str(&format!("'\"{reference}\"'")),
                        (false, Context::Double | Context::Arithmetic) => out.push_str(&reference),
                        (false, _) => out.push_str(&format!("\"{reference}\"")),
                    }
                    used = bytes;
                }
            },
            (true, _, '\'') => {
                single = false;
                out.push(c);
            }
            (true, _, c) => out.push(c),
            (false, _, '\\') => {
                out.push(c);
                if let Some(next) = rest[1..].chars().next() {
                    out.push(next);
                    used += next.len_utf8();
                }
            }
            (false, Context::Double, '"') => {
                stack.pop();
                out.push(c);
            }
            (false, Context::Arithmetic, ')') if rest.starts_with("))") => {
                stack.pop();
                out.push_str("))");
                used = 2;
            }
            (false, Context::Paren, ')') => {
                stack.pop();
                out.push(c);
            }
            (false, Context::Back, '`') => {
                stack.pop();
                out.push(c);
            }
            (false, _, '`') => {
                stack.push(Context::Back);
                out.push(c);
                word_start = true;
            }
            (false, Context::Double | Context::Arithmetic, c) => out.push(c),
            (false, _, '\'') => {
                single = true;
                out.push(c);
            }
            (false, _, '"') => {
                stack.push(Context::Double);
                out.push(c);
            }
            (false, _, '(') => {
                stack.push(Context::Paren);
                out.push(c);
                word_start = true;
            }
            (false, _, '#') if was_word_start => used = rest.find('\n').unwrap_or(rest.len()),
            (false, _, c) => {
                word_start = matches!(c, ' ' | '\t' | '\n' | ';' | '&' | '|');
                out.push(c);
            }
        }
        rest = &rest[used..];
    }
    if single {
        return Err(BadCommand::Quote('\''));
    }
    if stack.contains(&Context::Double) {
        return Err(BadCommand::Quote('"'));
    }
    Ok((out, holes))
}

/// Words that are no executables, or must not replace the shell.
const KEYWORDS: &[&str] = &[
    "if", "for", "while", "until", "case", "{", "!", "cd", "export", "exit", "set", ".", "source", ":", "exec", "eval", "umask",
    "ulimit", "trap", "wait", "read", "unset", "alias", "return", "shift", "function", "local", "readonly", "command", "times",
    "[[", "type", "break", "continue", "pushd", "popd", "shopt", "declare", "select", "then", "do", "builtin", "enable",
];

/// Whether a script is one simple command, so that `exec` may stand before it and no shell lingers as its parent.
pub(crate) fn is_simple(script: &str) -> bool {
    let first = script.split_whitespace().next().unwrap_or_default();
    let assignment = first.split_once('=').is_some_and(|(name, _)| super::template::variable_length(name) == name.len());
    if first.is_empty() || assignment || KEYWORDS.contains(&first) || first.starts_with(['(', '<', '>', '#']) {
        return false;
    }
    let mut quote: Option<char> = None;
    let mut depth = 0usize;
    let mut chars = script.trim().chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') | (Some('`'), '`') => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => {
                chars.next();
            }
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '(') if before == '$' || depth > 0 => depth += 1,
            (None, ')') if depth > 0 => depth -= 1,
            (None, _) if depth > 0 => {}
            (None, '&') if before == '>' || before == '<' || chars.peek() == Some(&'>') => {}
            (None, '|' | '&' | ';' | '\n' | '(' | ')') => return false,
            (None, '<') if before == '<' => return false,
            (None, _) => {}
        }
        before = c;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text)
            .unwrap()
            .into_iter()
            .map(|word| {
                word.into_iter()
                    .map(|part| match part {
                        Part::Literal(text) => text,
                        Part::Hole(hole) => format!("<{}>", hole.written),
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn splitting_is_the_shells_and_knows_placeholders() {
        for (text, expected) in [
            ("a b  c", vec!["a", "b", "c"]),
            ("a 'b c' \"d e\"", vec!["a", "b c", "d e"]),
            ("a '' \"\"", vec!["a", "", ""]),
            ("a\\ b c\\\n d", vec!["a b", "c", "d"]),
            ("x --port $PORT", vec!["x", "--port", "<$PORT>"]),
            ("x '$A' \"${B}y\"", vec!["x", "<$A>", "<${B}>y"]),
            ("x ${A:-b c} d", vec!["x", "<${A:-b c}>", "d"]),
            ("x \\$A '$$A' $$", vec!["x", "$A", "$A", "$"]),
            ("x # note", vec!["x"]),
            ("x a#b", vec!["x", "a#b"]),
            ("\"a\\\"b\\n\"", vec!["a\"b\\n"]),
            ("", vec![]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
        assert_eq!(split("a 'b").unwrap_err(), BadCommand::Quote('\''));
        assert_eq!(split("a \"b").unwrap_err(), BadCommand::Quote('"'));
    }

    #[test]
    fn references_are_quoted_for_where_they_stand() {
        for (text, expected) in [
            ("echo $A | cat", "echo \"${DEVRUN_ARG_1}\" | cat"),
            ("echo \"x $A\" | cat", "echo \"x ${DEVRUN_ARG_1}\" | cat"),
            ("echo 'x $A' | cat", "echo 'x '\"${DEVRUN_ARG_1}\"'' | cat"),
            ("echo $A$A ${B}", "echo \"${DEVRUN_ARG_1}\"\"${DEVRUN_ARG_1}\" \"${DEVRUN_ARG_2}\""),
            ("echo \"$(cat $A)\"", "echo \"$(cat \"${DEVRUN_ARG_1}\")\""),
            ("echo $(( $A + 1 ))", "echo $(( ${DEVRUN_ARG_1} + 1 ))"),
            ("echo `cat $A`", "echo `cat \"${DEVRUN_ARG_1}\"`"),
            ("for i in 1 2; do echo $$i; done", "for i in 1 2; do echo $i; done"),
            ("echo $? $1 $@ # it's $A\nb;", "echo $? $1 $@ \nb;"),
            ("echo \\$A ; x", "echo \\$A ; x"),
        ] {
            assert_eq!(script(text).unwrap().0, expected, "{text}");
        }
    }

    #[test]
    fn exec_only_before_one_simple_command() {
        for (text, simple) in [
            ("npm start > log", true),
            ("npm start > log 2>&1", true),
            ("a && b", false),
            ("a | b", false),
            ("a;", false),
            ("(a)", false),
            ("cd x", false),
            ("A=1 b", false),
            ("ls *.txt", true),
            ("echo 'a && b' *", true),
            ("echo $(a; b)", true),
            ("a &", false),
            ("", false),
        ] {
            assert_eq!(is_simple(text), simple, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(\\$\\{?\\(?|[}\"'`()\\\\#A-Z ]|\\PC){0,40}") {
            let _ = split(&text);
            if let Ok((script, _)) = script(&text) {
                let _ = is_simple(&script);
            }
        }
    }
}
