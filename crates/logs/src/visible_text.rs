//! A line of output as people see it: what patterns are tried on, and what a report quotes.
//!
//! A program that colours its words, or that writes to a terminal (whose lines end in CR LF), prints other bytes than the
//! reader of the screen sees. A carriage return inside a line begins it again, as progress displays do.

use std::borrow::Cow;

use regex::bytes::Regex;

use super::ansi;

/// Whether a pattern matches a line: its bytes, its text without control sequences, or a stretch of that between two
/// carriage returns.
#[must_use]
pub fn matches(pattern: &Regex, line: &[u8]) -> bool {
    if pattern.is_match(line) {
        return true;
    }
    if !line.iter().any(|byte| is_control(*byte)) {
        return false;
    }
    let text = plain(line);
    pattern.is_match(&text) || text.contains(&b'\r') && text.split(|byte| *byte == b'\r').any(|part| pattern.is_match(part))
}

/// The text that stands on the line at last: without control sequences, and from the last carriage return that is followed
/// by something.
#[must_use]
pub fn visible(line: &[u8]) -> String {
    let text = plain(line);
    let last = text.rsplit(|byte| *byte == b'\r').find(|part| !part.is_empty()).unwrap_or_default();
    String::from_utf8_lossy(last).into_owned()
}

/// The first `most` characters of a text; `…` stands for what is cut.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    match (text.char_indices().nth(most), text.char_indices().nth(most.saturating_sub(1))) {
        (Some(_), Some((end, _))) => format!("{}…", text.get(..end).unwrap_or_default().trim_end()),
        _ => text.to_owned(),
    }
}

/// A line without control sequences and without carriage returns at its end.
fn plain(line: &[u8]) -> Cow<'_, [u8]> {
    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
    let line = line.get(..end).unwrap_or_default();
    if !line.iter().any(|byte| is_control(*byte)) {
        return Cow::Borrowed(line);
    }
    let mut text = Vec::with_capacity(line.len());
    ansi::strip(line, &mut text);
    let end = text.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
    text.truncate(end);
    Cow::Owned(text)
}

/// A byte with which something begins that is not shown as it stands. 0xc2 begins the control characters above 0x7f.
fn is_control(byte: u8) -> bool {
    byte < 0x20 && byte != b'\t' || byte == 0x7f || byte == 0xc2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_see_what_people_see() {
        for (line, pattern) in [
            (&b"\x1b[32mready\x1b[0m in \x1b[1m300\x1b[22m ms"[..], "^ready in [0-9]+ ms$"),
            (b"listening\r", "listening$"),
            (b"\x1b[32mlistening\x1b[0m\r", "^listening$"),
            (b"1 %\r50 %\rdone", "^done$"),
            (b"1 %\r50 %\rdone\r\r", "^50 %$"),
            (b"\x1b[2K\x1b[1Gready", "^ready$"),
            (b"\x1b]0;title\x07ready", "^ready$"),
            // A pattern for the bytes themselves still works.
            (b"\x1b[32mready", "^\\x1b\\[32mready$"),
            (b"caf\xe9 ready", "ready"),
        ] {
            assert!(matches(&Regex::new(pattern).unwrap(), line), "{pattern} on {:?}", String::from_utf8_lossy(line));
        }
        assert!(!matches(&Regex::new("^title").unwrap(), b"\x1b]0;title\x07ready"));
    }

    #[test]
    fn what_is_cut_is_marked() {
        for (text, most, cut) in
            [("short", 5, "short"), ("longer", 5, "long…"), ("ähöü", 3, "äh…"), ("two words", 5, "two…"), ("", 3, "")]
        {
            assert_eq!(shortened(text, most), cut);
        }
    }

    #[test]
    fn the_text_on_the_line_at_last_is_quoted() {
        for (line, text) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[31merror\x1b[0m: no spoon\r", "error: no spoon"),
            (b"10 %\r20 %\rfailed\r", "failed"),
            (b"failed\r\x1b[0m", "failed"),
            (b"", ""),
            (b"\r", ""),
        ] {
            assert_eq!(visible(line), text);
        }
    }
}
