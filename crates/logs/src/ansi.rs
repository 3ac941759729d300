//! What of a service's output may reach a terminal: text and colours, nothing else.
//!
//! Log lines are written by anybody, also by whoever sends a request that a service logs. A terminal obeys them: a title,
//! a clipboard write (OSC 52), a cleared screen. Only SGR sequences (`ESC [ … m`) pass; every other control sequence is
//! dropped, and a reset is added at the end of a line that coloured anything. States after ECMA-48: an unfinished
//! sequence at the end of a line is dropped with the line.

/// Appends what of `line` (without its newline) may be shown. Returns whether a colour is still on.
pub fn clean(line: &[u8], out: &mut Vec<u8>) -> bool {
    filter(line, false, out)
}

/// Appends the text of `line` alone: no colours either. Carriage returns stay, as they say where the line begins again.
pub fn strip(line: &[u8], out: &mut Vec<u8>) {
    filter(line, true, out);
}

fn filter(line: &[u8], text_only: bool, out: &mut Vec<u8>) -> bool {
    let text = String::from_utf8_lossy(line);
    let mut chars = text.chars().peekable();
    let mut coloured = false;
    let mut buffer = [0u8; 4];
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.peek().copied() {
                Some('[') => {
                    chars.next();
                    let mut body = String::new();
                    let mut end = None;
                    for c in chars.by_ref() {
                        if ('\u{40}'..='\u{7e}').contains(&c) {
                            end = Some(c);
                            break;
                        }
                        if !('\u{20}'..='\u{3f}').contains(&c) || body.len() > 64 {
                            break;
                        }
                        body.push(c);
                    }
                    if end == Some('m') && !text_only && body.chars().all(|c| c.is_ascii_digit() || c == ';' || c == ':') {
                        out.extend_from_slice(b"\x1b[");
                        out.extend_from_slice(body.as_bytes());
                        out.push(b'm');
                        coloured = !(body.is_empty() || body == "0");
                    }
                }
                // Strings: OSC, DCS, SOS, PM, APC run to BEL or ST.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    chars.next();
                    while let Some(c) = chars.next() {
                        if c == '\u{7}' || c == '\u{9c}' {
                            break;
                        }
                        if c == '\u{1b}' {
                            if chars.peek() == Some(&'\\') {
                                chars.next();
                            }
                            break;
                        }
                    }
                }
                Some(' '..='/') => {
                    chars.next();
                    chars.next();
                }
                Some(_) => {
                    chars.next();
                }
                None => {}
            },
            '\t' => out.push(b'\t'),
            '\r' if text_only => out.push(b'\r'),
            '\r' if chars.peek().is_none() => {}
            // A lone carriage return would overwrite what stands before it on the line.
            '\r' => out.extend_from_slice("␍".as_bytes()),
            '\u{9d}' | '\u{90}' | '\u{98}' | '\u{9e}' | '\u{9f}' => {
                for c in chars.by_ref() {
                    if c == '\u{7}' || c == '\u{9c}' {
                        break;
                    }
                }
            }
            c if c.is_control() => {}
            // Bidirectional overrides can make a line read as another one.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
        }
    }
    coloured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_pass() {
        for (given, shown) in [
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
            ("\x1b[2Jgone", "gone"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]52;c;aGk=\x1b\\text", "text"),
            ("\x1bP1$q\x1b\\x", "x"),
            ("a\rb", "a␍b"),
            ("line\r", "line"),
            ("\u{9b}31mx", "31mx"),
            ("\u{9d}0;t\u{9c}x", "x"),
            ("\x1b[", ""),
            ("\x1b]never ends", ""),
            ("bell\x07 back\x08", "bell back"),
            ("\x1b[38;5;196mx", "\x1b[38;5;196mx"),
            ("\x1b[?25lx", "x"),
        ] {
            let mut out = Vec::new();
            clean(given.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), shown, "{given:?}");
        }
    }

    #[test]
    fn invalid_bytes_are_shown_as_such() {
        let mut out = Vec::new();
        clean(b"a\xffb\0", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a\u{fffd}b");
    }
}
