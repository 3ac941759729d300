//! Colour around a text.

use std::fmt::Display;

/// SGR around a text.
#[must_use]
pub fn paint(on: bool, code: &str, text: impl Display) -> String {
    if on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}
