//! `[project]`: what the machine must have, and the env file that is made from its sample.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::Project;

/// Shows: project.requires, requires.memory, requires.disk.
#[test]
fn requires_is_checked_before_a_start() {
    let project = Project::new();
    let with = |requires: &str| {
        project.rewrite(&format!("[project]\nrequires = {{ {requires} }}\n[services.a]\nrun = \"{{svc:a}}\"\n"));
    };
    with("memory = \"9000T\"");
    project.run(&["check"]).code(0);
    project.run(&["up", "-d"]).code(2).says("9000T of memory are required").says("requires.memory");
    with("disk = \"9000T\"");
    project.run(&["up", "-d"]).code(2).says("9000T of free disk are required");
    assert!(project.alive("").is_empty());
    with("memory = \"1M\", disk = \"1M\"");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
}

/// Shows: project.env_sample.
#[test]
fn env_sample_makes_a_missing_env_file_and_names_what_to_edit() {
    let project = Project::new().procfile(
        r#"
        [project]
        env_file = [".env"]
        env_sample = ".env.example"
        required = ["API_KEY"]
        [services.a]
        run = "{svc:a}"
        env = { LEVEL = "${LEVEL}" }
        "#,
    );
    let sample = "# shared by all\nLEVEL=info\nAPI_KEY=changeme\nTOKEN=\n";
    project.write(".env.example", sample);
    // Looking makes nothing.
    project.run(&["check"]).code(2);
    assert!(!project.path(".env").exists());
    project
        .run(&["up", "-d"])
        .code(2)
        .says(".env was made from .env.example; still to edit: API_KEY, TOKEN")
        .says("a required variable is missing: API_KEY (still \"changeme\")");
    assert_eq!(project.read(".env"), sample);
    assert_eq!(fs::metadata(project.path(".env")).expect("made above").permissions().mode() & 0o777, 0o600);
    project.write(".env", "LEVEL=debug\nAPI_KEY=real\n");
    project.run(&["up", "-d"]).code(0).says_not("was made");
    assert_eq!(project.read(".env"), "LEVEL=debug\nAPI_KEY=real\n", "a hand-written file is never touched");
}
