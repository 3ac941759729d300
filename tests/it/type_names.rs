//! One name means one type in the whole tree, so that a name in a message, a paper or a search leads to one place.
//!
//! Public types alone, whatever the reach of their `pub`: a private `Row` of a table is known to its file only.

use std::collections::BTreeMap;

use crate::source_tree::{is_comment, none, sources};

/// What every crate or command has one of.
const SHARED: &[&str] = &["Args", "Error", "Options"];

/// Here are the types of the same names as in `linux`: one of the two sets of drivers is compiled.
const OTHER_DRIVERS: &str = "crates/keeper/src/portable/";

/// The name of the public type that this line declares.
fn declared(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(reach) => reach.split_once(')')?.1,
        None => rest,
    };
    let rest = rest.strip_prefix(' ')?;
    let name =
        ["struct ", "enum ", "union ", "trait ", "unsafe trait ", "type "].iter().find_map(|word| rest.strip_prefix(word))?;
    // A macro's `$name` is named where it is used.
    name.split(|char: char| !char.is_alphanumeric() && char != '_').next().filter(|name| !name.is_empty())
}

#[test]
fn a_name_means_one_type() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.path.starts_with(OTHER_DRIVERS)) {
        for (number, line) in source.code().filter(|(_, line)| !is_comment(line)) {
            // A macro's `$name` is none.
            if let Some(name) = declared(line).filter(|name| !name.is_empty() && !SHARED.contains(name)) {
                places.entry(name.to_owned()).or_default().push(source.at(number));
            }
        }
    }
    let repeated: Vec<String> = places
        .into_iter()
        .filter(|(_, places)| places.len() > 1)
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect();
    none(&repeated, "a name of two public types");
}

#[test]
fn declarations_are_seen_in_all_spellings() {
    assert_eq!(declared("pub struct Plan {"), Some("Plan"));
    assert_eq!(declared("    pub(in crate::engine) enum Phase<T> {"), Some("Phase"));
    assert_eq!(declared("pub(crate) type Table = Map;"), Some("Table"));
    assert_eq!(declared("pub unsafe trait Reach: Sized"), Some("Reach"));
    assert_eq!(declared("pub trait Recipe: Send {"), Some("Recipe"));
    for other in ["struct Row {", "pub fn structure()", "pub use a::struct_name;", "published type", "pub const type_: u8 = 1;"] {
        assert_eq!(declared(other), None, "{other}");
    }
}
