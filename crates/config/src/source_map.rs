//! Texts by number, spans into them, and where a byte stands as line and column.
//!
//! Every value of the merged tree carries a [`Span`], so a problem found long after parsing still points at the text
//! that caused it, and `config --origin` can say where a value came from. Values that no file holds (a recipe's
//! defaults, flags) belong to a text without content, whose name is all there is to show.

use std::sync::Arc;

/// A stretch of one text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// Number of the text in its [`Sources`].
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// Past the last byte.
    pub end: u32,
}

impl Span {
    /// A span inside text number `file`.
    pub(crate) fn new(file: u32, range: std::ops::Range<usize>) -> Self {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { file, start: clamp(range.start), end: clamp(range.end) }
    }
}

/// One text.
#[derive(Debug)]
pub(crate) struct Text {
    /// As shown in messages.
    pub name: String,
    /// The content.
    pub text: String,
    /// No file is behind it: a recipe's defaults, a flag.
    pub layer: bool,
    /// An env file: `NAME=value` lines, whatever it is called.
    pub is_env: bool,
    line_starts: Vec<u32>,
}

/// Line and column of a byte, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Text {
    /// Indexes the lines.
    pub(crate) fn new(name: impl Into<String>, text: String) -> Self {
        let mut line_starts = vec![0];
        line_starts.extend(
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| u32::try_from(at + 1).unwrap_or(u32::MAX)),
        );
        Self { name: name.into(), text, layer: false, is_env: false, line_starts }
    }
    /// As [`Text::new`], of an env file.
    pub(crate) fn env(name: impl Into<String>, text: String) -> Self {
        Self { is_env: true, ..Self::new(name, text) }
    }
    /// Where a byte stands. A byte inside a character counts as that character's start.
    pub(crate) fn position(&self, byte: u32) -> Position {
        let byte = byte.min(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        let line = self.line_starts.partition_point(|start| *start <= byte).max(1);
        let start = self.line_starts[line - 1] as usize;
        let before = self.text.get(start..byte as usize).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }
    /// A line without its end, numbered from 1, and the byte it starts at.
    pub(crate) fn line(&self, number: usize) -> (&str, u32) {
        let Some(start) = number.checked_sub(1).and_then(|index| self.line_starts.get(index)).copied() else {
            return ("", 0);
        };
        let end = self.line_starts.get(number).map_or(self.text.len(), |next| *next as usize);
        let line = self.text.get(start as usize..end).unwrap_or_default();
        (line.trim_end_matches(['\n', '\r']), start)
    }
    /// The text under a span.
    pub(crate) fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }
}

/// All texts of one reading. Cheap to clone; texts are only ever added.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources(Vec<Arc<Text>>);

impl Sources {
    /// Adds a text and gives its number.
    pub(crate) fn add(&mut self, text: Text) -> u32 {
        self.0.push(Arc::new(text));
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }
    /// A text without content: a layer that no file holds.
    pub(crate) fn add_layer(&mut self, name: impl Into<String>) -> Span {
        let file = self.add(Text { layer: true, ..Text::new(name, String::new()) });
        Span { file, start: 0, end: 0 }
    }
    /// The text of this number.
    pub(crate) fn get(&self, file: u32) -> Option<&Text> {
        self.0.get(file as usize).map(AsRef::as_ref)
    }
    /// `FILE:LINE`, or the layer's name.
    pub(crate) fn origin(&self, span: Span) -> String {
        match self.get(span.file) {
            None => "default".to_owned(),
            Some(text) if text.layer => text.name.clone(),
            Some(text) => format!("{}:{}", text.name, text.position(span.start).line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_lines_and_columns() {
        let text = Text::new("f", "ab\nü=1\r\n\nend".to_owned());
        for (byte, line, column) in [(0, 1, 1), (2, 1, 3), (3, 2, 1), (5, 2, 2), (9, 3, 1), (10, 4, 1), (13, 4, 4), (99, 4, 4)] {
            assert_eq!(text.position(byte), Position { line, column }, "byte {byte}");
        }
        assert_eq!(text.line(2), ("ü=1", 3));
        assert_eq!(text.line(9), ("", 0));
    }
}
