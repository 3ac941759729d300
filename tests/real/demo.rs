//! The demo as a newcomer meets it: the repository's own `procfile.toml` with a real Postgres, a real Redis and a real
//! browser that opens the page.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{LONG, PATIENCE, Project, eventually, is_root};
use crate::services::installed;
use crate::test_ports::free_port;
use crate::waits::within;

trials![
    the_shop_comes_up_sells_and_keeps_its_data,
    the_full_profile_comes_up_with_buckets_graph_and_model_made_once,
    nothing_of_the_shop_outlives_a_killed_supervisor,
    two_worktrees_of_the_shop_run_beside_each_other,
    a_browser_shows_products_and_counter
];

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The first of these that is on the machine. Missing: the test is ignored, or a failure in CI.
fn tool(what: &str, places: &[&str]) -> Option<PathBuf> {
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{what} is missing, and CI must have it: looked for {places:?}");
        crate::harness::skipped(&format!("{what} is not on this machine"));
    }
    found
}

pub fn servers() -> bool {
    let missing = ["initdb", "redis-server"].into_iter().find(|program| !installed(program));
    if let Some(program) = missing {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing, and CI must have it");
        crate::harness::skipped(&format!("{program} is not on this machine"));
    }
    missing.is_none()
}

/// The repository's procfile and assets in a throw-away folder. Cargo has built the shop already for these tests, so the
/// overlay takes that binary instead of compiling a second one.
pub fn shop() -> Project {
    let project = Project::new();
    let binary = crate::harness::testsvc().with_file_name("shop");
    assert!(binary.exists(), "{} is missing: run `cargo build --example shop`", binary.display());
    let copied = Command::new("cp")
        .arg("-r")
        .arg(format!("{ROOT}/procfile.toml"))
        .arg(format!("{ROOT}/examples"))
        .arg(project.dir())
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    let (api, frontend) = (free_port(), free_port());
    project.write(
        "test.toml",
        &format!(
            "[tasks.build-shop]\nrun = \"true\"\n\
             [services.api]\nrun = \"{binary} api\"\nport = {api}\n\
             [services.frontend]\nrun = \"{binary} frontend\"\nport = {frontend}\n\
             [services.postgres]\nport = \"auto\"\n[services.redis]\nport = \"auto\"\n\
             [services.files]\nport = \"auto\"\n[services.neo4j]\nport = \"auto\"\nports = {{ http = \"auto\" }}\nready = {{ within = \"5m\" }}\n\
             [services.qdrant]\nport = \"auto\"\nports = {{ grpc = \"auto\" }}\n[services.ollama]\nport = \"auto\"\n",
            binary = binary.display()
        ),
    );
    project
}

pub const FILES: [&str; 4] = ["-f", "procfile.toml", "-f", "test.toml"];

fn with_files<'a>(args: &[&'a str]) -> Vec<&'a str> {
    FILES.iter().chain(args).copied().collect()
}

fn port_of(project: &Project, service: &str) -> u16 {
    let ps = project.run(&with_files(&["ps", "--json"])).code(0).json();
    let services = ps["services"].as_array().cloned().unwrap_or_default();
    let one = services.iter().find(|one| one["name"] == service).unwrap_or_else(|| panic!("{service} in {ps:#}"));
    u16::try_from(one["ports"]["main"].as_u64().unwrap_or(0)).expect("a port")
}

/// Status and body.
fn http(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the service listens");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("the service reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the service answers");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn the_shop_comes_up_sells_and_keeps_its_data() {
    if !servers() {
        return;
    }
    let project = shop();
    project.start(&with_files(&["up", "-d"])).outcome_within(Duration::from_secs(120)).code(0);
    let page = port_of(&project, "frontend");

    let (status, products) = http(page, "GET", "/api/products", "");
    assert_eq!(status, 200, "{products}");
    for name in ["Brass lantern", "Wool blanket", "Field notebook", "Enamel mug", "Folding compass"] {
        assert!(products.contains(name), "{products}");
    }
    assert_eq!(http(page, "POST", "/api/visits", ""), (200, "{\"visits\":1}".to_owned()));
    assert_eq!(http(page, "POST", "/api/visits", ""), (200, "{\"visits\":2}".to_owned()));
    assert_eq!(http(page, "POST", "/api/orders", "{\"product_id\":1,\"quantity\":2}").0, 201);
    assert_eq!(http(page, "POST", "/api/orders", "{\"product_id\":1,\"quantity\":99}").0, 409, "twelve in stock");
    assert_eq!(http(page, "POST", "/api/orders", "{\"product_id\":77,\"quantity\":1}").0, 404);
    assert_eq!(http(page, "POST", "/api/orders", "nonsense").0, 400);

    project.run(&with_files(&["down"])).code(0);
    project.nothing_left();
    project.start(&with_files(&["up", "-d"])).outcome_within(Duration::from_secs(120)).code(0);
    let page = port_of(&project, "frontend");
    let (_, orders) = http(page, "GET", "/api/orders", "");
    assert!(orders.contains("Brass lantern") && orders.contains("\"total_cents\":6980"), "{orders}");
    let (_, products) = http(page, "GET", "/api/products", "");
    assert!(products.contains("\"stock\":10"), "two were sold: {products}");
}

/// The optional servers run where they are in the store; what is to be made in them is made once.
fn the_full_profile_comes_up_with_buckets_graph_and_model_made_once() {
    if !servers() {
        return;
    }
    let project = shop().env("DEVRUN_BIN_CACHE", &crate::services::store().display().to_string()).env("DEVRUN_OFFLINE", "true");
    let here = |recipe: &str| project.run(&with_files(&["which", recipe, "--json"])).code == Some(0);
    let optional = [("files", "versitygw"), ("neo4j", "neo4j"), ("qdrant", "qdrant"), ("ollama", "ollama")];
    let optional = optional.map(|(service, recipe)| (service, here(recipe)));
    let up = || project.start(&with_files(&["up", "-d", "--profile", "full"])).outcome_within(Duration::from_secs(360)).code(0);
    let state = |service: &str| {
        let ps = project.run(&with_files(&["ps", "--json"])).code(0).json();
        let all = ps["services"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["name"] == service).unwrap_or_else(|| panic!("{service} in {ps:#}"))
    };
    // The first question to a server that has just come up takes its time.
    let asked = |words: &[&str]| project.start(&with_files(words)).outcome_within(Duration::from_secs(120)).code(0).json();
    up();
    let mut models = Vec::new();
    for round in 0..3 {
        for service in ["postgres", "redis", "api", "frontend"] {
            assert_eq!(state(service)["health"], "healthy", "{service}");
        }
        for (service, there) in optional {
            let (one, setup) = (state(service), state(&format!("{service}-setup")));
            if there {
                assert_eq!((&one["health"], &setup["state"]), (&"healthy".into(), &"completed".into()), "{one} {setup}");
            } else {
                assert_eq!((&one["state"], &setup["state"]), (&"skipped".into(), &"skipped".into()), "{one} {setup}");
                let why = setup["reason"].as_str().unwrap_or_default();
                assert!(why.starts_with(&format!("{service} is left out: ")), "{why}");
                let _ = writeln!(std::io::stderr(), "SKIP {service} is absent; scripts/real-services builds it");
                continue;
            }
            match service {
                "files" => {
                    let port = port_of(&project, "files");
                    assert_eq!(http(port, "GET", "/pictures/", "").0, 200, "it is open");
                    assert_eq!(http(port, "GET", "/invoices/", "").0, 403, "it is not");
                    if round == 0 {
                        // Would not outlive a bucket that is made anew.
                        std::fs::write(project.path(".devrun/data/files/versitygw/data/pictures/kept"), "kept")
                            .expect("our own volume");
                    }
                    assert!(http(port, "GET", "/pictures/", "").1.contains("kept"));
                }
                "neo4j" => {
                    let count = "MATCH (p:Product) RETURN count(p) AS n";
                    let rows = asked(&["--profile", "full", "cypher", count, "--json"]);
                    assert_eq!(rows, serde_json::json!([{ "n": 2 }]));
                    let done = setup["reason"].as_str().unwrap_or_default();
                    assert_eq!(done.is_empty(), round < 2, "when it runs again, its sentinel says when it was done: {done:?}");
                }
                _ => {
                    let tags = http(port_of(&project, "ollama"), "GET", "/api/tags", "").1;
                    assert!(tags.contains("\"name\":\"shop-tiny:latest\""), "{tags}");
                    // With the moment at which it was made.
                    models.push(tags);
                }
            }
        }
        if round == 0 {
            // A second `up` beside it has nothing to do.
            up().says_not("initialising");
        } else {
            project.start(&with_files(&["down"])).outcome_within(Duration::from_secs(120)).code(0);
            project.nothing_left();
            if round == 1 {
                up();
            }
        }
    }
    assert!(models.windows(2).all(|pair| pair[0] == pair[1]), "{models:?}");
}

fn nothing_of_the_shop_outlives_a_killed_supervisor() {
    if !servers() {
        return;
    }
    let project = shop();
    for _ in 0..2 {
        project.start(&with_files(&["up", "-d"])).outcome_within(Duration::from_secs(120)).code(0);
        let ps = project.run(&with_files(&["ps", "--json"])).code(0).json();
        let supervisor = i32::try_from(ps["supervisor_pid"].as_i64().expect("it runs")).expect("a pid");
        crate::harness::signal(supervisor, nix::sys::signal::Signal::SIGKILL);
        project.nothing_left_within(Duration::from_secs(30));
    }
    // Both stopped cleanly, so the third start needs no crash recovery.
    project.start(&with_files(&["up", "-d"])).outcome_within(Duration::from_secs(120)).code(0);
    let log = project.run(&with_files(&["logs", "postgres"])).code(0).stdout;
    assert!(!log.contains("was not properly shut down"), "{log}");
}

/// With the numbers of the procfile as they are: `--ports auto` keeps the two apart, and `env` in each gives its own.
fn two_worktrees_of_the_shop_run_beside_each_other() {
    if !servers() {
        return;
    }
    let project = shop();
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        let done = Command::new("git").args(identity).args(words).current_dir(project.dir()).stdout(Stdio::null()).status();
        assert!(done.is_ok_and(|status| status.success()), "git {words:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "shop"]);
    git(&["worktree", "add", "-q", "two"]);
    let here: Vec<&'static str> = FILES.to_vec();
    let there: Vec<&'static str> = ["-C", "two"].into_iter().chain(FILES).collect();
    let words = |start: &[&'static str], more: &[&'static str]| start.iter().chain(more).copied().collect::<Vec<&str>>();
    let mut seen = Vec::new();
    for place in [&here, &there] {
        project.start(&words(place, &["up", "-d", "--ports", "auto"])).outcome_within(Duration::from_secs(120)).code(0);
    }
    for (place, visits) in [(&here, 1), (&there, 2)] {
        let env = project.run(&words(place, &["env", "frontend", "--format", "json"])).code(0).json();
        let page = env["PORT"].as_str().and_then(|text| text.parse::<u16>().ok()).expect("a port");
        let database = project.run(&words(place, &["env", "--format", "json"])).code(0).json()["DATABASE_URL"].clone();
        // Each counts its own visits.
        for count in 1..=visits {
            assert_eq!(http(page, "POST", "/api/visits", ""), (200, format!("{{\"visits\":{count}}}")));
        }
        assert!(!seen.contains(&(page, database.clone())) && seen.iter().all(|(_, other)| *other != database), "{seen:?}");
        seen.push((page, database));
    }
    for place in [&here, &there] {
        project.run(&words(place, &["down"])).code(0);
    }
    project.nothing_left();
}

fn a_browser_shows_products_and_counter() {
    let Some(chromium) = tool("chromium", &["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]) else {
        return;
    };
    if !servers() {
        return;
    }
    let project = shop();
    project.start(&with_files(&["up", "-d"])).outcome_within(Duration::from_secs(120)).code(0);
    let page = port_of(&project, "frontend");
    let dom = open(&chromium, &project.path("browser"), &format!("http://127.0.0.1:{page}/"));
    for text in ["The Lantern Shop", "Brass lantern", "€34.90", "Wool blanket", "12 in stock"] {
        assert!(dom.contains(text), "the page lacks {text:?}:\n{dom}");
    }
    assert!(dom.contains("<strong id=\"visits\" aria-live=\"polite\">1</strong>"), "the counter of a first visit:\n{dom}");
    // The visit was counted in Redis, not in the page.
    assert_eq!(http(page, "GET", "/api/visits", ""), (200, "{\"visits\":1}".to_owned()));
}

/// The page's DOM after its scripts ran. No flag lets the browser talk to anything but the page.
fn open(chromium: &Path, profile: &Path, url: &str) -> String {
    let flags = [
        "--headless",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--virtual-time-budget=10000",
        "--dump-dom",
    ];
    let mut command = Command::new(chromium);
    command.args(flags).arg(format!("--user-data-dir={}", profile.display()));
    if is_root() {
        // Chromium's own sandbox refuses root.
        command.arg("--no-sandbox");
    }
    let mut child =
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("chromium runs");
    let mut stdout = child.stdout.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut dom = String::new();
        stdout.read_to_string(&mut dom).map(|_| dom)
    });
    if within(LONG, || reader.is_finished().then_some(())).is_none() {
        let _ = child.kill();
    }
    let _ = child.wait();
    // Its helpers end with it, a moment later.
    eventually("the browser's end", PATIENCE, || {
        crate::harness::processes_with(&profile.display().to_string()).is_empty().then_some(())
    });
    reader.join().expect("the reader does not panic").expect("the DOM is text")
}
