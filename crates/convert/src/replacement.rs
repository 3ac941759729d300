//! The walk of a text from one marker to the next, for all the notations in which a program or a file has holes.

/// A text in which `value` says what stands in the place of a marker.
///
/// It is given what is written so far and the rest of the text from the marker on, and returns what to write and where to continue; with
/// `None` the marker stays and the search continues behind it. An empty marker is never found.
pub(crate) fn replace<'a>(
    text: &'a str,
    marker: &str,
    mut value: impl FnMut(&str, &'a str) -> Option<(String, &'a str)>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(marker).filter(|_| !marker.is_empty()) {
        out.push_str(&rest[..at]);
        let (written, after) = value(&out, &rest[at..]).unwrap_or_else(|| (marker.to_owned(), &rest[at + marker.len()..]));
        out.push_str(&written);
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_replaced_or_stay() {
        let digit = |_: &str, rest: &'static str| rest[1..].starts_with('1').then(|| ("one".to_owned(), &rest[2..]));
        for (text, expected) in [("", ""), ("a", "a"), ("$1", "one"), ("a$1b$2$1$", "aoneb$2one$"), ("$$1", "$one")] {
            assert_eq!(replace(text, "$", digit), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_so_far_is_known() {
        let after_a = |out: &str, rest: &'static str| out.ends_with('a').then(|| ("!".to_owned(), &rest[1..]));
        assert_eq!(replace("a.b.", ".", after_a), "a!b.");
        assert_eq!(replace("text", "", after_a), "text");
    }
}
