//! A Redis that the procfile gives no password has one all the same, also in front of data that was made without; `password = ""` leaves
//! it open, and so does a compose file that has none.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Project, installed, skipped};

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

#[test]
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

#[test]
fn a_compose_file_without_a_password_stays_open() {
    let project = Project::new();
    project.write("compose.yml", "services:\n  cache:\n    image: redis:7\n  other:\n    image: valkey/valkey:8\n    command: valkey-server --requirepass x\n");
    project.run(&["import", "compose.yml", "-o", "made.toml"]).code(0);
    let made = project.read("made.toml");
    assert!(made.contains("password = \"\"") && made.contains("password = \"x\""), "{made}");
}
