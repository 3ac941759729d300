//! Splits a SQL script into statements, so that each is a message of its own: `CREATE DATABASE` refuses company, and an
//! error can name its line. The rules are those of psql's reader: strings, dollar quotes, nested comments, parentheses,
//! and bodies of SQL functions written between BEGIN ATOMIC and END. It understands no SQL beyond that.

/// One statement without its semicolon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlStatement<'a> {
    /// The text, from its first word on.
    pub text: &'a str,
    /// The line of the first word, from 1.
    pub line: usize,
    /// The lines that follow a `COPY … FROM stdin`.
    pub copy: Option<&'a str>,
    /// Where the first word begins, in bytes.
    at: usize,
}

impl SqlStatement<'_> {
    /// Line and column in the script of a character of this statement, all from 1, as the server counts in its errors.
    #[must_use]
    pub fn place_of(&self, script: &str, character: usize) -> (usize, usize) {
        let before: usize = self.text.chars().take(character.saturating_sub(1)).map(char::len_utf8).sum();
        let (_, column) = place_in(without_mark(script), self.at + before);
        (self.line + self.text[..before].matches('\n').count(), column)
    }
}

/// Line and column of a byte of a text; both from 1, the column in characters.
pub(super) fn place_in(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rfind('\n').map_or(before, |end| &before[end + 1..]);
    (1 + before.matches('\n').count(), 1 + line.chars().count())
}

/// A script without its byte order mark.
fn without_mark(script: &str) -> &str {
    script.strip_prefix('\u{feff}').unwrap_or(script)
}

/// Why a script cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {why}")]
pub struct SplitError {
    /// Where, from 1.
    pub line: usize,
    /// Where in the line, in characters from 1.
    pub column: usize,
    /// A lowercase fragment.
    pub why: String,
    /// A command of psql's own: psql could run the script.
    pub meta: bool,
}

struct SqlReader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// A place and its line: lines are counted from there, as a dump has a million statements.
    counted: std::cell::Cell<(usize, usize)>,
}

/// What the words of the current statement say so far.
#[derive(Default)]
struct StatementWords {
    count: usize,
    first: [String; 4],
    from: bool,
    stdin: bool,
    /// Depth of BEGIN ATOMIC … END, where CASE … END nests too.
    atomic: usize,
}

impl StatementWords {
    fn add(&mut self, word: &str, depth: usize) {
        let word = word.to_ascii_lowercase();
        if depth == 0 {
            if word == "stdin" && self.from {
                self.stdin = true;
            }
            self.from = word == "from";
            if self.in_routine() {
                match word.as_str() {
                    "begin" => self.atomic += 1,
                    "case" if self.atomic > 0 => self.atomic += 1,
                    "end" if self.atomic > 0 => self.atomic -= 1,
                    _ => {}
                }
            }
        }
        if let Some(slot) = self.first.get_mut(self.count) {
            *slot = word;
        }
        self.count += 1;
    }
    fn in_routine(&self) -> bool {
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|index| self.first[index].as_str());
        let routine = |word: &str| word == "function" || word == "procedure";
        first == "create" && (routine(second) || (second == "or" && third == "replace" && routine(fourth)))
    }
    fn is_copy_in(&self) -> bool {
        self.first[0] == "copy" && self.stdin
    }
}

/// Splits a script.
///
/// # Errors
/// At a string, comment or parenthesis that never ends, and at commands of psql's own.
pub fn split(text: &str) -> Result<Vec<SqlStatement<'_>>, SplitError> {
    let text = without_mark(text);
    let mut reader = SqlReader { text, bytes: text.as_bytes(), at: 0, counted: std::cell::Cell::new((0, 1)) };
    let mut statements = Vec::new();
    let mut start = None;
    let mut depth = 0usize;
    let mut words = StatementWords::default();
    while let Some(byte) = reader.peek(0) {
        let here = reader.at;
        match byte {
            byte if byte.is_ascii_whitespace() => {
                reader.at += 1;
                continue;
            }
            b'-' if reader.peek(1) == Some(b'-') => {
                reader.skip_line();
                continue;
            }
            b'/' if reader.peek(1) == Some(b'*') => {
                reader.skip_comment()?;
                continue;
            }
            b';' if depth == 0 && words.atomic == 0 => {
                reader.at += 1;
                if let Some(start) = start.take() {
                    let copy = if words.is_copy_in() { Some(reader.copy_lines()?) } else { None };
                    statements.push(SqlStatement {
                        text: text[start..here].trim_ascii_end(),
                        line: reader.line(start),
                        copy,
                        at: start,
                    });
                }
                words = StatementWords::default();
                continue;
            }
            b'\\' => {
                reader.skip_line();
                let command = text[here..reader.at].trim();
                let name = command.split_whitespace().next().unwrap_or(command);
                // Dumps of newer releases begin and end with these; they guard psql against itself.
                if start.is_none() && matches!(name, "\\restrict" | "\\unrestrict") {
                    continue;
                }
                let why = format!("{name} is a command of psql, not of the server");
                return Err(SplitError { meta: true, ..reader.error(here, why) });
            }
            _ => {}
        }
        start.get_or_insert(here);
        match byte {
            b'\'' => reader.quoted(b'\'', false)?,
            b'"' => reader.quoted(b'"', false)?,
            b'$' => match reader.dollar_tag() {
                Some(tag) => reader.dollar_quoted(tag)?,
                None => reader.at += 1,
            },
            b'(' => {
                depth += 1;
                reader.at += 1;
            }
            b')' => {
                depth = depth.saturating_sub(1);
                reader.at += 1;
            }
            byte if is_word_start(byte) => {
                let word = reader.word();
                if matches!(word, "e" | "E") && reader.peek(0) == Some(b'\'') {
                    reader.quoted(b'\'', true)?;
                } else {
                    words.add(word, depth);
                }
            }
            // A number eats the letters and dollars that touch it, so `1$a$` begins no quote.
            byte if byte.is_ascii_digit() => {
                let _ = reader.word();
            }
            _ => reader.at += 1,
        }
    }
    if let Some(start) = start {
        if depth > 0 {
            return Err(reader.error(start, "a parenthesis of this statement is never closed"));
        }
        if words.atomic > 0 {
            return Err(reader.error(start, "the BEGIN ATOMIC of this statement has no END"));
        }
        let copy = words.is_copy_in().then_some("");
        statements.push(SqlStatement { text: text[start..].trim_ascii_end(), line: reader.line(start), copy, at: start });
    }
    Ok(statements)
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

impl<'a> SqlReader<'a> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }
    fn line(&self, at: usize) -> usize {
        let at = at.min(self.bytes.len());
        let (from, line) = Some(self.counted.get()).filter(|(from, _)| *from <= at).unwrap_or((0, 1));
        let line = line + self.bytes[from..at].iter().filter(|byte| **byte == b'\n').count();
        self.counted.set((at, line));
        line
    }
    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|byte| byte != b'\n') {
            self.at += 1;
        }
    }
    fn error(&self, at: usize, why: impl Into<String>) -> SplitError {
        let (line, column) = place_in(self.text, at);
        SplitError { line, column, why: why.into(), meta: false }
    }
    fn unending(&self, at: usize, what: &str) -> SplitError {
        self.error(at, format!("{what} that begins here never ends"))
    }
    fn skip_comment(&mut self) -> Result<(), SplitError> {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => self.at += 1,
            }
        }
        Err(self.unending(start, "the comment"))
    }
    fn quoted(&mut self, quote: u8, escapes: bool) -> Result<(), SplitError> {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            if escapes && byte == b'\\' {
                self.at += 1;
            } else if byte == quote {
                if self.peek(0) != Some(quote) {
                    return Ok(());
                }
                self.at += 1;
            }
        }
        Err(self.unending(start, if quote == b'"' { "the quoted name" } else { "the string" }))
    }
    /// `$$` or `$tag$` at the current place.
    fn dollar_tag(&self) -> Option<&'a str> {
        let rest = &self.bytes[self.at + 1..];
        let end = rest.iter().position(|byte| !(is_word_start(*byte) || byte.is_ascii_digit()))?;
        let tag_ok = rest.first().is_some_and(|byte| !byte.is_ascii_digit());
        (rest[end] == b'$' && tag_ok).then(|| &self.text[self.at..self.at + end + 2])
    }
    fn dollar_quoted(&mut self, tag: &str) -> Result<(), SplitError> {
        let start = self.at;
        let body = start + tag.len();
        match self.text[body..].find(tag) {
            Some(end) => {
                self.at = body + end + tag.len();
                Ok(())
            }
            None => Err(self.unending(start, &format!("the string {tag}"))),
        }
    }
    fn word(&mut self) -> &'a str {
        let start = self.at;
        while self.peek(0).is_some_and(|byte| is_word_start(byte) || byte.is_ascii_digit() || byte == b'$') {
            self.at += 1;
        }
        &self.text[start..self.at]
    }
    /// The lines after `COPY … FROM stdin;` up to `\.`, which is swallowed.
    fn copy_lines(&mut self) -> Result<&'a str, SplitError> {
        let after = self.at;
        self.skip_line();
        if !self.text[after..self.at].trim().is_empty() {
            return Err(self.error(after, "something follows COPY … FROM stdin on its line"));
        }
        self.at = (self.at + 1).min(self.bytes.len());
        let start = self.at;
        while self.at < self.bytes.len() {
            let line = self.at;
            self.skip_line();
            let content = self.text[line..self.at].trim_end_matches('\r');
            self.at = (self.at + 1).min(self.bytes.len());
            if content == "\\." {
                return Ok(&self.text[start..line]);
            }
        }
        Ok(&self.text[start..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(script: &str) -> Vec<&str> {
        split(script).unwrap().into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn statements() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            (" ; ;\n;", &[]),
            ("SELECT 1", &["SELECT 1"]),
            ("SELECT 1; SELECT 2 ;", &["SELECT 1", "SELECT 2"]),
            ("SELECT ';', 'it''s; x';S", &["SELECT ';', 'it''s; x'", "S"]),
            (r"SELECT '\'; SELECT 2", &[r"SELECT '\'", "SELECT 2"]),
            (r"SELECT E'\';'; S", &[r"SELECT E'\';'", "S"]),
            (r"SELECT nameE'\'; S", &[r"SELECT nameE'\'", "S"]),
            ("SELECT \"a;b\"\"c\"; S", &["SELECT \"a;b\"\"c\"", "S"]),
            ("SELECT $$a;b$$; S", &["SELECT $$a;b$$", "S"]),
            ("SELECT $x$a;$$;$x$; S", &["SELECT $x$a;$$;$x$", "S"]),
            ("SELECT $1; S", &["SELECT $1", "S"]),
            ("SELECT a$b$; S", &["SELECT a$b$", "S"]),
            ("-- a; b\nSELECT 1; -- c;\n", &["SELECT 1"]),
            ("SELECT 1 -- a; b\n, 2; S", &["SELECT 1 -- a; b\n, 2", "S"]),
            ("/* a; /* b; */ c; */ S;", &["S"]),
            ("S /* ; */ T;", &["S /* ; */ T"]),
            (
                "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2); S",
                &["CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)", "S"],
            ),
            (
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; S",
                &["CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END", "S"],
            ),
            (
                "create or replace procedure p() begin atomic select 1; end; S",
                &["create or replace procedure p() begin atomic select 1; end", "S"],
            ),
            ("BEGIN; SELECT 1; END; COMMIT", &["BEGIN", "SELECT 1", "END", "COMMIT"]),
            ("DO $do$ BEGIN PERFORM 1; END $do$; S", &["DO $do$ BEGIN PERFORM 1; END $do$", "S"]),
            ("\u{feff}SELECT 'ä;ö'; S", &["SELECT 'ä;ö'", "S"]),
            ("SELECT ä$b$; S", &["SELECT ä$b$", "S"]),
            ("\\restrict abc\nSELECT 1;\n\\unrestrict abc\n", &["SELECT 1"]),
            ("SELECT 1);S", &["SELECT 1)", "S"]),
        ];
        for (script, expected) in table {
            assert_eq!(texts(script), *expected, "{script:?}");
        }
    }

    #[test]
    fn blanks_of_other_scripts_are_the_servers_to_judge() {
        assert_eq!(texts("\u{a0}; SELECT 1\u{a0} ;"), ["\u{a0}", "SELECT 1\u{a0}"]);
    }

    #[test]
    fn a_dump_of_many_statements_is_split_in_one_pass() {
        let script = "INSERT INTO t VALUES (1);\n".repeat(300_000);
        let began = std::time::Instant::now();
        let statements = split(&script).unwrap();
        assert_eq!((statements.len(), statements.last().map(|last| last.line)), (300_000, Some(300_000)));
        // Counting from the start for each would take minutes.
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    }

    #[test]
    fn lines_are_those_of_the_first_word() {
        let lines: Vec<_> =
            split("\n-- c\nA;\n\n /* x\n */ B\n C; D").unwrap().into_iter().map(|statement| statement.line).collect();
        assert_eq!(lines, [3, 6, 7]);
    }

    #[test]
    fn a_character_of_a_statement_has_its_place_in_the_script() {
        let script = "\u{feff}-- é\nA; SELECT 'ä', x,\n  y;\nB";
        let statements = split(script).unwrap();
        for (statement, character, place) in
            [(0, 1, (2, 1)), (1, 1, (2, 4)), (1, 13, (2, 16)), (1, 18, (3, 3)), (1, 19, (3, 4)), (1, 99, (3, 4)), (2, 0, (4, 1))]
        {
            assert_eq!(statements[statement].place_of(script, character), place, "{statement} {character}");
        }
    }

    #[test]
    fn copy_takes_its_lines_along() {
        let script =
            "COPY t (a, b) FROM stdin;\n1\ta;'$$\n2\tb\n\\.\nSELECT 1;\ncopy t from STDIN with (format csv);\n3,x\n\\.\n";
        let statements = split(script).unwrap();
        assert_eq!(statements.len(), 3);
        assert_eq!(statements[0].copy, Some("1\ta;'$$\n2\tb\n"));
        assert_eq!((statements[1].text, statements[1].line, statements[1].copy), ("SELECT 1", 5, None));
        assert_eq!(statements[2].copy, Some("3,x\n"));
        assert_eq!(split("COPY t FROM '/tmp/stdin'; S").unwrap()[0].copy, None);
        assert_eq!(split("SELECT copy FROM stdin; S").unwrap()[0].copy, None);
        assert!(split("COPY t FROM stdin; SELECT 1;\n").is_err());
    }

    #[test]
    fn what_cannot_be_run_is_said_with_its_line() {
        for (script, line, column, word) in [
            ("SELECT 1;\n\\connect app\n", 2, 1, "\\connect"),
            ("S;\n\n\\i other.sql", 3, 1, "\\i"),
            ("SELECT 1 \\gset\n", 1, 10, "\\gset"),
            ("S;\nSELECT 'x", 2, 8, "string"),
            ("\u{feff}S; SELECT 'ä', 'x", 1, 16, "string"),
            ("S;\nSELECT $a$ x", 2, 8, "$a$"),
            ("S;\n/* x", 2, 1, "comment"),
            ("S;\nSELECT \"x", 2, 8, "name"),
            ("S;\n\n  SELECT (1", 3, 3, "parenthesis"),
            ("CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;", 1, 1, "ATOMIC"),
            ("COPY t FROM stdin; SELECT 1;\n", 1, 19, "COPY"),
        ] {
            let error = split(script).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{script:?}");
            assert!(error.why.contains(word), "{script:?}: {}", error.why);
            assert_eq!(error.meta, script.contains('\\'), "{script:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(script in r#"[a-cE$'";\\()\-/* \nä1]{0,60}"#) {
            let _ = split(&script);
        }

        #[test]
        fn what_is_joined_splits_again(parts in proptest::collection::vec(
            prop_oneof![
                Just("SELECT 1"), Just("SELECT 'a;''b'"), Just("SELECT $q$ ; ' $q$"), Just("SELECT \";\""),
                Just("INSERT INTO t VALUES (1, 'ä')"), Just("SELECT E'\\';'"), Just("SELECT (1 /* ; */)"),
            ], 0..8,
        ), gap in prop_oneof![Just(";"), Just(" ;\n"), Just("; -- x;\n"), Just(";/*;*/")]) {
            let script: String = parts.iter().map(|part| format!("{part}{gap}")).collect();
            prop_assert_eq!(texts(&script), parts);
        }

        #[test]
        fn every_byte_is_in_a_statement_or_between_two(script in "[a-c'; \n]{0,40}") {
            // Two quotes in a row inside a text are one of its characters, so only an odd number leaves it open.
            let is_open = script.matches('\'').count() % 2 == 1;
            let Ok(statements) = split(&script) else {
                prop_assert!(is_open);
                return Ok(());
            };
            prop_assert!(!is_open);
            let kept: usize = statements.iter().map(|statement| statement.text.matches(|c: char| c.is_alphabetic()).count()).sum();
            prop_assert_eq!(kept, script.matches(|c: char| c.is_alphabetic()).count());
        }
    }
}
