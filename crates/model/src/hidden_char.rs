//! Characters that are there and not seen, and those that turn the direction of what is shown: with them one text reads as another.

/// Whether a text with it may look like another text. Control characters are another matter.
#[must_use]
pub fn is_hidden(char: char) -> bool {
    matches!(
        char,
        // Marks and overrides of direction, separators of lines, the byte order mark, tags.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}
