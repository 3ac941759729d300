//! Logins of a Redis: a Redis that the procfile gives no password has one all the same, also in front of data that was made without;
//! `password = ""` leaves it open. `wait` logs in. And a compose file's own logins, with real servers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Project, eventually, skipped};
use crate::services::installed;

trials![
    a_redis_without_a_password_gets_a_generated_one,
    verb_wait_for_addresses_logs_in,
    #[cfg(all(feature = "postgres", feature = "redis"))]
    only_a_compose_file_and_real_engines,
];

/// What a Redis answers, line by line, on one connection.
fn ask(project: &Project, lines: &str) -> String {
    let port = project.service("cache")["ports"]["main"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("it runs");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream.write_all(format!("{lines}QUIT\r\n").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn a_redis_without_a_password_gets_a_generated_one() {
    if !installed("redis-server") {
        return skipped("no redis-server is installed");
    }
    let open = "[services.cache]\nuse = \"redis\"\nport = \"auto\"\npassword = \"\"\n";
    let client =
        "[services.app]\nrun = [\"sh\", \"-c\", \"echo $URL > url; exec sleep 1000\"]\nenv = { URL = \"${cache.url}\" }\n";
    let project = Project::new().procfile(&format!("{open}{client}"));
    project.run(&["up", "-d"]).code(0);
    assert!(ask(&project, "SET kept 1\r\nSAVE\r\n").starts_with("+OK\r\n+OK"), "it is open");
    assert!(project.read("url").starts_with("redis://127.0.0.1:"), "{}", project.read("url"));
    assert!(!project.path("secrets/infra/cache-password").exists());

    // Without the line: a running server is restarted with a password, its client with the new address, and the data stays.
    project.rewrite(&format!("{}{client}", open.replace("password = \"\"\n", "")));
    project.run(&["up", "-d"]).code(0);
    let password = project.read("secrets/infra/cache-password");
    assert!(ask(&project, "PING\r\n").starts_with("-NOAUTH"));
    assert!(ask(&project, &format!("AUTH {password}\r\nGET kept\r\n")).contains("$1\r\n1"), "the data stays");
    assert!(project.read("url").starts_with(&format!("redis://:{password}@127.0.0.1:")), "{}", project.read("url"));
    project.run(&["ps", "--check"]).code(0);
    project.run(&["down"]).code(0);
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.read("secrets/infra/cache-password"), password, "it is kept");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: wait --roundtrip, exit 10.
fn verb_wait_for_addresses_logs_in() {
    if !installed("redis-server") {
        return skipped("no redis-server is installed");
    }
    let project = Project::new().procfile(
        r#"
        [services.redis]
        use = "redis"
        port = "auto"
        password = "right one"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let port = project.service("redis")["ports"]["main"].to_string();
    let redis = |password: &str| format!("redis://:{password}@127.0.0.1:{port}");
    project.run(&["wait", "--roundtrip", &redis("right%20one")]).code(0).says("GET");
    project.run(&["wait", &redis("wrong")]).code(10);
    project.run(&["down"]).code(0);
}

/// Images become engines, and whatever uses them reaches them by the names it knows.
#[cfg(all(feature = "postgres", feature = "redis"))]
fn only_a_compose_file_and_real_engines() {
    if !["initdb", "redis-server", "python3"].into_iter().all(installed) {
        return skipped("no Postgres, no Redis or no Python is installed");
    }
    let project = Project::new();
    project.write(
        "docker-compose.yml",
        r##"
services:
  db:
    image: postgres
    environment: { POSTGRES_USER: app, POSTGRES_PASSWORD: "#ThawZin2k77!", POSTGRES_DB: shop }
    volumes: ["pgdata:/var/lib/postgresql/data", "./sql:/docker-entrypoint-initdb.d"]
    ports: ["127.0.0.1:0:5432"]
    healthcheck: { test: ["CMD-SHELL", "pg_isready -U app"], interval: 5s }
  cache:
    image: redis
    command: redis-server --requirepass "a b"
    ports: ["127.0.0.1:0:6379"]
    healthcheck: { test: ["CMD", "redis-cli", "ping"] }
  app:
    image: python:3
    command: python3 app.py
    environment: { DB_HOST: db, DB_PORT: "5432", CACHE: "cache:6379" }
    depends_on: { db: { condition: service_healthy }, cache: { condition: service_healthy } }
    networks: [inner]
  other: { image: acme/thing }
volumes: { pgdata: {} }
networks: { inner: {} }
"##,
    );
    project.write("sql/01.sql", "CREATE TABLE t (x int); INSERT INTO t VALUES (7);\n");
    // Asks Redis itself, and writes down where it was told that the servers are.
    project.write(
        "app.py",
        r#"
import os, socket, time
host, port = os.environ["CACHE"].rsplit(":", 1)
asked = socket.create_connection((host, int(port)))
asked.sendall(b'*2\r\n$4\r\nAUTH\r\n$3\r\na b\r\n*1\r\n$4\r\nPING\r\n')
answer = b""
while b"PONG" not in answer:
    answer += asked.recv(100)
socket.create_connection((os.environ["DB_HOST"], int(os.environ["DB_PORT"]))).close()
open("answer", "w").write("pong " + os.environ["DB_PORT"])
time.sleep(600)
"#,
    );
    let up = project.start(&["up", "-d"]).outcome_within(std::time::Duration::from_secs(120)).code(0);
    up.says("services.other: acme/thing has no recipe").says("services.db.image: postgres → use = \"postgres\"");
    let answer = eventually("the app", std::time::Duration::from_secs(30), || {
        std::fs::read_to_string(project.path("answer")).ok().filter(|text| text.starts_with("pong"))
    });
    let port = project.service("db")["ports"]["main"].to_string();
    assert_eq!(answer, format!("pong {port}"));
    let rows = project.run(&["sql", "SELECT x FROM t", "--json"]).code(0).json();
    assert_eq!(rows, serde_json::json!([{ "x": 7 }]));
    project.run(&["down"]).code(0);
    project.nothing_left();
}
