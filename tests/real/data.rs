//! Saved data of real servers: snapshots, backups and databases for tests, with a Postgres and a Redis.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{LONG, Outcome, PATIENCE, Project, eventually, figures, rounds, signal, skipped};
use crate::services::installed;
use crate::waits::let_time_pass;

trials![
    a_snapshot_of_a_running_stack_holds_rows_and_keys,
    a_snapshot_of_another_major_version_is_refused,
    a_dump_restored_into_an_empty_stack_gives_equal_rows,
    a_plain_dump_is_sql_text_and_restores_too,
    a_redis_backup_holds_all_parts_of_the_append_only_file,
    a_cut_backup_is_refused_and_a_failed_restore_keeps_the_data,
    down_with_backup_leaves_files_that_restore,
    killed_in_a_backup_or_a_restore_the_database_is_the_old_or_the_new_one,
    a_fork_is_a_fresh_copy_that_goes_with_its_caller,
    forks_that_are_over_before_they_are_made_go_too,
    many_forks_at_once,
    a_fork_of_a_redis_is_an_empty_database,
];

const STACK: &str = r#"
[project]
name = "shop"
[services.db]
use = "postgres"
port = "auto"
user = "app"
database = "app"
init = ["10.sql"]
[services.cache]
use = "redis"
port = "auto"
set = { appendonly = "yes" }
[services.api]
run = "{svc:api}"
depends_on = ["db", "cache"]
"#;

const INIT: &str = "create table orders (id serial primary key, note text);\ninsert into orders (note) select 'n' || g from generate_series(1, 1000) g;\n";

fn ready() -> bool {
    ["initdb", "redis-server", "pg_dump"].into_iter().all(installed)
}

const MISSING: &str = "no Postgres, no Redis or no pg_dump is installed";

fn stack() -> Project {
    let project = Project::new().procfile(STACK);
    project.write("10.sql", INIT);
    run(&project, &["up", "-d"]).code(0);
    project
}

#[track_caller]
fn run(project: &Project, args: &[&str]) -> Outcome {
    project.start(args).outcome_within(LONG)
}

#[track_caller]
fn sql(project: &Project, query: &str) -> String {
    let answer = run(project, &["sql", "--json", query]).code(0).json();
    let value = answer[0].as_object().and_then(|row| row.values().next()).cloned().unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Everything there is to know about the table, as one text.
#[track_caller]
fn rows(project: &Project) -> String {
    sql(project, "select count(*) || ' ' || coalesce(md5(string_agg(id || note, ',' order by id)), '') from orders")
}

#[track_caller]
fn redis(project: &Project, words: &[&str]) -> String {
    let mut args = vec!["redis-cli"];
    args.extend(words);
    run(project, &args).code(0).stdout.trim().to_owned()
}

fn end(project: &Project) {
    run(project, &["down"]).code(0);
    project.nothing_left();
}

fn a_snapshot_of_a_running_stack_holds_rows_and_keys() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    for index in 0..50 {
        redis(&project, &["set", &format!("k{index}"), "one"]);
    }
    let before = rows(&project);
    let save = run(&project, &["snapshot", "save", "one", "--json"]).code(0);
    let manifest = save.json();
    assert_eq!(manifest["counts"]["db"]["public.orders"], 1000, "{manifest}");
    assert_eq!(manifest["counts"]["cache"]["db0"], 50, "{manifest}");
    sql(&project, "delete from orders where id > 10; select '1'");
    sql(&project, "insert into orders (note) values ('later'); select '1'");
    redis(&project, &["set", "k0", "two"]);
    redis(&project, &["del", "k1"]);
    run(&project, &["snapshot", "save", "two"]).code(0);
    let diff = run(&project, &["snapshot", "diff", "one", "two", "--json"]).code(0).json();
    let of = |store: &str, what: &str| {
        diff.as_array().unwrap().iter().find(|row| row["store"] == store && row["what"] == what).cloned()
    };
    assert_eq!(of("db", "public.orders").unwrap()["b"], 11, "{diff}");
    assert_eq!(of("cache", "db0").unwrap()["b"], 49, "{diff}");
    let restore = run(&project, &["snapshot", "restore", "one", "--yes"]).code(0);
    assert_eq!(rows(&project), before);
    assert_eq!((redis(&project, &["get", "k0"]), redis(&project, &["dbsize"])), ("one".to_owned(), "50".to_owned()));
    project.wait_state("api", "running");
    run(&project, &["logs", "db"]).code(0).says_not("was not properly shut down");
    // After a clean the passwords are others, so the snapshot brings its own.
    end(&project);
    run(&project, &["clean", "--yes"]).code(0);
    run(&project, &["snapshot", "restore", "two", "--yes"]).code(0);
    run(&project, &["up", "-d"]).code(0);
    assert_eq!(sql(&project, "select count(*) from orders"), "11");
    assert_eq!(redis(&project, &["get", "k0"]), "two");
    figures(&format!(
        "paused {} ms, saved in {} ms, restored in {} ms",
        manifest["pause_ms"],
        save.took.as_millis(),
        restore.took.as_millis()
    ));
    end(&project);
}

fn a_snapshot_of_another_major_version_is_refused() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    run(&project, &["snapshot", "save", "one", "db"]).code(0);
    let file = project.path(".devrun/snapshots/one/manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    manifest["volumes"][0]["engine"]["version"] = "9.6.1".into();
    fs::write(&file, manifest.to_string()).unwrap();
    let refused = run(&project, &["snapshot", "restore", "one", "--yes"]).code(7);
    refused.says("were made by postgres 9.6.1").says("use = \"postgres@9\"");
    assert_eq!(sql(&project, "select count(*) from orders"), "1000");
    end(&project);
}

/// Shows: backup, restore.
fn a_dump_restored_into_an_empty_stack_gives_equal_rows() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    sql(&project, "insert into orders (note) values ('ä '' \\ \"x\"'); select '1'");
    let before = rows(&project);
    let backup = run(&project, &["backup", "db"]).code(0);
    let file = backup.stdout.trim().to_owned();
    assert!(file.starts_with("db-") && file.ends_with(".dump"), "{backup}");
    let manifest: serde_json::Value = serde_json::from_str(&project.read(&format!("{file}.json"))).unwrap();
    assert_eq!(
        (&manifest["service"], &manifest["format"], &manifest["database"]),
        (&"db".into(), &"postgres-custom".into(), &"app".into())
    );
    end(&project);
    run(&project, &["clean", "--yes"]).code(0);
    project.write("10.sql", "create table unrelated ();");
    run(&project, &["backup", "db", "-o", "none.dump"]).code(6).says("db is not running").says("devrun up -d db");
    run(&project, &["up", "-d"]).code(0);
    run(&project, &["restore", "db", &file]).code(2).says("is replaced by db of project shop").says("--yes");
    run(&project, &["restore", "db", &file, "--yes"]).code(0);
    assert_eq!(rows(&project), before);
    // One at a time; the question can be answered meanwhile.
    let other = fs::File::open(project.path(".devrun/snapshots")).unwrap();
    other.lock().unwrap();
    run(&project, &["restore", "db", &file]).code(2).says("is replaced by db of project shop");
    run(&project, &["restore", "db", &file, "--yes"]).code(6).says("another command is changing the snapshots or the data");
    drop(other);
    assert_eq!(rows(&project), before);
    // Sequences continue where they were, and nothing of the old database is left.
    sql(&project, "insert into orders (note) values ('next'); select '1'");
    assert_eq!(sql(&project, "select max(id)::text from orders"), "1002");
    let names = "select string_agg(datname, ' ' order by datname) from pg_database where not datistemplate";
    assert_eq!(sql(&project, names), "app postgres");
    // An open connection holds nothing up.
    let port = project.service("db")["ports"]["main"].clone();
    let password = run(&project, &["secret", "show", "db-password"]).code(0).stdout.trim().to_owned();
    let url = format!("postgres://app:{password}@127.0.0.1:{port}/app");
    let mut client = Command::new("psql")
        .args(["-X", "-q", "-c", "select pg_sleep(600)", &url])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the client is connected", PATIENCE, || {
        (sql(&project, "select count(*) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()") == "1")
            .then_some(())
    });
    run(&project, &["restore", "db", &file, "--yes"]).code(0);
    assert!(!client.wait().unwrap().success(), "its connection was closed");
    assert_eq!(rows(&project), before);
    run(&project, &["restore", "cache", &file, "--yes"]).code(2).says("is a backup of postgres");
    end(&project);
}

/// Shows: backup --plain, backup --output.
fn a_plain_dump_is_sql_text_and_restores_too() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    let before = rows(&project);
    run(&project, &["backup", "db", "--plain", "--output", "out.sql"]).code(0);
    assert!(project.read("out.sql").contains("CREATE TABLE public.orders"));
    run(&project, &["backup", "db", "--plain", "-o", "out.sql"]).code(2).says("exists already");
    run(&project, &["backup", "cache", "--plain", "-o", "x"]).code(2).says("cache is not a Postgres");
    sql(&project, "delete from orders; select '1'");
    run(&project, &["restore", "db", "out.sql", "--yes"]).code(0);
    assert_eq!(rows(&project), before);
    end(&project);
}

fn a_redis_backup_holds_all_parts_of_the_append_only_file() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    for index in 0..200 {
        redis(&project, &["set", &format!("k{index}"), &format!("v{index}")]);
    }
    let pid = project.service("cache")["pid"].clone();
    run(&project, &["backup", "cache", "-o", "cache.tar.gz"]).code(0);
    assert_eq!(project.service("cache")["pid"], pid, "it is copied while it runs");
    let list = Command::new("tar").arg("-tzf").arg(project.path("cache.tar.gz")).output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for part in ["appendonlydir/appendonly.aof.manifest", ".base.", ".incr.", ".devrun-init.json"] {
        assert!(list.contains(part), "{part}: {list}");
    }
    end(&project);
    run(&project, &["clean", "--yes"]).code(0);
    run(&project, &["restore", "cache", "cache.tar.gz", "--yes"]).code(0);
    run(&project, &["up", "-d"]).code(0);
    assert_eq!((redis(&project, &["dbsize"]), redis(&project, &["get", "k199"])), ("200".to_owned(), "v199".to_owned()));
    // And while it runs.
    redis(&project, &["flushall"]);
    run(&project, &["restore", "cache", "cache.tar.gz", "--yes"]).code(0);
    assert_eq!(redis(&project, &["dbsize"]), "200");
    project.wait_state("api", "running");
    end(&project);
}

fn a_cut_backup_is_refused_and_a_failed_restore_keeps_the_data() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    let before = rows(&project);
    run(&project, &["backup", "db", "-o", "db.dump"]).code(0);
    let whole = fs::read(project.path("db.dump")).unwrap();
    for changed in [&whole[..whole.len() / 2], &[whole.as_slice(), b"x"].concat(), &{
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    }] {
        fs::write(project.path("db.dump"), changed).unwrap();
        run(&project, &["restore", "db", "db.dump", "--yes"]).code(8).says("cut or changed");
        assert_eq!(rows(&project), before);
    }
    // A dump that is whole and does not load: its manifest was made for it.
    run(&project, &["backup", "db", "--plain", "-o", "bad.sql"]).code(0);
    let text = format!("{}\nselect no_such_function();\n", project.read("bad.sql"));
    fs::write(project.path("bad.sql"), &text).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&project.read("bad.sql.json")).unwrap();
    let sum = Command::new("sha256sum").arg(project.path("bad.sql")).output().unwrap();
    manifest["sha256"] = String::from_utf8_lossy(&sum.stdout).split_whitespace().next().unwrap().into();
    manifest["bytes"] = text.len().into();
    fs::write(project.path("bad.sql.json"), manifest.to_string()).unwrap();
    run(&project, &["restore", "db", "bad.sql", "--yes"]).code(4).says("no_such_function");
    assert_eq!(rows(&project), before);
    let names = "select string_agg(datname, ' ' order by datname) from pg_database where not datistemplate";
    assert_eq!(sql(&project, names), "app postgres", "the stage is gone");
    fs::remove_file(project.path("bad.sql.json")).unwrap();
    run(&project, &["restore", "db", "bad.sql", "--yes"]).code(2).says("cannot read the manifest");
    end(&project);
}

/// Shows: down --backup.
fn down_with_backup_leaves_files_that_restore() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    let before = rows(&project);
    redis(&project, &["set", "k", "v"]);
    let down = run(&project, &["down", "--backup"]).code(0).says("db saved to").says("cache saved to");
    project.nothing_left();
    let files: Vec<String> =
        fs::read_dir(project.path(".devrun/backups")).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect();
    assert_eq!(files.len(), 4, "{down}: {files:?}");
    let named = |end: &str| files.iter().find(|file| file.ends_with(end)).unwrap().clone();
    run(&project, &["clean", "--yes"]).code(0).says("of backups in");
    assert_eq!(fs::read_dir(project.path(".devrun/backups")).unwrap().count(), 4, "clean leaves backups alone");
    run(&project, &["restore", "cache", &named(".tar.gz"), "--yes"]).code(0);
    run(&project, &["up", "-d"]).code(0);
    run(&project, &["restore", "db", &named(".dump"), "--yes"]).code(0);
    assert_eq!((rows(&project), redis(&project, &["get", "k"])), (before, "v".to_owned()));
    end(&project);
    run(&project, &["down", "--backup"]).code(0).says("no backup was taken");
}

fn killed_in_a_backup_or_a_restore_the_database_is_the_old_or_the_new_one() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    let new = rows(&project);
    run(&project, &["backup", "db", "-o", "db.dump"]).code(0);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((seed >> 33) % most)
    };
    let begun = Instant::now();
    run(&project, &["restore", "db", "db.dump", "--yes"]).code(0);
    let most = u64::try_from(begun.elapsed().as_millis()).unwrap();
    let (mut olds, mut news) = (0, 0);
    let all = rounds(5);
    for round in 0..all {
        sql(&project, "insert into orders (note) values ('old'); select '1'");
        let old = rows(&project);
        let restore = project.start(&["restore", "db", "db.dump", "--yes"]);
        let_time_pass("the moment of the kill", random(most));
        restore.signal(Signal::SIGKILL);
        drop(restore.outcome_within(LONG));
        // Clients of the killed command may have refused connections for an instant.
        let found = eventually("the database answers", PATIENCE, || {
            let answer = run(
                &project,
                &[
                    "sql",
                    "--json",
                    "select count(*) || ' ' || coalesce(md5(string_agg(id || note, ',' order by id)), '') from orders",
                ],
            );
            (answer.code == Some(0))
                .then(|| answer.json()[0].as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned())
        });
        if found == old {
            olds += 1;
        } else {
            assert_eq!(found, new, "round {round}: half");
            news += 1;
        }
        let name = format!("r{round}.dump");
        let backup = project.start(&["backup", "db", "-o", &name]);
        let_time_pass("the moment of the kill", random(most));
        backup.signal(Signal::SIGKILL);
        drop(backup.outcome_within(LONG));
        if project.path(&name).exists() {
            run(&project, &["restore", "db", &name, "--yes"]).code(0);
            assert_eq!(rows(&project), found, "round {round}");
        }
        run(&project, &["restore", "db", "db.dump", "--yes"]).code(0);
    }
    figures(&format!("{all} rounds: {olds} old, {news} new, none half"));
    end(&project);
}

/// Shows: db, db fork, db fork --json, db fork --ttl, db fork --pid, db list, db list --json, db drop, db refresh.
fn a_fork_is_a_fresh_copy_that_goes_with_its_caller() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    // The application holds a connection; the template is made all the same.
    let script = "url=$($0 db fork --json) || exit 1; echo \"$url\"; read _ < hold";
    Command::new("mkfifo").arg(project.path("hold")).status().unwrap();
    let mut caller = project.start_in_shell(script);
    caller.wait_for("devrun_fork_");
    let made: serde_json::Value = eventually("a whole line", PATIENCE, || serde_json::from_str(caller.stdout().trim()).ok());
    let url = made["url"].as_str().unwrap().to_owned();
    let psql = |url: &str, sql: &str| {
        let output = Command::new("psql").args(["-X", "-A", "-t", "-q", "-c", sql, url]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(psql(&url, "select count(*) from orders"), "1000");
    psql(&url, "delete from orders");
    assert_eq!(sql(&project, "select count(*) from orders"), "1000", "the original is untouched");
    let list = run(&project, &["db", "list", "--json"]).code(0).json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    // A second one is a fresh copy of the frozen state, not of today's.
    sql(&project, "insert into orders (note) values ('later'); select '1'");
    let count = run(&project, &["db", "fork", "--", "psql", "-X", "-A", "-t", "-c", "select count(*) from orders"]).code(0);
    assert_eq!(count.stdout.trim(), "1000");
    run(&project, &["db", "refresh"]).code(0);
    let count = run(&project, &["db", "fork", "--", "psql", "-X", "-A", "-t", "-c", "select count(*) from orders"]).code(0);
    assert_eq!(count.stdout.trim(), "1001");
    run(&project, &["db", "fork", "--", "sh", "-c", "exit 7"]).code(7);
    signal(caller.pid(), Signal::SIGKILL);
    let forks = || sql(&project, "select count(*) from pg_database where datname like 'devrun_fork_%'");
    eventually("it is dropped with its caller", PATIENCE, || (forks() == "0").then_some(()));
    drop(caller.outcome());
    // A time limit, while the caller lives.
    let own = std::process::id().to_string();
    run(&project, &["db", "fork", "--ttl", "1s", "--pid", &own]).code(0);
    eventually("its time is up", PATIENCE, || (forks() == "0").then_some(()));
    let fork = run(&project, &["db", "fork", "--pid", &own, "--json"]).code(0).json();
    let name = fork["database"].as_str().unwrap().to_owned();
    assert!(fork["bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{fork}");
    run(&project, &["db", "drop", &name]).code(0);
    run(&project, &["db", "drop", &name]).code(2).says("unknown fork");
    assert_eq!(forks(), "0");
    // A changed migration makes another template.
    let templates = || sql(&project, "select string_agg(datname, ',') from pg_database where datname like 'devrun_template_%'");
    let before = templates();
    project.write("10.sql", &format!("{INIT}-- changed\n"));
    run(&project, &["db", "fork", "--", "true"]).code(0);
    assert!(templates() != before && !templates().contains(','), "{before} {}", templates());
    run(&project, &["db", "fork", "api"]).code(2).says("neither a Postgres nor a Redis");
    run(&project, &["db", "fork", "--ttl", "x"]).code(2).says("--ttl");
    end(&project);
    run(&project, &["db", "fork"]).code(6).says("nothing is running");
}

/// Time limits that end, and a command that is killed, while the database is being made.
fn forks_that_are_over_before_they_are_made_go_too() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    let own = std::process::id().to_string();
    let forks = || sql(&project, "select count(*) from pg_database where datname like 'devrun_fork_%'");
    let listed = || run(&project, &["db", "list", "--json"]).code(0).json().as_array().unwrap().len();
    run(&project, &["db", "fork", "--pid", &own, "--ttl", "1ms", "--count", "20"]).code(0);
    eventually("their time is up", PATIENCE, || (forks() == "0" && listed() == 0).then_some(()));
    for _ in 0..3 {
        let maker = project.start(&["db", "fork", "--pid", &own, "--count", "1000"]);
        eventually("some are made", PATIENCE, || (listed() > 2).then_some(()));
        signal(maker.pid(), Signal::SIGKILL);
        let _killed = maker.outcome();
        let made: usize = eventually("none is being made", PATIENCE, || {
            let (there, known) = (forks(), listed());
            (there == known.to_string()).then_some(known)
        });
        // What was complete is the caller's and stays; what was being made is gone for good.
        assert!(made > 0);
        let list = run(&project, &["db", "list", "--json"]).code(0).json();
        let names: Vec<&str> = list.as_array().unwrap().iter().map(|fork| fork["database"].as_str().unwrap()).collect();
        run(&project, &[&["db", "drop"], &names[..]].concat()).code(0);
        assert_eq!(forks(), "0");
    }
    end(&project);
}

fn many_forks_at_once() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    let own = std::process::id().to_string();
    run(&project, &["db", "fork", "--", "true"]).code(0);
    let count = if crate::harness::long() { 200 } else { 40 };
    let begun = Instant::now();
    let running: Vec<_> = (0..count).map(|_| project.start(&["db", "fork", "--pid", &own])).collect();
    let mut urls: Vec<String> =
        running.into_iter().map(|one| one.outcome_within(LONG).code(0).stdout.trim().to_owned()).collect();
    let took = begun.elapsed();
    urls.sort();
    urls.dedup();
    assert_eq!(urls.len(), count);
    assert_eq!(sql(&project, "select count(*) from pg_database where datname like 'devrun_fork_%'"), count.to_string());
    figures(&format!("{count} forks at once in {} ms", took.as_millis()));
    // What a stack leaves behind is dropped when the next one makes a template or forks again.
    end(&project);
    run(&project, &["up", "-d"]).code(0);
    run(&project, &["db", "refresh"]).code(0);
    run(&project, &["db", "fork", "--", "true"]).code(0);
    eventually("forgotten forks are dropped", LONG, || {
        (sql(&project, "select count(*) from pg_database where datname like 'devrun_fork_%'") == "0").then_some(())
    });
    end(&project);
}

/// Shows: db fork --count.
fn a_fork_of_a_redis_is_an_empty_database() {
    if !ready() {
        return skipped(MISSING);
    }
    let project = stack();
    redis(&project, &["set", "k", "v"]);
    let own = std::process::id().to_string();
    let one = run(&project, &["db", "fork", "cache", "--pid", &own]).code(0).stdout.trim().to_owned();
    let other = run(&project, &["db", "fork", "cache", "--pid", &own]).code(0).stdout.trim().to_owned();
    assert!(one.ends_with("/1") && other.ends_with("/2"), "{one} {other}");
    assert_eq!(redis(&project, &["-n", "1", "dbsize"]), "0");
    redis(&project, &["-n", "1", "set", "mine", "1"]);
    run(&project, &["db", "drop", "1"]).code(0);
    assert_eq!((redis(&project, &["-n", "1", "dbsize"]), redis(&project, &["get", "k"])), ("0".to_owned(), "v".to_owned()));
    run(&project, &["db", "fork", "cache", "--pid", &own, "--count", "15"]).code(4).says("logical databases of cache are in use");
    end(&project);
}
