//! Layers over layers: tables merge by key, lists and scalars replace, `false` removes what was inherited.
//!
//! `false` stays in the tree as a value; readers take it for "absent" where the key is no flag. So a layer above can
//! bring a removed key back, and a flag can still be switched off.

use super::schema::{CHECK_DETAILS, CHECK_KINDS};
use super::toml_node::{Table, TomlNode, TomlValue, get};

/// Puts `over` on top of `base`.
pub(crate) fn onto(base: &mut Table, over: &Table) {
    for (key, node) in over {
        match (base.get_mut(key), &node.value) {
            (Some(below), TomlValue::Table(above)) => {
                if let TomlValue::Table(table) = &mut below.value {
                    if key == "ready" || key == "alive" {
                        drop_kinds(table, above);
                    }
                    onto(table, above);
                    below.key = node.key;
                } else {
                    *below = node.clone();
                }
            }
            _ => {
                base.insert(key.clone(), node.clone());
            }
        }
    }
}

/// A `ready` that names a kind replaces the kinds below it; timings merge.
fn drop_kinds(below: &mut Table, above: &Table) {
    if CHECK_KINDS.iter().any(|kind| get(above, kind).is_some()) {
        below.retain(|key, _| !CHECK_KINDS.contains(&key.as_str()) && !CHECK_DETAILS.contains(&key.as_str()));
    }
}

/// One layer on top of another, where the keys are those of a `[services.X]` table.
pub(crate) fn layered(layers: &[&Table]) -> Table {
    let mut result = Table::new();
    for layer in layers {
        onto(&mut result, layer);
    }
    result
}

/// Puts one file on top of what came before it: first the file itself, then its overlay of the mode in force.
pub(crate) fn file_onto(base: &mut Table, file: &Table, mode: Option<&str>) {
    let mut plain = file.clone();
    let modes = plain.shift_remove("modes");
    onto(base, &plain);
    let overlay = mode.and_then(|mode| modes.as_ref().and_then(TomlNode::table).and_then(|table| table.get(mode)));
    if let Some(table) = overlay.and_then(TomlNode::table) {
        let mut table = table.clone();
        table.shift_remove("modes");
        onto(base, &table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source_map::Text;

    fn tree(text: &str) -> Table {
        let mut out = Vec::new();
        let table = super::super::toml_node::parse(0, &Text::new("f", text.to_owned()), &mut out);
        assert!(out.is_empty(), "{out:?}");
        table
    }
    fn flat(table: &Table, prefix: &str, out: &mut Vec<String>) {
        for (key, node) in table {
            match &node.value {
                TomlValue::Table(inner) => flat(inner, &format!("{prefix}{key}."), out),
                TomlValue::Array(elements) => {
                    out.push(format!(
                        "{prefix}{key}=[{}]",
                        elements.iter().filter_map(TomlNode::scalar).collect::<Vec<_>>().join(",")
                    ));
                }
                _ => out.push(format!("{prefix}{key}={}", node.scalar().unwrap_or_default())),
            }
        }
    }

    #[test]
    fn the_merge_table() {
        for (base, over, expected) in [
            ("a = 1\nb = 2", "b = 3", "a=1 b=3"),
            ("[t]\na = 1\nb = 2", "[t]\nb = 3\nc = 4", "t.a=1 t.b=3 t.c=4"),
            ("l = [1, 2]", "l = [3]", "l=[3]"),
            ("[t]\na = 1", "t = false", "t=false"),
            ("t = false", "[t]\na = 1", "t.a=1"),
            ("ready = { http = \"/a\", status = 204, retries = 5 }", "ready = { tcp = true }", "ready.retries=5 ready.tcp=true"),
            (
                "ready = { http = \"/a\", interval = \"1s\" }",
                "ready = { retries = 9 }",
                "ready.http=/a ready.interval=1s ready.retries=9",
            ),
            ("ready = { http = \"/a\" }", "ready = false", "ready=false"),
        ] {
            let mut merged = tree(base);
            onto(&mut merged, &tree(over));
            let mut out = Vec::new();
            flat(&merged, "", &mut out);
            assert_eq!(out.join(" "), expected, "{base} + {over}");
        }
    }

    #[test]
    fn a_mode_comes_after_its_own_file_and_before_the_next() {
        let mut merged = Table::new();
        file_onto(&mut merged, &tree("a = 1\nb = 1\nc = 1\n[modes.x]\nb = 2\nc = 2"), Some("x"));
        file_onto(&mut merged, &tree("c = 3"), Some("x"));
        let mut out = Vec::new();
        flat(&merged, "", &mut out);
        assert_eq!(out.join(" "), "a=1 b=2 c=3");
    }
}
