//! Problems with their spans, collected while a file is read, and how they look on a terminal.
//!
//! `file:line:column: error: what`, the line, a caret under the span, and a `help:` line that says what to type. Nothing
//! out of a file reaches the terminal raw: control characters are shown as dots, and long lines are cut to a window.

use std::fmt::Write as _;

use devrun_model::hidden_char::is_hidden;
use devrun_model::mask::{MASK, cover};

use super::masked_lines;
use super::source_map::{Sources, Span, Text};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Nothing is started.
    Error,
    /// Said, and gone on.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    pub span: Option<Span>,
    /// Further places that belong to it, each with its own word.
    pub notes: Vec<(Span, String)>,
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), span: Some(span), notes: Vec::new(), help: None }
    }
    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }
    /// A problem that no file holds: a flag.
    pub(crate) fn nowhere(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), span: None, notes: Vec::new(), help: None }
    }
    /// Without these values, longest first.
    pub(crate) fn masked(self, secrets: &[String]) -> Self {
        let mask = |text: String| {
            let hide = |text: String, value: &String| {
                if text.contains(value.as_str()) { text.replace(value.as_str(), MASK) } else { text }
            };
            secrets.iter().fold(text, hide)
        };
        Self {
            message: mask(self.message),
            notes: self.notes.into_iter().map(|(span, word)| (span, mask(word))).collect(),
            help: self.help.map(mask),
            ..self
        }
    }
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    #[must_use]
    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
    #[must_use]
    pub(crate) fn note(mut self, span: Span, word: impl Into<String>) -> Self {
        self.notes.push((span, word.into()));
        self
    }
}

/// Problems of one reading, ready to be shown.
#[derive(Debug, Clone, Default)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    sources: Sources,
}

/// One error, for programs that show it at its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPlace {
    /// The file as it was named; none for an error of no place.
    pub file: Option<String>,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong; without terminal escapes.
    pub message: String,
}

/// Past this many the rest is only counted.
const SHOWN: usize = 50;
/// Characters of a line that are shown around the caret.
const WINDOW: usize = 110;
/// In bytes; of a longer line only the place is shown.
const LONGEST_SHOWN: usize = 64 << 10;

impl Report {
    pub(crate) fn new(mut diagnostics: Vec<Diagnostic>, sources: Sources) -> Self {
        let place = |d: &Diagnostic| d.span.map(|span| (span.file, span.start, span.end));
        diagnostics.sort_by(|a, b| (place(a), a.severity, &a.message, &a.help).cmp(&(place(b), b.severity, &b.message, &b.help)));
        diagnostics.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        Self { diagnostics, sources }
    }
    /// Whether anything in it forbids a start.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }
    /// All of it, in its order.
    pub(crate) fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }
    /// The first error with its place, on one line.
    #[must_use]
    pub fn first_error(&self) -> Option<String> {
        let first = self.diagnostics.iter().find(|d| d.severity == Severity::Error)?;
        let message = printable(first.message.lines().next().unwrap_or_default());
        match first.span.and_then(|span| self.sources.get(span.file).map(|text| (span, text))) {
            Some((span, text)) => Some(format!("{}: {message}", place(text, span))),
            None => Some(message),
        }
    }
    /// The errors with their places, as many as are shown.
    #[must_use]
    pub fn error_places(&self) -> Vec<ErrorPlace> {
        let errors = self.diagnostics.iter().filter(|d| d.severity == Severity::Error).take(SHOWN);
        errors
            .map(|error| {
                let message = printable(&error.message);
                match error.span.and_then(|span| self.sources.get(span.file).map(|text| (span, text))) {
                    Some((span, text)) if !text.layer => {
                        let position = text.position(span.start);
                        ErrorPlace { file: Some(printable(&text.name)), line: position.line, column: position.column, message }
                    }
                    _ => ErrorPlace { file: None, line: 0, column: 0, message },
                }
            })
            .collect()
    }
    /// The messages of the warnings, without their places.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.messages(Severity::Warning)
    }
    /// The messages of the errors, without their places.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.messages(Severity::Error)
    }
    fn messages(&self, severity: Severity) -> Vec<String> {
        self.diagnostics.iter().filter(|d| d.severity == severity).map(|d| d.message.clone()).collect()
    }
    /// How many errors and warnings there are, in words; empty where there are none.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |severity, word: &str| {
            let n = self.diagnostics.iter().filter(|d| d.severity == severity).count();
            (n > 0).then(|| format!("{n} {word}{}", if n == 1 { "" } else { "s" }))
        };
        let parts: Vec<String> =
            [count(Severity::Error, "error"), count(Severity::Warning, "warning")].into_iter().flatten().collect();
        parts.join(", ")
    }
    /// Everything as text, ending in a newline; empty where there is nothing to say. Where there are errors, warnings
    /// are only counted: they would bury what must be mended first.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let paint = Paint(color);
        let mut out = String::new();
        let errors = self.has_errors();
        let shown: Vec<&Diagnostic> = self.diagnostics.iter().filter(|d| !errors || d.severity == Severity::Error).collect();
        for diagnostic in shown.iter().take(SHOWN) {
            self.render_one(diagnostic, paint, &mut out);
            out.push('\n');
        }
        if let Some(more @ 1..) = shown.len().checked_sub(SHOWN) {
            let _ = writeln!(out, "… and {more} more\n");
        }
        if !self.diagnostics.is_empty() {
            let counted = errors && self.diagnostics.iter().any(|d| d.severity == Severity::Warning);
            let later = if counted { " (warnings are shown once the errors are fixed)" } else { "" };
            let _ = writeln!(out, "{}{later}", self.summary());
        }
        out
    }

    fn render_one(&self, diagnostic: &Diagnostic, paint: Paint, out: &mut String) {
        let word = match diagnostic.severity {
            Severity::Error => paint.red("error"),
            Severity::Warning => paint.yellow("warning"),
        };
        let message = paint.bold(&printable(&diagnostic.message));
        match diagnostic.span.and_then(|span| self.sources.get(span.file).map(|text| (span, text))) {
            Some((span, text)) => {
                let _ = writeln!(out, "{}: {word}: {message}", place(text, span));
                excerpt(text, span, paint, out);
            }
            None => {
                let _ = writeln!(out, "{word}: {message}");
            }
        }
        for (span, note) in &diagnostic.notes {
            if let Some(text) = self.sources.get(span.file) {
                let _ = writeln!(out, "{}: {}", place(text, *span), printable(note));
                excerpt(text, *span, paint, out);
            }
        }
        if let Some(help) = &diagnostic.help {
            for (index, line) in help.lines().enumerate() {
                let lead = if index == 0 { paint.cyan("help:") } else { "     ".to_owned() };
                let _ = writeln!(out, "       {lead} {}", printable(line));
            }
        }
    }
}

pub(crate) fn place(text: &Text, span: Span) -> String {
    if text.layer {
        return printable(&text.name);
    }
    let position = text.position(span.start);
    format!("{}:{}:{}", printable(&text.name), position.line, position.column)
}

/// The line under the span with its caret.
fn excerpt(text: &Text, span: Span, paint: Paint, out: &mut String) {
    if text.layer {
        return;
    }
    let position = text.position(span.start);
    let (line, line_start) = text.line(position.line);
    // No person has written it, and looking for secrets in megabytes takes seconds: the place says enough.
    if line.len() > LONGEST_SHOWN {
        return;
    }
    let hidden = masked_lines::hidden(text, position.line);
    let chars: Vec<char> = printable(&cover(line, hidden.clone())).chars().collect();
    // The caret stands under what is shown in the place of its byte: under a mask for one that is hidden.
    let column = |byte: usize| {
        let byte = hidden.iter().filter(|stretch| stretch.contains(&byte)).map(|stretch| stretch.start).fold(byte, usize::min);
        let stretches = hidden.iter().filter(|stretch| stretch.end <= byte).cloned().collect();
        cover(line.get(..byte).unwrap_or(line), stretches).chars().count().min(chars.len())
    };
    let from = column((span.start - line_start) as usize);
    let end_in_line = (span.end.max(span.start) - line_start) as usize;
    let marked = column(end_in_line.min(line.len())).saturating_sub(from);
    let (first, last) = window(chars.len(), from);
    let shown: String = chars[first..last].iter().collect();
    let (before, after) = (if first > 0 { "…" } else { "" }, if last < chars.len() { "…" } else { "" });
    let caret = "^".repeat(marked.clamp(1, (last.saturating_sub(from)).max(1)));
    let pad = " ".repeat(from - first + before.chars().count());
    let _ = writeln!(out, "{} {before}{shown}{after}", paint.dim(&format!("{:>5} |", position.line)));
    let _ = writeln!(out, "{} {pad}{}", paint.dim("      |"), paint.red(&caret));
}

/// Which characters of a long line are shown, so that the caret is among them.
fn window(length: usize, at: usize) -> (usize, usize) {
    if length <= WINDOW {
        return (0, length);
    }
    let first = at.saturating_sub(WINDOW / 3);
    (first, (first + WINDOW).min(length))
}

/// Text from a file, fit for a terminal: tabs are blanks, other control characters dots.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() || is_hidden(c) => '·',
            c => c,
        })
        .collect()
}

#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
    fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }
    fn yellow(self, text: &str) -> String {
        self.wrap("1;33", text)
    }
    fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
    fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }
    fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, diagnostics: impl FnOnce(u32) -> Vec<Diagnostic>) -> Report {
        let mut sources = Sources::default();
        let file = sources.add(Text::new("procfile.toml", text.to_owned()));
        Report::new(diagnostics(file), sources)
    }

    #[test]
    fn the_caret_stands_under_the_span() {
        let report = report("a = 1\nöö = bad\n", |file| {
            vec![Diagnostic::error(Span::new(file, 13..16), "no value").help("write a number")]
        });
        assert_eq!(
            report.render(false),
            "procfile.toml:2:6: error: no value\n    2 | öö = bad\n      |      ^^^\n       help: write a number\n\n1 error\n"
        );
        assert!(report.render(true).contains("\u{1b}[1;31merror"));
    }

    #[test]
    fn what_a_file_holds_cannot_drive_a_terminal() {
        let report = report("x = \u{1b}[2J\n", |file| vec![Diagnostic::error(Span::new(file, 4..5), "bad \u{1b}[2J")]);
        assert!(!report.render(false).contains('\u{1b}'));
    }

    #[test]
    fn problems_are_sorted_deduplicated_and_capped() {
        let report = report(&"x\n".repeat(100), |file| {
            (0..100)
                .rev()
                .flat_map(|n| {
                    let one = Diagnostic::error(Span::new(file, n * 2..n * 2 + 1), "bad");
                    [one.clone(), one]
                })
                .collect()
        });
        let text = report.render(false);
        assert!(text.starts_with("procfile.toml:1:1"));
        assert!(text.contains("… and 50 more\n") && text.ends_with("100 errors\n"), "{text}");
    }

    #[test]
    fn errors_come_before_warnings_are_shown() {
        let both = report("a\nb\n", |file| {
            vec![Diagnostic::warning(Span::new(file, 0..1), "minor"), Diagnostic::error(Span::new(file, 2..3), "major")]
        });
        let text = both.render(false);
        assert!(
            !text.contains("minor") && text.contains("major") && text.contains("\n1 error, 1 warning (warnings are shown"),
            "{text}"
        );
        assert_eq!(both.first_error().as_deref(), Some("procfile.toml:2:1: major"));
        assert_eq!(both.warnings(), ["minor"]);
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let report = report(&"y".repeat(5000), |file| vec![Diagnostic::error(Span::new(file, 4000..4010), "there")]);
        assert!(report.render(false).lines().all(|line| line.chars().count() < 130));
    }
}
