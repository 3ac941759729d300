//! Aligned columns.

/// Rows under a head; the last column is not padded. Widths count characters.
#[must_use]
pub fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (column, cell) in cells.enumerate() {
            let pad = widths.get(column).copied().unwrap_or(0).saturating_sub(cell.chars().count());
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
}
