//! A Postgres that is newer than the clients on this machine: version 16 of npm, which brings none, next to those of the system.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{LONG, Outcome, Project, eventually};
use crate::services::{down, store, up, with_registries};
use crate::stack::{has_psql, skip};

trials![a_server_without_clients_is_dumped_and_restored_by_those_of_its_version, no_suitable_client_is_an_error_with_a_way_out];

const INIT: &str = "create table orders (id serial primary key, note text);\n\
    create index on orders using gin (note gin_trgm_ops);\n\
    insert into orders (note) select 'n' || g from generate_series(1, 500) g;\n";

#[track_caller]
fn run(project: &Project, args: &[&str]) -> Outcome {
    project.start(args).outcome_within(LONG)
}

#[track_caller]
fn rows(project: &Project) -> String {
    let query = "select count(*) || ' ' || md5(coalesce(string_agg(id || note, ',' order by id), '')) as rows from orders";
    run(project, &["sql", "--json", query]).code(0).json()[0]["rows"].as_str().expect("a text").to_owned()
}

/// The server in the store, and whether it lacks the clients.
fn server() -> Option<String> {
    if std::env::var_os("DEVRUN_OFFLINE").is_some_and(|value| !value.is_empty()) {
        skip("postgres@16 is absent: DEVRUN_OFFLINE is set");
        return None;
    }
    let project = with_registries(Project::new().env("DEVRUN_BIN_CACHE", &store().display().to_string()));
    let project = project.procfile("[services.x]\nuse = \"postgres@16\"\nextensions = [\"pg_trgm\"]\n");
    // With the extension: not every source of this version has it, and a store that is empty is filled by the first that answers.
    let fetch = project.start(&["fetch", "x"]).outcome_within(LONG);
    if fetch.code != Some(0) {
        skip(&format!("postgres@16 with pg_trgm is absent: {}", fetch.last_line()));
        return None;
    }
    let which = project.run(&["which", "x", "--json"]).code(0).json();
    if which[0]["tools"].get("pg_dump").is_some() {
        crate::harness::skipped("the Postgres 16 of this machine has its clients with it");
        return None;
    }
    Some(which[0]["tools"]["postgres"].as_str().expect("a server").to_owned())
}

fn stack(project: Project, more: &str) -> Project {
    let procfile = format!(
        "[services.x]\nuse = \"postgres@16\"\nport = \"auto\"\nuser = \"app\"\ndatabase = \"shop\"\ninit = \"init.sql\"\n\
         extensions = [\"pg_trgm\"]\n{more}"
    );
    let project = project.procfile(&procfile);
    project.write("init.sql", INIT);
    project
}

fn a_server_without_clients_is_dumped_and_restored_by_those_of_its_version() {
    let Some(_) = server() else { return };
    if !has_psql() {
        return skip("no psql is installed");
    }
    let project = with_registries(Project::new().env("DEVRUN_BIN_CACHE", &store().display().to_string()));
    let path = std::env::var("PATH").unwrap_or_default();
    let project = stack(project.env("PATH", &path), "");
    up(&project);
    let lock = project.read("devrun.lock");
    let before = rows(&project);
    run(&project, &["backup", "x", "-o", "x.dump"]).code(0);
    run(&project, &["backup", "x", "--plain", "-o", "x.sql"]).code(0);
    assert_eq!(project.read("devrun.lock"), lock, "which server runs here has not changed");
    let manifest: Value = serde_json::from_str(&project.read("x.dump.json")).expect("a manifest");
    for key in ["version", "dumped_by"] {
        assert!(manifest[key].as_str().is_some_and(|version| version.starts_with("16.")), "{key}: {manifest}");
    }
    for (file, index) in [("x.dump", 1), ("x.sql", 2)] {
        run(&project, &["sql", &format!("delete from orders where id > {index}")]).code(0);
        run(&project, &["restore", "x", file, "--yes"]).code(0);
        assert_eq!(rows(&project), before, "{file}");
    }
    let extensions = run(&project, &["sql", "--json", "select count(*) as n from pg_extension where extname = 'pg_trgm'"]);
    assert_eq!(extensions.code(0).json(), json!([{ "n": 1 }]));
    let shown = run(&project, &["psql", "--", "-X", "-A", "-t", "-c", "select count(*) from orders"]).code(0);
    assert_eq!(shown.stdout.trim(), "500");
    // A client is connected, so the frozen copy is made by a dump.
    let client = project.start(&["psql", "--", "-X", "-q", "-c", "select pg_sleep(600)"]);
    let sleeping = "select count(*) as n from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()";
    let is_connected = || (run(&project, &["sql", "--json", sleeping]).code(0).json() == json!([{ "n": 1 }])).then_some(());
    eventually("the client is connected", LONG, is_connected);
    let fork = ["db", "fork", "--", "psql", "-X", "-A", "-t", "-c", "select count(*) from orders"];
    assert_eq!(run(&project, &fork).code(0).stdout.trim(), "500");
    client.signal(Signal::SIGTERM);
    drop(client.outcome());
    down(&project);
    // Into a stack with nothing in it.
    run(&project, &["clean", "--yes"]).code(0);
    project.write("init.sql", "select 1;\n");
    up(&project);
    run(&project, &["restore", "x", "x.dump", "--yes"]).code(0);
    assert_eq!(rows(&project), before);
    down(&project);
}

/// The server comes from a directory of its own, and nothing can be fetched. The machine may have clients of older versions.
fn no_suitable_client_is_an_error_with_a_way_out() {
    let Some(server) = server() else { return };
    if let Some(newer) = (16..24).find(|major| Path::new(&format!("/usr/lib/postgresql/{major}/bin/pg_dump")).exists()) {
        return crate::harness::skipped(&format!("the clients of Postgres {newer} are installed"));
    }
    let folder = Path::new(&server).parent().expect("a folder").display().to_string();
    let project = Project::new().env("DEVRUN_OFFLINE", "true");
    let empty = project.root().join("empty-store").display().to_string();
    let project = stack(project.env("DEVRUN_BIN_CACHE", &empty), &format!("[sources.postgres]\npath = \"{folder}\"\n"));
    up(&project);
    let pid = project.service("x")["pid"].clone();
    let refused = run(&project, &["backup", "x", "-o", "x.dump"]).code(7).says("no pg_dump is suitable");
    refused.says("x is postgres 16").says("it must be 16 or later").says("postgresql-client-16").says("without DEVRUN_OFFLINE");
    assert!(!project.path("x.dump").exists() && !project.path("x.dump.json").exists());
    // Before anything is stopped.
    run(&project, &["down", "--backup"]).code(7).says("no pg_dump is suitable");
    assert_eq!(project.service("x")["pid"], pid);
    // The way without a client.
    run(&project, &["backup", "x", "--directory", "-o", "x.tar.gz"]).code(0);
    down(&project);
}
