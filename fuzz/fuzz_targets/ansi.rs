//! Any bytes as a line of a log: what reaches a terminal is text, tabs and colours, and cleaning it again changes nothing.
#![no_main]

use devrun_logs::{ansi, visible_text};
use libfuzzer_sys::fuzz_target;

/// The rest behind a colour sequence, of which the escape was taken off.
fn after_colour(rest: &str) -> Option<&str> {
    rest.strip_prefix('[')?.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == ':').strip_prefix('m')
}

fuzz_target!(|line: &[u8]| {
    let mut shown = Vec::new();
    ansi::clean(line, &mut shown);
    let text = std::str::from_utf8(&shown).expect("it is text");
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '\u{1b}' {
            rest = after_colour(rest).unwrap_or_else(|| panic!("not a colour: {text:?}"));
        } else {
            assert!(c == '\t' || !c.is_control(), "{text:?}");
        }
    }
    let mut again = Vec::new();
    ansi::clean(&shown, &mut again);
    assert_eq!(again, shown);

    let mut stripped = Vec::new();
    ansi::strip(line, &mut stripped);
    let text = std::str::from_utf8(&stripped).expect("it is text");
    assert!(text.chars().all(|c| c == '\t' || c == '\r' || !c.is_control()), "{text:?}");
    let _ = visible_text::visible(line);
});
