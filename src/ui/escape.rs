//! Text that a procfile, a path or a command line brought along, before it reaches a terminal: what a terminal would obey, and
//! what makes a line read as another one, is shown as an escape sequence of JSON and TOML.
//!
//! Applied once, where text leaves for a terminal ([`super::term::say`], [`super::term::data`]), so that no command can forget
//! it. Colours pass: the commands paint before they print, and a colour alone deceives nobody.

use std::borrow::Cow;
use std::fmt::Write as _;

use devrun_model::hidden_char::is_hidden;

/// Escapes everything but text, newlines, tabs and colours.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, true)
}

/// Escapes colours as well: for a part of a line that is not ours.
#[must_use]
pub fn escaped_fully(text: &str) -> Cow<'_, str> {
    escape(text, false)
}

fn escape(text: &str, colors: bool) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let color = if colors && char == '\u{1b}' { color(rest) } else { None };
        let length = color.unwrap_or(char.len_utf8());
        if color.is_some() || !is_obeyed(char) {
            out.push_str(rest.get(..length).unwrap_or_default());
        } else {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                // Writing into a string cannot fail.
                let _written = write!(out, "\\u{unit:04x}");
            }
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Cow::Owned(out)
}

/// The length of the colour sequence (SGR of ECMA-48) at the start.
fn color(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\u{1b}[")?;
    let length = body.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    (body.as_bytes().get(length) == Some(&b'm')).then_some(2 + length + 1)
}

fn is_obeyed(char: char) -> bool {
    match char {
        '\n' | '\t' => false,
        char => char.is_control() || is_hidden(char),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_newlines_and_colours_pass_and_nothing_else() {
        for (text, expected) in [
            ("caf\u{e9} \u{1f600}\n\tx", "caf\u{e9} \u{1f600}\n\tx"),
            ("\u{1b}[31;1mred\u{1b}[0m\u{1b}[m", "\u{1b}[31;1mred\u{1b}[0m\u{1b}[m"),
            ("\u{1b}]52;c;aGk=\u{7}", "\\u001b]52;c;aGk=\\u0007"),
            ("\u{1b}[2J\u{1b}", "\\u001b[2J\\u001b"),
            ("\u{9b}31m\u{7f}\r\u{8}", "\\u009b31m\\u007f\\u000d\\u0008"),
            ("a\u{202e}b\u{2066}c\u{200f}", "a\\u202eb\\u2066c\\u200f"),
            ("a\u{200b}b\u{2060}c\u{ad}d\u{3164}", "a\\u200bb\\u2060c\\u00add\\u3164"),
            // Persian, and an emoji of two.
            (
                "\u{645}\u{6cc}\u{200c}\u{634} \u{1f469}\u{200d}\u{1f4bb}",
                "\u{645}\u{6cc}\u{200c}\u{634} \u{1f469}\u{200d}\u{1f4bb}",
            ),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(escaped(text), expected);
        }
        assert_eq!(escaped_fully("\u{1b}[31mred"), "\\u001b[31mred");
    }

    /// What is shown of JSON on a terminal is still that JSON.
    #[test]
    fn escapes_are_those_of_json() {
        let value = serde_json::json!({ "a": "\u{9b}\u{202e}\u{e0041}\u{7f}" });
        let shown = escaped(&value.to_string()).into_owned();
        assert!(shown.is_ascii());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
