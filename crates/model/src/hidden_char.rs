//! Characters that are there and not seen, and those that turn the direction of what is shown: with them one text reads as another.

/// Whether a text with it may look like another text. Control characters are another matter.
#[must_use]
pub fn is_hidden(char: char) -> bool {
    matches!(
        char,
        // Marks and overrides of direction, separators of lines, the byte order mark, tags.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
        // Without width: blank, soft hyphen, word joiner, operators, marks of annotations and old format characters; fillers of Hangul.
        // The joiners U+200C and U+200D stay: words of several languages and many emoji are written with them.
        | '\u{200b}' | '\u{ad}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{180e}'
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
    )
}
