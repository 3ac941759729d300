//! `scope = "user"`: two checkouts of one user share a Postgres, and do not see each other's data.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::case_init::postgres;
use crate::harness::{LONG, Outcome, Project, eventually, signal, skipped};

trials![
    two_checkouts_share_one_server_and_no_data,
    a_killed_supervisor_gives_its_lease_back,
    clean_drops_the_database_of_its_checkout_only,
];

const STACK: &str = r#"
[project]
name = "shop"
[services.db]
use = "postgres"
scope = "user"
user = "app"
database = "shop"
extensions = ["pgcrypto"]
[services.api]
run = "{svc:api}"
depends_on = ["db"]
env = { DATABASE_URL = "${db.url}" }
[tasks.schema]
on = "db"
sql = "schema.sql"
"#;

const SCHEMA: &str = "create table if not exists orders (note text);\n";

/// A second checkout beside the project's own.
fn second(project: &Project) -> String {
    let other = project.root().join("q");
    fs::create_dir(&other).expect("our own folder");
    for name in ["procfile.toml", "schema.sql"] {
        fs::copy(project.path(name), other.join(name)).expect("our own file");
    }
    other.display().to_string()
}

fn checkouts() -> (Project, String) {
    let project = Project::new().procfile(STACK);
    project.write("schema.sql", SCHEMA);
    let other = second(&project);
    (project, other)
}

#[track_caller]
fn run(project: &Project, args: &[&str]) -> Outcome {
    project.start(args).outcome_within(LONG)
}

#[track_caller]
fn at(project: &Project, directory: &str, args: &[&str]) -> Outcome {
    let mut words = vec!["-C", directory];
    words.extend(args);
    run(project, &words)
}

#[track_caller]
fn count(project: &Project, directory: &str) -> String {
    let answer = at(project, directory, &["sql", "--json", "select count(*) as n from orders"]).code(0).json();
    answer[0]["n"].as_str().map_or_else(|| answer[0]["n"].to_string(), str::to_owned)
}

/// The stacks of this test that are up; `ls` lists those of all tests.
fn stacks(project: &Project) -> Vec<String> {
    let list = run(project, &["ls", "--json"]).code(0).json();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let ours = |row: &&Value| Path::new(&text(row, "root")).starts_with(project.root()) && row["status"] == "running";
    list.as_array().expect("a list").iter().filter(ours).map(|row| text(row, "project")).collect()
}

/// The shared server is gone with the last that used it: no process, no socket, no pid file.
#[track_caller]
fn server_ends(project: &Project) {
    let pid_file = server(project).join(".devrun/data/server/postgres/data/postmaster.pid");
    let is_down = || stacks(project).is_empty() && !pid_file.exists();
    eventually("the shared server stops", LONG, || is_down().then_some(()));
    // The supervisor ends a moment after the server.
    project.nothing_left_within(LONG);
}

fn server(project: &Project) -> std::path::PathBuf {
    project.root().join("home/.state/devrun/shared/postgres")
}

/// Shows: service.scope.
fn two_checkouts_share_one_server_and_no_data() {
    if !postgres() {
        return skipped("no Postgres is installed");
    }
    let (project, other) = checkouts();
    let own = project.dir().display().to_string();
    run(&project, &["up", "-d"]).code(0);
    at(&project, &other, &["up", "-d"]).code(0);
    let mut running = stacks(&project);
    running.sort();
    assert_eq!(running, ["shared-postgres", "shop", "shop"]);
    at(&project, &own, &["sql", "insert into orders values ('one'), ('two')"]).code(0);
    assert_eq!((count(&project, &own), count(&project, &other)), ("2".to_owned(), "0".to_owned()));
    // One server, two databases, and no login gets into the other's.
    let env = |directory: &str| at(&project, directory, &["env", "api", "--format", "json"]).code(0).json();
    let (one, two) = (env(&own), env(&other));
    let (one, two) = (one["DATABASE_URL"].as_str().expect("a URL"), two["DATABASE_URL"].as_str().expect("a URL"));
    let port = |url: &str| url.rsplit_once(':').map(|(_, rest)| rest.split('/').next().unwrap_or_default().to_owned());
    assert!(one != two && port(one) == port(two), "{one} {two}");
    let database = two.rsplit_once('/').expect("a database").1;
    let crossed = format!("{}/{database}", one.rsplit_once('/').expect("a database").0);
    let wait = run(&project, &["wait", &crossed, "--timeout", "3s"]);
    assert_ne!(wait.code, Some(0), "{}", wait.stderr);
    assert!(at(&project, &own, &["sql", "--json", "select extname from pg_extension"]).code(0).stdout.contains("pgcrypto"));
    // What the views say.
    let status = at(&project, &other, &["ps", "--json"]).code(0).json();
    let db = status["services"].as_array().expect("services").iter().find(|row| row["service"] == "db").expect("db").clone();
    assert_eq!((&db["state"], &db["health"]), (&"running".into(), &"healthy".into()), "{db}");
    at(&project, &other, &["urls"]).code(0).says("db");
    at(&project, &other, &["why", "db"]).code(0);
    at(&project, &other, &["check"]).code(0);
    // A dump needs no more than the login; what makes databases is refused.
    at(&project, &own, &["backup", "db", "-o", &format!("{own}/one.dump")]).code(0);
    for refused in [&["restore", "db", "one.dump", "--yes"][..], &["db", "fork"], &["db", "refresh"]] {
        run(&project, refused).code(2).says("makes a database").says("scope");
    }
    assert_eq!(count(&project, &own), "2");
    // One leaves: the other works, and finds its rows after its own restart.
    at(&project, &other, &["down"]).code(0);
    assert_eq!(count(&project, &own), "2");
    run(&project, &["down"]).code(0);
    server_ends(&project);
    run(&project, &["up", "-d"]).code(0);
    assert_eq!(count(&project, &own), "2");
    run(&project, &["down"]).code(0);
    server_ends(&project);
}

fn a_killed_supervisor_gives_its_lease_back() {
    if !postgres() {
        return skipped("no Postgres is installed");
    }
    let (project, other) = checkouts();
    let own = project.dir().display().to_string();
    run(&project, &["up", "-d"]).code(0);
    at(&project, &other, &["up", "-d"]).code(0);
    signal(project.supervisor(), Signal::SIGKILL);
    // The keeper ends what the killed one had; the other checkout keeps the server.
    eventually("the killed stack is gone", LONG, || (stacks(&project).len() == 2).then_some(()));
    assert_eq!(count(&project, &other), "0");
    run(&project, &["up", "-d"]).code(0);
    assert_eq!(count(&project, &own), "0");
    at(&project, &other, &["down"]).code(0);
    signal(project.supervisor(), Signal::SIGKILL);
    eventually("the shared server stops", LONG, || (!stacks(&project).contains(&"shared-postgres".to_owned())).then_some(()));
    run(&project, &["down"]);
    server_ends(&project);
}

fn clean_drops_the_database_of_its_checkout_only() {
    if !postgres() {
        return skipped("no Postgres is installed");
    }
    let (project, other) = checkouts();
    let own = project.dir().display().to_string();
    run(&project, &["up", "-d"]).code(0);
    at(&project, &other, &["up", "-d"]).code(0);
    for directory in [&own, &other] {
        at(&project, directory, &["sql", "insert into orders values ('x')"]).code(0);
    }
    run(&project, &["down"]).code(0);
    run(&project, &["clean", "--yes"]).code(0).says("database of db on the shared server");
    let dropped = server(&project).join("dropped");
    let is_empty = |path: &Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    eventually("the database is dropped", LONG, || is_empty(&dropped).then_some(()));
    run(&project, &["up", "-d"]).code(0);
    assert_eq!((count(&project, &own), count(&project, &other)), ("0".to_owned(), "1".to_owned()));
    at(&project, &other, &["down", "--volumes"]).code(0).says("database of db on the shared server deleted");
    run(&project, &["down"]).code(0);
    server_ends(&project);
    // Given up while the server was down: the next start drops it.
    at(&project, &other, &["up", "-d"]).code(0);
    assert_eq!(count(&project, &other), "0");
    at(&project, &other, &["down"]).code(0);
    server_ends(&project);
    // A stack that is thrown away has a server of its own.
    let done = run(&project, &["run", "--ephemeral", "--", "sh", "-c", "echo $DATABASE_URL"]);
    done.code(0);
    assert!(stacks(&project).is_empty());
}
