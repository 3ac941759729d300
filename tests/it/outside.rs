//! The view from outside: a script that was written from the contract's text alone and knows nothing of this program.

use std::time::Duration;

use crate::harness::Project;

/// Codes and JSON keys as they are written, from the shell of somebody else.
#[test]
fn a_script_that_knows_only_the_contract_finds_it_kept() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/outside/contract.py");
    let project = Project::new();
    let said = project.start_in_shell(&format!("exec python3 {script} \"$0\"")).outcome_within(Duration::from_secs(240)).code(0);
    assert!(said.stdout.ends_with("the contract holds\n"), "{said}");
    project.nothing_left();
}
