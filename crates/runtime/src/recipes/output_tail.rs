//! What a failed program said last.

/// The last lines of an output, as one line.
pub(super) fn last_lines(tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(tail);
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.split_off(lines.len().saturating_sub(3));
    if last.is_empty() { "it said nothing".to_owned() } else { last.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_make_one() {
        assert_eq!(last_lines(b"a\n\nb\nc\nd\n"), "b | c | d");
        assert_eq!(last_lines(b""), "it said nothing");
    }
}
