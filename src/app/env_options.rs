//! `-e NAME=VALUE` of `exec` and `run`.

use std::collections::BTreeMap;

use devrun_model::{Failure, FailureKind};

/// Adds what was given to the variables of a command. A name alone stands for the caller's value; where the caller has none, it is
/// left out.
///
/// # Errors
/// `Config` for what has no name.
pub fn add(given: &[String], caller: &BTreeMap<String, String>, variables: &mut BTreeMap<String, String>) -> Result<(), Failure> {
    for word in given {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), caller.get(word).map(String::as_str)),
        };
        if name.is_empty() {
            return Err(Failure::new(FailureKind::Config, format!("invalid environment variable `{word}`: missing name"))
                .help("-e LOG_LEVEL=debug"));
        }
        match value {
            Some(value) => _ = variables.insert(name.to_owned(), value.to_owned()),
            None => _ = variables.remove(name),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_the_callers_value() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let caller: BTreeMap<String, String> = map(&[("A", "caller"), ("B", "caller")]);
        let mut variables = map(&[("B", "service"), ("C", "service"), ("D", "service")]);
        let given = ["A", "B=1=2", "C=", "D", "E"].map(str::to_owned);
        add(&given, &caller, &mut variables).unwrap();
        assert_eq!(variables, map(&[("A", "caller"), ("B", "1=2"), ("C", "")]));
        assert!(add(&["=x".to_owned()], &caller, &mut variables).is_err());
    }
}
