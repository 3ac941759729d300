//! The other recipes with their real servers: up, a word with the server, down, and up again on the same data.
//!
//! Binaries come from the system or from a store, `DEVRUN_BIN_CACHE` or `target/services`. Those that come in seconds are
//! fetched into it where that is possible; built ones (`scripts/real-services`) run where they are there.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, TEST_STORE, eventually};
use crate::stack::{has_psql, skip};

trials![
    nginx,
    nginx_of_root_serves_what_only_root_reaches,
    caddy,
    prometheus,
    node_exporter,
    blackbox_exporter,
    memcached,
    nats_keeps_its_streams_and_asks_for_a_password,
    valkey_keeps_what_it_was_told,
    mailpit_catches_a_mail_and_keeps_it,
    versitygw_has_its_buckets_and_what_is_in_them,
    minio_has_its_buckets_and_what_is_in_them,
    seaweedfs_has_its_buckets_and_what_is_in_them,
    neo4j_has_its_graph_once,
    versitygw_takes_any_password_through_every_layer_and_a_new_one_with_a_restart,
    minio_takes_any_password_without_outer_blanks_through_every_layer_and_a_new_one_with_a_restart,
    seaweedfs_takes_any_password_and_a_new_one_with_a_restart,
    neo4j_takes_any_password_through_every_layer_and_a_new_one_while_it_runs,
    neo4j_killed_in_the_middle_of_a_rotation_has_one_password_everywhere,
    mariadb_is_made_once_with_its_init_files,
    rabbitmq_takes_its_name_server_along,
    ollama_has_its_model_once,
    a_throw_away_stack_hands_out_the_usual_variables_waits_for_no_disk_and_leaves_nothing,
    postgres_gets_the_extensions_that_came_later,
    postgres_is_migrated_once_each_and_asked_without_a_client,
    consoles_log_in_and_hand_their_words_on
];

/// Ready within this, on a machine that builds something beside.
pub const UP: Duration = Duration::from_secs(180);

pub const SEAWEEDFS_PORTS: &str = "ports = { s3_grpc = \"auto\", master = \"auto\", master_grpc = \"auto\", volume = \"auto\", \
    volume_grpc = \"auto\", filer = \"auto\", filer_grpc = \"auto\" }\n";

pub fn store() -> PathBuf {
    std::env::var_os("DEVRUN_BIN_CACHE")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/services")), PathBuf::from)
}

/// Gives pip and npm the caller's settings and caches, as a mirror may stand in for PyPI and npm.
pub fn with_registries(mut project: Project) -> Project {
    const PREFIXES: [&str; 9] =
        ["PIP_", "NPM_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT", "REQUESTS_CA", "NODE_EXTRA_CA", "CURL_CA"];
    for (name, value) in std::env::vars() {
        let upper = name.to_uppercase();
        if name == "HOME" || name == "XDG_CACHE_HOME" || PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) {
            project = project.env(&name, &value);
        }
    }
    project
}

/// The variable by which a script asks what ran: each test adds its line.
const REPORT: &str = "DEVRUN_REAL_REPORT";

/// Fetches a server into the store, once in this process, unless `DEVRUN_OFFLINE` forbids it. `Err`: why it cannot be had.
pub fn fetched(recipe: &str) -> Result<(), String> {
    static TRIED: Mutex<BTreeMap<String, Result<(), String>>> = Mutex::new(BTreeMap::new());
    if std::env::var_os("DEVRUN_OFFLINE").is_some_and(|value| !value.is_empty()) {
        return Err("DEVRUN_OFFLINE is set".to_owned());
    }
    // One after the other: they share a registry, and the machine.
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    let result = tried.entry(recipe.to_owned()).or_insert_with(|| {
        // A registry that the caller's variables describe, or whose certificate they name, is reached by them only.
        let fetching = with_registries(Project::new().env("DEVRUN_BIN_CACHE", &store().display().to_string()));
        let outcome = fetching.start(&["fetch", recipe]).outcome_within(UP);
        if outcome.code == Some(0) { Ok(()) } else { Err(outcome.last_line().to_owned()) }
    });
    result.clone()
}

/// Whether a server's program is on this machine, or in the store of the tests.
pub fn installed(program: &str) -> bool {
    let look = format!(
        "command -v {program} || ls /usr/lib/postgresql/*/bin/{program} || \
         find \"${TEST_STORE}\" -maxdepth 6 -type f -name {program} | grep ."
    );
    Command::new("sh").args(["-c", &look]).output().is_ok_and(|output| output.status.success())
}

/// Whether a server is on this machine.
pub fn is_there(recipe: &str) -> bool {
    let project = Project::new().env("DEVRUN_BIN_CACHE", &store().display().to_string()).env("DEVRUN_OFFLINE", "true");
    project.run(&["which", recipe]).code == Some(0)
}

/// A project that fetches nothing, if the recipe's server is on this machine. What comes in seconds is fetched where it is absent.
pub fn project(recipe: &str, quick: bool) -> Option<Project> {
    let project = Project::new().env("DEVRUN_BIN_CACHE", &store().display().to_string()).env("DEVRUN_OFFLINE", "true");
    let mut which = project.run(&["which", recipe, "--json"]);
    let mut fetched_now = Ok(());
    if quick && which.code != Some(0) {
        fetched_now = fetched(if recipe == "nats" { "nats@2.9" } else { recipe });
        which = project.run(&["which", recipe, "--json"]);
    }
    if which.code == Some(0) {
        let found = which.json();
        let version = found[0]["version"].as_str().unwrap_or_default().to_owned();
        report(recipe, &format!("ran | {version}"));
        return Some(project);
    }
    report(recipe, "not run | its server is not here");
    match fetched_now {
        Err(why) => skip(&format!("{recipe} is absent: {why}")),
        Ok(()) if quick => skip(&format!("{recipe} is absent: {}", which.last_line())),
        Ok(()) => crate::harness::skipped(&format!("{recipe} is absent; scripts/real-services builds it")),
    }
    None
}

fn report(recipe: &str, line: &str) {
    let Some(file) = std::env::var_os(REPORT) else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).expect("the report can be written");
    file.write_all(format!("{recipe} | {line}\n").as_bytes()).expect("the report can be written");
}

pub fn up(project: &Project) {
    project.start(&["up", "-d"]).outcome_within(UP).code(0);
}

pub fn down(project: &Project) {
    project.start(&["down"]).outcome_within(UP).code(0);
    project.nothing_left();
}

pub fn port(project: &Project, name: &str) -> u16 {
    let ports = &project.service("x")["ports"];
    u16::try_from(ports[name].as_u64().unwrap_or_else(|| panic!("{name} in {ports}"))).expect("a port")
}

/// Status and body.
pub fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the service listens");
    // In one piece: PHP's own server closes a connection whose request comes in several.
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the service reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the service answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// What a server says to a line of text.
pub fn talk(port: u16, words: &[u8], until: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the service listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(words).expect("the service reads");
    let mut heard = Vec::new();
    let mut buffer = [0u8; 4096];
    while !String::from_utf8_lossy(&heard).contains(until) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => heard.extend(&buffer[..count]),
            Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&heard)),
        }
    }
    String::from_utf8_lossy(&heard).into_owned()
}

/// Servers of which a page is all there is to see.
fn serves(recipe: &str, set: &str, path: &str, says: &str) {
    let Some(project) = project(recipe, true) else { return };
    project.rewrite(&format!("[services.x]\nuse = \"{recipe}\"\nport = \"auto\"\n{set}"));
    for _ in 0..2 {
        up(&project);
        let (status, body) = get(port(&project, "main"), path);
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(says), "{body}");
        down(&project);
    }
}

fn nginx() {
    serves("nginx", "", "/", "nginx, started by devrun");
}

/// Its workers are not `nobody`, who does not pass a directory of mode 0700; a `user` of the configuration is obeyed.
fn nginx_of_root_serves_what_only_root_reaches() {
    let Some(project) = project("nginx", true) else { return };
    if !nix::unistd::geteuid().is_root() {
        return crate::harness::skipped("only root has workers of another user");
    }
    let published = crate::test_ports::free_port();
    project.write(
        "compose.yml",
        &format!(
            "services:\n  x:\n    image: nginx\n    ports: ['{published}:80']\n    volumes: ['./site.conf:/etc/nginx/conf.d/default.conf', './html:/usr/share/nginx/html']\n"
        ),
    );
    project.write("site.conf", "server { listen 80; location / { root /usr/share/nginx/html; } }\n");
    project.write("html/index.html", "pages of root\n");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(project.dir(), closed).expect("our own directory");
    project.run(&["import", "compose.yml", "--yes"]).code(0);
    let made = project.read("procfile.toml");
    for (user, expected) in [("", 200), ("user nobody nogroup;\n", 403)] {
        project.write("procfile.toml", &made.replacen("daemon off;", &format!("{user}daemon off;"), 1));
        up(&project);
        let (status, body) = get(port(&project, "main"), "/");
        assert_eq!(status, expected, "{user:?}: {body}");
        down(&project);
    }
}

fn caddy() {
    serves("caddy", "", "/", "Caddy, started by devrun");
}

fn prometheus() {
    serves("prometheus", "set = { retention = \"2d\" }\n", "/api/v1/status/runtimeinfo", "2d");
}

fn node_exporter() {
    serves("node_exporter", "", "/metrics", "node_cpu_seconds_total");
}

fn blackbox_exporter() {
    serves("blackbox_exporter", "", "/config", "http_2xx");
}

fn memcached() {
    let Some(project) = project("memcached", true) else { return };
    project.rewrite("[services.x]\nuse = \"memcached\"\nport = \"auto\"\nset = { memory = \"16\" }\n");
    up(&project);
    let heard = talk(port(&project, "main"), b"set k 0 0 2\r\nhi\r\nget k\r\nstats settings\r\n", "maxconns");
    assert!(heard.contains("STORED\r\nVALUE k 0 2\r\nhi"), "{heard}");
    assert!(heard.contains("maxbytes 16777216"), "{heard}");
    down(&project);
}

fn nats_keeps_its_streams_and_asks_for_a_password() {
    let Some(project) = project("nats", true) else { return };
    project.rewrite(
        "[services.x]\nuse = \"nats\"\nport = \"auto\"\nports = { http = \"auto\" }\nuser = \"app\"\npassword = \"odd \\\"pw\\\" #1\"\n",
    );
    let login = |password: &str| {
        let options = serde_json::json!({ "verbose": true, "pedantic": false, "user": "app", "pass": password });
        format!("CONNECT {options}\r\nPING\r\n")
    };
    up(&project);
    let main = port(&project, "main");
    assert!(talk(main, login("wrong").as_bytes(), "Authorization").contains("Authorization Violation"));
    let create = r#"{"name":"S","subjects":["s.*"],"storage":"file"}"#;
    let make =
        format!("{}SUB inbox 1\r\nPUB $JS.API.STREAM.CREATE.S inbox {}\r\n{create}\r\n", login("odd \"pw\" #1"), create.len());
    let heard = talk(main, make.as_bytes(), "stream_create_response");
    assert!(heard.contains("\"name\":\"S\""), "{heard}");
    down(&project);
    up(&project);
    let (_, streams) = get(port(&project, "http"), "/jsz?streams=true");
    assert!(streams.contains("\"name\": \"S\""), "{streams}");
    down(&project);
}

fn valkey_keeps_what_it_was_told() {
    let Some(project) = project("valkey", true) else { return };
    project.rewrite(
        "[services.x]\nuse = \"valkey\"\nport = \"auto\"\npassword = \"odd #pw 'x'\"\nset = { appendonly = \"yes\", maxmemory = \"64mb\" }\n",
    );
    let ask =
        |words: &str, until: &str| talk(port(&project, "main"), format!("AUTH \"odd #pw 'x'\"\r\n{words}\r\n").as_bytes(), until);
    for round in 0..2 {
        up(&project);
        assert!(talk(port(&project, "main"), b"GET k\r\n", "\r\n").starts_with("-NOAUTH"));
        if round == 0 {
            ask("SET k kept", "+OK\r\n+OK");
        }
        assert!(ask("GET k", "kept\r\n").contains("kept"));
        assert!(ask("INFO server", "valkey_version").contains("valkey_version"));
        assert!(ask("CONFIG GET maxmemory", "67108864").contains("67108864"));
        down(&project);
    }
}

fn mailpit_catches_a_mail_and_keeps_it() {
    let Some(project) = project("mailpit", false) else { return };
    project.rewrite("[services.x]\nuse = \"mailpit\"\nport = \"auto\"\nports = { http = \"auto\" }\n");
    for round in 0..2 {
        up(&project);
        if round == 0 {
            let mail = b"EHLO me\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: greeting\r\n\r\nhello\r\n.\r\nQUIT\r\n";
            let heard = talk(port(&project, "main"), mail, "\r\n221 ");
            assert!(heard.contains("250 2.0.0 Ok: queued"), "{heard}");
        }
        let (status, messages) = get(port(&project, "http"), "/api/v1/messages");
        assert!(status == 200 && messages.contains("\"Subject\":\"greeting\""), "{messages}");
        assert_eq!(get(port(&project, "http"), "/").0, 200, "its page is in the module");
        down(&project);
    }
}

/// Shows: task.buckets, bucket.name, bucket.anonymous.
fn versitygw_has_its_buckets_and_what_is_in_them() {
    let Some(project) = project("versitygw", false) else { return };
    buckets(&project, "versitygw", "");
}

fn minio_has_its_buckets_and_what_is_in_them() {
    let Some(project) = project("minio", false) else { return };
    buckets(&project, "minio", "ports = { console = \"auto\" }\n");
}

fn seaweedfs_has_its_buckets_and_what_is_in_them() {
    let Some(project) = project("seaweedfs", false) else { return };
    buckets(&project, "seaweedfs", SEAWEEDFS_PORTS);
}

fn buckets(project: &Project, recipe: &str, more: &str) {
    project.rewrite(&format!(
        "[services.x]\nuse = \"{recipe}\"\nport = \"auto\"\npassword = \"secret-key-1\"\n{more}\
         [tasks.buckets]\ndepends_on = [\"x\"]\nbuckets = [\"private\", {{ name = \"open\", anonymous = \"public\" }}, {{ name = \"shown\", anonymous = \"download\" }}, \
         {{ name = \"drop\", anonymous = \"upload\" }}]\n",
    ));
    for round in 0..2 {
        up(project);
        let s3 = port(project, "main");
        // Nobody's signature: only what the policies allow.
        for (bucket, may_list) in [("private", false), ("open", true), ("shown", true), ("drop", false)] {
            assert_eq!(get(s3, &format!("/{bucket}/")).0 == 200, may_list, "{bucket}");
        }
        let put = |bucket: &str| {
            let request = format!(
                "PUT /{bucket}/greeting HTTP/1.1\r\nHost: 127.0.0.1:{s3}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
            );
            talk(s3, request.as_bytes(), "\r\n\r\n")
        };
        assert!(put("private").contains(" 403 "));
        assert!(put("shown").contains(" 403 "));
        if round == 0 {
            for bucket in ["open", "drop"] {
                let answer = put(bucket);
                assert!(answer.contains(" 200 "), "{bucket}: {answer}");
            }
        }
        assert_eq!(get(s3, "/open/greeting"), (200, "hello".to_owned()));
        assert_eq!(get(s3, "/drop/greeting").0, 403);
        down(project);
    }
}

/// Shows: task.cypher, cypher, cypher --json.
fn neo4j_has_its_graph_once() {
    let Some(project) = project("neo4j", false) else { return };
    project.write(
        "init.cypher",
        "CREATE CONSTRAINT person IF NOT EXISTS FOR (p:Person) REQUIRE p.name IS UNIQUE;\n// two\nCREATE (:Person {name: 'Ann; and'})-[:KNOWS]->(:Person {name: \"Bob\"});\n",
    );
    let services = "[services.x]\nuse = \"neo4j\"\nport = \"auto\"\nports = { http = \"auto\" }\npassword = \"graph-password\"\n\
                    set = { heap = \"256m\", pagecache = \"32m\", \"db.transaction.timeout\" = \"70s\" }\nstop = { grace = \"60s\" }\n";
    project.rewrite(&format!("{services}[tasks.graph]\ndepends_on = [\"x\"]\ncypher = \"init.cypher\"\nonce = \"x/.graph\"\n"));
    for _ in 0..2 {
        up(&project);
        let query = "MATCH (p:Person) RETURN p.name AS name, size([(p)--() | 1]) AS n ORDER BY name";
        // The first question to a server that has just come up takes its time.
        let names = project.start(&["cypher", query, "--json"]).outcome_within(UP);
        assert_eq!(names.code(0).json(), serde_json::json!([{ "name": "Ann; and", "n": 1 }, { "name": "Bob", "n": 1 }]));
        let setting = "SHOW SETTINGS YIELD name, value WHERE name = 'db.transaction.timeout' RETURN value";
        project.run(&["cypher", setting]).code(0).says("1m10s");
        project.run(&["cypher", "RETURN nope"]).code(1).says("nope").says("SyntaxError");
        down(&project);
    }
    // A password that the data was not made with is told apart from everything else.
    project.rewrite(&format!(
        "{}[tasks.graph]\ndepends_on = [\"x\"]\ncypher = \"init.cypher\"\n",
        services.replace("graph-password", "another-one")
    ));
    let failed = project.start(&["up", "-d"]).outcome_within(UP).code(10);
    failed.says("refuses the login");
    down(&project);
}

/// The one of the trap, and one with everything at once.
const PASSWORDS: [&str; 2] = ["#ThawZin2k77!", " it's a \"q\" $HOME ${x} $$ 50% a@b:c/d\\e `id` ä€😀 \\"];

/// Where a password can come from.
const LAYERS: [&str; 4] = ["shell", "env file", "literal", "secret file"];

/// Lays a password into a project, and gives the key of the procfile that takes it from there.
fn lay(mut project: Project, layer: &str, password: &str) -> (Project, String) {
    let key = match layer {
        "shell" => {
            project = project.env("PASSWORD_OF_THE_SHELL", password);
            "${PASSWORD_OF_THE_SHELL}".to_owned()
        }
        "literal" => password.replace('$', "$$"),
        "env file" => {
            let text = password.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            project.write(".env", &format!("PASSWORD=\"{text}\"\n"));
            "${PASSWORD}".to_owned()
        }
        _ => {
            use std::os::unix::fs::PermissionsExt as _;
            project.write("secrets/infra/x", password);
            for (path, mode) in [("secrets/infra", 0o700), ("secrets/infra/x", 0o600)] {
                std::fs::set_permissions(project.path(path), std::fs::Permissions::from_mode(mode)).expect("our own file");
            }
            "${secret.x}".to_owned()
        }
    };
    (project, toml::Value::String(key).to_string())
}

/// The status of a request with a login, by a client that is not ours. Its options come by stdin.
pub fn curl(url: &str, user: &str, password: &str, more: &str) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let options = format!(
        "url = \"{url}\"\nuser = \"{user}:{}\"\nsilent\noutput = \"/dev/null\"\nwrite-out = \"%{{http_code}}\"\n{more}\n",
        quoted(password)
    );
    let mut client = Command::new("curl")
        .args(["-q", "-K", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("curl runs");
    client.stdin.take().expect("a pipe").write_all(options.as_bytes()).expect("it reads");
    String::from_utf8(client.wait_with_output().expect("it ends").stdout).expect("a number")
}

/// A signed list of a bucket.
const SIGNED: &str = "aws-sigv4 = \"aws:amz:us-east-1:s3\"\nheader = \"x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";

/// The project's head for every layer: the env file, the secret, and one who reads the password.
const HEAD: &str = r#"
[project]
env_file = [".env"]
[secrets]
generate = ["x"]
[services.reader]
run = "echo start >> starts; printf '%s' \"$PASSWORD\" > got; exec {svc:reader}"
shell = true
depends_on = ["x"]
env = { PASSWORD = "${x.password}" }
"#;

fn versitygw_takes_any_password_through_every_layer_and_a_new_one_with_a_restart() {
    s3_takes_any_password("versitygw", "", &LAYERS, &PASSWORDS);
}

/// It takes blanks off the ends of its password, so one that has them is refused before the start.
fn minio_takes_any_password_without_outer_blanks_through_every_layer_and_a_new_one_with_a_restart() {
    let Some(project) = project("minio", false) else { return };
    let (project, key) = lay(project, "literal", PASSWORDS[1]);
    project.rewrite(&format!("[services.x]\nuse = \"minio\"\nport = \"auto\"\npassword = {key}\n"));
    project
        .start(&["up", "-d"])
        .outcome_within(UP)
        .code(2)
        .says("password begins or ends with a blank, which the server takes off");
    project.start(&["down"]).outcome_within(UP);
    s3_takes_any_password("minio", "ports = { console = \"auto\" }\n", &LAYERS, &PASSWORDS.map(str::trim));
}

/// A stop takes it a while, so it is not asked for every layer.
fn seaweedfs_takes_any_password_and_a_new_one_with_a_restart() {
    s3_takes_any_password("seaweedfs", SEAWEEDFS_PORTS, &["secret file"], &PASSWORDS);
}

fn s3_takes_any_password(recipe: &str, more: &str, layers: &[&str], passwords: &[&str]) {
    for (layer, password) in layers.iter().flat_map(|layer| passwords.iter().map(|password| (*layer, *password))) {
        let Some(project) = project(recipe, false) else { return };
        let (project, key) = lay(project, layer, password);
        project.rewrite(&format!(
            "{HEAD}[services.x]\nuse = \"{recipe}\"\nport = \"auto\"\nuser = \"devrun\"\npassword = {key}\n{more}\
             [tasks.buckets]\ndepends_on = [\"x\"]\nbuckets = [\"private\"]\n"
        ));
        up(&project);
        let lists = |password: &str| {
            // As a client that knows nothing but the usual variables.
            let env = project.run(&["env", "--format", "json"]).code(0).json();
            let of = |name: &str| env[name].as_str().unwrap_or_default().to_owned();
            let password = if password == "its own" { of("AWS_SECRET_ACCESS_KEY") } else { password.to_owned() };
            curl(&format!("{}/private/", of("S3_ENDPOINT")), &of("AWS_ACCESS_KEY_ID"), &password, SIGNED)
        };
        let context = format!("{recipe}, {layer}: {password:?}");
        assert_eq!([lists(password), lists("its own"), lists("wrong")], ["200", "200", "403"], "{context}");
        eventually("the reader", PATIENCE, || (project.read("got") == password).then_some(()));
        for process in project.leftovers() {
            assert!(!process.command.contains(password), "{process:?}");
        }
        if layer == "secret file" {
            let pid = project.service("x")["pid"].clone();
            let rotated = project.start(&["secret", "rotate", "x"]).outcome_within(UP).code(0);
            rotated.says("x takes a password only when it starts").says("restarting reader, x");
            let new = project.read("secrets/infra/x");
            assert_ne!(project.service("x")["pid"], pid);
            assert_eq!([lists(&new), lists("its own"), lists(password)], ["200", "200", "403"], "{context}");
            eventually("the reader has the new one", PATIENCE, || (project.read("got") == new).then_some(()));
            assert_eq!(project.read("starts").lines().count(), 2, "restarted once");
        }
        down(&project);
    }
}

/// One server for all layers: a password that comes another way and is the same one changes nothing that runs.
fn neo4j_takes_any_password_through_every_layer_and_a_new_one_while_it_runs() {
    for password in PASSWORDS {
        let Some(mut project) = project("neo4j", false) else { return };
        let mut pid = None;
        for layer in LAYERS {
            let (laid, key) = lay(project, layer, password);
            project = laid;
            project.rewrite(&format!(
                "{HEAD}[services.x]\nuse = \"neo4j\"\nport = \"auto\"\nports = {{ http = \"auto\" }}\npassword = {key}\n\
                 set = {{ heap = \"256m\", pagecache = \"32m\" }}\nready = {{ within = \"170s\" }}\n"
            ));
            up(&project);
            let context = format!("{layer}: {password:?}");
            let now = project.service("x")["pid"].clone();
            assert_eq!(*pid.get_or_insert(now.clone()), now, "{context}: it was restarted");
            if layer == LAYERS[0] {
                neo4j_listens(&project, password);
            }
            assert_eq!(["its own", "wrong-password"].map(|password| neo4j_asks(&project, password)), ["200", "401"], "{context}");
            assert_eq!(neo4j_asks(&project, password), "200", "{context}");
            assert_eq!(project.run(&["cypher", "RETURN 41 + 1 AS n", "--json"]).code(0).json(), serde_json::json!([{ "n": 42 }]));
            eventually("the reader", PATIENCE, || (project.read("got") == password).then_some(()));
            for process in project.leftovers() {
                assert!(!process.command.contains(password), "{process:?}");
            }
        }
        // In an address, as somebody else's server is given.
        let user_info = password.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
        let main = port(&project, "main");
        project.write("other.toml", &format!("[services.other]\nexternal = \"bolt://neo4j:{user_info}@127.0.0.1:{main}\"\n"));
        let asked = project.run(&["-f", "other.toml", "cypher", "RETURN 1 AS n", "--json"]).code(0).json();
        assert_eq!(asked, serde_json::json!([{ "n": 1 }]), "{password:?}");

        project.start(&["secret", "rotate", "x"]).outcome_within(UP).code(0).says("x has the new password, and runs on");
        let new = project.read("secrets/infra/x");
        assert_eq!(Some(project.service("x")["pid"].clone()), pid, "it runs on");
        assert_eq!([new.as_str(), "its own", password].map(|password| neo4j_asks(&project, password)), ["200", "200", "401"]);
        assert_eq!(project.run(&["cypher", "RETURN 41 + 1 AS n", "--json"]).code(0).json(), serde_json::json!([{ "n": 42 }]));
        eventually("the reader has the new one", PATIENCE, || (project.read("got") == new).then_some(()));
        assert_eq!(project.read("starts").lines().count(), 2, "restarted once");
        // With the stack down, a private server sets it at the next start.
        down(&project);
        project.run(&["secret", "rotate", "x"]).code(0).says("at the next start");
        project.start(&["up", "-d"]).outcome_within(2 * UP).code(0);
        let newest = project.read("secrets/infra/x");
        neo4j_listens(&project, &newest);
        assert_eq!([newest.as_str(), &new].map(|password| neo4j_asks(&project, password)), ["200", "401"]);
        assert!(!project.path(".devrun/data/x/.devrun-set-password").exists());
        down(&project);
    }
}

/// A server that takes another password only from who knows the old one, and the two who could have finished the job.
fn neo4j_killed_in_the_middle_of_a_rotation_has_one_password_everywhere() {
    let Some(project) = project("neo4j", false) else { return };
    project.rewrite(&format!(
        "{HEAD}[services.x]\nuse = \"neo4j\"\nport = \"auto\"\nports = {{ http = \"auto\" }}\npassword = \"${{secret.x}}\"\n\
         set = {{ heap = \"256m\", pagecache = \"32m\" }}\nready = {{ within = \"170s\" }}\n"
    ));
    up(&project);
    let mark = project.path(".devrun/data/x/.devrun-set-password");
    let mut changed = 0;
    for (victim, pause) in
        [("supervisor", 0), ("keeper", 0), ("both", 0), ("client and supervisor", 0), ("keeper", 60), ("both", 60), ("both", 250)]
    {
        let context = format!("{victim} killed {pause} ms after the mark");
        let before = project.read("secrets/infra/x");
        let rotation = project.start(&["secret", "rotate", "x"]);
        // The mark is laid before the new value counts.
        eventually("the mark", PATIENCE, || (mark.exists() || project.read("secrets/infra/x") != before).then_some(()));
        crate::waits::let_time_pass("the moment of the kill is what is varied", Duration::from_millis(pause));
        match victim {
            "keeper" => crate::harness::signal(project.keepers()[0].pid, Signal::SIGKILL),
            "both" => project.kill_both(),
            _ => {
                if victim != "supervisor" {
                    rotation.signal(Signal::SIGKILL);
                }
                crate::harness::signal(project.supervisor(), Signal::SIGKILL);
            }
        }
        rotation.outcome_within(UP);
        project.start(&["up", "-d"]).outcome_within(2 * UP).code(0);
        let value = project.read("secrets/infra/x");
        neo4j_listens(&project, &value);
        assert_eq!(neo4j_asks(&project, &value), "200", "{context}: what the file says is in force");
        if value != before {
            changed += 1;
            assert_eq!(neo4j_asks(&project, &before), "401", "{context}: the old one is not");
        }
        eventually("the reader has it too", PATIENCE, || (project.read("got") == value).then_some(()));
        assert!(!mark.exists(), "{context}: settled");
    }
    assert!(changed > 0, "every rotation was killed before it had begun");
    down(&project);
}

/// What its HTTP port says to a login; `its own` is the one of the recipe's variables.
fn neo4j_asks(project: &Project, password: &str) -> String {
    let env = project.run(&["env", "--format", "json"]).code(0).json();
    let own = env["NEO4J_PASSWORD"].as_str().unwrap_or_default();
    let body = "header = \"Content-Type: application/json\"\ndata = \"{\\\"statements\\\":[]}\"";
    let url = format!("http://127.0.0.1:{}/db/neo4j/tx/commit", port(project, "http"));
    curl(&url, "neo4j", if password == "its own" { own } else { password }, body)
}

/// The page's port opens after Bolt's.
fn neo4j_listens(project: &Project, password: &str) {
    eventually("its HTTP port", UP, || (neo4j_asks(project, password) != "000").then_some(()));
}

fn mariadb_is_made_once_with_its_init_files() {
    let Some(project) = project("mariadb", true) else { return };
    project.write("init/10-b.sql", "INSERT INTO t VALUES ('ten');\n");
    project.write("init/02-a.sql", "CREATE TABLE t (x varchar(20));\nINSERT INTO t VALUES ('zwei; ä');\n");
    let services = "[services.x]\nuse = \"mariadb\"\nport = \"auto\"\nuser = \"o'dd\"\ndatabase = \"shop\"\npassword = \"a \\\"b\\\" 'c' \\\\ #x\"\n\
                    init = \"init\"\nset = { max_connections = \"33\" }\n";
    project.rewrite(services);
    for _ in 0..2 {
        up(&project);
        let answer = mariadb_asks(&project, "SELECT GROUP_CONCAT(x ORDER BY x), @@max_connections FROM t");
        assert_eq!(answer.trim(), "ten,zwei; ä\t33");
        // One account for us and a root that needs the password too.
        assert!(mariadb_asks(&project, "SELECT CURRENT_USER()").contains("o'dd@%"));
        down(&project);
    }
    let log = project.run(&["logs", "x"]).code(0).stdout;
    assert!(!log.contains("a \"b\""), "the password is in the log");
    project.run(&["clean", "--yes"]).code(0);
    project.write("init/10-b.sql", "INSERT INTO nope VALUES (1);\n");
    project.start(&["up", "-d"]).outcome_within(UP).code(4).says("10-b.sql").says("nope");
    project.start(&["down"]).outcome_within(UP);
    assert!(!project.path(".devrun/data/x/mariadb").exists(), "a half-made database was left");
}

/// Through the client of the package, with the variables of the recipe.
pub fn mariadb_asks(project: &Project, query: &str) -> String {
    let which = project.run(&["which", "x", "--json"]).code(0).json();
    let client = PathBuf::from(which[0]["tools"]["mariadb"].as_str().expect("a client"));
    let env = project.run(&["env", "--format", "json"]).code(0).json();
    let of = |name: &str| env[name].as_str().unwrap_or_default().to_owned();
    let libraries = client.parent().and_then(|bin| bin.parent()).map(|usr| usr.join("lib/x86_64-linux-gnu")).expect("a prefix");
    let asked = Command::new(&client)
        .args(["--no-defaults", "--batch", "--skip-column-names", "--default-character-set=utf8mb4", "-h", "127.0.0.1"])
        .args(["-P", &of("MYSQL_PORT"), "-u", &of("MYSQL_USER"), "-e", query, &of("MYSQL_DATABASE")])
        .env("MYSQL_PWD", of("MYSQL_PASSWORD"))
        .env("LD_LIBRARY_PATH", libraries)
        .output()
        .expect("the client runs");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8_lossy(&asked.stdout).into_owned()
}

fn rabbitmq_takes_its_name_server_along() {
    let Some(project) = project("rabbitmq", true) else { return };
    project.rewrite(
        "[services.x]\nuse = \"rabbitmq\"\nport = \"auto\"\nports = { epmd = \"auto\", dist = \"auto\" }\npassword = \"rabbit-pw\"\n",
    );
    for _ in 0..2 {
        up(&project);
        // The protocol's first word; the broker answers with its name.
        let heard = talk(port(&project, "main"), b"AMQP\0\0\x09\x01", "RabbitMQ");
        assert!(heard.contains("RabbitMQ"), "{heard:?}");
        let epmd = port(&project, "epmd");
        assert!(TcpStream::connect(("127.0.0.1", epmd)).is_ok(), "its name server has a port of its own");
        down(&project);
        eventually("the name server ends too", PATIENCE, || TcpStream::connect(("127.0.0.1", epmd)).is_err().then_some(()));
    }
}

/// A model that no network is needed for is made once; one that would have to be pulled holds nobody up.
fn ollama_has_its_model_once() {
    let Some(project) = project("ollama", false) else { return };
    std::fs::write(project.path("tiny.gguf"), tiny_model()).expect("our own folder");
    project.rewrite(
        "[services.x]\nuse = \"ollama\"\nport = \"auto\"\n\
         [tasks.made]\ndepends_on = [\"x\"]\nmodels = [{ name = \"tiny\", from = \"tiny.gguf\" }]\n\
         [tasks.pulled]\ndepends_on = [\"x\"]\nmodels = [\"devrun-absent\"]\noptional = true\ntimeout = \"60s\"\n",
    );
    let mut seen = Vec::new();
    for _ in 0..2 {
        up(&project);
        let (status, version) = get(port(&project, "main"), "/api/version");
        assert_eq!(status, 200, "{version}");
        let (_, tags) = get(port(&project, "main"), "/api/tags");
        assert!(tags.contains("\"name\":\"tiny:latest\""), "{tags}");
        seen.push(tags);
        down(&project);
    }
    // With the moment at which it was made.
    assert_eq!(seen[0], seen[1]);
}

/// A model file of one tensor: enough for a server to take it in, too little to say a word.
pub fn tiny_model() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let key = |name: &str, kind: u32, value: &[u8]| [&text(name)[..], &kind.to_le_bytes(), value].concat();
    let mut file = [
        &b"GGUF"[..],
        // Version, tensors, keys.
        &3_u32.to_le_bytes(),
        &1_u64.to_le_bytes(),
        &3_u64.to_le_bytes(),
        &key("general.architecture", 8, &text("llama")),
        &key("general.name", 8, &text("tiny")),
        &key("general.file_type", 4, &0_u32.to_le_bytes()),
        // Its dimensions, its kind (32 bits each), its place.
        &text("token_embd.weight"),
        &1_u32.to_le_bytes(),
        &32_u64.to_le_bytes(),
        &0_u32.to_le_bytes(),
        &0_u64.to_le_bytes(),
    ]
    .concat();
    file.resize(file.len().next_multiple_of(32) + 128, 0);
    file
}

/// Shows: run --with.
fn a_throw_away_stack_hands_out_the_usual_variables_waits_for_no_disk_and_leaves_nothing() {
    let (Some(project), Some(_)) = (project("postgres", true), project("redis", true)) else { return };
    if !has_psql() {
        return skip("no psql is installed");
    }
    let asked = "psql \"$DATABASE_URL\" -Atc \"SELECT 'fsync ' || current_setting('fsync')\"; \
                 echo \"$PGHOST:$PGPORT $PGUSER@$PGDATABASE ${#PGPASSWORD}\"; echo \"$REDIS_URL $REDIS_HOST:$REDIS_PORT\"; exit 7";
    let words = ["run", "--with", "postgres", "--with", "redis", "--", "sh", "-c", asked];
    let ran = project.start(&words).outcome_within(UP).code(7);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "fsync off", "{ran}");
    assert!(lines[1].starts_with("127.0.0.1:") && lines[1].contains("@"), "{ran}");
    assert!(lines[2].starts_with("redis://") && lines[2].contains("127.0.0.1:"), "{ran}");
    project.nothing_left();
}

/// Extensions that the procfile gained since the first boot are made at the next start, and asked for no more afterwards.
fn postgres_gets_the_extensions_that_came_later() {
    let Some(project) = project("postgres", true) else { return };
    let services = "[services.x]\nuse = \"postgres\"\nport = \"auto\"\nuser = \"app\"\n";
    let there = |name: &str| {
        let query = format!("SELECT count(*) FROM pg_extension WHERE extname = '{name}'");
        project.run(&["sql", &query, "--json"]).code(0).json()[0]["count"] == 1
    };
    project.rewrite(services);
    up(&project);
    assert!(!there("pgcrypto"));
    down(&project);
    project.rewrite(&format!("{services}extensions = [\"pgcrypto\"]\n"));
    for round in 0..2 {
        let started = project.start(&["up", "-d"]).outcome_within(UP).code(0);
        assert!(!started.stderr.contains("empty volume only"), "{started}");
        assert!(there("pgcrypto"));
        down(&project);
        let log = project.run(&["logs", "x"]).code(0).stdout;
        assert_eq!(log.matches("extension pgcrypto is there").count(), 1, "round {round}: {log}");
    }
    project.rewrite(&format!("{services}extensions = [\"pgcrypto\", \"no_such\"]\n"));
    project.start(&["up", "-d"]).outcome_within(UP).code(7).says("no_such").says("correct `extensions`");
    down(&project);
}

/// Shows: service.migrations, migrate, migrate --status, migrate --json, sql, sql --json, sql --read-only, file.queries, wait --schema, wait
/// --table, wait --migrations.
fn postgres_is_migrated_once_each_and_asked_without_a_client() {
    let Some(project) = project("postgres", true) else { return };
    project.write("m/001.sql", "CREATE TABLE t (x int);\nINSERT INTO t VALUES (1);\n");
    project.rewrite(
        "[services.x]\nuse = \"postgres\"\nport = \"auto\"\nuser = \"app\"\npassword = \"#pw 'x'\"\nmigrations = \"m\"\n[queries]\nsum = \"SELECT sum(x) AS total FROM t\"\n",
    );
    up(&project);
    let total = |expected: u64| {
        let rows = project.run(&["sql", "sum", "--json"]).code(0).json();
        assert_eq!(rows, serde_json::json!([{ "total": expected }]));
    };
    total(1);
    // By hand against the running server.
    project.write("m/002.sql", "INSERT INTO t VALUES (2);\n");
    project.run(&["migrate", "--status"]).code(0).says("002.sql").says("pending");
    let shown = project.run(&["migrate", "--status", "--json"]).code(0).json();
    assert!(shown.to_string().contains("002.sql"), "{shown}");
    project.run(&["migrate"]).code(0).says("x: applied 002.sql");
    project.run(&["migrate"]).code(0).says("nothing to do");
    total(3);
    for flags in [&["--table", "t"][..], &["--schema", "public", "--migrations"]] {
        project.run(&[&["wait", "x", "--timeout", "20s"], flags].concat()).code(0);
    }
    project.run(&["wait", "x", "--migrations"]).code(0).says("migrations: 2 applied, 0 pending");
    project.write("m/003.sql", "SELECT 1;\n");
    let pending = project.run(&["wait", "x", "--migrations", "--timeout", "2s"]).code(3);
    pending.says("x: 1 of 3 migrations are pending, the next one is 003.sql").says("devrun migrate");
    std::fs::remove_file(project.path("m/003.sql")).expect("our own file");
    // Those of another tool are counted where it notes them.
    project.run(&["sql", "CREATE TABLE django_migrations (id int); INSERT INTO django_migrations VALUES (1), (2), (3)"]).code(0);
    let other = project.read("procfile.toml").replace("migrations = ", "# migrations = ");
    project.write("other.toml", &other);
    project.run(&["-f", "other.toml", "wait", "x", "--migrations"]).code(0).says("migrations: 5 applied");
    project
        .run(&["wait", "x", "--timeout", "5s", "--table", "nope"])
        .code(3)
        .says("\"nope\" does not exist")
        .says("x: postgres://");
    project.run(&["wait", "x", "--timeout", "5s", "--schema", "nope"]).code(3).says("schema \"nope\" does not exist");
    let rows = project.run(&["sql", "--read-only", "--json", "SELECT sum(x) AS total FROM t"]).code(0).json();
    assert_eq!(rows, serde_json::json!([{ "total": 3 }]));
    project.run(&["sql", "--read-only", "INSERT INTO t VALUES (9)"]).code(1);
    project.run(&["sql", "--read-only", "SELECT 1; INSERT INTO t VALUES (9)"]).code(1);
    total(3);
    let refused = project.run(&["sql", "SELECT nope"]).code(1);
    let last = refused.last_line();
    assert!(
        last.starts_with("devrun: exit 1 (the query failed): x: ") && last.contains("column \"nope\" does not exist"),
        "{last}"
    );
    let kinds = "CREATE TEMP TABLE k AS SELECT 1; SELECT 12.50 AS n, 'NaN'::float8 AS nan, true AS b, '{\"a\": 1}'::jsonb AS j, \
                 '7'::text AS t, NULL::int AS null, 9007199254740993 AS big";
    let output = project.run(&["sql", "--json", kinds]).code(0);
    assert_eq!(
        output.stdout.trim(),
        r#"[{"n":12.50,"nan":"NaN","b":true,"j":{"a": 1},"t":"7","null":null,"big":9007199254740993}]"#
    );
    down(&project);
    project.run(&["sql", "SELECT 1"]).code(6).says("x is not running").says("devrun up -d x");
    // At the next start, before the port opens; a broken one is applied in no part.
    project.write("m/003.sql", "INSERT INTO t VALUES (4);\nINSERT INTO nope VALUES (1);\n");
    project.start(&["up", "-d"]).outcome_within(UP).code(4).says("003.sql:2").says("nope");
    down(&project);
    project.write("m/003.sql", "INSERT INTO t VALUES (4);\n");
    up(&project);
    total(7);
    down(&project);
    project.write("m/001.sql", "CREATE TABLE other (x int);\n");
    project.start(&["up", "-d"]).outcome_within(UP).code(4).says("001.sql was changed after it had been applied");
    down(&project);
}

/// The clients of the system, logged in with a password that stands on nobody's command line. Shows: psql, redis-cli.
fn consoles_log_in_and_hand_their_words_on() {
    let (Some(project), Some(_)) = (project("postgres", true), project("redis", true)) else { return };
    project.rewrite(
        "[services.db]\nuse = \"postgres\"\nport = \"auto\"\nuser = \"app\"\npassword = \"#pw 'x'\"\n\
         [services.cache]\nuse = \"redis\"\nport = \"auto\"\npassword = \"#pw 'y'\"\n",
    );
    up(&project);
    project.run(&["psql", "-Atc", "SELECT current_user, 6 * 7"]).code(0).says("app|42");
    project.run(&["psql", "--on", "db", "-c", "SELECT nope"]).code(1).says("nope");
    project.run(&["redis-cli", "SET", "greeting", "hello"]).code(0).says("OK");
    project.run(&["redis-cli", "--on", "cache", "GET", "greeting"]).code(0).says("hello");
    let seen = project.run_in_shell("\"$0\" psql -Atc 'SELECT pg_sleep(3)' & i=0; until ps -eo args | grep -q '^[^ ]*psql .*pg_slee[p]' || [ $i = 200 ]; do i=$((i+1)); sleep 0.05; done; ps -eo args; wait");
    assert!(seen.stdout.contains("pg_sleep") && !seen.stdout.contains("#pw"), "{seen}");
    down(&project);
}
