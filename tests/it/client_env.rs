//! Clients reach the servers of this stack, whatever the caller's shell exports (`crates/model/src/client_env.rs` holds the table).

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::Project;

/// What a developer's shell may hold of other servers.
const CALLER: &[(&str, &str)] = &[
    ("PGSERVICE", "prod"),
    ("PGSERVICEFILE", "/nowhere/pg_service.conf"),
    ("PGHOST", "prod.example"),
    ("PGHOSTADDR", "127.0.0.9"),
    ("PGPORT", "1"),
    ("PGOPTIONS", "-c search_path=prod"),
    ("PGPASSFILE", "/nowhere/pgpass"),
    ("PGSSLMODE", "require"),
    ("PGSSLROOTCERT", "/nowhere/root.crt"),
    ("PGREQUIRESSL", "1"),
    ("PGREQUIREAUTH", "gss"),
    ("PGCHANNELBINDING", "require"),
    ("PGGSSENCMODE", "require"),
    ("PGTARGETSESSIONATTRS", "standby"),
    ("REDISCLI_AUTH", "prod"),
    ("MYSQL_HOST", "prod.example"),
    ("MYSQL_TCP_PORT", "1"),
    ("MYSQL_UNIX_PORT", "/nowhere/mysql.sock"),
    ("MYSQL_PWD", "prod"),
    ("AWS_ENDPOINT_URL_S3", "https://prod.example"),
    ("AWS_PROFILE", "prod"),
    ("AWS_SESSION_TOKEN", "prod"),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
    ("NEO4J_USERNAME", "prod"),
    ("NEO4J_DATABASE", "prod"),
];

/// Variables that lead nowhere else.
const HARMLESS: &[(&str, &str)] = &[("PGAPPNAME", "app"), ("PGCONNECT_TIMEOUT", "3"), ("MYSQL_PS1", "> "), ("EDITOR", "ed")];

fn project(procfile: &str) -> Project {
    let project = CALLER.iter().chain(HARMLESS).fold(Project::new(), |project, (name, value)| project.env(name, value));
    project.procfile(procfile)
}

/// The value of a variable in the output of `env`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.split_once('=').filter(|(found, _)| *found == name).map(|(_, value)| value))
}

#[track_caller]
fn holds(text: &str, variables: &[(&str, &str)]) {
    for (name, expected) in variables {
        assert_eq!(value(text, name), Some(*expected), "{name} in:\n{text}");
    }
}

/// None of the caller's that begin so.
#[track_caller]
fn lacks(text: &str, prefixes: &[&str]) {
    for (name, callers) in CALLER.iter().filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix))) {
        assert_ne!(value(text, name), Some(*callers), "{name} in:\n{text}");
    }
}

#[test]
fn the_consoles_give_a_client_the_whole_address() {
    let project = project(
        r#"
        [services.db]
        external = "postgres://app:pass@127.0.0.1:9/data"
        [services.cache]
        external = "redis://127.0.0.1:9"
        "#,
    );
    for client in ["psql", "redis-cli"] {
        project.write(&format!("bin/{client}"), "#!/bin/sh\nenv\n");
        std::fs::set_permissions(project.path(&format!("bin/{client}")), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", project.path("bin").display());
    let project = project.env("PATH", &path);
    let psql = project.run(&["psql"]).code(0).stdout;
    lacks(&psql, &["PG"]);
    holds(&psql, &[("PGHOST", "127.0.0.1"), ("PGPORT", "9"), ("PGUSER", "app"), ("PGPASSWORD", "pass"), ("PGDATABASE", "data")]);
    holds(&psql, HARMLESS);
    let redis = project.run(&["redis-cli"]).code(0).stdout;
    lacks(&redis, &["REDISCLI_AUTH"]);
    holds(&redis, HARMLESS);
}

#[test]
fn what_run_sets_is_not_overridden_and_what_the_procfile_sets_stays() {
    let project = project(
        r#"
        [env]
        PGHOST = "127.0.0.1"
        PGSSLMODE = "disable"
        CACHE = "redis://127.0.0.1:9"
        MYSQL_HOST = "127.0.0.1"
        AWS_ENDPOINT_URL = "http://127.0.0.1:9"
        NEO4J_URI = "bolt://127.0.0.1:9"
        [services.a]
        run = "sleep 1000"
        "#,
    );
    let out = project.run(&["run", "--", "env"]).code(0).stdout;
    lacks(&out, &["PGSERVICE", "PGHOST", "PGOPTIONS", "PGPASS", "PGSSL", "PGREQUIRE", "PGCHANNEL", "PGGSS", "PGTARGET"]);
    lacks(&out, &["REDISCLI", "MYSQL", "AWS", "NEO4J"]);
    holds(&out, &[("PGHOST", "127.0.0.1"), ("PGSSLMODE", "disable"), ("MYSQL_HOST", "127.0.0.1")]);
    holds(&out, HARMLESS);
}

#[test]
fn tasks_services_and_exec_reach_the_server_whose_address_they_were_given() {
    let project = project(
        r#"
        [services.db]
        external = "postgres://app:pass@127.0.0.1:9/data"
        ready = { cmd = "true" }
        [services.by-words]
        run = "sh -c 'env > by-words; exec sleep 1000' ${db.host}"
        ready = { file = "by-words" }
        [services.on-purpose]
        run = "sh -c 'env > on-purpose; exec sleep 1000' ${db.host}"
        pass_env = ["PG*"]
        ready = { file = "on-purpose" }
        [services.unrelated]
        run = "sh -c 'env > unrelated; exec sleep 1000'"
        ready = { file = "unrelated" }
        [tasks.migrate]
        run = "sh -c 'env > migrate'"
        env = { PGHOST = "${db.host}", PGSSLMODE = "disable" }
        [tasks.by-url]
        run = "sh -c 'env > by-url'"
        env = { STORE = "${db.url:postgresql+psycopg}" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let libpq = &["PGSERVICE", "PGHOSTADDR", "PGOPTIONS", "PGSSL", "PGREQUIRE", "PGTARGET"];
    for name in ["by-words", "migrate", "by-url"] {
        let text = project.read(name);
        lacks(&text, libpq);
        holds(&text, HARMLESS);
        holds(&text, &[("MYSQL_PWD", "prod")]);
    }
    holds(&project.read("migrate"), &[("PGHOST", "127.0.0.1"), ("PGSSLMODE", "disable")]);
    for name in ["on-purpose", "unrelated"] {
        holds(&project.read(name), &[("PGSERVICE", "prod"), ("PGHOSTADDR", "127.0.0.9")]);
    }
    lacks(&project.run(&["exec", "by-words", "--", "env"]).code(0).stdout, libpq);
    project.run(&["down"]).code(0);
}

#[test]
fn a_shell_that_takes_the_variables_loses_what_overrides_them() {
    let project = project("[env]\nPGHOST = \"127.0.0.1\"\nPGSSLMODE = \"disable\"\n[services.a]\nrun = \"sleep 1000\"\n");
    let out = project.run_in_shell("eval \"$(\"$0\" env --format shell)\" && env").code(0).stdout;
    lacks(&out, &["PGSERVICE", "PGHOST", "PGOPTIONS"]);
    holds(&out, &[("PGHOST", "127.0.0.1"), ("PGSSLMODE", "disable"), ("MYSQL_PWD", "prod")]);
    project.run(&["env", "--format", "dotenv"]).code(0).says_not("unset");
}

/// A service with `run` has no usual variables; `[env]` gives clients its address, and puts no edges between services.
#[test]
fn env_and_run_give_the_same_variables() {
    let project = Project::new().procfile(
        r#"
        [env]
        API_URL = "${api.url}"
        [services.api]
        run = "{svc:api} --listen $PORT"
        port = "auto"
        ready = { http = "/" }
        [services.other]
        run = "{svc:other}"
        "#,
    );
    let run = project.run(&["run", "--", "sh", "-c", "env | grep -E '_(URL|HOST|PORT)=' | grep -v ^DEVRUN"]).code(0);
    let env = project.run(&["env"]).code(0);
    assert!(env.stdout.starts_with("API_URL=http://127.0.0.1:"), "{env}");
    let of_stack = |text: &str| {
        text.lines().filter(|line| line.starts_with("API_") || line.starts_with("OTHER_")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of_stack(&run.stdout), of_stack(&env.stdout));
    assert_eq!(of_stack(&env.stdout).len(), 1, "{env}");
    project.nothing_left();
}

#[test]
fn what_is_not_assigned_before_the_first_start_is_said() {
    let project = Project::new().procfile(
        "[secrets]\ngenerate = [\"token\"]\n[services.web]\nrun = \"{svc:web} --listen $PORT\"\nport = \"auto\"\n\
         env = { TOKEN = \"${secret.token}\" }\n[services.plain]\nrun = \"{svc:plain}\"\n",
    );
    let before = project.run(&["env", "web"]).code(0).says("PORT=0").says("note: nothing has run here yet");
    assert!(before.stdout.contains("<secret token>") && !before.stdout.contains("note:"), "{before}");
    project.run(&["env", "web", "--format", "json"]).code(0).says("devrun up -d").json();
    project.run(&["env", "plain"]).code(0).says_not("note:");
    project.run(&["up", "-d"]).code(0);
    project.run(&["env", "web"]).code(0).says_not("note:").says_not("<secret");
    project.run(&["down"]).code(0);
}
