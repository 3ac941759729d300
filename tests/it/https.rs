//! Gateways with `tls`: certificates of the user's own authority as curl, Node and Python see them, the variables by which the
//! services of the stack trust it, and `devrun trust`. No store of this machine is ever changed: the tests use a mount namespace.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::gateway::SERVER;
use crate::harness::{Outcome, PATIENCE, Project, eventually, is_root, skipped};

/// A service behind a gateway that serves HTTPS.
fn shop(more: &str) -> Project {
    let project = Project::new().procfile(&format!(
        r#"
        [project]
        name = "shop"
        [services.api]
        run = "python3 srv.py {{token}}-api-"
        port = "auto"
        ready = {{ tcp = true }}
        env = {{ FRONT = "${{front.url}}" }}
        [services.front]
        use = "gateway"
        port = "auto"
        tls = true
        routes = {{ "/" = "api" }}
        {more}
        "#
    ));
    project.write("srv.py", SERVER);
    project
}

fn authority(project: &Project) -> PathBuf {
    project.root().join("home/.state/devrun/ca")
}

fn certificate(project: &Project) -> String {
    authority(project).join("current/ca.pem").display().to_string()
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|done| done.status.success())
}

/// What curl prints, or its exit code.
fn curl(words: &[&str]) -> Result<String, i32> {
    let mut command = Command::new("curl");
    for name in ["CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env_remove(name);
    }
    let done = command.args(["-sS", "--noproxy", "*", "-m", "20"]).args(words).output().expect("curl runs");
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err(done.status.code().unwrap_or(-1))
    }
}

/// Shows: service.tls.
#[test]
fn a_gateway_serves_https_with_a_certificate_for_each_of_its_names() {
    if !has("curl") {
        return skipped("curl is not installed");
    }
    let project = shop("");
    project.run(&["up", "-d"]).code(0).says("created a local certificate authority");
    let front = project.service("front");
    let url = front["url"].as_str().expect("its address").to_owned();
    let port = front["ports"]["main"].as_u64().expect("its port");
    assert_eq!(url, format!("https://127.0.0.1:{port}"));
    assert!(project.run(&["urls"]).code(0).stdout.contains(&url));
    let routes = project.run(&["routes", "--check", "--json"]).code(0).json();
    let urls: Vec<_> = routes.as_array().expect("rows").iter().map(|row| row["url"].as_str().unwrap_or_default()).collect();
    assert_eq!(urls, [format!("{url}/"), format!("https://api.shop.localhost:{port}/")]);

    let ca = certificate(&project);
    let named = format!("https://api.shop.localhost:{port}/x");
    let resolve = |name: &str| format!("{name}:{port}:127.0.0.1");
    for (version, own) in [("1.1", "--http1.1"), ("2", "--http2")] {
        for (address, name) in [(format!("{url}/x"), "127.0.0.1"), (named.clone(), "api.shop.localhost")] {
            let (at, words) = (resolve(name), ["--cacert", &ca, own, "-w", "%{http_version}"]);
            let said =
                curl(&[&words[..], &["--resolve", &at, &address]].concat()).unwrap_or_else(|code| panic!("{address}: {code}"));
            assert!(said.ends_with(version), "{own}: {said}");
            for part in ["api.1 /x 0", "x-forwarded-proto: https", "proto=https", &format!("host: {name}:{port}")] {
                assert!(said.contains(part), "no {part:?} in {said}");
            }
        }
    }
    // 60: not trusted. 35: no certificate for such a name.
    assert_eq!(curl(&[&format!("{url}/x")]), Err(60));
    assert_eq!(curl(&["--cacert", &ca, "--resolve", &resolve("shop.test"), &format!("https://shop.test:{port}/x")]), Err(35));

    let plain = format!("http://127.0.0.1:{port}/x?y=1");
    let said = curl(&["-i", &plain]).expect("an answer");
    for part in ["307 Temporary Redirect", &format!("location: {url}/x?y=1"), "an HTTP request to an HTTPS port"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let said = curl(&["-i", "-d", "secret", &plain]).expect("an answer");
    assert!(said.contains("400 Bad Request") && !said.contains("location"), "{said}");
    project.run(&["down"]).code(0);
}

/// Asks the gateway with what the libraries trust by themselves: a request, and a WebSocket's change of protocol.
const CLIENT: &str = r#"
import os, socket, ssl, urllib.parse, urllib.request
url = os.environ["FRONT"]
print("urllib", urllib.request.urlopen(url + "/x", timeout=20).status)
at = urllib.parse.urlsplit(url)
plain = socket.create_connection((at.hostname, at.port), timeout=20)
stream = ssl.create_default_context().wrap_socket(plain, server_hostname=at.hostname)
stream.sendall(b"GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % at.netloc.encode())
head = b""
while b"\r\n\r\n" not in head:
    head += stream.recv(4096)
stream.sendall(b"hello")
print("wss", head.split()[1].decode(), stream.recv(4096).decode())
"#;

#[test]
fn what_runs_in_the_stack_trusts_the_gateway_by_itself() {
    let project = shop(
        r#"
        [services.own]
        run = "{svc:own}"
        env = { SSL_CERT_FILE = "own.pem", REQUESTS_CA_BUNDLE = false }
        [tasks.ask]
        run = "python3 client.py"
        env = { FRONT = "${front.url}" }
        depends_on = ["front"]
        "#,
    );
    project.write("client.py", CLIENT);
    project.run(&["up", "-d"]).code(0);
    eventually("the task's output", PATIENCE, || {
        let log = project.run(&["logs", "ask"]).code(0).stdout;
        (log.contains("urllib 200") && log.contains("wss 101 hello")).then_some(())
    });
    if has("node") {
        let script = "fetch(process.env.FRONT + '/x').then(got => console.log('node', got.status))";
        let said = project.run(&["exec", "api", "--", "node", "-e", script]).code(0);
        assert!(said.stdout.contains("node 200"), "{said}");
    }
    let of = |service: &str, name: &str| {
        let env = project.run(&["exec", service, "env"]).code(0).stdout;
        env.lines().find_map(|line| line.strip_prefix(&format!("{name}=")).map(str::to_owned))
    };
    assert_eq!(of("api", "NODE_EXTRA_CA_CERTS"), Some(certificate(&project)));
    assert_eq!(of("own", "SSL_CERT_FILE").as_deref(), Some("own.pem"));
    assert_eq!(of("own", "REQUESTS_CA_BUNDLE"), None);
    project.run(&["down"]).code(0);
}

#[test]
fn certificates_that_the_callers_variables_name_are_trusted_as_well() {
    let project = Project::new();
    project.write("company.pem", "-----BEGIN CERTIFICATE-----\nCOMPANY\n-----END CERTIFICATE-----\n");
    let company = project.path("company.pem").display().to_string();
    let project = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"]
        .iter()
        .fold(project, |project, name| project.env(name, &company))
        .env("REQUESTS_CA_BUNDLE", "/missing.pem");
    project.write("srv.py", SERVER);
    project.rewrite("[services.api]\nrun = \"python3 srv.py\"\nport = \"auto\"\n[services.front]\nuse = \"gateway\"\nport = \"auto\"\ntls = true\nroutes = { \"/\" = \"api\" }\n");
    project.run(&["up", "-d"]).code(0);
    let env = project.run(&["exec", "api", "env"]).code(0).stdout;
    let value = |name: &str| env.lines().find_map(|line| line.strip_prefix(&format!("{name}=")).map(str::to_owned));
    let own = std::fs::read_to_string(certificate(&project)).expect("made");
    for name in ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"] {
        let file = value(name).expect("it is set");
        assert!(Path::new(&file).starts_with(authority(&project)), "{name}={file}");
        let text = std::fs::read_to_string(&file).expect("a bundle");
        assert!(text.contains("COMPANY") && text.ends_with(&own), "{name}: {text}");
    }
    assert_eq!(value("REQUESTS_CA_BUNDLE").as_deref(), Some("/missing.pem"));
    project.run(&["down"]).code(0);
}

#[test]
fn two_starts_at_once_and_half_an_authority_give_one() {
    let (one, two) = (shop(""), shop(""));
    let home = one.root().join("home/.state").display().to_string();
    let two = two.env("XDG_STATE_HOME", &home);
    let starts = [one.start(&["up", "-d"]), two.start(&["up", "-d"])];
    let created = starts.into_iter().map(|start| start.outcome().code(0));
    let created = created.filter(|done| done.stderr.contains("created a local certificate authority")).count();
    assert_eq!(created, 1);
    for project in [&one, &two] {
        project.run(&["routes", "--check"]).code(0);
    }
    two.run(&["down"]).code(0);
    one.run(&["down"]).code(0);

    // A start that was killed while it made one, and a file that is gone.
    let (directory, first) = (authority(&one), std::fs::read(certificate(&one)).expect("made"));
    std::fs::create_dir(directory.join(".stage-1")).expect("our own directory");
    std::fs::remove_file(directory.join("current/ca.key")).expect("made");
    one.run(&["up", "-d"]).code(0).says("the local certificate authority was replaced");
    assert_ne!(std::fs::read(certificate(&one)).expect("made"), first);
    assert!(!directory.join(".stage-1").exists());
    one.run(&["routes", "--check"]).code(0);

    // While the gateway runs: it follows.
    std::fs::remove_dir_all(directory.join("current")).expect("made");
    one.run(&["restart", "api"]).code(0).says("created a local certificate authority");
    one.run(&["routes", "--check"]).code(0);
    one.run(&["down"]).code(0);

    std::fs::write(certificate(&one), "altered").expect("our own file");
    for command in [&["up", "-d"][..], &["check"]] {
        one.run(command).code(2).says("procfile.toml:").says("ca.pem: invalid certificate").says("rm -r '");
    }
}

#[test]
fn what_cannot_serve_https_is_an_error_of_check() {
    for (text, says) in [
        ("[services.a]\nrun = \"true\"\ntls = true\n", "`tls` belongs to a gateway"),
        (
            "[services.f]\nuse = \"gateway\"\nport = 8443\ntls = true\nbind = \"10.1.2.3\"\nroutes = { \"/\" = { reply = 200 } }\n",
            "`bind` is 10.1.2.3",
        ),
        (
            "[services.f]\nuse = \"gateway\"\nport = 8443\ntls = \"maybe\"\nroutes = { \"/\" = { reply = 200 } }\n",
            "takes true or false",
        ),
    ] {
        Project::new().procfile(text).run(&["check"]).code(2).says(says).says("procfile.toml:");
    }
    let project = shop("").env("HOME", "").env("XDG_STATE_HOME", "");
    project.run(&["check"]).code(2).says("`tls` needs a state directory of the user");
    let all = Project::new().procfile(
        "[services.f]\nuse = \"gateway\"\nport = 8443\ntls = true\nbind = \"0.0.0.0\"\nroutes = { \"/\" = { reply = 200 } }\n",
    );
    all.run(&["check"]).code(0);
    assert!(!authority(&all).exists(), "a command that only looks makes nothing");
}

/// Runs it where `/etc` and `/usr/local` can be changed and are not this machine's; `None` where that cannot be had.
fn in_namespace(project: &Project, script: &str) -> Option<Outcome> {
    if !is_root() {
        return None;
    }
    let layers = project.root().join("layers").display().to_string();
    project.write(
        "script",
        &format!(
            "mkdir -p {layers} && mount -t tmpfs none {layers} || exit 77\n\
             for top in /etc /usr/local; do\n\
             mkdir -p {layers}$top/upper {layers}$top/work\n\
             mount -t overlay -o lowerdir=$top,upperdir={layers}$top/upper,workdir={layers}$top/work none $top || exit 77\n\
             done\n\
             command -v update-ca-certificates >/dev/null && mkdir -p /usr/local/share/ca-certificates || exit 77\n{script}"
        ),
    );
    // Each change of the system's store runs through all certificates of the machine.
    let done = project.start_in_shell("unshare -m sh script \"$0\"").outcome_within(PATIENCE * 5);
    (done.code != Some(77) && !done.stderr.contains("unshare failed")).then_some(done)
}

/// Shows: trust, trust --remove, trust --json.
#[test]
fn trust_installs_the_authority_for_the_system_and_removes_it_again() {
    if !has("curl") {
        return skipped("curl is not installed");
    }
    let project = shop("");
    project.run(&["up", "-d"]).code(0);
    let url = project.service("front")["url"].as_str().expect("its address").to_owned();
    // `trust`, and what curl says of the gateway by the system's certificates alone.
    let script = format!(
        "devrun=\"$1\"\n\
         ask() {{ env -u CURL_CA_BUNDLE -u SSL_CERT_FILE curl -s --noproxy '*' -o answer {url}/x; echo \"$1: curl $?\"; }}\n\
         files() {{ (cd /; find etc usr/local/share -type f -name '*.crt' -o -type l -name '*.pem' -o -type l -name '*.0' | sort; grep -c BEGIN etc/ssl/certs/ca-certificates.crt) 2>/dev/null; }}\n\
         update-ca-certificates --fresh >log 2>&1; files >before\n\
         ask before\n\
         $devrun trust; ask installed\n\
         $devrun trust --json >report; grep -q '\"state\": *\"present\"' report && echo again: present\n\
         cp -r $XDG_STATE_HOME kept; rm -r $XDG_STATE_HOME/devrun/ca; $devrun trust; ask replaced\n\
         $devrun trust --remove; ask removed\n\
         $devrun trust --remove\n\
         files >after; cmp before after && echo nothing left\n"
    );
    let Some(done) = in_namespace(&project, &script) else {
        project.run(&["down"]).code(0);
        return skipped("not root, no overlay file system, or no update-ca-certificates here");
    };
    for said in ["before: curl 60", "installed: curl 0", "again: present", "replaced: curl 0", "removed: curl 60", "nothing left"]
    {
        assert!(done.stdout.contains(said), "not {said:?}: {}{}", done.stdout, done.stderr);
    }
    assert!(done.stderr.contains("nothing was installed"), "{}", done.stderr);
    let report: Value = serde_json::from_str(&project.read("report")).expect("JSON");
    let place = report["stores"][0]["location"].as_str().expect("a store");
    let short = report["fingerprint"].as_str().and_then(|all| all.get(..8)).expect("a fingerprint").to_owned();
    assert_eq!(place, format!("/usr/local/share/ca-certificates/devrun-local-ca-{short}.crt"));
    assert!(!Path::new(place).exists(), "it was installed outside the namespace");
    project.run(&["down"]).code(0);
}

#[test]
fn trust_without_root_prints_the_command() {
    if !is_root() || !Path::new("/usr/local/share/ca-certificates").is_dir() {
        return skipped("not root, or no store of the system here");
    }
    let project = shop("").for_user(65_534);
    let done = project.run(&["trust"]).code(2).says("sudo install -m 644 ").says(" && sudo update-ca-certificates");
    assert!(done.stdout.contains("needs root"), "{done}");
    assert!(Path::new(&certificate(&project)).exists());
    project.run(&["trust", "--remove"]).code(0);
}

#[test]
fn trust_installs_the_authority_in_the_databases_of_browsers() {
    let certutil = |words: &[&str]| Command::new("certutil").args(words).output();
    if certutil(&["-H"]).is_err() {
        return skipped("certutil is not installed");
    }
    let project = shop("");
    let database = project.root().join("home/.pki/nssdb");
    std::fs::create_dir_all(&database).expect("our own directory");
    let at = format!("sql:{}", database.display());
    assert!(certutil(&["-N", "-d", &at, "--empty-password"]).expect("it runs").status.success());
    let path = std::env::var("PATH").unwrap_or_default();
    // As another user, who may not change the system's store.
    let project = if is_root() { project.for_user(65_534) } else { project }.env("PATH", &path);
    if is_root() {
        let everything = format!("chown -R 65534 '{}'", project.root().join("home").display());
        assert!(Command::new("sh").args(["-c", &everything]).status().expect("chown runs").success());
    }
    let browser = |args: &[&str]| {
        let done = project.run(args);
        let line = done.stdout.lines().find(|line| line.starts_with("browser")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no line about the browser: {done}"))
    };
    let listed = || String::from_utf8_lossy(&certutil(&["-L", "-d", &at]).expect("it runs").stdout).into_owned();
    assert!(browser(&["trust"]).ends_with(" installed"));
    let line = listed().lines().find(|line| line.contains("devrun local CA ")).map(str::to_owned).expect("it is there");
    assert!(line.trim_end().ends_with("C,,"), "{line}");
    assert!(browser(&["trust"]).ends_with("already installed"));
    assert!(browser(&["trust", "--remove"]).ends_with("removed"));
    assert!(!listed().contains("devrun"), "{}", listed());
}
