//! Bytes of the system that are not UTF-8, inside text: values and names of environment variables, which are bytes by POSIX.
//!
//! Each byte that cannot be read as UTF-8 becomes one character of its own, as in Python's `surrogateescape` (PEP 383), so that
//! such a value passes through plans, JSON and placeholders and is the same bytes again where a process gets it. Rust has no
//! lone surrogates, so the 128 last characters of Unicode stand for them: U+10FF80 for 0x80 and so on. Where real text holds one of
//! those, its own bytes are taken one by one, so that the way there and back changes nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const FIRST: u32 = 0x0010_ff80;

/// The byte that a character stands for.
fn byte(char: char) -> Option<u8> {
    u32::from(char).checked_sub(FIRST).and_then(|offset| u8::try_from(offset + 0x80).ok())
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    // Never ASCII: a byte below 0x80 is text by itself.
    text.extend(bytes.iter().filter_map(|byte| char::from_u32(FIRST + u32::from(byte.checked_sub(0x80)?))));
}

/// Text that stands for these bytes.
#[must_use]
pub fn from_os(value: &OsStr) -> String {
    let mut text = String::with_capacity(value.len());
    for chunk in value.as_bytes().utf8_chunks() {
        for char in chunk.valid().chars() {
            match byte(char) {
                Some(_) => push_bytes(&mut text, char.encode_utf8(&mut [0; 4]).as_bytes()),
                None => text.push(char),
            }
        }
        push_bytes(&mut text, chunk.invalid());
    }
    text
}

/// The bytes that a text stands for.
#[must_use]
pub fn to_os(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    for char in text.chars() {
        match byte(char) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_the_same_bytes_again() {
        for value in [
            &b""[..],
            b"plain",
            "caf\u{e9} \u{1f600}".as_bytes(),
            b"\xe9x",
            b"a\xff\xfe\x80z",
            b"\xf0\x9f\x98",
            "\u{10ff80}\u{10ffff} \u{10ff7f}".as_bytes(),
            b"\xed\xa0\x80",
        ] {
            let text = from_os(OsStr::from_bytes(value));
            assert_eq!(to_os(&text).as_bytes(), value, "{text:?}");
        }
        assert_eq!(from_os(OsStr::new("caf\u{e9}")), "caf\u{e9}");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(to_os(&from_os(OsStr::from_bytes(&all))).as_bytes(), all);
    }
}
