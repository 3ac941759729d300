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

/// Between two columns.
const GAP: usize = 2;
/// What a name and the last column keep of their width at least.
const LEAST: usize = 12;

/// As [`render`], in lines that fit a terminal of this width: columns that say nothing are left out first, then the others in `order`
/// (by their heads); what is still too wide is shortened, the last column first and then the first. Only those two may be.
#[must_use]
pub fn fitted(head: &[&str], rows: &[Vec<String>], columns: usize, order: &[&str]) -> String {
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell));
        cells.chain(head.get(column).map(|cell| width(cell))).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(widest).collect();
    let Some(last) = head.len().checked_sub(1) else { return render(head, rows) };
    let mut kept: Vec<usize> = (0..head.len()).collect();
    let needed = |kept: &[usize], widest_last: usize| {
        kept.iter()
            .map(|&column| if column == last { widths[column].min(widest_last) } else { widths[column] } + GAP)
            .sum::<usize>()
            - GAP
    };
    let says_nothing = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        cells.all(|cell| matches!(cell.as_str(), "" | "0" | "none"))
    };
    let placed = |name: &&str| head.iter().position(|cell| cell == name).filter(|&column| column != 0 && column != last);
    let order: Vec<usize> = order.iter().filter_map(placed).collect();
    let (idle, telling): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|&column| says_nothing(column));
    // A long reason need not be seen to its end, but an address is of use only as a whole.
    let shown_last = widths[last].min(columns / 2);
    for column in idle.into_iter().chain(telling) {
        if needed(&kept, shown_last) <= columns {
            break;
        }
        kept.retain(|&other| other != column);
    }
    let fixed = needed(&kept, 0);
    let last_width = widths[last].min(columns.saturating_sub(fixed).max(LEAST));
    let excess = (fixed + last_width).saturating_sub(columns);
    let first_width = widths[0].saturating_sub(excess).max(LEAST.min(widths[0]));
    let limit = |column: usize| match column {
        0 => first_width,
        _ if column == last => last_width,
        _ => usize::MAX,
    };
    let shown = |row: &[String]| {
        kept.iter().map(|&column| row.get(column).map(|cell| shortened(cell, limit(column))).unwrap_or_default()).collect()
    };
    let head: Vec<&str> = kept.iter().map(|&column| head[column]).collect();
    render(&head, &rows.iter().map(|row| shown(row)).collect::<Vec<_>>())
}

/// At most so many columns of a cell without colours, with `…` in the place of its end.
fn shortened(cell: &str, columns: usize) -> String {
    if width(cell) <= columns {
        return cell.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let fits = |char: &char| {
        let needed = char.width().unwrap_or(0);
        let is_room = needed <= left;
        left = left.saturating_sub(needed);
        is_room
    };
    let mut out: String = cell.chars().take_while(fits).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_table_is_fitted_to_the_width_of_a_terminal() {
        let head = ["NAME", "STATE", "PID", "RESTARTS", "URL"];
        let row =
            |name: &str, pid: &str, url: &str| vec![name, "running", pid, "0", url].into_iter().map(str::to_owned).collect();
        let rows: Vec<Vec<String>> =
            vec![row("a-service-with-a-long-name", "4711", "http://127.0.0.1:8080"), row("b", "12", "exit 1, and so it went on")];
        let fitted = |columns: usize| super::fitted(&head, &rows, columns, &["PID", "RESTARTS"]);
        assert_eq!(fitted(200), super::render(&head, &rows));
        for (columns, dropped) in [(70, "RESTARTS"), (62, "PID"), (50, "PID"), (40, "PID"), (36, "PID")] {
            let text = fitted(columns);
            assert!(text.lines().all(|line| super::width(line) <= columns), "{columns}:\n{text}");
            assert!(!text.contains(dropped) && text.contains("running"), "{columns}:\n{text}");
        }
        assert!(fitted(62).contains("a-service-with-a-long-name  running  http://127.0.0.1:8080\n"), "{}", fitted(62));
        assert!(fitted(40).contains("…"), "{}", fitted(40));
        assert_eq!(super::fitted(&[], &rows, 10, &[]), super::render(&[], &rows));
        assert_eq!((super::shortened("名前名前", 4).as_str(), super::shortened("abcd", 4).as_str()), ("名…", "abcd"));
    }

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
