//! Recipes for what public compose files use most, with their real servers: up, a word with the server, down, and up again on
//! the same data. Those that come as Debian packages are fetched in CI too; the others run where they are built.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::harness::{PATIENCE, Project, eventually};
use crate::services::{down, get, port, project, talk, up};

trials![
    etcd_keeps_its_keys,
    adminer_shows_the_login_of_the_projects_database,
    zookeeper_answers_and_keeps_its_data,
    kafka_keeps_its_topics_and_takes_settings,
    azurite_knows_its_account_alone,
    chroma_keeps_its_collections,
    victorialogs_takes_lokis_push_and_keeps_it,
    alertmanager_keeps_its_silences,
    ferretdb_keeps_documents_and_asks_for_its_login,
    logins_of_a_compose_file_hold,
];

/// Status and body of a request with a body of JSON.
pub fn send(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    send_as(port, method, path, &[("Content-Type", "application/json")], body)
}

/// Status and body of a request with a body and these headers.
pub fn send_as(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the service listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("the service reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the service answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// A variable for clients of the stack.
fn variable(project: &Project, name: &str) -> String {
    let all = project.run(&["env"]).stdout;
    let line = all.lines().find(|line| line.starts_with(&format!("{name}="))).unwrap_or_else(|| panic!("{name} in {all}"));
    line.to_owned()
}

fn etcd_keeps_its_keys() {
    let Some(project) = project("etcd", true) else { return };
    project.rewrite("[services.x]\nuse = \"etcd\"\nport = \"auto\"\nports = { peer = \"auto\" }\nset = { quota_backend_bytes = \"67108864\" }\n");
    up(&project);
    // "a" and "kept" in base64.
    let (status, body) = send(port(&project, "main"), "POST", "/v3/kv/put", r#"{"key":"YQ==","value":"a2VwdA=="}"#);
    assert_eq!(status, 200, "{body}");
    down(&project);
    up(&project);
    let (_, body) = send(port(&project, "main"), "POST", "/v3/kv/range", r#"{"key":"YQ=="}"#);
    assert!(body.contains("a2VwdA=="), "{body}");
    let (_, metrics) = get(port(&project, "main"), "/metrics");
    assert!(metrics.contains("etcd_server_quota_backend_bytes 6.7108864e+07"), "the setting reaches the server");
    down(&project);
}

fn adminer_shows_the_login_of_the_projects_database() {
    let Some(project) = project("adminer", true) else { return };
    project.rewrite(
        "[services.x]\nuse = \"adminer\"\nport = \"auto\"\nset = { server = \"127.0.0.1:25432\", driver = \"pgsql\" }\n",
    );
    for _ in 0..2 {
        up(&project);
        let (status, body) = get(port(&project, "main"), "/");
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(r#"name="auth[server]" value="127.0.0.1:25432""#), "{body}");
        assert!(body.contains(r#"<option value="pgsql" selected>"#), "{body}");
        assert!(!body.contains("Warning"), "{body}");
        down(&project);
    }
}

fn zookeeper_answers_and_keeps_its_data() {
    let Some(project) = project("zookeeper", false) else { return };
    project.rewrite(
        "[services.x]\nuse = \"zookeeper\"\nport = \"auto\"\nports = { admin = \"auto\" }\nset = { tick_time = \"1500\" }\n",
    );
    let mut seen = Vec::new();
    for _ in 0..2 {
        up(&project);
        let heard = talk(port(&project, "main"), b"srvr", "Node count");
        assert!(heard.contains("Zookeeper version: 3."), "{heard}");
        assert!(talk(port(&project, "main"), b"conf", "tickTime").contains("tickTime=1500"));
        seen.push(heard.lines().find(|line| line.starts_with("Zxid")).map(str::to_owned));
        // A session is a transaction of its own: the request to connect, with a timeout of 4 s and no session before.
        let mut connect =
            vec![0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16];
        connect.extend([0; 16]);
        let mut stream = TcpStream::connect(("127.0.0.1", port(&project, "main"))).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(&connect).expect("it reads");
        let mut answer = [0u8; 20];
        stream.read_exact(&mut answer).expect("it answers");
        assert_ne!(answer[12..20], [0; 8], "a session has a number");
        down(&project);
    }
    assert_ne!(seen[0], seen[1], "the transactions of the first run are there in the second");
}

fn kafka_keeps_its_topics_and_takes_settings() {
    let Some(project) = project("kafka", false) else { return };
    let set = "set = { heap = \"384m\", \"num.partitions\" = \"3\", \"auto.create.topics.enable\" = \"true\" }\n";
    project.rewrite(&format!("[services.x]\nuse = \"kafka\"\nport = \"auto\"\nports = {{ controller = \"auto\" }}\n{set}"));
    let tool = |name: &str, words: &[&str], input: &str| {
        let found = project.run(&["which", "kafka", "--json"]).json();
        let server = found[0]["path"].as_str().expect("a path").to_owned();
        let broker = format!("127.0.0.1:{}", port(&project, "main"));
        let mut child = Command::new(std::path::Path::new(&server).with_file_name(name))
            .args(["--bootstrap-server", &broker])
            .args(words)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("the tool starts");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    up(&project);
    tool("kafka-console-producer.sh", &["--topic", "orders"], "first\nsecond\n");
    down(&project);
    up(&project);
    let described = tool("kafka-topics.sh", &["--describe", "--topic", "orders"], "");
    assert!(described.contains("PartitionCount: 3"), "{described}");
    let read = tool("kafka-console-consumer.sh", &["--topic", "orders", "--from-beginning", "--max-messages", "2"], "");
    assert!(read.contains("first") && read.contains("second"), "{read}");
    down(&project);
    project.rewrite("[services.x]\nuse = \"kafka\"\nset = { listeners = \"PLAINTEXT://:1\" }\n");
    let refused = project.run(&["up"]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("belongs to `port` and `bind`"), "{}", refused.stderr);
}

fn azurite_knows_its_account_alone() {
    let Some(project) = project("azurite", false) else { return };
    project.rewrite("[services.x]\nuse = \"azurite\"\nport = \"auto\"\nports = { queue = \"auto\", table = \"auto\" }\nuser = \"shop\"\npassword = \"c2VjcmV0\"\n");
    for _ in 0..2 {
        up(&project);
        let (status, body) = get(port(&project, "main"), "/shop?comp=list");
        assert_eq!(status, 403, "a list wants a signature: {body}");
        let (status, body) = get(port(&project, "main"), "/devstoreaccount1?comp=list");
        assert_eq!(status, 404, "another account is not there: {body}");
        assert_eq!(get(port(&project, "queue"), "/shop?comp=list").0, 403, "queues want one too");
        assert_eq!(get(port(&project, "table"), "/shop?comp=list").0, 400, "tables have no such list");
        let text = variable(&project, "AZURE_STORAGE_CONNECTION_STRING");
        assert!(text.contains("AccountName=shop;AccountKey=c2VjcmV0;BlobEndpoint=http://127.0.0.1:"), "{text}");
        down(&project);
    }
}

fn chroma_keeps_its_collections() {
    let Some(project) = project("chroma", false) else { return };
    project.rewrite("[services.x]\nuse = \"chroma\"\nport = \"auto\"\n");
    const COLLECTIONS: &str = "/api/v2/tenants/default_tenant/databases/default_database/collections";
    up(&project);
    let (status, body) = send(port(&project, "main"), "POST", COLLECTIONS, r#"{"name":"notes"}"#);
    assert_eq!(status, 200, "{body}");
    down(&project);
    up(&project);
    let (_, body) = get(port(&project, "main"), COLLECTIONS);
    assert!(body.contains("\"name\":\"notes\""), "{body}");
    down(&project);
}

fn victorialogs_takes_lokis_push_and_keeps_it() {
    let Some(project) = project("victorialogs", false) else { return };
    project.rewrite("[services.x]\nuse = \"victorialogs\"\nport = \"auto\"\n");
    up(&project);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let line = format!(r#"{{"streams":[{{"stream":{{"app":"shop"}},"values":[["{now}","a line from afar"]]}}]}}"#);
    let (status, body) = send(port(&project, "main"), "POST", "/insert/loki/api/v1/push", &line);
    assert_eq!(status, 204, "{body}");
    let asked = |project: &Project| get(port(project, "main"), "/select/logsql/query?query=afar").1;
    eventually("the line is found", PATIENCE, || asked(&project).contains("a line from afar").then_some(()));
    down(&project);
    up(&project);
    assert!(asked(&project).contains("\"app\":\"shop\""));
    down(&project);
}

fn alertmanager_keeps_its_silences() {
    let Some(project) = project("alertmanager", false) else { return };
    project.rewrite("[services.x]\nuse = \"alertmanager\"\nport = \"auto\"\n");
    up(&project);
    let silence = r#"{"matchers":[{"name":"a","value":"b","isRegex":false}],"startsAt":"2020-01-01T00:00:00Z","endsAt":"2099-01-01T00:00:00Z","createdBy":"t","comment":"kept"}"#;
    let (status, body) = send(port(&project, "main"), "POST", "/api/v2/silences", silence);
    assert_eq!(status, 200, "{body}");
    down(&project);
    up(&project);
    assert!(get(port(&project, "main"), "/api/v2/silences").1.contains("\"comment\":\"kept\""));
    down(&project);
}

/// A document of BSON from its elements.
fn document(elements: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(elements.len() + 5).expect("short").to_le_bytes().to_vec();
    out.extend(elements);
    out.push(0);
    out
}

fn text(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![2];
    out.extend(name.bytes());
    out.push(0);
    out.extend(u32::try_from(value.len() + 1).expect("short").to_le_bytes());
    out.extend(value.bytes());
    out.push(0);
    out
}

/// A list or a document inside another: kind 4 or 3.
fn nested(kind: u8, name: &str, inner: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(name.bytes());
    out.push(0);
    out.extend(document(inner));
    out
}

/// What a server of MongoDB's protocol answers to one command, as text.
fn command(port: u16, elements: &[u8]) -> String {
    let mut elements = elements.to_vec();
    elements.extend(text("$db", "shop"));
    let body = document(&elements);
    let length = u32::try_from(16 + 5 + body.len()).expect("short");
    let mut message = Vec::new();
    for number in [length, 1, 0, 2013, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(0);
    message.extend(body);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the service listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&message).expect("the service reads");
    let mut length = [0u8; 4];
    stream.read_exact(&mut length).expect("the service answers");
    let mut answer = vec![0u8; u32::from_le_bytes(length) as usize - 4];
    stream.read_exact(&mut answer).expect("the service answers");
    String::from_utf8_lossy(&answer).into_owned()
}

fn ferretdb_keeps_documents_and_asks_for_its_login() {
    let Some(project) = project("ferretdb", false) else { return };
    project.rewrite("[services.x]\nuse = \"ferretdb\"\nport = \"auto\"\nports = { debug = \"auto\" }\n");
    let insert = [text("insert", "notes"), nested(4, "documents", &nested(3, "0", &text("word", "kept")))].concat();
    let find = text("find", "notes");
    up(&project);
    command(port(&project, "main"), &insert);
    down(&project);
    up(&project);
    let found = command(port(&project, "main"), &find);
    assert!(found.contains("kept"), "{found}");
    down(&project);
    project.rewrite("[services.x]\nuse = \"ferretdb\"\nport = \"auto\"\nports = { debug = \"auto\" }\nuser = \"root\"\npassword = \"odd p#w\"\ndata = \"closed\"\n");
    up(&project);
    let refused = command(port(&project, "main"), &find);
    assert!(refused.contains("uthenticat"), "without a login nothing is read: {refused}");
    let url = variable(&project, "MONGODB_URI");
    assert!(url.contains("mongodb://root:odd%20p%23w@127.0.0.1:"), "{url}");
    down(&project);
}

/// Management pages and virtual host of a RabbitMQ, root next to a user of a MariaDB, the login of a NATS on its command line.
fn logins_of_a_compose_file_hold() {
    let (Some(project), Some(_), Some(_)) = (project("rabbitmq", true), project("mariadb", true), project("nats", true)) else {
        return;
    };
    let yaml = "services:\n  \
        x: { image: 'rabbitmq:3-management', ports: ['21567:5672', '21568:15672'], environment: { RABBITMQ_DEFAULT_USER: shop, RABBITMQ_DEFAULT_PASS: 'q1', RABBITMQ_DEFAULT_VHOST: orders } }\n  \
        sql: { image: 'mariadb:10', ports: ['21569:3306'], environment: { MARIADB_ROOT_PASSWORD: \"r'1\", MARIADB_USER: app, MARIADB_PASSWORD: a1, MARIADB_DATABASE: shop } }\n  \
        bus: { image: 'nats:2', command: [--user, u, --pass, p1, -js], ports: ['21570:4222'] }\n";
    std::fs::write(project.path("compose.yaml"), yaml).expect("our own folder");
    let imported = project.run(&["import", "--yes", "compose.yaml"]);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    up(&project);
    let asked = |login: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", 21568)).expect("the pages are there");
        write!(stream, "GET /api/vhosts HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    // shop:q1 and shop:q2.
    assert!(asked("c2hvcDpxMQ==").contains("\"name\":\"orders\""), "{}", asked("c2hvcDpxMQ=="));
    assert!(asked("c2hvcDpxMg==").contains(" 401 "));
    let server = project.run(&["which", "mariadb", "--json"]).json();
    let server = std::path::PathBuf::from(server[0]["path"].as_str().expect("a path"));
    let client = server.ancestors().map(|folder| folder.join("bin/mariadb")).find(|file| file.is_file()).expect("its client");
    let login = |user: &str, password: &str| {
        let words = ["--no-defaults", "-h127.0.0.1", "-P21569", "-e", "select 1", "shop"];
        Command::new(&client)
            .args(words)
            .arg(format!("-u{user}"))
            .env("MYSQL_PWD", password)
            .output()
            .expect("it runs")
            .status
            .success()
    };
    assert!(login("root", "r'1") && login("app", "a1"), "both come in, as in the image");
    assert!(!login("root", "a1") && !login("app", "r'1"));
    let nats = |password: &str| {
        let connect = format!("CONNECT {{\"verbose\":true,\"user\":\"u\",\"pass\":\"{password}\"}}\r\nPING\r\n");
        talk(21570, connect.as_bytes(), if password == "p1" { "PONG" } else { "Authorization" })
    };
    assert!(nats("p1").contains("PONG"));
    assert!(nats("wrong").contains("Authorization Violation"));
    let shown = project.run(&["config"]).stdout;
    assert!(shown.contains("root_password") && !shown.contains("r'1"), "{shown}");
    down(&project);
    project.rewrite("[services.x]\nuse = \"nats\"\nport = \"auto\"\nports = { http = \"auto\" }\n");
    up(&project);
    let url = variable(&project, "NATS_URL");
    let (user, rest) = url.split_once("nats://").expect("a URL").1.split_once(':').expect("a login");
    let password = rest.split_once('@').expect("an address").0;
    let connect = format!("CONNECT {{\"verbose\":true,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\nPING\r\n");
    assert!(
        talk(port(&project, "main"), connect.as_bytes(), "PONG").contains("PONG"),
        "the URL holds the login that it asks for"
    );
    down(&project);
}
