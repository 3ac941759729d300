//! The syntax of unit files: words, values and durations (systemd.syntax(7), systemd.service(5)).

use std::time::Duration;

/// A text in which `%` is no specifier (systemd.unit(5)).
pub(crate) fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// A word of a setting, in quotes where it needs them (systemd.syntax(7)).
pub(crate) fn setting(text: &str) -> String {
    let text = specifiers(text);
    let is_plain = !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || "/._-=:,%@+~".contains(char));
    if is_plain {
        return text;
    }
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// A word of a command line: a dollar would begin a variable (systemd.service(5)).
pub(crate) fn word(text: &str) -> String {
    setting(&text.replace('$', "$$"))
}

/// A command line.
pub(crate) fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// A duration, in milliseconds where it is not one of whole seconds.
pub(crate) fn time(duration: Duration) -> String {
    match duration.as_millis() {
        whole if whole.is_multiple_of(1000) => format!("{}s", whole / 1000),
        millis => format!("{millis}ms"),
    }
}
