//! Takes secrets out of what is printed: the values that the plan lists, and variables whose names say what they hold.

use std::collections::{BTreeMap, BTreeSet};

/// What stands in the place of a secret.
pub const MASK: &str = "••••";

/// Masks texts; or, with `--reveal`, hands them on.
#[derive(Debug, Clone)]
pub struct Masker {
    /// Longest first, so that a secret that begins another one leaves no tail of it.
    values: Vec<String>,
    reveal: bool,
}

impl Masker {
    /// Masks these values.
    #[must_use]
    pub fn new(values: &BTreeSet<String>, reveal: bool) -> Self {
        let mut values: Vec<String> = values.iter().filter(|value| !value.is_empty()).cloned().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values, reveal }
    }

    /// A text, secrets in it masked.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if !self.reveal {
            for value in &self.values {
                if text.contains(value.as_str()) {
                    text = text.replace(value.as_str(), MASK);
                }
            }
        }
        text
    }

    /// A variable's value. `secret` says whether its name alone makes it one.
    #[must_use]
    pub fn variable(&self, value: &str, secret: bool) -> String {
        if secret && !self.reveal && !value.is_empty() { MASK.to_owned() } else { self.text(value) }
    }

    /// Several variables.
    #[must_use]
    pub fn variables(&self, env: &BTreeMap<String, String>, secret: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
        env.iter().map(|(name, value)| (name.clone(), self.variable(value, secret(name)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_secret_goes_first() {
        let masker = Masker::new(&BTreeSet::from(["abcd".to_owned(), "abcdefgh".to_owned()]), false);
        assert_eq!(masker.text("x abcdefgh abcd y"), "x •••• •••• y");
        assert_eq!(masker.variable("plain", true), MASK);
        assert_eq!(masker.variable("", true), "");
        assert_eq!(Masker::new(&BTreeSet::from(["abcd".to_owned()]), true).text("abcd"), "abcd");
    }
}
