//! Keys and options of the reference that need a real Postgres or Redis to be seen.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crate::harness::{PATIENCE, Project, eventually, is_root, skipped};
use crate::services::installed;

trials![
    input_files_changed_while_they_are_in_use_are_named,
    key_service_extensions_settings_and_data_of_a_database,
    key_stop_check_waits_for_a_good_moment,
    sql_logs_in_and_asks,
    user_id_holds_for_recipes,
    user_id_holds_for_postgres_in_the_place_of_the_namespace,
    verb_up_no_init_cache_makes_a_cluster_from_nothing
];

fn postgres_15() -> bool {
    Path::new("/usr/lib/postgresql/15/bin/psql").exists() && is_root()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

fn uid_of(project: &Project, name: &str) -> u32 {
    let pid = project.service(name)["pid"].as_i64().expect("it runs");
    fs::metadata(format!("/proc/{pid}")).expect("it lives").uid()
}

/// A database that is set up by keys alone, and asked by SQL whether it is so.
///
/// Shows: service.password, service.init, service.extensions, service.set, service.data, volume.path, task.on.
fn key_service_extensions_settings_and_data_of_a_database() {
    if !postgres_15() {
        return skipped("no Postgres 15, or not root");
    }
    let project = Project::new().procfile(
        r#"
        [volumes]
        pg = { path = "kept/pg" }
        [services.db]
        use = "postgres"
        port = "private"
        data = "pg"
        user = "app"
        database = "shop"
        password = "p w'#$$x"
        init = ["init.sql"]
        extensions = ["pgcrypto"]
        set = { shared_buffers = "16MB" }
        [tasks.ask]
        on = "db"
        depends_on = ["db"]
        sql = "SELECT digest('x', 'sha1'); SELECT 1 / (SELECT count(*) FROM made_by_init)::int; SELECT 1 / (current_setting('shared_buffers') = '16MB')::int; SELECT 1 / (current_user = 'app' AND current_database() = 'shop')::int"
        "#,
    );
    project.write("init.sql", "CREATE TABLE made_by_init (n int); INSERT INTO made_by_init VALUES (1);");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.service("ask")["state"], "completed");
    assert!(project.path("kept/pg").is_dir());
    project.run(&["down"]).code(0);
}

/// A transaction that somebody has open is waited for, within half of the grace, and then the server goes all the same.
fn key_stop_check_waits_for_a_good_moment() {
    if !postgres_15() {
        return skipped("no Postgres 15, or not root");
    }
    let project = Project::new().procfile(
        r#"
        [services.db]
        use = "postgres"
        port = "auto"
        user = "app"
        database = "app"
        password = "word"
        stop = { check = true, grace = "20s" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let quick = project.run(&["restart", "db"]).code(0).says_not("transaction");
    assert!(quick.took < Duration::from_secs(8), "an idle server is not waited for: {quick}");
    let session = |seconds: &str| {
        let url = project.fill(&format!("postgres://app:word@127.0.0.1:{}/app", project.service("db")["ports"]["main"]));
        let sql = format!("SELECT 'be' || 'gun'; SELECT pg_sleep({seconds}); SELECT 'en' || 'ded'");
        let script = format!("exec /usr/lib/postgresql/15/bin/psql -X -At {url} -c \"{sql}\"");
        let running = project.start_in_shell(&script);
        // The query is one transaction; the server tells when it is there.
        eventually("the transaction", PATIENCE, || {
            let ask = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
            let out = project.run_in_shell(&format!("exec /usr/lib/postgresql/15/bin/psql -X -At {url} -c \"{ask}\""));
            (out.stdout.trim() == "1").then_some(())
        });
        running
    };
    let running = session("2");
    project.run(&["stop", "db"]).code(0).says("a transaction is open");
    running.outcome().code(0).says("ended");
    project.run(&["start", "db"]).code(0);
    let running = session("60");
    // `-t` shortens the wait with the grace.
    project.run(&["down", "-t", "2s"]).code(0).says("stopped all the same");
    assert_ne!(running.outcome().code, Some(0));
    project.nothing_left();
    project.rewrite("[services.a]\nrun = \"sleep 1000\"\nstop = { check = true }\n");
    project.run(&["check"]).code(0).says("known as neither");
}

/// A real server, a real login, a real query; skipped where none is installed.
/// Shows: ready.sql, service.use, service.user, service.database, ready.owner, task.sql.
fn sql_logs_in_and_asks() {
    if !std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut versions| versions.next().is_some()) {
        return skipped("no Postgres is installed");
    }
    let project = Project::new().procfile(
        r#"
        [services.db]
        use = "postgres"
        port = "auto"
        user = "app"
        database = "app"
        password = "p w#'$"
        ready = { sql = "SELECT 1" }
        [services.refused]
        run = "{svc:refused}"
        port = "${db.port}"
        user = "app"
        password = "wrong"
        database = "app"
        ready = { sql = "SELECT 1", owner = false, within = "20s" }
        depends_on = ["db"]
        profiles = ["refused"]
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.service("db")["health"], "healthy");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

fn user_id_holds_for_recipes() {
    if !is_root() || !installed("redis-server") {
        return skipped("needs root and redis");
    }
    let project = Project::new().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let state = project.path(".devrun");
    mode(&project.root().join("run"), 0o711);
    for user in ["user_id = \"24001\"", "user_id = \"nobody\"", ""] {
        project.rewrite(&format!("[services.r]\nuse = \"redis\"\nport = \"auto\"\n{user}\nset = {{ save = \"1 1\" }}\n"));
        let wanted = if user.contains("24001") {
            24_001
        } else if user.is_empty() {
            0
        } else {
            65_534
        };
        project.run(&["up", "-d"]).code(0);
        assert_eq!(uid_of(&project, "r"), wanted, "{user}");
        let data = state.join("data/r/redis/data");
        assert_eq!(fs::metadata(&data).expect("its data").uid(), wanted, "{user}");
        project.run(&["exec", "r", "--", "id", "-u"]).code(0).says(&wanted.to_string());
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
    // Nobody can list the state folder because of it.
    assert_eq!(fs::metadata(&state).expect("it is there").mode() & 0o066, 0);
    assert_eq!(fs::metadata(state.join("logs")).expect("it is there").mode() & 0o077, 0);
}

fn user_id_holds_for_postgres_in_the_place_of_the_namespace() {
    if !is_root() || !(Path::new("/usr/lib/postgresql").exists() || Path::new("/usr/local/bin/postgres").exists()) {
        return skipped("needs root and postgres");
    }
    let project = Project::new();
    mode(&project.root().join("run"), 0o711);
    for (user, wanted) in [("user_id = \"nobody\"", 65_534), ("", 0)] {
        project.rewrite(&format!("[services.pg]\nuse = \"postgres\"\nport = \"auto\"\n{user}\n"));
        project.run(&["up", "-d"]).code(0);
        assert_eq!(uid_of(&project, "pg"), wanted, "{user}");
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

/// An engine that makes a cluster from nothing and one that copies the cached empty one end alike.
///
/// Shows: up --no-init-cache.
fn verb_up_no_init_cache_makes_a_cluster_from_nothing() {
    if !postgres_15() {
        return skipped("no Postgres 15, or not root");
    }
    let cached =
        |project: &Project| project.root().join("home/.cache").exists() || project.root().join("home/.cache/devrun").exists();
    let text = "[services.db]\nuse = \"postgres\"\nport = \"private\"\n";
    let project = Project::new().procfile(text);
    project.run(&["up", "-d", "--no-init-cache"]).code(0);
    assert_eq!(project.service("db")["health"], "healthy");
    let without = cached(&project);
    project.run(&["down"]).code(0);
    assert!(!without, "nothing was put into a cache");
}

/// Shows: service.init.
fn input_files_changed_while_they_are_in_use_are_named() {
    if !postgres_15() {
        return skipped("no Postgres 15, or not root");
    }
    let project = Project::new().procfile(
        "[volumes]\nv = {}\n[services.db]\nuse = \"postgres\"\nport = \"private\"\ninit = \"init\"\n\
         [tasks.seed]\ndepends_on = [\"db\"]\nsql = \"seed.sql\"\nonce = \"v/.seeded\"\n",
    );
    project.write("seed.sql", "insert into marks values (1);\n");
    project.write("init/10.sql", "create table marks (id int);\n");
    project.run(&["up", "-d"]).code(0).says_not("changed");
    project.run(&["up", "-d"]).code(0).says_not("changed");
    project.write("init/10.sql", "create table marks (id bigint);\n");
    project.write("seed.sql", "insert into marks values (2);\n");
    for _ in 0..2 {
        let up = project.run(&["up", "-d"]).code(0).says("seed.sql changed while seed was in use; it is done already");
        assert!(up.stderr.contains("init/10.sql changed while db was in use; it acts on an empty volume only"), "{up}");
    }
    project.run(&["down"]).code(0);
}
