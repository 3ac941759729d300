//! Whether a line for a shell has a quote that is never closed: `check` refuses such a `run`, where a list of words for the shell
//! leaves the line to the shell.

/// The quote that is never closed. It follows the rules of a shell but for substitutions inside of quotes and here-documents, where it
/// may find one that is none.
pub(crate) fn open_quote(script: &str) -> Option<char> {
    let mut quote: Option<char> = None;
    let mut word_start = true;
    let mut chars = script.chars();
    while let Some(c) = chars.next() {
        let was_word_start = std::mem::replace(&mut word_start, false);
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => drop(chars.next()),
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if was_word_start => {
                chars.find(|c| *c == '\n');
                word_start = true;
            }
            (None, _) => word_start = matches!(c, ' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | '`'),
        }
    }
    quote
}

#[cfg(test)]
mod tests {
    use super::open_quote;

    #[test]
    fn quotes_that_are_closed_and_those_that_are_not() {
        for (script, found) in [
            ("echo 'x'", None),
            ("echo \"it's\"", None),
            ("echo 'x\" y'", None),
            ("echo x\\' \\\"", None),
            ("echo \"a\\\"b\"", None),
            ("echo x # it's fine\necho y", None),
            ("echo x#'", Some('\'')),
            ("echo 'x", Some('\'')),
            ("echo '\\'", None),
            ("echo \"x", Some('"')),
            ("echo # '\necho \"", Some('"')),
            ("", None),
        ] {
            assert_eq!(open_quote(script), found, "{script}");
        }
    }
}
