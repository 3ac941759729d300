//! Percent-encoding of what stands in a URL (RFC 3986).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but the unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Keeps only A-Z a-z 0-9 - . _ ~.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Takes the encoding away; a sign without two digits stands for itself, and what is not UTF-8 is replaced.
#[must_use]
pub fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_in_and_comes_out() {
        for (plain, coded) in [("", ""), ("aZ09-._~", "aZ09-._~"), ("#p ß/?", "%23p%20%C3%9F%2F%3F")] {
            assert_eq!(encode(plain), coded);
            assert_eq!(decode(coded), plain);
        }
        assert_eq!(decode("50%,%2,%2g%c3"), "50%,%2,%2g\u{fffd}");
        assert_eq!(decode("%2f%2F"), "//");
    }
}
