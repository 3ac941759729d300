//! The line that a stream has begun and not ended.
//!
//! It is held back, so that the other stream cannot tear it, but not for ever: a program that waits behind `Password: `, or
//! prints a dot a test, shows nothing but such text.

use std::time::{Duration, Instant};

/// How much of a line without an end is held back.
const MAX_PARTIAL_LINE: usize = 64 * 1024;
/// A smaller piece is copied behind what is held back: cheaper than a write of its own.
const MAX_COPIED: usize = 32 * 1024;
/// Text that has no line end is written once nothing has followed it for this long …
const REST: Duration = Duration::from_millis(200);
/// … or once it was held back for this long.
const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// What of a line came so far.
#[derive(Debug, Default)]
pub struct PartialLine {
    /// Held back: not written yet.
    held: Vec<u8>,
    held_since: Option<Instant>,
    /// Of the same line, written already; the end of it where it is long.
    written: Vec<u8>,
}

impl PartialLine {
    /// Takes what came and hands out what is to be written now, each time with what of its first line was written already:
    /// whole lines, or a piece of one that is too long to be held back.
    pub fn take(&mut self, bytes: &[u8], mut store: impl FnMut(&[u8], &[u8])) {
        let end = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
        let (whole, rest) = bytes.split_at(end);
        if self.held.is_empty() {
            self.hand_out(whole, &mut store);
        } else if !whole.is_empty() {
            // The line that was held back is completed; of a big piece the rest is written from where it lies.
            let first = memchr::memchr(b'\n', whole).map_or(whole.len(), |at| at + 1);
            let (end, others) = whole.split_at(if whole.len() < MAX_COPIED { whole.len() } else { first });
            self.held.extend_from_slice(end);
            self.flush(&mut store);
            self.hand_out(others, &mut store);
        }
        self.held.extend_from_slice(rest);
        if self.held.len() > MAX_PARTIAL_LINE {
            self.flush(&mut store);
        }
        if !self.held.is_empty() {
            self.held_since.get_or_insert_with(Instant::now);
        }
    }

    /// Hands out what was held back.
    pub fn flush(&mut self, mut store: impl FnMut(&[u8], &[u8])) {
        let mut held = std::mem::take(&mut self.held);
        self.hand_out(&held, &mut store);
        held.clear();
        self.held = held;
        self.held_since = None;
    }

    fn hand_out(&mut self, piece: &[u8], store: &mut impl FnMut(&[u8], &[u8])) {
        if piece.is_empty() {
            return;
        }
        store(piece, &self.written);
        let begun = match memchr::memrchr(b'\n', piece) {
            Some(at) => {
                self.written.clear();
                piece.get(at + 1..).unwrap_or_default()
            }
            None => piece,
        };
        self.written.extend_from_slice(begun);
        let over = self.written.len().saturating_sub(MAX_PARTIAL_LINE);
        self.written.drain(..over);
    }

    /// When what is held back is to be written if nothing comes meanwhile; `None` where nothing is.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.held_since.map(|since| (Instant::now() + REST).min(since + LONGEST_HOLD))
    }

    /// Whether nothing is known of a line: neither held back nor written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.written.is_empty()
    }

    /// The text of the line so far.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        [self.written.as_slice(), self.held.as_slice()].concat()
    }
}

/// Waits until a line is to be written; for ever where none is held back.
pub(crate) async fn rest(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(line: &mut PartialLine, bytes: &[u8]) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        line.take(bytes, |piece, begun| out.push((text(piece), text(begun))));
        out
    }

    #[test]
    fn a_line_is_written_whole_unless_it_rests() {
        let mut line = PartialLine::default();
        let pair = |piece: &str, begun: &str| (piece.to_owned(), begun.to_owned());
        assert_eq!(take(&mut line, b"one\ntw"), [pair("one\n", "")]);
        assert_eq!(take(&mut line, b"o\n"), [pair("two\n", "")]);
        assert!(line.due().is_none() && line.is_empty());
        assert!(take(&mut line, b"Password: ").is_empty());
        assert!(line.due().is_some());
        let mut out = Vec::new();
        line.flush(|piece, _| out.extend_from_slice(piece));
        assert_eq!(out, b"Password: ");
        assert!(line.due().is_none());
        assert_eq!(line.text(), b"Password: ");
        assert!(take(&mut line, b"se").is_empty());
        assert_eq!(take(&mut line, b"cret\nnext\n"), [pair("secret\nnext\n", "Password: ")]);
        assert!(line.is_empty());
    }

    #[test]
    fn what_is_long_is_not_held_back() {
        let mut line = PartialLine::default();
        let out = take(&mut line, &vec![b'x'; MAX_PARTIAL_LINE + 1]);
        assert_eq!(out.len(), 1);
        assert_eq!(line.text().len(), MAX_PARTIAL_LINE);
    }
}
