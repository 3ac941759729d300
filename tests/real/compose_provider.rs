//! A service of a compose file that devrun runs, asked for by the real compose.
//!
//! Compose asks its engine a few questions even without a service that is a container. No engine exists here: a fake one answers
//! that it has nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::compose_tool::compose;
use crate::harness::{Project, devrun};
use crate::stack::{block_on, skip};

trials![compose_has_a_service_run_by_devrun, what_cannot_start_is_an_error_of_compose, clients_get_what_they_need];

const FILE: &str = "\
name: shop
services:
  cache:
    provider:
      type: devrun
      options:
        recipe: redis
        password: \"a$$b\"
        set: [\"maxmemory=10mb\"]
";

/// One answer a connection: nothing is there.
fn answer(stream: UnixStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    reader.by_ref().take(length).read_to_end(&mut Vec::new())?;
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path.split('?').next().unwrap_or_default() {
        "/_ping" => ("200 OK", "OK"),
        path if path.ends_with("/containers/json") || path.ends_with("/networks") => ("200 OK", "[]"),
        path if path.ends_with("/volumes") => ("200 OK", r#"{"Volumes":[]}"#),
        _ => ("404 Not Found", r#"{"message":"nothing is here"}"#),
    };
    let body = if first.starts_with("HEAD") { "" } else { body };
    write!(
        reader.get_mut(),
        "HTTP/1.1 {status}\r\nApi-Version: 1.51\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The project with its compose file and the fake engine's socket.
fn project(file: &str) -> Project {
    let project = Project::new();
    project.write("compose.yml", file);
    let listener = UnixListener::bind(project.path("engine.sock")).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that went away asked for nothing.
            let _gone = answer(stream);
        }
    });
    std::fs::create_dir(project.path("bin")).expect("a directory");
    std::os::unix::fs::symlink(devrun(), project.path("bin/devrun")).expect("a link");
    project
}

fn ask(project: &Project, tool: &Path, words: &[&str]) -> Output {
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").expect("a PATH"));
    Command::new(tool)
        .args(words)
        .current_dir(project.dir())
        .envs(project.variables())
        .env("PATH", path)
        .env("DOCKER_HOST", format!("unix://{}", project.path("engine.sock").display()))
        .output()
        .expect("compose")
}

fn state(project: &Project) -> String {
    project.run(&["ls", "--json"]).code(0).json().to_string()
}

/// How many services run of the stacks in the test's home.
fn running(project: &Project) -> u64 {
    let stacks = project.run(&["ls", "--json"]).code(0).json();
    let home = project.variables()["HOME"].clone();
    let ours = |stack: &&Value| stack["root"].as_str().is_some_and(|root| root.starts_with(&home));
    stacks.as_array().expect("a list").iter().filter(ours).filter_map(|stack| stack["running"].as_u64()).sum()
}

fn compose_has_a_service_run_by_devrun() {
    let tool = match compose() {
        Ok(tool) => tool,
        Err(why) => return skip(&why),
    };
    let project = project(FILE);
    let up = ask(&project, tool, &["up", "-d"]);
    let text = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(up.status.success() && text.contains("healthy after"), "{text}");
    assert!(state(&project).contains("shop-cache"), "{}", state(&project));
    assert_eq!(running(&project), 1);
    let again = ask(&project, tool, &["up", "-d"]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    // `stop`, and up again; then `down`.
    assert!(ask(&project, tool, &["stop"]).status.success());
    assert_eq!(running(&project), 0);
    assert!(ask(&project, tool, &["up", "-d"]).status.success());
    assert_eq!(running(&project), 1);
    let down = ask(&project, tool, &["down"]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    project.nothing_left();
}

fn what_cannot_start_is_an_error_of_compose() {
    let tool = match compose() {
        Ok(tool) => tool,
        Err(why) => return skip(&why),
    };
    let project = project(&FILE.replace("recipe: redis", "recipe: rediss"));
    let up = ask(&project, tool, &["up", "-d"]);
    let text = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(!up.status.success() && text.contains("unknown recipe `rediss`"), "{text}");
    project.nothing_left();
}

fn clients_get_what_they_need() {
    let project = project(FILE);
    let words = ["compose", "--project-name=shop", "up", "--recipe=redis", "--password=a$b", "--set=maxmemory=10mb", "cache"];
    let up = || {
        let lines: Vec<Value> = project.run(&words).code(0).json_lines();
        assert!(lines.iter().any(|line| line["type"] == "info"), "{lines:?}");
        let variables = lines.iter().filter(|line| line["type"] == "setenv");
        let variables = variables.filter_map(|line| line["message"].as_str()?.split_once('='));
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<std::collections::BTreeMap<_, _>>()
    };
    let first = up();
    assert_eq!(first["PASSWORD"], "a$b");
    block_on(async {
        let client = redis::Client::open(first["URL"].as_str()).expect("an address");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let pong: String = redis::cmd("PING").query_async(&mut connection).await.expect("an answer");
        assert_eq!(pong, "PONG");
        let limit: Vec<String> = redis::cmd("CONFIG").arg("GET").arg("maxmemory").query_async(&mut connection).await.expect("it");
        assert_eq!(limit, ["maxmemory", "10485760"]);
    });
    assert_eq!(up(), first, "a second time it is the same");
    project.run(&["compose", "--project-name=shop", "down", "cache"]).code(0);
    // One that was never there.
    project.run(&["compose", "--project-name=shop", "down", "db"]).code(0);
    project.run(&["compose", "--project-name=../x", "up", "--recipe=redis", "cache"]).code(2).says("invalid project name");
    project.run(&["compose", "up", "cache"]).code(2).says("leave out `compose`");
    project.run(&["compose", "ps"]).code(2).says("leave out `compose`");
    project.nothing_left();
}
