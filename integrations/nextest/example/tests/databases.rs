//! Each of these would fail on a database that another has used.

use devrun_nextest_example::sql;

fn own_database(name: &str) {
    assert!(sql("select current_database()").starts_with("devrun_fork_"));
    assert_eq!(sql("select note from notes"), "seed", "a copy of the seeded state, and nothing else");
    sql(&format!("insert into notes values ('{name}')"));
    assert_eq!(sql("select count(*) from notes"), "2");
}

#[test]
fn one() {
    own_database("one");
}

#[test]
fn two() {
    own_database("two");
}

#[test]
fn three() {
    own_database("three");
}
