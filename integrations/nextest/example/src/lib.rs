//! An application with a database; its tests are in `tests/`.

use std::process::Command;

/// What the database of this process answers.
pub fn sql(query: &str) -> String {
    let url = std::env::var("DATABASE_URL").expect("the wrapper script sets it");
    let asked = Command::new("psql").args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", query, &url]).output();
    let asked = asked.expect("psql runs");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8_lossy(&asked.stdout).trim().to_owned()
}
