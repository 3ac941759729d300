//! Files of the project that the procfile names and that are missing: an error before anything is started or stopped.

use crate::harness::Project;

/// A server that is never reached: what works on it needs no database of this machine.
const ELSEWHERE: &str = "[services.elsewhere]\nexternal = \"postgres://app@127.0.0.1:9/app\"\nready = false\n";

#[test]
fn check_names_every_file_that_is_missing_with_its_place() {
    let project = Project::new().procfile(&format!(
        "[services.db]\nuse = \"postgres\"\nport = \"auto\"\ninit = [\"db/init/10.sql\", \"db/inti/20.sql\"]\nmigrations = \"db/migrations\"\n\
         {ELSEWHERE}[tasks.seed]\nsql = [\"seed.sql\", \"sed.sql\"]\non = \"elsewhere\"\n"
    ));
    for name in ["db/init/10.sql", "db/init/20.sql", "seed.sql"] {
        project.write(name, "select 1;\n");
    }
    let check = project.run(&["check"]).code(2);
    for text in [
        "procfile.toml:4:27: error: service `db`: cannot find init file db/inti/20.sql",
        "help: did you mean db/init/20.sql?",
        "procfile.toml:5:14: error: service `db`: cannot find migrations directory db/migrations",
        "help: create it, or correct the path: it is relative to ",
        "procfile.toml:10:20: error: task `seed`: cannot find SQL file sed.sql",
        "help: did you mean seed.sql?",
        "3 errors",
    ] {
        assert!(check.stderr.contains(text), "{text:?} in {check}");
    }
    assert!(check.last_line().contains("exit 2") && check.last_line().contains("procfile.toml:4:27: "), "{check}");
    project.run(&["check", "--quiet"]).code(2);
    // A directory in the place of a file, and the other way round.
    project.write("db/migrations", "select 1;\n");
    project.write("sed.sql/1.sql", "select 1;\n");
    let check = project.run(&["check"]).code(2);
    assert!(check.stderr.contains("migrations directory db/migrations is not a directory"), "{check}");
    assert!(check.stderr.contains("SQL file sed.sql is a directory"), "{check}");
}

#[test]
fn a_start_that_would_fail_for_a_missing_file_starts_nothing() {
    let project = Project::new().procfile(&format!(
        "{ELSEWHERE}[tasks.seed]\nsql = \"sed.sql\"\non = \"elsewhere\"\n[services.api]\nrun = \"{{svc:api}}\"\n"
    ));
    project.write("seed.sql", "select 1;\n");
    project.run(&["up", "--plan"]).code(0).says("procfile.toml:5:7: warning: task `seed`: cannot find SQL file sed.sql");
    for command in [&["up", "-d"][..], &["up"], &["up", "-d", "seed"]] {
        let up = project.run(command).code(2).says("procfile.toml:5:7: error: task `seed`").says("did you mean seed.sql?");
        assert!(up.last_line().contains("cannot find SQL file sed.sql"), "{up}");
        assert!(project.alive("api").is_empty(), "{command:?}");
    }
    project.nothing_left();
    // What is not concerned is started, also what is started later on.
    project.run(&["up", "-d", "api"]).code(0).says_not("sed.sql");
    let pid = project.service("api")["pid"].clone();
    for command in [&["up", "-d"][..], &["start", "seed"]] {
        project.run(command).code(2).says("procfile.toml:5:7: error: task `seed`");
        assert_eq!(project.service("api")["pid"], pid, "{command:?}");
    }
    project.run(&["restart", "api"]).code(0);
    project.run(&["down"]).code(0);
}

#[test]
fn a_file_that_the_start_may_make_is_not_missing() {
    let sql = |more: &str| format!("{ELSEWHERE}[tasks.seed]\nsql = \"made.sql\"\non = \"elsewhere\"\n{more}");
    for more in [
        "depends_on = [\"dump\"]\n[tasks.dump]\nrun = \"cp there.sql made.sql\"\n",
        "tier = 2\n[tasks.dump]\nrun = \"cp there.sql made.sql\"\ntier = 1\n",
    ] {
        Project::new().procfile(&sql(more)).run(&["check"]).code(0).says_not("made.sql");
    }
    // An unrelated task makes it too late, and a build only where the start runs it.
    Project::new().procfile(&sql("[tasks.dump]\nrun = \"true\"\n")).run(&["check"]).code(2).says("made.sql");
    let built = Project::new().procfile(&sql("[services.api]\nrun = \"{svc:api}\"\nbuild = \"true\"\n"));
    built.run(&["check"]).code(0).says("warning: task `seed`: cannot find SQL file made.sql").says("devrun up --build");
    built.run(&["up", "-d"]).code(2).says("error: task `seed`: cannot find SQL file made.sql").says("devrun up --build");
    // The stack starts without what is optional, and a gateway without what it serves.
    let optional = Project::new().procfile(&sql("optional = true\n"));
    optional.run(&["check"]).code(0).says("warning: task `seed`: cannot find SQL file made.sql");
    let gateway = Project::new()
        .procfile("[services.web]\nuse = \"gateway\"\nport = \"auto\"\nroutes = { \"/\" = { files = \"dist\" } }\n");
    gateway.run(&["check"]).code(0).says("procfile.toml:4:28: warning: service `web`: cannot find file or directory dist");
    gateway.run(&["up", "-d"]).code(0);
    gateway.run(&["down"]).code(0);
}

#[test]
fn a_working_directory_that_is_missing_stops_nothing_that_runs() {
    let text = format!("{ELSEWHERE}[services.api]\nrun = \"{{svc:api}}\"\ndir = \"app\"\ndepends_on = [\"elsewhere\"]\n");
    let project = Project::new().procfile(&text);
    project.write("app/kept", "");
    project.run(&["up", "-d"]).code(0);
    let pid = project.service("api")["pid"].clone();
    project.rewrite(&text.replace("\"app\"", "\"appp\""));
    project.run(&["check"]).code(2).says("procfile.toml:6:7: error: service `api`: cannot find working directory appp");
    project.run(&["up", "--plan"]).code(0).says("warning: service `api`: cannot find working directory appp");
    for command in [&["up", "-d"][..], &["restart", "api"], &["restart"]] {
        let refused =
            project.run(command).code(2).says("procfile.toml:6:7: error: service `api`: cannot find working directory appp");
        assert!(refused.says("did you mean app?").last_line().contains("nothing was stopped"), "{command:?}");
        assert_eq!(project.service("api")["pid"], pid, "{command:?}");
    }
    // A task of the start may make it.
    project.rewrite(
        &text.replace("\"app\"", "\"made\"").replace("[\"elsewhere\"]\n", "[\"make\"]\n[tasks.make]\nrun = \"mkdir -p made\"\n"),
    );
    project.run(&["up", "-d"]).code(0);
    assert_ne!(project.service("api")["pid"], pid);
    project.run(&["down"]).code(0);
}

#[test]
fn a_task_that_is_done_needs_its_files_no_more() {
    let project = Project::new().procfile(&format!(
        "[volumes]\nwork = {{ class = \"persistent\" }}\n{ELSEWHERE}[tasks.seed]\nsql = \"seed.sql\"\non = \"elsewhere\"\nonce = \"work/.seeded\"\n\
         [services.api]\nrun = \"{{svc:api}}\"\n"
    ));
    project.run(&["check"]).code(2).says("procfile.toml:7:7: error: task `seed`");
    project.run(&["task", "resolve", "seed", "--done"]).code(0);
    project.run(&["check"]).code(0).says("procfile.toml:7:7: warning: task `seed`");
    project.run(&["up", "-d"]).code(0);
    // Without its data it would run again.
    let pid = project.service("api")["pid"].clone();
    let rebuild = project.run(&["rebuild", "-d", "--yes"]).code(2).says("procfile.toml:7:7: error: task `seed`");
    assert!(rebuild.last_line().contains("nothing was deleted"), "{rebuild}");
    assert_eq!(project.service("api")["pid"], pid);
    project.run(&["down"]).code(0);
}
