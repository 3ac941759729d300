//! A second `up` over servers that run: what it leaves alone, and what it says of them.

use std::os::unix::fs::PermissionsExt as _;

use crate::case_init::postgres;
use crate::harness::Project;
use crate::stack::skip;

trials![
    a_misspelt_init_file_stops_no_database_that_runs,
    migrations_that_are_pending_are_named_with_their_command,
    a_client_of_a_stopped_server_says_what_starts_it,
    another_version_of_a_server_than_in_the_run_before_is_named,
];

fn a_misspelt_init_file_stops_no_database_that_runs() {
    if !postgres() {
        return skip("no Postgres is installed");
    }
    let text = "[services.db]\nuse = \"postgres\"\nport = \"auto\"\ninit = [\"10.sql\"]\n";
    let project = Project::new().procfile(text);
    project.write("10.sql", "create table marks (id int);\n");
    project.run(&["up", "-d"]).code(0);
    let pid = project.service("db")["pid"].clone();
    project.rewrite(&text.replace("10.sql", "11.sql"));
    for command in [&["up", "-d"][..], &["restart", "db"], &["restart"], &["up", "-d", "--force-recreate"]] {
        let refused = project.run(command).code(2).says("procfile.toml:4:9: error: service `db`: cannot find init file 11.sql");
        assert!(refused.last_line().contains("nothing was stopped"), "{refused}");
        assert!(!refused.stderr.contains("changed while db was in use"), "{refused}");
        assert_eq!(project.service("db")["pid"], pid, "{command:?}");
    }
    // One that is gone and still named is needed by a restart only.
    project.rewrite(text);
    std::fs::remove_file(project.path("10.sql")).expect("it was made");
    project.run(&["up", "-d"]).code(0);
    project.run(&["restart", "db"]).code(2).says("procfile.toml:4:9: error: service `db`: cannot find init file 10.sql");
    assert_eq!(project.service("db")["pid"], pid);
    project.run(&["down"]).code(0);
}

fn migrations_that_are_pending_are_named_with_their_command() {
    if !postgres() {
        return skip("no Postgres is installed");
    }
    let project = Project::new().procfile("[services.db]\nuse = \"postgres\"\nport = \"auto\"\nmigrations = \"m\"\n");
    project.write("m/001.sql", "create table one (id int);\n");
    project.run(&["up", "-d"]).code(0).says_not("pending");
    let pid = project.service("db")["pid"].clone();
    project.run(&["up", "-d"]).code(0).says_not("pending");
    project.write("m/002.sql", "create table two (id int);\n");
    for command in [&["up", "-d"][..], &["up", "--plan"], &["up", "-d", "db"]] {
        project.run(command).code(0).says("db: migration 002.sql is pending: devrun migrate db applies it");
    }
    project.write("m/003.sql", "create table three (id int);\n");
    project.run(&["up", "-d"]).code(0).says("db: 2 migrations are pending, from 002.sql on: devrun migrate db applies them");
    assert_eq!(project.service("db")["pid"], pid, "it was left alone");
    project.run(&["migrate", "db"]).code(0).says("applied 002.sql").says("applied 003.sql");
    // The database is asked, as no start has seen them applied.
    project.run(&["up", "-d"]).code(0).says_not("pending");
    project.write("m/002.sql", "create table other (id int);\n");
    project.run(&["up", "-d"]).code(0).says("warning: db: migration 002.sql was changed after it had been applied");
    project.write("m/002.sql", "create table two (id int);\n");
    project.write("m/004.sql", "create table four (id int);\n");
    // What is restarted applies them itself.
    project.rewrite(&format!("{}set = {{ work_mem = \"5MB\" }}\n", project.read("procfile.toml")));
    project.run(&["up", "-d"]).code(0).says("stopping: changed: set").says_not("pending");
    project.run(&["down"]).code(0);
}

fn a_client_of_a_stopped_server_says_what_starts_it() {
    let project = Project::new().procfile(
        "[services.db]\nuse = \"postgres\"\nport = \"auto\"\nmigrations = \"m\"\n[services.cache]\nuse = \"redis\"\nport = \"auto\"\n",
    );
    project.write("m/001.sql", "select 1;\n");
    for command in [&["psql", "-c", "select 1"][..], &["migrate"], &["migrate", "--status"], &["sql", "select 1"]] {
        project.run(command).code(6).says("error: db is not running").says("help: devrun up -d db").says_not(":0");
    }
    project
        .run(&["redis-cli", "ping"])
        .code(6)
        .says("error: cache is not running")
        .says("help: devrun up -d cache")
        .says_not(":0");
}

fn another_version_of_a_server_than_in_the_run_before_is_named() {
    let project = Project::new().procfile("[services.cache]\nuse = \"redis\"\nport = \"auto\"\n");
    let path = project.variables()["PATH"].clone();
    let servers = std::env::split_paths(&path).map(|folder| folder.join("redis-server"));
    let Some(server) = servers.into_iter().find(|server| server.is_file()) else { return skip("no Redis is installed") };
    // One that says that it is older, and that is removed later.
    let elsewhere = tempfile::tempdir().unwrap();
    let older = elsewhere.path().join("redis-server");
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in --version | -v) echo 'Redis server v=6.9.9 sha=0:0' ;; *) exec {} \"$@\" ;; esac\n",
        server.display()
    );
    std::fs::write(&older, script).unwrap();
    std::fs::set_permissions(&older, std::fs::Permissions::from_mode(0o755)).unwrap();
    let project = project.env("PATH", &format!("{}:{path}", elsewhere.path().display()));
    project.run(&["up", "-d"]).code(0).says_not("before, it was");
    assert_eq!(project.service("cache")["version"], "6.9.9");
    project.run(&["down"]).code(0);
    project.run(&["up", "-d"]).code(0).says_not("before, it was");
    std::fs::remove_file(&older).unwrap();
    let said = format!("is used; before, it was 6.9.9 ({}, which is gone)", older.display());
    // Under the supervisor that started the older one, and in another run.
    project.run(&["restart", "cache"]).code(0).says(&said);
    project.run(&["restart", "cache"]).code(0).says_not("before, it was");
    project.run(&["down"]).code(0);
    std::fs::write(&older, "").unwrap();
    project.run(&["up", "-d"]).code(0).says_not("before, it was");
    project.run(&["down"]).code(0);
}
