//! Aligned columns.

use unicode_width::UnicodeWidthChar;

/// The columns that a cell takes on a terminal: colours take none, wide characters two.
#[must_use]
pub fn width(cell: &str) -> usize {
    let mut width = 0;
    let mut chars = cell.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // A colour, ESC [ … m; nothing else that begins with ESC is in a cell.
            let _end = chars.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            width += c.width().unwrap_or(0);
        }
    }
    width
}

/// Rows under a head; the last column is not padded.
#[must_use]
pub fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| width(cell)).collect();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (column, cell) in cells.enumerate() {
            let pad = widths.get(column).copied().unwrap_or(0).saturating_sub(width(cell));
            text.push_str(cell);
            text.push_str(&" ".repeat(pad + 2));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    if !head.is_empty() {
        line(&mut head.iter().copied());
    }
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_align() {
        let rows = vec![vec!["a".to_owned(), "running".to_owned()], vec!["worker.2".to_owned(), "up".to_owned()]];
        assert_eq!(super::render(&["NAME", "STATE"], &rows), "NAME      STATE\na         running\nworker.2  up\n");
        assert_eq!(super::render(&[], &rows), "a         running\nworker.2  up\n");
    }

    #[test]
    fn colours_and_wide_characters_do_not_shift_the_columns() {
        let rows = vec![
            vec!["a".to_owned(), "\u{1b}[31mfailed (1)\u{1b}[0m".to_owned(), "none".to_owned()],
            vec!["名前".to_owned(), "\u{1b}[32mrunning\u{1b}[0m".to_owned(), "healthy".to_owned()],
        ];
        let text = super::render(&["NAME", "STATE", "HEALTH"], &rows);
        let plain = text.replace("\u{1b}[31m", "").replace("\u{1b}[32m", "").replace("\u{1b}[0m", "");
        assert_eq!(plain, "NAME  STATE       HEALTH\na     failed (1)  none\n名前  running     healthy\n");
    }
}
