//! A gateway with `tls` in a real Chromium whose user trusts the local authority: pages and WebSockets without a complaint.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Project, skipped};
use crate::viewers::npm_packages;

trials![chromium_trusts_the_pages_and_websockets_of_a_gateway];

/// `/` is a page that opens a WebSocket to where it came from and shows what comes back; `/data` is text.
const SERVER: &str = r#"
import base64, hashlib, os, socket, threading
PAGE = b"""<!doctype html><link rel="icon" href="data:,"><p id="said">nothing yet</p><script>
const socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/ws`);
socket.onopen = () => socket.send("hello");
socket.onmessage = (message) => { document.getElementById("said").textContent = `echo of ${message.data}`; };
</script>"""

def serve(sock):
    file = sock.makefile("rb")
    while True:
        first, headers = file.readline().decode(), {}
        while (line := file.readline().decode().strip()):
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        if not first:
            return
        path = first.split(" ")[1]
        if path == "/ws":
            key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            sock.sendall(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
            # One short frame of text (RFC 6455, 5.2), sent back without its mask.
            head = file.read(2)
            size = head[1] & 127
            mask, data = file.read(4), file.read(size)
            sock.sendall(bytes([0x81, size]) + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))
            file.read()
            return
        kind, body = ("text/html", PAGE) if path == "/" else ("text/plain", b"data")
        sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// The user's database is the only thing that is changed: `devrun trust` as root would change this machine's store as well.
fn chromium_trusts_the_pages_and_websockets_of_a_gateway() {
    let chromium = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    if !Path::new(&chromium).exists() {
        return skipped("chromium is not installed");
    }
    let certutil = |words: &[&str]| Command::new("certutil").args(words).stdin(Stdio::null()).output();
    if certutil(&["-H"]).is_err() {
        return skipped("certutil is not installed");
    }
    let tools = match npm_packages("browser", &["playwright-core@1", "axe-core@4"]) {
        Ok(tools) => tools,
        Err(why) => return skipped(&format!("playwright is absent: {why}")),
    };
    let project = Project::new().procfile(
        r#"
        [project]
        name = "shop"
        [services.web]
        run = "python3 srv.py {token}-web-"
        port = "auto"
        ready = { tcp = true }
        [services.front]
        use = "gateway"
        port = "auto"
        tls = true
        routes = { "/" = "web" }
        "#,
    );
    project.write("srv.py", SERVER);
    project.run(&["up", "-d"]).code(0);
    let port = project.port("front");
    let (home, stranger) = (project.root().join("home"), project.root().join("stranger"));
    let database = home.join(".pki/nssdb");
    for made in [&database, &stranger] {
        std::fs::create_dir_all(made).expect("our own directory");
    }
    let (at, ca) = (format!("sql:{}", database.display()), home.join(".state/devrun/ca/current/ca.pem").display().to_string());
    for words in [&["-N", "--empty-password"][..], &["-A", "-n", "shop", "-t", "C,,", "-i", &ca]] {
        let done = certutil(&[words, &["-d", &at]].concat()).expect("it runs");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let hosts = ["127.0.0.1", "localhost", "web.shop.localhost"];
    let addresses: Vec<String> = hosts.iter().map(|host| format!("https://{host}:{port}/")).collect();
    let mut browser = Command::new("node");
    browser.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/https.mjs")).env("NODE_PATH", tools.join("node_modules"));
    browser.env("ADDRESSES", addresses.join(" ")).env("HOME", &home).env("STRANGER", &stranger);
    let said = browser.stdin(Stdio::null()).output().expect("node runs");
    let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.status.success(), "{text}");
    for step in hosts.iter().map(|host| format!("ok {host} by HTTPS and wss")).chain(["ok without the authority".to_owned()]) {
        assert!(text.contains(&step), "not {step:?}: {text}");
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
}
