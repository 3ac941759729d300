//! `extensions` of a Postgres decide which server is taken; one that cannot be had is said before anything is started.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Outcome, Project};

/// A Postgres 16 of this machine, as far as looking for one goes, with `pg_trgm`.
fn project() -> Project {
    let project = Project::new();
    for name in ["postgres", "initdb"] {
        project.write(&format!("pg/bin/{name}"), "#!/bin/sh\necho 'postgres (PostgreSQL) 16.3'\n");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(project.path(&format!("pg/bin/{name}")), executable).expect("our own file");
    }
    project.write("pg/share/postgresql/extension/pg_trgm.control", "");
    let path = format!("{}:/usr/bin:/bin", project.path("pg/bin").display());
    let store = project.root().join("store").display().to_string();
    project.env("PATH", &path).env("DEVRUN_BIN_CACHE", &store).env("DEVRUN_OFFLINE", "1")
}

fn with(project: &Project, extensions: &str) -> Outcome {
    let extensions = if extensions.is_empty() { String::new() } else { format!("extensions = {extensions}\n") };
    project.rewrite(&format!("[services.db]\nuse = \"postgres@16\"\nport = \"auto\"\n{extensions}"));
    project.run(&["which", "db"])
}

#[test]
fn a_server_without_an_extension_is_passed_over() {
    let project = project();
    for extensions in ["", "[\"pg_trgm\"]", "[\"plpgsql\", \"pg_trgm\"]"] {
        with(&project, extensions).code(0).says("pg/bin/postgres");
    }
    let vector = with(&project, "[\"pg_trgm\", \"vector\"]").code(7);
    vector.says("no postgres 16 with the extensions pg_trgm, vector here").says("pg/bin has no extension vector");
    project.nothing_left();
}

#[test]
fn a_start_that_cannot_have_an_extension_starts_nothing() {
    let project = project();
    with(&project, "[\"vector\"]");
    let up = project.run(&["up", "-d"]).code(7).says("no postgres 16 with the extension vector here");
    let up = up.says("pg/bin has 16.3 and no extension vector");
    up.says("help: vector can be fetched with postgres 18 and 16: use = \"postgres@18\"");
    assert!(!project.path(".devrun/data/db").exists(), "no first boot was begun");
    project.run(&["down"]).code(0);
    with(&project, "[\"pg_trgn\"]");
    project.run(&["up", "-d"]).code(7).says("correct `extensions`, or install pg_trgn");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn check_warns_of_an_extension_that_no_server_is_known_to_have() {
    let project = project();
    for extensions in ["", "[\"pg_trgm\"]", "[\"plpgsql\"]", "[\"vector\"]"] {
        with(&project, extensions);
        project.run(&["check"]).code(0).says_not("warning");
    }
    with(&project, "[\"pg_trgn\"]");
    let check = project.run(&["check"]).code(0).says("warning: db: no postgres 16 with the extension pg_trgn is known");
    check.says("help: correct `extensions`");
    // It lies in a server of this machine, of which the catalogue knows nothing.
    project.write("pg/share/postgresql/extension/own_one.control", "");
    with(&project, "[\"own_one\"]");
    project.run(&["check"]).code(0).says_not("warning");
    // Another version can be fetched with it.
    project.rewrite("[services.db]\nuse = \"postgres@17\"\nextensions = [\"vector\"]\n");
    project
        .run(&["check"])
        .code(0)
        .says("warning: db: no postgres 17 with the extension vector is known")
        .says("use = \"postgres@18\"");
    project.nothing_left();
}
