//! What a failed program said last.

use devrun_logs::visible_text::visible;

/// The last lines of an output, as one line.
pub(super) fn last_lines(tail: &[u8]) -> String {
    let mut lines: Vec<String> = tail.split(|byte| *byte == b'\n').map(|line| visible(line).trim().to_owned()).collect();
    lines.retain(|line| !line.is_empty());
    let last = lines.split_off(lines.len().saturating_sub(3));
    if last.is_empty() { "it said nothing".to_owned() } else { last.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_make_one() {
        assert_eq!(last_lines(b"a\n\nb\nc\nd\n"), "b | c | d");
        assert_eq!(last_lines(b"a\n\x1b[31mb\x1b[0m\r\n \x1b[0m\n"), "a | b");
        assert_eq!(last_lines(b""), "it said nothing");
    }
}
