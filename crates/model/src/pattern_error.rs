//! The reason of a regular expression that is none. The library's message draws the place over several lines; an error of ours,
//! and the last line of a command, have one.

use std::fmt::Display;

/// Returns `unclosed group`.
#[must_use]
pub fn pattern_error(error: &impl Display) -> String {
    let text = error.to_string();
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it cannot be read");
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_with_the_reason_is_taken() {
        let drawn = "regex parse error:\n    (\n    ^\nerror: unclosed group";
        assert_eq!(pattern_error(&drawn), "unclosed group");
        let single = "Compiled regex exceeds size limit of 10485760 bytes.";
        assert_eq!(pattern_error(&single), single);
        assert_eq!(pattern_error(&""), "it cannot be read");
    }
}
