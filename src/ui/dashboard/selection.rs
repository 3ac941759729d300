//! The text under a drag of the mouse: log text only, as it was written: no borders, no names, no breaks of our own.

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthChar;

use super::layout::places;
use super::state::{Dashboard, Drag};

/// What of a row is selected: number of the row, first column of its text, and the column after the last.
#[must_use]
pub fn columns_of(dashboard: &Dashboard, drag: Drag) -> Vec<(usize, usize, usize)> {
    let (width, height) = dashboard.size;
    let places = places(Rect::new(0, 0, width, height), dashboard);
    let (mut from, mut to) = (drag.from, drag.to);
    if (from.1, from.0) > (to.1, to.0) {
        std::mem::swap(&mut from, &mut to);
    }
    let column = |x: u16| usize::from(x.saturating_sub(places.text_column())) + dashboard.indent;
    let first = from.1.max(places.body.y);
    let last = to.1.min((places.body.y + places.body.height).saturating_sub(1));
    (first..=last)
        .map(|y| {
            let start = if y == from.1 { column(from.0) } else { 0 };
            let end = if y == to.1 { column(to.0) + 1 } else { usize::MAX };
            (usize::from(y - places.body.y), start, end)
        })
        .collect()
}

/// The selected text; rows are joined by line ends.
#[must_use]
pub fn selected_text(dashboard: &Dashboard, drag: Drag) -> String {
    let rows = columns_of(dashboard, drag);
    let lines = rows.into_iter().filter_map(|(row, start, end)| Some(cut(&dashboard.rows.get(row)?.text, start, end)));
    lines.collect::<Vec<_>>().join("\n")
}

/// The part of a text between two columns; a wide character belongs to its first one.
#[must_use]
pub fn cut(text: &str, start: usize, end: usize) -> String {
    let mut column = 0;
    let mut out = String::new();
    for char in text.chars() {
        if column >= end {
            break;
        }
        if column >= start {
            out.push(char);
        }
        column += char.width().unwrap_or(0);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_the_screen() {
        assert_eq!(cut("hello world", 6, 11), "world");
        assert_eq!(cut("日本語 text", 2, 6), "本語");
        assert_eq!(cut("short", 9, usize::MAX), "");
        assert_eq!(cut("e\u{301}x", 0, 1), "e");
    }
}
