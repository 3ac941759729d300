//! The backup chapters of two deployment guides, step by step: dumps and archives taken of a stack that runs, restored into one with
//! nothing in it, and what goes wrong there with a copy of a live directory, of one file of several, or of the wrong database.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::case_init::postgres;
use crate::harness::{LONG, Outcome, Project, skipped};
use crate::services::installed;
use crate::services::{curl, get, project};

trials![a_chapter_with_modes_a_queue_and_live_volumes, a_chapter_with_a_bucket_for_backups];

#[track_caller]
fn run(project: &Project, args: &[&str]) -> Outcome {
    project.start(args).outcome_within(LONG)
}

#[track_caller]
fn sql(project: &Project, mode: &str, query: &str) -> String {
    let answer = run(project, &["--mode", mode, "sql", "--json", query]).code(0).json();
    let value = answer[0].as_object().and_then(|row| row.values().next()).cloned().unwrap_or_default();
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn manifest(project: &Project, file: &str) -> Value {
    serde_json::from_str(&project.read(&format!("{file}.json"))).expect("a manifest")
}

const MODES: &str = r#"
[project]
name = "ordinaut"
mode = "dev"
[defaults]
restart = "unless-stopped"
[services.postgres]
use = "postgres"
port = "auto"
data = "pgdata"
user = "orchestrator"
database = "orchestrator"
password = "orchestrator"
migrations = "migrations"
[services.redis]
use = "redis"
port = "auto"
data = "redisdata"
set = { appendonly = "yes", maxmemory = "256mb", maxmemory-policy = "allkeys-lru" }
[services.worker]
run = "{svc:worker}"
depends_on = ["postgres", "redis"]
[modes.dev]
services.postgres.database = "orchestrator_dev"
[modes.prod]
services.postgres.port = "private"
services.redis.port = "private"
services.worker.replicas = 2
"#;

const ROWS: &str = "select count(*) || ' ' || coalesce(md5(string_agg(id || payload, ',' order by id)), '') from task";

fn a_chapter_with_modes_a_queue_and_live_volumes() {
    if !postgres() || !installed("redis-server") {
        return skipped("no Postgres or no Redis is installed");
    }
    let project = Project::new().procfile(MODES);
    project.write("migrations/version_0001.sql", "create table task (id serial primary key, payload text);\n");
    run(&project, &["up", "-d"]).code(0);
    sql(&project, "dev", "insert into task (payload) select 'p' || g from generate_series(1, 500) g; select '1'");
    for index in 0..40 {
        run(&project, &["redis-cli", "xadd", "events", "*", "n", &index.to_string()]).code(0);
    }
    let before = sql(&project, "dev", ROWS);
    // "Create backup": of the database of the mode in force, without a name that one has to remember.
    run(&project, &["backup", "postgres", "--plain", "-o", "backup.sql"]).code(0);
    let made = manifest(&project, "backup.sql");
    assert_eq!((&made["database"], &made["mode"]), (&"orchestrator_dev".into(), &"dev".into()));
    // "Redis backup": the rewrite has ended, and every part of the append-only file is in it, not one file of that name.
    run(&project, &["backup", "redis", "-o", "redis-backup.tar.gz"]).code(0);
    let list = Command::new("tar").arg("-tzf").arg(project.path("redis-backup.tar.gz")).output().expect("tar runs");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for part in ["appendonlydir/appendonly.aof.manifest", ".base.", ".incr."] {
        assert!(list.contains(part), "{part}: {list}");
    }
    // "Volume backup" of a stack that runs: of one moment, and restorable.
    run(&project, &["snapshot", "save", "volumes"]).code(0);
    sql(&project, "dev", "delete from task where id > 3; select '1'");
    run(&project, &["redis-cli", "del", "events"]).code(0);
    // The other mode has its own volumes, and its backup is of its own database.
    run(&project, &["down"]).code(0);
    run(&project, &["--mode", "prod", "up", "-d"]).code(0);
    assert_eq!(sql(&project, "prod", "select count(*) from task"), "0");
    run(&project, &["--mode", "prod", "backup", "postgres", "-o", "prod.dump"]).code(0);
    let made = manifest(&project, "prod.dump");
    assert_eq!((&made["database"], &made["mode"]), (&"orchestrator".into(), &"prod".into()));
    run(&project, &["--mode", "prod", "restore", "postgres", "backup.sql"]).code(2).says("mode dev");
    run(&project, &["--mode", "prod", "snapshot", "restore", "volumes", "--yes"]).code(2).says("--mode 'dev'");
    run(&project, &["--mode", "prod", "down"]).code(0);
    // "Restore backup", into a stack with nothing in it.
    run(&project, &["clean", "--yes"]).code(0);
    run(&project, &["restore", "redis", "redis-backup.tar.gz", "--yes"]).code(0);
    run(&project, &["up", "-d"]).code(0);
    assert_eq!(sql(&project, "dev", "select count(*) from task"), "0");
    run(&project, &["restore", "postgres", "backup.sql", "--yes"]).code(0);
    let length = || run(&project, &["redis-cli", "xlen", "events"]).code(0).stdout.trim().to_owned();
    assert_eq!((sql(&project, "dev", ROWS), length()), (before.clone(), "40".to_owned()));
    // And the volumes.
    run(&project, &["down"]).code(0);
    run(&project, &["clean", "--yes"]).code(0);
    run(&project, &["snapshot", "restore", "volumes", "--yes"]).code(0);
    run(&project, &["up", "-d"]).code(0);
    assert_eq!((sql(&project, "dev", ROWS), length()), (before, "40".to_owned()));
    run(&project, &["logs", "postgres"]).code(0).says_not("was not properly shut down");
    run(&project, &["down"]).code(0);
    project.nothing_left();
}

/// A request that is signed with the server's keys.
fn signed(url: &str, more: &str) -> String {
    let common = "aws-sigv4 = \"aws:amz:us-east-1:s3\"\nheader = \"x-amz-content-sha256: UNSIGNED-PAYLOAD\"\n";
    curl(url, "minio-admin", "minio-secret", &format!("{common}{more}"))
}

fn a_chapter_with_a_bucket_for_backups() {
    if !postgres() {
        return skipped("no Postgres is installed");
    }
    // MinIO takes ten minutes to build; another S3 server with the same keys stands in for it.
    let recipe = ["minio", "versitygw", "seaweedfs"].into_iter().find(|recipe| crate::services::is_there(recipe));
    let Some(recipe) = recipe else { return skipped("no S3 server is in target/services; scripts/real-services builds them") };
    let Some(project) = project(recipe, false) else { return };
    let ports = match recipe {
        "minio" => "ports = { console = \"auto\" }\n",
        "seaweedfs" => crate::services::SEAWEEDFS_PORTS,
        _ => "",
    };
    project.write("init-scripts/postgres/01-tables.sql", "create table contact (id serial primary key, mail text);\n");
    project.write(
        "init-scripts/postgres/02-rows.sql",
        "insert into contact (mail) values ('a@example.invalid'), ('b@example.invalid');\n",
    );
    project.rewrite(&format!(
        "[project]\nname = \"pretamane\"\n\
         [services.postgresql]\nuse = \"postgres\"\nport = \"auto\"\ndata = \"postgres-data\"\nuser = \"pretamane\"\ndatabase = \"pretamane_db\"\n\
         password = \"db-secret\"\ninit = \"init-scripts/postgres\"\n\
         [services.minio]\nuse = \"{recipe}\"\nport = \"auto\"\n{ports}data = \"minio-data\"\nuser = \"minio-admin\"\npassword = \"minio-secret\"\n\
         [tasks.minio-setup]\ndepends_on = [\"minio\"]\nbuckets = [{{ name = \"pretamane-data\", anonymous = \"download\" }}, {{ name = \"pretamane-backup\" }}]\n"
    ));
    run(&project, &["up", "-d"]).code(0);
    let s3 = || format!("http://127.0.0.1:{}", project.service("minio")["ports"]["main"]);
    let put = "request = \"PUT\"\ndata-binary = \"hello\"\nheader = \"Content-Type: text/x-note\"";
    for path in ["pretamane-data/docs/one.txt", "pretamane-backup/dump.sql"] {
        assert_eq!(signed(&format!("{}/{path}", s3()), put), "200", "{path}");
    }
    let contacts = || {
        let rows =
            run(&project, &["sql", "--json", "select string_agg(mail, ' ' order by id) as mails from contact"]).code(0).json();
        rows[0]["mails"].as_str().unwrap_or_default().to_owned()
    };
    let before = contacts();
    run(&project, &["down", "--backup"]).code(0).says("postgresql saved to").says("minio saved to");
    project.nothing_left();
    let named = |start: &str, end: &str| {
        let files = fs::read_dir(project.path(".devrun/backups")).expect("backups").flatten().map(|entry| entry.path());
        let found = files.map(|path| path.display().to_string()).find(|path| path.contains(start) && path.ends_with(end));
        found.unwrap_or_else(|| panic!("no {start}…{end}"))
    };
    let (dump, objects) = (named("/postgresql-", ".dump"), named("/minio-", ".s3.tar.gz"));
    run(&project, &["clean", "--yes"]).code(0);
    project.write("init-scripts/postgres/02-rows.sql", "select 1;\n");
    run(&project, &["restore", "minio", &objects, "--yes"]).code(0);
    run(&project, &["up", "-d"]).code(0);
    assert_eq!(contacts(), "");
    run(&project, &["restore", "postgresql", &dump, "--yes"]).code(0);
    assert_eq!(contacts(), before);
    let port = u16::try_from(project.service("minio")["ports"]["main"].as_u64().expect("a port")).expect("a port");
    assert_eq!(get(port, "/pretamane-data/docs/one.txt"), (200, "hello".to_owned()));
    assert_eq!(get(port, "/pretamane-backup/dump.sql").0, 403, "closed as before");
    assert_eq!(signed(&format!("{}/pretamane-backup/dump.sql", s3()), ""), "200");
    run(&project, &["down"]).code(0);
    project.nothing_left();
}
