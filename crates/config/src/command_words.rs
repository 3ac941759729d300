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
        || assignments(text.trim_start()) > 0
        || has_several_commands(text)
}

/// Whether a string holds more than one command line: a newline outside quotes, not escaped, with something other than
/// blanks and comments on both sides. A shell ends a command there, so joining the lines would run another command.
pub(crate) fn has_several_commands(text: &str) -> bool {
    let mut quote: Option<char> = None;
    let mut commands = 0;
    let mut in_command = false;
    let mut in_comment = false;
    let mut before = '\n';
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            _ if in_comment && c != '\n' => {}
            (Some(open), c) if open == c => quote = None,
            (Some('\''), _) => {}
            // A line that ends in a backslash goes on in the next one.
            (_, '\\') => {
                let mut next = chars.next();
                if next == Some('\r') {
                    next = chars.next();
                }
                in_command |= next.is_some_and(|next| next != '\n');
            }
            (Some(_), _) => {}
            (None, '\n') => (in_command, in_comment) = (false, false),
            (None, ' ' | '\t' | '\r') => {}
            (None, '#') if matches!(before, ' ' | '\t' | '\n') => in_comment = true,
            (None, c) => {
                if matches!(c, '\'' | '"') {
                    quote = Some(c);
                }
                if !std::mem::replace(&mut in_command, true) {
                    commands += 1;
                }
            }
        }
        before = c;
    }
    commands > 1
}

/// The length of the assignments that a script begins with (`A=1 B="x y" `), in bytes. 0 where there is none, or where a value is more
/// than plain text, quotes and variables.
fn assignments(script: &str) -> usize {
    let mut end = 0;
    loop {
        let rest = &script[end..];
        let name = super::template::variable_length(rest);
        if name == 0 || !rest[name..].starts_with('=') {
            return end;
        }
        let mut quote: Option<char> = None;
        let mut chars = rest[name + 1..].char_indices();
        let length = loop {
            let Some((at, c)) = chars.next() else { break rest.len() };
            match (quote, c) {
                (Some(open), c) if open == c => quote = None,
                (Some('\''), _) => {}
                (_, '\\') => drop(chars.next()),
                (_, '`' | '(') => return 0,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, ' ' | '\t') => break name + 1 + at,
                (None, '\n' | ';' | '&' | '|' | '<' | '>') => return 0,
                (None, _) => {}
            }
        };
        end += length;
        end += script[end..].len() - script[end..].trim_start_matches([' ', '\t']).len();
    }
}

/// The script with `exec` before its command, so that no shell lingers as the command's parent. `None` unless it is one simple
/// command; assignments may stand before it.
pub(crate) fn with_exec(script: &str) -> Option<String> {
    let script = script.trim();
    let (before, command) = script.split_at(assignments(script));
    is_simple(command).then(|| format!("{before}exec {command}"))
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
fn is_simple(script: &str) -> bool {
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
    fn lines_and_assignments_are_shell_syntax() {
        for (text, expected) in [
            ("node app.js", false),
            ("echo one\necho two", true),
            ("echo one\r\necho two\r\n", true),
            ("\n  echo one\n", false),
            ("docker \\\n  --flag \\\r\n  x", false),
            ("# a note\necho one", false),
            ("echo one # it's a note\n# another", false),
            ("echo 'a\nb' \"c\nd\"", false),
            ("echo 'a\nb'\nx", true),
            ("NODE_ENV=test node app.js", true),
            ("A='x y' B=$C node", true),
            ("node A=1", false),
            ("--flag=1 x", false),
            ("./a=b", false),
        ] {
            assert_eq!(needs_shell(text), expected, "{text:?}");
        }
        assert!(has_several_commands("a\nb") && !has_several_commands("a; b"));
    }

    #[test]
    fn exec_stands_behind_assignments() {
        for (text, expected) in [
            ("npm start > log", Some("exec npm start > log")),
            ("A=1 npm start", Some("A=1 exec npm start")),
            ("A=\"x ${DEVRUN_ARG_1}\"  B='y z' npm start", Some("A=\"x ${DEVRUN_ARG_1}\"  B='y z' exec npm start")),
            ("A=$(date) npm start", None),
            ("A=1", None),
            ("A=1 npm start && x", None),
        ] {
            assert_eq!(with_exec(text).as_deref(), expected, "{text}");
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
            let _ = (split(&text), needs_shell(&text));
            if let Ok((script, _)) = script(&text) {
                let _ = with_exec(&script);
            }
        }
    }
}
