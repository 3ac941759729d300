//! That every public case of `docs/reliability.md` has a test whose name begins with its id: `scripts/soak` finds it by that.

use std::path::Path;

/// The cases by their letter; X01 and X02 are about the web page.
const CASES: [(char, u32); 13] = [
    ('o', 15),
    ('s', 7),
    ('r', 9),
    ('p', 5),
    ('c', 5),
    ('i', 8),
    ('l', 6),
    ('t', 4),
    ('f', 3),
    ('d', 6),
    ('x', 7),
    ('n', 5),
    ('q', 8),
];
const LATER: [&str; 2] = ["x01", "x02"];

#[test]
fn every_case_has_a_test_of_its_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for folder in ["tests/it", "tests/it/fetch"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("the tests can be listed").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(entry.path()).expect("a source file is text"));
            }
        }
    }
    let ids = || CASES.iter().flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number:02}")));
    let missing: Vec<String> = ids().filter(|id| !LATER.contains(&id.as_str()) && !text.contains(&format!("fn {id}_"))).collect();
    assert_eq!(missing, Vec::<String>::new());
    assert_eq!(ids().count(), 88);
    // The table has the same ones.
    let table = std::fs::read_to_string(root.join("scripts/soak-table")).expect("it is there");
    for (letter, count) in CASES {
        assert!(table.contains(&format!("\"{}\": {count}", letter.to_ascii_uppercase())), "{letter}: {count}");
    }
}
