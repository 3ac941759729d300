//! Lines of logs within a budget, those that look like errors first.

use serde::Serialize;

use crate::app::log_pages::PageLine;

/// Words of lines that an agent wants to see before others.
const ALARMING: &[&str] = &[
    "error",
    "exception",
    "traceback",
    "panic",
    "fatal",
    "failed",
    "failure",
    "refused",
    "denied",
    "cannot",
    "unable",
    "invalid",
    "not found",
    "timed out",
    "timeout",
    "killed",
    "segmentation",
    "critical",
];

/// A part of the lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LogDigest {
    /// Lines that look like errors, the newest last.
    pub errors: Vec<String>,
    /// The newest other lines, oldest first.
    pub lines: Vec<String>,
    /// Lines that found no room.
    pub omitted: usize,
}

/// Whether a line looks like an error.
#[must_use]
pub(super) fn is_alarming(text: &str) -> bool {
    let text = text.to_lowercase();
    ALARMING.iter().any(|word| text.contains(word))
}

/// Takes as many lines as the budget of bytes allows: errors first, then the newest others.
#[must_use]
pub(super) fn digest(lines: &[PageLine], budget: usize) -> LogDigest {
    let mut left = budget;
    let mut take = |wanted: &dyn Fn(&PageLine) -> bool| {
        let mut taken = Vec::new();
        for line in lines.iter().rev().filter(|line| wanted(line)) {
            let text = format!("{} {} {}", line.ts, line.service, line.text);
            // A first line is cut rather than left out.
            let fits = text.len() <= left;
            if !fits && !taken.is_empty() {
                break;
            }
            let text: String = if fits { text } else { text.chars().take(left / 4).chain("…".chars()).collect() };
            left = left.saturating_sub(text.len() + 1);
            taken.push(text);
            if !fits {
                break;
            }
        }
        taken.reverse();
        taken
    };
    let errors = take(&|line| is_alarming(&line.text));
    let others = take(&|line| !is_alarming(&line.text));
    let omitted = lines.len().saturating_sub(errors.len() + others.len());
    LogDigest { errors, lines: others, omitted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> PageLine {
        PageLine { service: "api".to_owned(), ts: "T".to_owned(), micros: 0, stream: "stdout", text: text.to_owned() }
    }

    #[test]
    fn errors_come_first_and_the_newest_lines_next() {
        let lines: Vec<PageLine> =
            (0..100).map(|number| line(&format!("request {number}"))).chain([line("ValueError: x"), line("bye")]).collect();
        let found = digest(&lines, 60);
        assert_eq!(found.errors, ["T api ValueError: x"]);
        assert_eq!(found.lines, ["T api request 99", "T api bye"]);
        assert_eq!(found.omitted, 99);
        assert_eq!(digest(&lines, 1 << 20).omitted, 0);
    }

    #[test]
    fn a_line_over_the_budget_is_cut() {
        let found = digest(&[line(&format!("error {}", "é".repeat(1000)))], 100);
        assert!(found.errors[0].ends_with('…') && found.errors[0].len() < 110, "{}", found.errors[0].len());
    }
}
