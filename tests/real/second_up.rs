//! A second `up` over servers that run: what it leaves alone, and what it says of them.

use crate::case_init::postgres;
use crate::harness::Project;
use crate::stack::skip;

trials![a_misspelt_init_file_stops_no_database_that_runs, a_client_of_a_stopped_server_says_what_starts_it,];

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
