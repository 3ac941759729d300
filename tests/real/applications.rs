//! The five stacks with applications in their real frameworks (`tests/stacks`), as a user has them: from an empty checkout, used,
//! edited, broken, scaled, saved, wiped and made again. The stacks' files are those of `tests/fixtures/stacks`; `overlay.toml`
//! says what is different here. What repeats a whole start (a second one, a rebuild, a wipe and a restore) is part of the long run only:
//! `DEVRUN_SOAK_ROUNDS=1 cargo test --test real -- applications`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Outcome, Project, long, signal, skipped};
use crate::services::{fetched, store, with_registries};
use crate::viewers::npm_packages;
use crate::waits::eventually;

trials![
    s0_an_api_over_all_stores,
    s1_django_and_vite_behind_one_port,
    s2_ten_services_in_seven_tiers,
    s3_a_website_and_what_watches_it,
    s4_workers_that_share_a_queue,
];

/// Packages come from registries, and servers start on a busy machine.
const UP: Duration = Duration::from_secs(600);

/// For what an application does by itself: reload, take work, be scraped.
const SOON: Duration = Duration::from_secs(90);

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

pub struct Checkout {
    pub project: Project,
    pub files: Vec<&'static str>,
}

/// A checkout of stack `name`, if its tools and servers are on this machine or can be fetched.
pub fn checkout(name: &str, tools: &[&str], recipes: &[&str]) -> Option<Checkout> {
    for tool in tools {
        let asked = if *tool == "python3" { vec!["-c", "import ensurepip, venv"] } else { vec!["--version"] };
        if !Command::new(tool).args(&asked).output().is_ok_and(|output| output.status.success()) {
            skipped(&format!("`{tool} {}` does not run on this machine", asked.join(" ")));
            return None;
        }
    }
    for recipe in recipes {
        if let Err(why) = fetched(recipe) {
            skipped(&format!("{recipe} is absent: {why}"));
            return None;
        }
    }
    let project =
        with_registries(Project::new()).env("DEVRUN_BIN_CACHE", &store().display().to_string()).env("DEVRUN_OFFLINE", "true");
    // Most of the packages are those of the other stacks.
    let project = ["PIP_CACHE_DIR", "npm_config_cache"].iter().fold(project, |project, variable| {
        let place = std::env::var(variable).unwrap_or_else(|_| store().join("tools/cache").join(variable).display().to_string());
        project.env(variable, &place)
    });
    let source = format!("{ROOT}/tests/stacks/{name}/.");
    let copied = Command::new("cp").args(["-r", &source, "."]).current_dir(project.dir()).status();
    assert!(copied.is_ok_and(|status| status.success()), "{source}");
    let procfile = std::fs::read_to_string(format!("{ROOT}/tests/fixtures/stacks/{name}.toml")).expect("the fixture");
    project.write("procfile.toml", &procfile);
    Some(Checkout { project, files: vec!["-f", "procfile.toml", "-f", "overlay.toml"] })
}

/// Status and body of a request by `curl`.
fn ask(address: &str, words: &[&str]) -> (u16, String) {
    let output = Command::new("curl")
        .args(["-s", "-m", "120", "-w", "\n%{http_code}"])
        .args(words)
        .arg(address)
        .output()
        .expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    (status.parse().unwrap_or(0), body.to_owned())
}

impl Checkout {
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Outcome {
        let all: Vec<&str> = self.files.iter().chain(words).copied().collect();
        self.project.start(&all).outcome_within(UP)
    }
    /// The address of a service, without a slash at its end.
    #[track_caller]
    fn address(&self, service: &str) -> String {
        let urls = self.run(&["urls", "--json"]).code(0).json();
        let all = urls.as_array().cloned().unwrap_or_default();
        let one = all.iter().find(|one| one["service"] == service).unwrap_or_else(|| panic!("{service} in {urls:#}"));
        one["url"].as_str().unwrap_or_default().trim_end_matches('/').to_owned()
    }
    /// The JSON that a request gets with status 200 or 201.
    #[track_caller]
    fn json(&self, service: &str, path: &str, words: &[&str]) -> Value {
        let address = format!("{}{path}", self.address(service));
        let (status, body) = ask(&address, words);
        assert!(matches!(status, 200 | 201), "{address}: {status}\n{body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{address}: {error}\n{body}"))
    }
    /// The running processes of a service by the names of their copies.
    #[track_caller]
    fn copies(&self, service: &str) -> Vec<(String, i32)> {
        let ps = self.run(&["ps", "--json"]).code(0).json();
        let all = ps["services"].as_array().cloned().unwrap_or_default();
        let ours = all.iter().filter(|one| one["service"] == service || one["name"] == service);
        ours.filter_map(|one| Some((one["name"].as_str()?.to_owned(), i32::try_from(one["pid"].as_i64()?).ok()?))).collect()
    }
    /// An edit of a source file.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = self.project.read(file);
        assert!(text.contains(from), "{from} in {file}");
        self.project.write(file, &text.replace(from, to));
    }
    #[track_caller]
    pub fn down(&self, words: &[&str]) {
        self.run(&[words, &["down"]].concat()).code(0);
        self.project.nothing_left();
    }
    /// Requests to `address`, one after the other, while `work` is done: how many there were, and those that failed.
    fn under_load(address: &str, work: impl FnOnce()) -> (usize, Vec<String>) {
        let (done, count) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                let mut failed = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let (status, body) = ask(address, &[]);
                    count.fetch_add(1, Ordering::Relaxed);
                    if status != 200 {
                        failed.push(format!("{status} {body}"));
                    }
                }
                failed
            });
            // Also where `work` panics the load ends.
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            done.store(true, Ordering::Relaxed);
            let failed = load.join().expect("the load ends");
            if let Err(panic) = worked {
                std::panic::resume_unwind(panic);
            }
            (count.load(Ordering::Relaxed), failed)
        })
    }
}

/// Makes Neo4j optional where it is not on this machine. Returns whether it did.
pub fn without_neo4j(stack: &mut Checkout) -> bool {
    let is_absent = stack.run(&["which", "neo4j", "--json"]).code != Some(0);
    if is_absent {
        let without = "[services.neo4j]\noptional = true\n[services.api]\n\
                       depends_on = [\"postgres\", \"redis\", \"minio-setup\", \"qdrant:started\", \"ollama:started\", \"venv\"]\n";
        stack.project.write("without.toml", without);
        stack.files.extend(["-f", "without.toml"]);
    }
    is_absent
}

/// FastAPI with `--reload` over Postgres, Redis and, where they are on this machine, Neo4j and MinIO.
fn s0_an_api_over_all_stores() {
    let Some(mut stack) = checkout("s0", &["python3", "curl"], &["postgres@16", "redis"]) else { return };
    let minio = stack.run(&["which", "minio", "--json"]).code == Some(0);
    let neo4j = !without_neo4j(&mut stack);
    stack.run(&["up", "-d"]).code(0).says("API docs");
    assert_eq!(ask(&format!("{}/docs", stack.address("api")), &[]).0, 200);
    stack.json("api", "/items?name=lamp", &["-X", "POST"]);
    assert_eq!(stack.json("api", "/items", &[]), serde_json::json!({ "items": ["lamp"], "created": 1 }));
    if neo4j {
        assert_eq!(stack.json("api", "/things", &[]), serde_json::json!({ "things": ["first"] }));
    }
    if minio {
        stack.project.write("big", &"x".repeat(3 << 20));
        let file = stack.project.path("big");
        stack.json("api", "/files/big", &["-T", &file.display().to_string()]);
        assert_eq!(stack.json("api", "/files/big", &[])["size"], 3 << 20);
    }
    assert_eq!(stack.json("api", "/version", &[]), serde_json::json!({ "version": "one", "key": "sk-of-the-test" }));
    stack.edit("app/main.py", "VERSION = \"one\"", "VERSION = \"two\"");
    eventually("the edit is served", SOON, || {
        ask(&format!("{}/version", stack.address("api")), &[]).1.contains("two").then_some(())
    });
    stack.down(&[]);
    if long() {
        // `make rebuild`: all data are made again, the passwords too.
        let old = stack.project.read("secrets/infra/db-password");
        stack.run(&["rebuild", "-d", "--yes"]).code(0);
        assert_ne!(stack.project.read("secrets/infra/db-password"), old);
        assert_eq!(stack.json("api", "/items", &[]), serde_json::json!({ "items": [], "created": 0 }));
        stack.down(&[]);
    }
}

/// Django, Celery and a page of Vite and React, all on the gateway's port; the page is edited in a real Chromium.
fn s1_django_and_vite_behind_one_port() {
    let Some(stack) = checkout("s1", &["python3", "npm", "node", "curl"], &["postgres@16", "redis"]) else { return };
    stack.run(&["up", "-d", "--build"]).code(0).says("Everything, one address");
    let front = stack.address("proxy");
    let status = |path: &str| ask(&format!("{front}{path}"), &[]).0;
    for path in ["/", "/api/", "/api/v1/health/", "/admin/login/", "/static/admin/css/base.css", "/health", "/@vite/client"] {
        assert_eq!(status(path), 200, "{path}");
    }
    assert_eq!(status("/admin/"), 302);
    assert_eq!(stack.json("proxy", "/api/v1/config/frontend/", &[])["apiUrl"], front.as_str());
    stack.json("proxy", "/api/v1/items/", &["-d", "{\"name\":\"lamp\"}"]);

    for (megabytes, wanted) in [(100, 201), (101, 413)] {
        let file = stack.project.root().join(format!("{megabytes}M"));
        std::fs::File::create(&file).and_then(|made| made.set_len(megabytes << 20)).expect("our own file");
        assert_eq!(ask(&format!("{front}/media/film"), &["-T", &file.display().to_string()]).0, wanted, "{megabytes} MB");
    }
    let length = ask(&format!("{front}/media/film"), &["-o", "/dev/null", "-w", "%{size_download}\n%{http_code}"]).1;
    assert!(length.starts_with(&(100 << 20).to_string()), "{length}");

    let upgrade =
        ["-i", "-N", "-m", "2", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13"];
    let keyed =
        [&upgrade[..], &["-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-H", "Sec-WebSocket-Protocol: vite-hmr"]].concat();
    assert_eq!(ask(&format!("{front}/ws"), &keyed).0, 101);

    if let Some(tools) = browser_tools() {
        let mut browser = Command::new("node");
        browser.arg(format!("{ROOT}/tests/browser/edit-page.mjs")).env("NODE_PATH", tools.join("node_modules"));
        browser.env("ADDRESS", format!("{front}/")).env("FILE", stack.project.path("frontend/src/App.jsx"));
        let said = browser.output().expect("node runs");
        let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        assert!(said.status.success() && text.contains("ok an edit shows without a reload"), "{text}");
    }

    stack.run(&["--profile", "with-celery", "up", "-d"]).code(0);
    let job = stack.json("proxy", "/api/v1/jobs/", &["-X", "POST", "-w", "\n200"]);
    let job = job["job"].as_str().expect("an id").to_owned();
    eventually("the worker counts", SOON, || {
        let answer = stack.json("proxy", &format!("/api/v1/jobs/{job}/"), &[]);
        (answer["result"].as_i64()? >= 1).then_some(())
    });
    eventually("the beat ticks", SOON, || (stack.json("proxy", "/api/v1/jobs/", &[])["ticks"].as_i64()? >= 2).then_some(()));

    stack.run(&["stop", "backend"]).code(0);
    assert_eq!(status("/health"), 200);
    let (code, body) = ask(&format!("{front}/api/"), &[]);
    assert!(code == 502 && body.contains("backend") && body.contains("devrun start backend"), "{code} {body}");
    stack.run(&["start", "backend"]).code(0);
    stack.down(&[]);

    stack.run(&["up", "-d"]).code(0);
    let items = stack.json("proxy", "/api/v1/items/", &[]);
    assert!(items["items"].as_array().is_some_and(|all| all.contains(&"lamp".into())), "{items}");
    stack.down(&[]);
}

/// Playwright, where it and Chromium are on this machine.
fn browser_tools() -> Option<PathBuf> {
    let chromium = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    let tools = if Path::new(&chromium).exists() {
        npm_packages("browser", &["playwright-core@1", "axe-core@4"])
    } else {
        Err("chromium is not installed".to_owned())
    };
    tools.map_err(|why| eprintln!("LEFT OUT the page in a browser: {why}")).ok()
}

/// Eight services of FastAPI that call each other, and a Node server.
fn s2_ten_services_in_seven_tiers() {
    let Some(stack) = checkout("s2", &["python3", "npm", "node", "curl"], &["postgres@16", "redis"]) else { return };
    stack.run(&["up", "-d", "--build"]).code(0).says("Web interface");
    assert_eq!(stack.json("frontend", "/api-health", &[])["status"], "ok");
    let token = stack.json("api-gateway", "/users/ada", &["-X", "POST"])["token"].as_str().expect("a token").to_owned();
    let header = format!("Authorization: Bearer {token}");
    let answer = stack.json("api-gateway", "/answers/rooms", &["-H", &header]);
    assert_eq!(answer, serde_json::json!({ "for": "ada", "answer": "rooms has 2 records", "asked": 1 }));
    let front = stack.address("api-gateway");
    assert_eq!(ask(&format!("{front}/answers/rooms"), &["-H", "Authorization: Bearer ada.AAAA"]).0, 401);
    assert_eq!(ask(&format!("{front}/sagas/broken?fail=true"), &["-X", "POST"]).0, 409);
    assert_eq!(stack.json("api-gateway", "/sagas/broken", &[])["steps"], 0);
    stack.json("api-gateway", "/sagas/whole", &["-X", "POST"]);
    assert_eq!(stack.json("api-gateway", "/sagas/whole", &[])["steps"], 3);
    let file = stack.project.path("requirements.txt").display().to_string();
    stack.json("automation-services", "/files/one", &["-T", &file]);

    stack.run(&["scale", "api-gateway=2"]).code(0);
    let mut seen = std::collections::BTreeSet::new();
    eventually("both copies answer", SOON, || {
        seen.insert(ask(&format!("{front}/health"), &[]).1);
        (seen.len() == 2).then_some(())
    });
    let (_, pid) = stack.copies("platform-services").pop().expect("it runs");
    signal(pid, Signal::SIGKILL);
    eventually("it is back", SOON, || {
        let now = stack.copies("platform-services");
        let health = || ask(&format!("{front}/health"), &[]).0 == 200;
        now.iter().all(|(_, other)| *other != pid).then(health)?.then_some(())
    });
    stack.down(&[]);
    if long() {
        stack.run(&["up", "-d"]).code(0);
        assert_eq!(stack.json("api-gateway", "/sagas/whole", &[])["steps"], 3);
        stack.down(&[]);
    }
}

/// The website next to the project.
pub fn website(stack: &Checkout) {
    let site = stack.project.root().join("pretamane-website");
    let copied = Command::new("cp").arg("-r").arg(stack.project.path("site")).arg(&site).status();
    assert!(copied.is_ok_and(|status| status.success()));
}

/// FastAPI and a website behind Caddy, then behind the gateway; Prometheus scrapes the application, the machine and the website.
fn s3_a_website_and_what_watches_it() {
    let recipes = ["postgres@16", "caddy", "prometheus", "blackbox_exporter", "node_exporter"];
    let Some(stack) = checkout("s3", &["python3", "curl"], &recipes) else { return };
    website(&stack);
    let profiles = ["--profile", "observability", "--profile", "gateway"];
    stack.run(&[&profiles[..], &["up", "-d"]].concat()).code(0).says("Website and API");
    for front in ["caddy", "edge"] {
        let (status, page) = ask(&format!("{}/", stack.address(front)), &["-i"]);
        let lower = page.to_lowercase();
        assert!(
            status == 200 && page.contains("The website") && lower.contains("x-content-type-options: nosniff"),
            "{front}: {page}"
        );
        assert_eq!(ask(&format!("{}/docs", stack.address(front)), &[]).0, 200, "{front}");
        stack.json(front, &format!("/api/posts?title=by-{front}"), &["-X", "POST"]);
    }
    assert_eq!(stack.json("edge", "/api/posts", &[])["posts"], serde_json::json!(["written by init", "by-caddy", "by-edge"]));
    let value = |query: &str| -> Option<f64> {
        let answer = stack.json("prometheus", &format!("/api/v1/query?query={query}"), &["-g"]);
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    };
    for query in ["up{job=\"app\"}", "up{job=\"node\"}", "probe_success"] {
        eventually(query, SOON, || (value(query)? > 0.5).then_some(()));
    }
    eventually("the counter of the application", SOON, || (value("posts_created_total")? > 1.5).then_some(()));

    stack.run(&["snapshot", "save", "posts"]).code(0);
    stack.down(&profiles);
    if long() {
        stack.run(&["clean", "--yes"]).code(0);
        stack.run(&["up", "-d"]).code(0);
        assert_eq!(stack.json("caddy", "/api/posts", &[])["posts"], serde_json::json!(["written by init"]));
        stack.run(&["snapshot", "restore", "posts", "--yes"]).code(0);
        assert_eq!(
            stack.json("caddy", "/api/posts", &[])["posts"],
            serde_json::json!(["written by init", "by-caddy", "by-edge"])
        );
        stack.down(&[]);
    }
}

/// Waits until `wanted` pieces of work of this title are done, and none is left where they are not made for ever.
fn done(stack: &Checkout, service: &str, title: &str, wanted: i64) -> Value {
    eventually(&format!("{wanted} of {title}"), SOON, || {
        let work = stack.json(service, "/work", &[])[title].clone();
        let enough = work["done"].as_i64()? >= wanted && (title == "heartbeat" || work["done"] == work["all"]);
        enough.then_some(work)
    })
}

/// FastAPI, APScheduler and workers with SKIP LOCKED; then two copies of the API behind the gateway of the prod mode.
fn s4_workers_that_share_a_queue() {
    let Some(mut stack) = checkout("s4", &["python3", "curl"], &["postgres@16", "redis"]) else { return };
    stack.run(&["up", "-d"]).code(0);
    stack.json("api", "/work?title=letters&count=50", &["-X", "POST"]);
    done(&stack, "api", "letters", 50);
    done(&stack, "api", "heartbeat", 2);
    stack.edit("api/main.py", "VERSION = \"one\"", "VERSION = \"two\"");
    let health = format!("{}/health", stack.address("api"));
    eventually("the edit is served", SOON, || ask(&health, &[]).1.contains("two").then_some(()));

    stack.run(&["scale", "worker=3"]).code(0);
    let workers = stack.copies("worker");
    assert_eq!(workers.len(), 3, "{workers:?}");
    let (name, pid) = workers[0].clone();
    signal(pid, Signal::SIGKILL);
    stack.json("api", "/work?title=parcels&count=200", &["-X", "POST"]);
    eventually("the killed worker is back", SOON, || {
        stack.copies("worker").iter().any(|(other, now)| *other == name && *now != pid).then_some(())
    });
    done(&stack, "api", "parcels", 200);
    stack.run(&["snapshot", "save", "work"]).code(0);
    stack.down(&[]);
    if long() {
        stack.run(&["clean", "--yes"]).code(0);
        stack.run(&["up", "-d"]).code(0);
        assert!(stack.json("api", "/work", &[])["parcels"].is_null());
        stack.run(&["snapshot", "restore", "work", "--yes"]).code(0);
        done(&stack, "api", "parcels", 200);
        stack.down(&[]);
    }

    stack.files.extend(["--mode", "prod"]);
    stack.run(&["up", "-d"]).code(0);
    let front = format!("{}/health", stack.address("edge"));
    assert!(ask(&front, &["-i"]).1.to_lowercase().contains("x-content-type-options: nosniff"));
    stack.json("edge", "/work?title=letters&count=400", &["-X", "POST"]);
    let work = done(&stack, "edge", "letters", 400);
    assert!(work["by"].as_array().is_some_and(|by| by.len() > 1), "one worker did it all: {work}");
    let (count, failed) = Checkout::under_load(&front, || {
        stack.run(&["restart", "api"]).code(0);
    });
    assert!(count > 10 && failed.is_empty(), "{} of {count} failed in a restart: {failed:#?}", failed.len());
    let (_, pid) = stack.copies("api").pop().expect("it runs");
    let (count, failed) = Checkout::under_load(&front, || {
        signal(pid, Signal::SIGKILL);
        eventually("the killed copy is back", SOON, || {
            let copies = stack.copies("api");
            (copies.len() == 2 && copies.iter().all(|(_, other)| *other != pid)).then_some(())
        });
    });
    assert!(failed.len() <= 1, "{} of {count} failed, where one was in flight: {failed:#?}", failed.len());
    stack.down(&[]);
}
