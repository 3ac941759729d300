//! Faults of files of other tools, found by whoever reads those, in the form of a procfile's errors.

use super::diagnostic::{Diagnostic, Report};
use super::source_map::{Sources, Span, Text};

/// A fault of a foreign file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignFault {
    /// Its number among the files that the report is made of.
    pub file: usize,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to change.
    pub help: String,
}

impl Report {
    /// A report of errors in files, each given by its name as shown and its text.
    #[must_use]
    pub fn of_foreign_files(files: Vec<(String, String)>, faults: Vec<ForeignFault>) -> Self {
        let mut sources = Sources::default();
        let numbers: Vec<u32> = files.into_iter().map(|(name, text)| sources.add(Text::new(name, text))).collect();
        let diagnostics = faults.into_iter().map(|fault| {
            let file = numbers.get(fault.file).copied();
            let span = file.and_then(|file| Some(word(sources.get(file)?, file, fault.line, fault.column)));
            Diagnostic { span, ..Diagnostic::nowhere(fault.message).help(fault.help) }
        });
        let diagnostics = diagnostics.collect();
        Self::new(diagnostics, sources)
    }
}

/// The word that begins at a place.
fn word(text: &Text, file: u32, line: u32, column: u32) -> Span {
    let (content, start) = text.line(line as usize);
    let before: usize = content.chars().take(column.saturating_sub(1) as usize).map(char::len_utf8).sum();
    let rest = content.get(before..).unwrap_or_default();
    let quote = rest.chars().next().filter(|char| matches!(char, '"' | '\''));
    let length = match quote {
        Some(quote) => rest.get(1..).and_then(|inside| inside.find(quote)).map_or(rest.len(), |end| end + 2),
        None => {
            let is_end = |(at, char): &(usize, char)| {
                let next = rest[at + char.len_utf8()..].chars().next();
                matches!(char, ' ' | '\t' | ',' | ']' | '}') || *char == ':' && next.is_none_or(char::is_whitespace)
            };
            rest.char_indices().find(is_end).map_or(rest.len(), |(at, _)| at)
        }
    };
    let begin = start as usize + before;
    Span::new(file, begin..begin + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_shown_at_its_word() {
        let text = "services:\n  wéb: { imagee: x, ports: [\"abc:def\"] }\n".to_owned();
        let fault = |line, column, message: &str| ForeignFault {
            file: 0,
            line,
            column,
            message: message.to_owned(),
            help: "did you mean `image`?".to_owned(),
        };
        let faults = vec![fault(2, 29, "bad port"), fault(2, 10, "unknown key"), fault(9, 9, "beyond the end")];
        let report = Report::of_foreign_files(vec![("compose.yml".to_owned(), text)], faults);
        let line = "    2 |   wéb: { imagee: x, ports: [\"abc:def\"] }\n";
        let caret = |before: usize, length: usize| format!("      | {}{}\n", " ".repeat(before), "^".repeat(length));
        let shown = report.render(false);
        assert!(shown.contains(&format!("compose.yml:2:10: error: unknown key\n{line}{}", caret(9, 6))), "{shown}");
        assert!(shown.contains(&format!("compose.yml:2:29: error: bad port\n{line}{}", caret(28, 9))), "{shown}");
        assert!(shown.contains("help: did you mean `image`?") && shown.ends_with("3 errors\n"), "{shown}");
    }

    #[test]
    fn a_line_of_a_compose_file_shows_no_secret() {
        let text = "services:\n  db: { imagee: x, environment: { DB_PASSWORD: hunter2 } }\n".to_owned();
        let fault = ForeignFault { file: 0, line: 2, column: 9, message: "unknown key".to_owned(), help: "remove it".to_owned() };
        let report = Report::of_foreign_files(vec![("compose.yml".to_owned(), text)], vec![fault]);
        assert!(!report.render(false).contains("hunter2"), "{}", report.render(false));
    }
}
