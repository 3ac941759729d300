//! Passwords that every layer could spoil, through all of them, to a real Postgres and a real Redis.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Project, skipped};
use crate::services::installed;

trials![
    a_user_without_an_entry_runs_postgres,
    every_layer_hands_the_password_on_unaltered,
    #[cfg(all(feature = "postgres", feature = "redis"))]
    the_servers_take_it_and_nothing_else,
];

/// The one of the trap, and one with everything at once.
const PASSWORDS: [&str; 2] = ["#ThawZin2k77!", " it's a \"q\" $HOME ${x} $$ 50% a@b:c/d\\e `id` ä€😀 \\"];

/// Puts what a layer needs into a project.
type Lay = Box<dyn Fn(Project) -> Project>;

/// Where the password comes from: the key of the procfile, and what else must be there for it.
fn layers(password: &str) -> Vec<(&'static str, String, Lay)> {
    let keep = || Box::new(|project| project) as Lay;
    let (shell, single, double, secret, key) =
        (password.to_owned(), password.to_owned(), password.to_owned(), password.to_owned(), password.to_owned());
    let mut layers: Vec<(&'static str, String, Lay)> = vec![
        ("shell", "${DB_PASSWORD}".to_owned(), Box::new(move |project| project.env("DB_PASSWORD", &shell))),
        (
            "env file, double quotes",
            "${DB_PASSWORD}".to_owned(),
            Box::new(move |project| {
                let text = double.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
                project.write(".env", &format!("DB_PASSWORD=\"{text}\"\n"));
                project
            }),
        ),
        ("literal", password.replace('$', "$$"), keep()),
        (
            "secret file",
            "${secret.db-password}".to_owned(),
            Box::new(move |project| {
                project.write("secrets/infra/db-password", &secret);
                for (path, mode) in [("secrets/infra", 0o700), ("secrets/infra/db-password", 0o600)] {
                    fs::set_permissions(project.path(path), fs::Permissions::from_mode(mode)).expect("our own file");
                }
                project
            }),
        ),
        (
            "key file",
            "${secret.db-password}".to_owned(),
            Box::new(move |project| {
                project.write("secrets/api/HAND_KEY", &key);
                project.write("secrets/infra/db-password", &key);
                for (path, mode) in [("secrets/infra", 0o700), ("secrets/infra/db-password", 0o600)] {
                    fs::set_permissions(project.path(path), fs::Permissions::from_mode(mode)).expect("our own file");
                }
                project
            }),
        ),
    ];
    if !password.contains('\'') {
        layers.push((
            "env file, single quotes",
            "${DB_PASSWORD}".to_owned(),
            Box::new(move |project| {
                project.write(".env", &format!("DB_PASSWORD='{single}'\n"));
                project
            }),
        ));
    }
    layers
}

fn stack(key: &str) -> String {
    let password = toml::Value::String(key.to_owned()).to_string();
    let mut text = r#"
        [project]
        env_file = [".env"]
        [config]
        template = "env.in"
        output = ".env.generated"
        keys = "secrets/api"
        [secrets]
        generate = ["db-password"]
        [services.app]
        run = "{svc:app}"
        env_file = [".env.generated"]
        env = { LITERAL = "${db.password}", URL = "${db.url}" }
        render = { "conf.in" = "conf" }
        [services.shelled]
        run = "printf '%s' $PASSWORD \"$PASSWORD\" > shelled; exec {svc:shelled}"
        shell = true
        env = { PASSWORD = "${db.password}" }
        "#
    .to_owned();
    let _ = write!(
        text,
        "[services.db]\nuse = \"postgres\"\nport = \"auto\"\nuser = \"app user\"\ndatabase = \"shop/db\"\npassword = {password}\n\
         [services.cache]\nuse = \"redis\"\nport = \"auto\"\npassword = {password}\n"
    );
    text
}

fn prepare(project: &Project) {
    project.write("env.in", "DB_PASSWORD=${db.password}\nQUOTED=\"${db.password}\"\nDB_URL=${db.url}\nCACHE_URL=${cache.url}\n");
    project.write("conf.in", "password=${db.password}\n");
}

/// The value of `NAME` when a real shell reads these lines.
fn by_shell(lines: &str, name: &str) -> String {
    let output =
        Command::new("sh").arg("-c").arg(format!("{lines}\nprintf '%s' \"${name}\"")).env_clear().output().expect("sh runs");
    String::from_utf8(output.stdout).expect("text")
}

fn every_layer_hands_the_password_on_unaltered() {
    for password in PASSWORDS {
        for (layer, key, with) in layers(password) {
            let project = with(Project::new());
            project.rewrite(&stack(&key));
            prepare(&project);
            let context = |what: &str| format!("{layer}, {what}: {password:?}");
            project.run(&["config", "write"]).code(0);
            let env = project.run(&["env", "app", "--format", "json"]).code(0).json();
            for name in ["DB_PASSWORD", "QUOTED", "LITERAL"] {
                assert_eq!(env[name], password, "{}", context(name));
            }
            if layer == "key file" {
                // The newline that editors add is no part of a value; blanks at its ends are.
                assert_eq!(env["HAND_KEY"], password, "{}", context("key"));
            }
            // The address has it encoded, and decodes to it.
            for name in ["DB_URL", "URL"] {
                let url = env[name].as_str().unwrap_or_default();
                let user_info = url.split("://").nth(1).and_then(|rest| rest.split('@').next()).unwrap_or_default();
                let encoded = user_info.split(':').nth(1).unwrap_or_default();
                assert_eq!(decode(encoded), password, "{}", context(url));
                assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{url}");
            }
            // Five formats, each by a reader of its own.
            let format = |form: &str| project.run(&["env", "app", "--format", form]).code(0).stdout;
            assert_eq!(by_shell(&format("shell"), "DB_PASSWORD"), password, "{}", context("shell"));
            let github = format("github");
            assert!(github.lines().any(|line| line.strip_prefix("DB_PASSWORD=") == Some(password)), "{github}");
            let fish = format("fish");
            let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
            assert!(fish.contains(&format!("set -gx DB_PASSWORD '{quoted}'\n")), "{fish}");
            project.write("dotenv.env", &format("dotenv"));
            project.write("read.toml", "[services.r]\nrun = \"true\"\nenv_file = [\"dotenv.env\"]\n");
            let read = project.run(&["-f", "read.toml", "env", "r", "--format", "json"]).code(0).json();
            assert_eq!(read["DB_PASSWORD"], password, "{}", context("dotenv"));
            // A command's argument is one word of it, whatever it holds.
            let echoed = project.run(&["exec", "app", "--", "sh", "-c", "printf '%s' \"$DB_PASSWORD\""]).code(0);
            assert_eq!(echoed.stdout, password, "{}", context("exec"));
            let hidden = project.run(&["config"]).code(0).says_not(password);
            assert!(!hidden.stdout.contains(&encode(password)), "{hidden}");
        }
    }
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex = [rest.next().unwrap_or(0), rest.next().unwrap_or(0)];
            bytes.push(std::str::from_utf8(&hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(0));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(all(feature = "postgres", feature = "redis"))]
fn the_servers_take_it_and_nothing_else() {
    if !installed("initdb") || !installed("redis-server") {
        return skipped("no Postgres or no Redis is installed");
    }
    for password in PASSWORDS {
        let project = Project::new();
        project.rewrite(&stack(&password.replace('$', "$$")));
        prepare(&project);
        project.start(&["up", "-d"]).outcome_within(std::time::Duration::from_secs(90)).code(0);
        assert_eq!(project.service("db")["health"], "healthy");
        assert_eq!(project.service("cache")["health"], "healthy");
        // The console's way, by the URL that a client would be given, and by the separate variables.
        let env = project.run(&["env", "app", "--format", "json"]).code(0).json();
        let url = |name: &str| env[name].as_str().unwrap_or_default().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let shown = login(&url("DB_URL")).await.expect("the URL logs in");
            assert_eq!(shown, ("app user".to_owned(), "shop/db".to_owned()));
            let wrong = url("DB_URL").replacen(&encode(password), "wrong", 1);
            assert!(login(&wrong).await.is_err(), "another password is refused");
        });
        for (address, good) in [(url("CACHE_URL"), true), (url("CACHE_URL").replacen(&encode(password), "wrong", 1), false)] {
            let client = redis::Client::open(address.as_str()).expect("a URL");
            let pong = client.get_connection().and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection));
            assert_eq!(pong.is_ok(), good, "{address}: {pong:?}");
        }
        // A shell in between changes nothing, and the password is on nobody's command line.
        assert_eq!(project.read("shelled"), format!("{password}{password}"));
        for process in project.leftovers() {
            assert!(!process.command.contains(password), "{process:?}");
        }
        let journal = project.read(".devrun/journal");
        assert!(!journal.contains(password) && !journal.contains(&encode(password)));
        let waited: Value = project.run(&["inspect", "db", "--json"]).code(0).json();
        assert!(!waited.to_string().contains(&encode(password)), "{waited:#}");
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

#[cfg(all(feature = "postgres", feature = "redis"))]
async fn login(url: &str) -> Result<(String, String), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(connection);
    let row = client.query_one("SELECT current_user::text, current_database()::text", &[]).await;
    driver.abort();
    row.map(|row| (row.get(0), row.get(1)))
}

/// In a container the uid is often a bare number, whose name initdb asks for.
fn a_user_without_an_entry_runs_postgres() {
    if !crate::harness::is_root() || !installed("initdb") {
        return crate::harness::skipped("needs root, and Postgres");
    }
    let namespaces = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if namespaces.trim() == "0" {
        return crate::harness::skipped("user namespaces are forbidden here");
    }
    let project = Project::new().for_user(4_000_001).procfile("[services.db]\nuse = \"postgres\"\nport = \"auto\"\n");
    let up = project.start(&["up", "-d", "--offline"]).outcome_within(crate::harness::LONG);
    if up.code == Some(2) {
        // A seccomp filter, as in most containers: then the way out is named.
        drop(up.says("/etc/passwd"));
        return crate::harness::skipped("user namespaces are forbidden here");
    }
    drop(up.code(0));
    project.run(&["sql", "SELECT 6 * 7"]).code(0).says("42");
    project.run(&["down"]).code(0);
}
