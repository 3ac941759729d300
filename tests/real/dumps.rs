//! Logical dumps of servers that are neither Postgres nor Redis: taken, restored into an empty stack, and kept apart from what a
//! failed restore leaves. The servers are those of `services.rs`.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Outcome, Project, figures, rounds};
use crate::services::{SEAWEEDFS_PORTS, down, get, mariadb_asks, port, project, talk, up};
use crate::waits::let_time_pass;

trials![
    objects_of_versitygw_come_back_with_their_metadata,
    objects_of_minio_come_back_with_their_metadata,
    objects_of_seaweedfs_come_back_with_their_metadata,
    objects_of_one_s3_server_are_loaded_into_another,
    a_dump_of_mariadb_comes_back_with_its_routines,
    killed_in_a_restore_of_mariadb_the_database_is_the_old_or_the_new_one,
    a_dump_of_neo4j_comes_back,
];

/// A restore starts some servers twice, and one of them takes half a minute each time.
const SLOW: Duration = Duration::from_secs(600);

#[track_caller]
fn run(project: &Project, args: &[&str]) -> Outcome {
    project.start(args).outcome_within(SLOW)
}

fn manifest(project: &Project, file: &str) -> Value {
    serde_json::from_str(&project.read(&format!("{file}.json"))).expect("a manifest")
}

/// A backup whose file does not load although it is the one that its manifest names.
fn forge(project: &Project, file: &str, contents: &[u8]) {
    let mut manifest = manifest(project, file);
    fs::write(project.path(file), contents).expect("our own file");
    let sum = Command::new("sha256sum").arg(project.path(file)).output().expect("it runs");
    manifest["sha256"] = String::from_utf8_lossy(&sum.stdout).split_whitespace().next().expect("a sum").into();
    manifest["bytes"] = contents.len().into();
    fs::write(project.path(&format!("{file}.json")), manifest.to_string()).expect("our own file");
}

/// What a restore must leave nothing of.
#[track_caller]
fn has_no_litter(project: &Project, volume: &str) {
    for entry in fs::read_dir(project.path(&format!(".devrun/data/{volume}"))).expect("a volume").flatten() {
        let name = entry.file_name().into_string().expect("a name");
        assert!(!name.starts_with(".devrun-restore-"), "{name}");
    }
    for name in ["restore-server", "restore.json", "restored.json"] {
        assert!(!project.path(".devrun").join(name).exists(), "{name} stayed");
    }
}

/// Shows: backup --bucket, restore --bucket, backup --directory.
fn objects_of_versitygw_come_back_with_their_metadata() {
    let Some(project) = project("versitygw", false) else { return };
    objects(&project, "versitygw", "");
}

fn objects_of_minio_come_back_with_their_metadata() {
    let Some(project) = project("minio", false) else { return };
    objects(&project, "minio", "ports = { console = \"auto\" }\n");
}

fn objects_of_seaweedfs_come_back_with_their_metadata() {
    let Some(project) = project("seaweedfs", false) else { return };
    objects(&project, "seaweedfs", SEAWEEDFS_PORTS);
}

fn s3(recipe: &str, more: &str) -> String {
    format!(
        "[services.x]\nuse = \"{recipe}\"\nport = \"auto\"\npassword = \"secret-key-1\"\n{more}\
         [tasks.buckets]\ndepends_on = [\"x\"]\nbuckets = [{{ name = \"uploads\", anonymous = \"public\" }}, \
         {{ name = \"papers\", anonymous = \"public\" }}, \"secret\"]\n"
    )
}

#[track_caller]
fn put(project: &Project, path: &str, headers: &str, body: &str) {
    let port = port(project, "main");
    let length = body.len();
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let answer = talk(port, request.as_bytes(), "\r\n\r\n");
    assert!(answer.contains(" 200 "), "{path}: {answer}");
}

/// Head and body of an object, without the headers of one moment.
fn object(project: &Project, path: &str) -> Vec<String> {
    let port = port(project, "main");
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let answer = talk(port, request.as_bytes(), "\u{0}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let kept = ["content-type", "cache-control", "content-language", "x-amz-meta-", "content-length", "content-disposition"];
    let mut lines: Vec<String> = head
        .lines()
        .filter_map(|line| Some(format!("{}:{}", line.split_once(':')?.0.to_ascii_lowercase(), line.split_once(':')?.1)))
        .filter(|line| kept.iter().any(|name| line.starts_with(name)))
        .collect();
    lines.sort();
    lines.push(body.to_owned());
    lines
}

fn objects(project: &Project, recipe: &str, more: &str) {
    project.rewrite(&s3(recipe, more));
    up(project);
    let paths = ["/uploads/greeting", "/uploads/a%20b/%2B%C3%A4~.txt", "/uploads/empty", "/papers/deep/er/one"];
    let headers = "Content-Type: text/x-note\r\nCache-Control: max-age=7\r\nx-amz-meta-colour: dark  red\r\n";
    put(project, paths[0], headers, "hello");
    put(project, paths[1], "Content-Type: text/plain\r\n", &"ä+".repeat(200_000));
    put(project, paths[2], "", "");
    put(project, paths[3], "Content-Disposition: attachment\r\n", "deep");
    for index in 0..30 {
        put(project, &format!("/uploads/many/{index}"), "", &index.to_string());
    }
    let before: Vec<_> = paths.iter().map(|path| object(project, path)).collect();
    assert!(before[0].iter().any(|line| line.starts_with("x-amz-meta-colour:")), "{:?}", before[0]);
    let counts = run(project, &["snapshot", "save", "counted", "--json"]).code(0).json()["counts"]["x"].clone();
    assert_eq!(counts, json!({ "uploads": 33, "papers": 1, "secret": 0 }));
    let pid = project.service("x")["pid"].clone();
    run(project, &["backup", "x", "-o", "all.tar.gz"]).code(0);
    run(project, &["backup", "x", "-o", "papers.tar.gz", "--bucket", "papers"]).code(0);
    run(project, &["backup", "x", "-o", "no", "--bucket", "nope"]).code(2).says("no bucket nope").says("papers, secret, uploads");
    assert_eq!(project.service("x")["pid"], pid, "it is saved while it runs");
    let made = manifest(project, "all.tar.gz");
    assert_eq!((&made["format"], &made["buckets"]), (&json!("s3-objects"), &json!(["papers", "secret", "uploads"])));
    let list = Command::new("tar").arg("-tzf").arg(project.path("all.tar.gz")).output().expect("tar runs");
    assert!(String::from_utf8_lossy(&list.stdout).contains("uploads/greeting"), "any tar reads it");
    // One bucket comes back, the other stays as it is now.
    put(project, "/uploads/greeting", "", "changed");
    put(project, "/uploads/more", "", "more");
    put(project, "/papers/deep/er/one", "", "changed");
    put(project, "/papers/more", "", "more");
    run(project, &["restore", "x", "papers.tar.gz"]).code(2).says("the buckets papers of x are replaced").says("--yes");
    run(project, &["restore", "x", "papers.tar.gz", "--yes"]).code(0);
    assert_eq!(object(project, paths[3]), before[3]);
    let port_now = || port(project, "main");
    assert_eq!((get(port_now(), "/papers/more").0, get(port_now(), "/uploads/greeting").1), (404, "changed".to_owned()));
    // All: what came later is gone, policies and metadata are there.
    run(project, &["restore", "x", "all.tar.gz", "--yes"]).code(0);
    let after: Vec<_> = paths.iter().map(|path| object(project, path)).collect();
    assert_eq!(after, before);
    assert_eq!((get(port_now(), "/uploads/more").0, get(port_now(), "/uploads/many/29").1), (404, "29".to_owned()));
    assert_eq!(get(port_now(), "/secret/").0, 403, "closed as before");
    has_no_litter(project, "x");
    // A file that does not load: what is there stays.
    fs::copy(project.path("all.tar.gz.json"), project.path("bad.tar.gz.json")).expect("our own file");
    let whole = fs::read(project.path("all.tar.gz")).expect("our own file");
    forge(project, "bad.tar.gz", &whole[..whole.len() / 2]);
    run(project, &["restore", "x", "bad.tar.gz", "--yes"]).code(8);
    assert_eq!(object(project, paths[1]), before[1]);
    has_no_litter(project, "x");
    down(project);
    run(project, &["backup", "x", "-o", "none.tar.gz"]).code(6).says("x is not running").says("devrun up -d x");
    run(project, &["backup", "x", "-o", "directory.tar.gz", "--directory"]).code(0);
    assert_eq!(manifest(project, "directory.tar.gz")["format"], "data-directory");
    // Into a stack with nothing in it.
    run(project, &["clean", "--yes"]).code(0);
    run(project, &["restore", "x", "all.tar.gz", "--yes"]).code(0);
    project.nothing_left();
    up(project);
    let after: Vec<_> = paths.iter().map(|path| object(project, path)).collect();
    assert_eq!(after, before);
    down(project);
}

fn objects_of_one_s3_server_are_loaded_into_another() {
    let (Some(first), Some(_)) = (project("versitygw", false), project("seaweedfs", false)) else { return };
    first.rewrite(&s3("versitygw", ""));
    up(&first);
    put(&first, "/uploads/greeting", "x-amz-meta-colour: red\r\n", "hello");
    let before = object(&first, "/uploads/greeting");
    run(&first, &["backup", "x", "-o", "all.tar.gz"]).code(0);
    down(&first);
    run(&first, &["clean", "--yes"]).code(0);
    first.rewrite(&s3("seaweedfs", SEAWEEDFS_PORTS));
    run(&first, &["restore", "x", "all.tar.gz", "--yes"]).code(0);
    up(&first);
    assert_eq!(object(&first, "/uploads/greeting"), before);
    down(&first);
}

/// A project for it, where the program for dumps is there: devrun fetches it with the server, and Debian has it in a package of its own.
fn mariadb() -> Option<Project> {
    let project = project("mariadb", true)?;
    let which = project.run(&["which", "mariadb", "--json"]).code(0).json();
    let on_path = || Command::new("mariadb-dump").arg("--version").output().is_ok_and(|done| done.status.success());
    if which[0]["tools"].get("mariadb-dump").is_none() && !on_path() {
        crate::harness::skipped("mariadb-dump is not installed");
        return None;
    }
    // Found on PATH here, it is found there too.
    let path = std::env::var("PATH").unwrap_or_default();
    Some(project.env("PATH", &path))
}

fn a_dump_of_mariadb_comes_back_with_its_routines() {
    let Some(project) = mariadb() else { return };
    project.write(
        "init.sql",
        "CREATE TABLE t (id int auto_increment primary key, x varchar(20), raw blob);\n\
         INSERT INTO t (x, raw) VALUES ('zwei; ä', x'00ff27'), (NULL, NULL);\n\
         CREATE VIEW shown AS SELECT x FROM t WHERE x IS NOT NULL;\n\
         CREATE TABLE log (what varchar(20));\n\
         CREATE TRIGGER noted AFTER INSERT ON t FOR EACH ROW INSERT INTO log VALUES (NEW.x);\n\
         CREATE FUNCTION twice(n int) RETURNS int DETERMINISTIC RETURN 2 * n;\n",
    );
    project.rewrite(
        "[services.x]\nuse = \"mariadb\"\nport = \"auto\"\nuser = \"o'dd\"\ndatabase = \"shop\"\npassword = \"a \\\"b\\\" 'c' #x\"\ninit = \"init.sql\"\n",
    );
    up(&project);
    let rows = || {
        mariadb_asks(
            &project,
            "SELECT COUNT(*), MD5(GROUP_CONCAT(id, IFNULL(x, '-'), IFNULL(HEX(raw), '-') ORDER BY id)), twice(21), (SELECT GROUP_CONCAT(x) FROM shown) FROM t",
        )
    };
    let before = rows();
    assert!(before.contains("\t42\tzwei; ä"), "{before}");
    let pid = project.service("x")["pid"].clone();
    run(&project, &["backup", "x", "-o", "x.sql"]).code(0);
    assert_eq!(project.service("x")["pid"], pid, "it is saved while it runs");
    let made = manifest(&project, "x.sql");
    assert_eq!((&made["format"], &made["database"]), (&json!("mariadb-sql"), &json!("shop")));
    assert!(made["version"].as_str().expect("a version").starts_with("1"), "{made}");
    mariadb_asks(&project, "DELETE FROM t; DROP FUNCTION twice; CREATE TABLE later (x int); INSERT INTO t (x) VALUES ('new')");
    run(&project, &["restore", "x", "x.sql"]).code(2).says("the database shop of x is replaced").says("--yes");
    run(&project, &["restore", "x", "x.sql", "--yes"]).code(0);
    assert_eq!(rows(), before);
    assert_eq!(mariadb_asks(&project, "SHOW TABLES LIKE 'later'").trim(), "", "what came later is gone");
    mariadb_asks(&project, "INSERT INTO t (x) VALUES ('next')");
    assert_eq!(mariadb_asks(&project, "SELECT MAX(id), (SELECT COUNT(*) FROM log WHERE what = 'next') FROM t").trim(), "3\t1");
    has_no_litter(&project, "x");
    // One that does not load: what is there stays.
    fs::copy(project.path("x.sql.json"), project.path("bad.sql.json")).expect("our own file");
    forge(&project, "bad.sql", format!("{}\nINSERT INTO nope VALUES (1);\n", project.read("x.sql")).as_bytes());
    run(&project, &["restore", "x", "bad.sql", "--yes"]).code(4).says("nope");
    assert_eq!(mariadb_asks(&project, "SELECT MAX(id) FROM t").trim(), "3");
    has_no_litter(&project, "x");
    down(&project);
    run(&project, &["backup", "x", "-o", "none.sql"]).code(6).says("x is not running");
    run(&project, &["clean", "--yes"]).code(0);
    project.write("init.sql", "CREATE TABLE unrelated (x int);\n");
    run(&project, &["restore", "x", "x.sql", "--yes"]).code(0);
    project.nothing_left();
    up(&project);
    assert_eq!(rows(), before);
    down(&project);
}

fn killed_in_a_restore_of_mariadb_the_database_is_the_old_or_the_new_one() {
    let Some(project) = mariadb() else { return };
    project.write("init.sql", "CREATE TABLE t (id int auto_increment primary key, x varchar(20));\nINSERT INTO t (x) SELECT CONCAT('n', seq) FROM seq_1_to_500;\n");
    project
        .rewrite("[services.x]\nuse = \"mariadb\"\nport = \"auto\"\nuser = \"app\"\ndatabase = \"shop\"\ninit = \"init.sql\"\n");
    up(&project);
    let rows = || mariadb_asks(&project, "SELECT COUNT(*), MD5(GROUP_CONCAT(x ORDER BY id SEPARATOR '')) FROM t");
    let new = rows();
    run(&project, &["backup", "x", "-o", "x.sql"]).code(0);
    let begun = Instant::now();
    run(&project, &["restore", "x", "x.sql", "--yes"]).code(0);
    let whole = begun.elapsed();
    let mut seed = 0x5851_f42d_4c95_7f2d_u64;
    let mut random = |most: Duration| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        most.mul_f64(1.05 * f64::from(u32::try_from(seed >> 33).unwrap_or(0)) / f64::from(u32::MAX >> 1))
    };
    let (mut olds, mut news) = (0, 0);
    let all = rounds(2);
    for round in 0..all {
        mariadb_asks(&project, "INSERT INTO t (x) VALUES ('old')");
        let old = rows();
        let restore = project.start(&["restore", "x", "x.sql", "--yes"]);
        let_time_pass("the moment of the kill", random(whole));
        restore.signal(Signal::SIGKILL);
        drop(restore.outcome_within(SLOW));
        up(&project);
        let found = rows();
        match (found == old, found == new) {
            (true, _) => olds += 1,
            (_, true) => news += 1,
            _ => panic!("round {round}: half: {found}"),
        }
        run(&project, &["restore", "x", "x.sql", "--yes"]).code(0);
        has_no_litter(&project, "x");
    }
    figures(&format!("{all} rounds: {olds} old, {news} new, none half"));
    down(&project);
}

fn a_dump_of_neo4j_comes_back() {
    let Some(project) = project("neo4j", false) else { return };
    project.rewrite(
        "[services.x]\nuse = \"neo4j\"\nport = \"auto\"\nports = { http = \"auto\" }\npassword = \"graph-password\"\n\
         set = { heap = \"256m\", pagecache = \"32m\" }\n",
    );
    let cypher = |query: &str| run(&project, &["cypher", query, "--json"]).code(0).json();
    let names = || cypher("MATCH (p:Person)-[:KNOWS]-(q) RETURN p.name AS name, q.name AS other ORDER BY name");
    up(&project);
    cypher("CREATE CONSTRAINT person IF NOT EXISTS FOR (p:Person) REQUIRE p.name IS UNIQUE");
    cypher("CREATE (:Person {name: 'Ann'})-[:KNOWS]->(:Person {name: 'Bob'})");
    let before = names();
    assert_eq!(before, json!([{ "name": "Ann", "other": "Bob" }, { "name": "Bob", "other": "Ann" }]));
    run(&project, &["backup", "x", "-o", "x.dump"]).code(0);
    assert_eq!(manifest(&project, "x.dump")["format"], "neo4j-dump");
    project.wait_state("x", "running");
    cypher("MATCH (p:Person {name: 'Bob'}) DETACH DELETE p");
    cypher("CREATE (:Later)");
    run(&project, &["restore", "x", "x.dump", "--yes"]).code(0);
    assert_eq!((names(), cypher("MATCH (l:Later) RETURN count(l) AS n")), (before.clone(), json!([{ "n": 0 }])));
    has_no_litter(&project, "x");
    fs::copy(project.path("x.dump.json"), project.path("bad.dump.json")).expect("our own file");
    forge(&project, "bad.dump", b"no dump");
    run(&project, &["restore", "x", "bad.dump", "--yes"]).code(4).says("neo4j-admin failed");
    assert_eq!(names(), before);
    down(&project);
    // A dump of a stopped server, and into a stack with nothing in it.
    run(&project, &["backup", "x", "-o", "stopped.dump"]).code(0);
    run(&project, &["clean", "--yes"]).code(0);
    run(&project, &["restore", "x", "stopped.dump", "--yes"]).code(0);
    project.nothing_left();
    up(&project);
    assert_eq!(names(), before);
    down(&project);
}
