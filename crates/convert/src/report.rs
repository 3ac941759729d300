//! What became of each key of a foreign file, line by line.

use std::fmt::Write as _;

/// A place: which of the files that were read, the line and the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct At {
    /// Index into [`Report::files`].
    pub file: u32,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl At {
    /// What a line of the report says of it.
    fn line_of(self) -> (u32, u32) {
        (self.file, self.line)
    }
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It stands in the procfile.
    Mapped,
    /// It has no native meaning; nothing is lost.
    Dropped,
    /// It has a meaning that did not come along: somebody must look at it.
    NotMapped,
}

impl Outcome {
    /// The word in the report.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Dropped => "dropped",
            Self::NotMapped => "not mapped",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Where the key stands.
    pub at: At,
    /// What became of it.
    pub outcome: Outcome,
    /// `services.db.image`.
    pub what: String,
    /// What it became, the reason, or the hint.
    pub text: String,
}

/// A text of a foreign file as part of one line: what would begin another line, or steer a terminal, is shown as an escape.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        // U+2028 and U+2029 are line breaks for some viewers.
        if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') { out.extend(char.escape_default()) } else { out.push(char) }
    }
    out
}

/// All lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Names of the files, as shown.
    pub files: Vec<String>,
    /// In the order of the files.
    pub lines: Vec<Line>,
}

impl Report {
    pub(crate) fn add(&mut self, outcome: Outcome, at: At, what: impl Into<String>, text: impl Into<String>) {
        let line = Line { at, outcome, what: one_line(&what.into()), text: one_line(&text.into()) };
        let same = |known: &Line| Line { at: line.at, ..known.clone() } == line && known.at.line_of() == line.at.line_of();
        if !self.lines.iter().any(same) {
            self.lines.push(line);
        }
    }
    pub(crate) fn mapped(&mut self, at: At, what: impl Into<String>, text: impl Into<String>) {
        self.add(Outcome::Mapped, at, what, text);
    }
    pub(crate) fn dropped(&mut self, at: At, what: impl Into<String>, reason: impl Into<String>) {
        self.add(Outcome::Dropped, at, what, reason);
    }
    pub(crate) fn not_mapped(&mut self, at: At, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Outcome::NotMapped, at, what, hint);
    }
    /// How many lines of this outcome there are.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.lines.iter().filter(|line| line.outcome == outcome).count()
    }
    /// `12 mapped, 3 dropped, 1 not mapped`.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |outcome: Outcome| format!("{} {}", self.count(outcome), outcome.word());
        [Outcome::Mapped, Outcome::Dropped, Outcome::NotMapped].map(count).join(", ")
    }
    /// `compose.yml:12`.
    #[must_use]
    pub fn place(&self, at: At) -> String {
        let file = usize::try_from(at.file).ok().and_then(|file| self.files.get(file)).map_or("?", String::as_str);
        format!("{file}:{}", at.line)
    }
    /// `compose.yml:12:5`, for errors.
    #[must_use]
    pub fn exactly(&self, at: At) -> String {
        format!("{}:{}", self.place(at), at.column.max(1))
    }
    /// The lines of these outcomes, one each, in the order of the files.
    #[must_use]
    pub fn render(&self, outcomes: &[Outcome]) -> String {
        let mut lines: Vec<&Line> = self.lines.iter().filter(|line| outcomes.contains(&line.outcome)).collect();
        lines.sort_by_key(|line| line.at.line_of());
        let mut out = String::new();
        for line in lines {
            let _infallible = writeln!(out, "{}: {}: {}: {}", self.place(line.at), line.outcome.word(), line.what, line.text);
        }
        out
    }
}
