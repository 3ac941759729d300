//! `collections`, `indexes` and `models` against fakes of Qdrant, Meilisearch and Ollama.
//!
//! The servers themselves are not to be had on every machine; a fake proves our half of the conversation and not theirs.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex};

use crate::harness::Project;
use crate::test_ports;

/// A request: method and path, header lines, body.
struct Asked {
    line: String,
    head: String,
    body: String,
}

/// A fake HTTP server: `answer` gets the request and its number from 0 and gives status and body.
struct Fake {
    port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn new(answer: impl Fn(&Asked, usize) -> (u16, String) + Send + 'static) -> Self {
        let listener = test_ports::listener();
        let port = listener.local_addr().expect("bound").port();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = lines.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
                let mut head = String::new();
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    head.push_str(&line.to_ascii_lowercase());
                }
                // A probe that only connects.
                let Some(line) = head.split(" http/1").next().filter(|line| line.contains(' ')).map(str::to_owned) else {
                    continue;
                };
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
                let mut body = vec![0u8; length.unwrap_or(0)];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let asked = Asked { line: line.clone(), head, body: String::from_utf8_lossy(&body).into_owned() };
                let number = {
                    let mut seen = seen.lock().expect("nobody panics with it");
                    seen.push(line);
                    seen.len() - 1
                };
                let (status, text) = answer(&asked, number);
                // No length: the end of the connection is the end of the body, as of a stream that breaks off.
                let _gone =
                    write!(stream, "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{text}");
            }
        });
        Self { port, lines }
    }

    fn count(&self, line: &str) -> usize {
        self.lines.lock().expect("nobody panics with it").iter().filter(|seen| *seen == line).count()
    }
}

fn stack(fake: &Fake, work: &str) -> Project {
    Project::new().procfile(&format!(
        "[services.x]\nexternal = \"http://:key-1@127.0.0.1:{}\"\nready = {{ tcp = true }}\n[tasks.setup]\ndepends_on = [\"x\"]\n{work}\n",
        fake.port
    ))
}

/// Shows: task.collections, index.body.
#[test]
fn a_collection_is_made_once_and_a_server_that_starts_up_is_waited_for() {
    let made: Mutex<bool> = Mutex::default();
    let fake = Fake::new(move |asked, number| {
        if number < 2 {
            return (503, String::new());
        }
        if !asked.head.contains("api-key: key-1") {
            return (401, "{}".to_owned());
        }
        let mut made = made.lock().expect("nobody panics with it");
        match asked.line.split(' ').next() {
            Some("get") if *made && asked.line.ends_with("/products") => (200, "{}".to_owned()),
            Some("get") => (404, r#"{"status":{"error":"Not found"}}"#.to_owned()),
            _ if asked.body.contains("\"size\":4") => {
                *made = true;
                (200, "{}".to_owned())
            }
            _ => (400, r#"{"status":{"error":"Wrong input: no size"}}"#.to_owned()),
        }
    });
    let body = "collections = [{ name = \"products\", body = { vectors = { size = 4, distance = \"Cosine\" } } }]";
    let project = stack(&fake, body);
    for _ in 0..2 {
        project.run(&["up", "-d"]).code(0);
        project.run(&["down"]).code(0);
    }
    assert_eq!(fake.count("put /collections/products"), 1);
    project.rewrite(&project.read("procfile.toml").replace("products", "other").replace("size = 4", "dim = 4"));
    project.run(&["up", "-d"]).code(4).says("collection other").says("400 Wrong input: no size");
    project.run(&["down"]);
    project.rewrite(&project.read("procfile.toml").replace("key-1", "key-2"));
    project.run(&["up", "-d"]).code(10).says("the key was refused");
    project.run(&["down"]);
}

/// Shows: task.indexes, index.name, index.primary_key.
#[test]
fn an_index_is_there_when_its_task_says_so() {
    let polls: Mutex<u32> = Mutex::default();
    let fake = Fake::new(move |asked, _| match asked.line.as_str() {
        "get /indexes/movies" | "get /indexes/broken" => (404, r#"{"message":"Index not found."}"#.to_owned()),
        "post /indexes" if asked.body.contains("movies") => {
            assert!(
                asked.body.contains("\"primaryKey\":\"id\"") && asked.head.contains("authorization: bearer key-1"),
                "{}",
                asked.head
            );
            (202, r#"{"taskUid":7}"#.to_owned())
        }
        "post /indexes" => (202, r#"{"taskUid":8}"#.to_owned()),
        "get /tasks/7" => {
            let mut polls = polls.lock().expect("nobody panics with it");
            *polls += 1;
            (200, if *polls < 3 { r#"{"status":"processing"}"# } else { r#"{"status":"succeeded"}"# }.to_owned())
        }
        _ => (200, r#"{"status":"failed","error":{"code":"x","message":"no space"}}"#.to_owned()),
    });
    let project = stack(&fake, "indexes = [{ name = \"movies\", primary_key = \"id\" }]");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    assert_eq!((fake.count("post /indexes"), fake.count("get /tasks/7")), (1, 3));
    project.rewrite(&project.read("procfile.toml").replace("movies", "broken"));
    project.run(&["up", "-d"]).code(4).says("index broken: no space");
    project.run(&["down"]);
}

/// Shows: model.name, model.from.
#[test]
fn a_model_is_made_from_a_file_once_and_what_the_server_says_is_passed_on() {
    let made: Mutex<bool> = Mutex::default();
    // sha256 of the file's text.
    let digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let fake = Fake::new(move |asked, _| {
        let mut made = made.lock().expect("nobody panics with it");
        match asked.line.as_str() {
            "get /api/tags" if *made => (200, r#"{"models":[{"name":"tiny:latest"}]}"#.to_owned()),
            "get /api/tags" => (200, r#"{"models":[]}"#.to_owned()),
            "post /api/create" if asked.body.contains(&format!("\"tiny.gguf\":\"{digest}\"")) => {
                *made = asked.body.contains("\"model\":\"tiny\"");
                (200, "{\"status\":\"writing manifest\"}\n{\"status\":\"success\"}\n".to_owned())
            }
            "post /api/create" => (200, "{\"error\":\"no such blob\"}\n".to_owned()),
            line if line == format!("post /api/blobs/{digest}") && asked.body == "hello" => (201, String::new()),
            _ => (400, r#"{"error":"digest mismatch"}"#.to_owned()),
        }
    });
    let project = stack(&fake, "models = [{ name = \"tiny\", from = \"m/tiny.gguf\" }]");
    project.write("m/tiny.gguf", "hello");
    for round in 0..2 {
        let up = project.run(&["up", "-d"]).code(0);
        assert_eq!(up.stderr.contains("tiny: writing manifest"), round == 0, "{up}");
        project.run(&["down"]).code(0);
    }
    assert_eq!(fake.count("post /api/create"), 1);
    project.run(&["logs", "setup"]).code(0).says("tiny: writing manifest");
    project.rewrite(&project.read("procfile.toml").replace("\"tiny\"", "\"other\"").replace("m/tiny", "m/gone"));
    let up = project.run(&["up", "-d"]).code(4);
    up.says("model other").says("gone.gguf").says("No such file").says("`from` names a GGUF file");
    project.run(&["down"]);
}

/// Shows: task.models.
#[test]
fn a_pull_that_breaks_off_is_no_model() {
    let fake = Fake::new(|asked, _| match asked.line.as_str() {
        "get /api/tags" => (200, r#"{"models":[{"name":"here:latest"}]}"#.to_owned()),
        _ if asked.body.contains("\"whole\"") => {
            (200, "{\"status\":\"pulling manifest\"}\n{\"status\":\"success\"}\n".to_owned())
        }
        _ if asked.body.contains("\"cut\"") => (200, "{\"status\":\"pulling manifest\"}\n{\"status\":\"downloading\"".to_owned()),
        _ => (200, "{\"status\":\"pulling manifest\"}\n{\"error\":\"pull model manifest: file does not exist\"}\n".to_owned()),
    });
    let project = stack(&fake, "models = [\"here\", \"whole\"]");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    assert_eq!(fake.count("post /api/pull"), 1, "one of the two was there");
    project.rewrite(&project.read("procfile.toml").replace("whole", "cut"));
    project.run(&["up", "-d"]).code(4).says("model cut");
    project.run(&["down"]);
    project.rewrite(&project.read("procfile.toml").replace("cut", "absent"));
    project.run(&["up", "-d"]).code(4).says("model absent: pull model manifest: file does not exist");
    project.run(&["down"]);
}

#[test]
fn work_that_a_server_cannot_do_is_refused_before_it_starts() {
    let project = Project::new().procfile(
        "[services.x]\nuse = \"redis\"\nport = \"auto\"\nmigrations = \"m\"\n[services.y]\nuse = \"redis\"\nport = \"auto\"\ninit = \"i\"\n",
    );
    project.write("m/1.sql", "SELECT 1;");
    project.write("i/1.sql", "SELECT 1;");
    let up = project.run(&["up", "-d"]).code(2).says("procfile.toml:4:1: error: redis has no `migrations`");
    drop(up.says("redis has no `init`"));
    project.run(&["down"]);
}

/// Shows: sql --on, psql --on, redis-cli --on, cypher --on.
#[test]
fn consoles_say_what_is_missing() {
    let project = Project::new().procfile("[services.x]\nrun = \"{svc:x}\"\n[queries]\nqueue = \"SELECT 1\"\n");
    for (verb, scheme) in [("sql", "postgres"), ("psql", "postgres"), ("redis-cli", "redis"), ("cypher", "bolt")] {
        project.run(&[verb]).code(2).says(&format!("no service here speaks {scheme}"));
    }
    for verb in ["sql", "psql", "redis-cli", "cypher"] {
        project.run(&[verb, "--on", "x", "queue"]).code(2).says(&format!("`devrun {verb}` does not support x"));
    }
    project.run(&["migrate"]).code(2).says("no service here has `migrations`");
    project.rewrite(
        "[services.a]\nuse = \"postgres\"\n[services.b]\nuse = \"postgres\"\nport = \"auto\"\n[queries]\nqueue = \"SELECT 1\"\n",
    );
    project.run(&["sql", "queue"]).code(2).says("there are several: a and b");
    project.run(&["sql", "--on", "a", "nope"]).code(2).says("there are: queue");
    project.run(&["wait", "http://127.0.0.1:9/", "--table", "t"]).code(2).says("for a postgres:// address");
}
