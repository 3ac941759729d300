//! What is secret is masked wherever it is printed or packed: taken on by other variables, inside addresses, from the shell of
//! an earlier run.

use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{PATIENCE, Project, eventually};

/// Every file of a `report`, as one text.
fn unpacked(path: &std::path::Path) -> String {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let mut all = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        all.push_str(&format!("== {}\n", entry.path().unwrap().display()));
        entry.read_to_string(&mut all).unwrap();
    }
    all
}

fn folder_text(path: &std::path::Path) -> String {
    let files = std::fs::read_dir(path).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    files.collect::<Vec<_>>().join("\n")
}

const TAKEN_ON: &str = r#"
[project]
name = "masking"
env_file = [".env"]
[env]
GLOBAL = "${STRIPE_SECRET_KEY}"
[services.api]
run = ["sh", "-c", "echo up $STRIPE $DSN $NESTED $DEFAULTED; exec sleep 1000"]
env = { STRIPE = "${STRIPE_SECRET_KEY}", DSN = "${DB_DSN}", NESTED = "a-${GLOBAL}-z", DEFAULTED = "${NOT_SET:-${INNER_TOKEN}}", PLAIN = "see me", SHORT = "${TINY_PASSWORD}", ADDRESS = "amqp://mq:r4bb1tpw@h:5672/", JDBC = "jdbc:mysql://h/d?user=u&password=jdbcPw99" }
"#;
const ENV: &str = "STRIPE_SECRET_KEY=sk_live_zzTOPSECRETzz\nDB_DSN=postgres://u:dsnPassw0rd@h/db\nINNER_TOKEN=inner-value-77\n\
                   RENAMED=${INNER_TOKEN}\nTINY_PASSWORD=postgres\n";
const VALUES: &[&str] =
    &["zzTOPSECRETzz", "dsnPassw0rd", "inner-value-77", "r4bb1tpw", "jdbcPw99", "SHORT = \"postgres\"", "\"SHORT\":\"postgres\""];

/// What is wrong with a value is said with the value, which may be that of a secret.
#[test]
fn an_error_about_a_value_does_not_tell_a_secret() {
    let keys = [
        "port = \"V\"",
        "port = \"auto\"\nready = { tcp = true, within = \"V\" }",
        "restart = \"V\"",
        "limits = { memory = \"V\" }",
        "dir = \"V\"",
        "user_id = \"V\"",
        "stop = { command = \"V now\" }",
    ];
    for key in keys {
        let key = key.replace('V', "${MY_SECRET_KEY}");
        let project = Project::new().env("MY_SECRET_KEY", "topsecretvalue99");
        let project = project.procfile(&format!("[services.a]\nrun = \"{{svc:a}}\"\n{key}\n"));
        for words in [&["check"][..], &["up", "-d"], &["exec", "a", "true"]] {
            let outcome = project.run(words);
            assert!(
                !outcome.stderr.contains("topsecretvalue99") && !outcome.stdout.contains("topsecretvalue99"),
                "{key}: {outcome}"
            );
        }
        project.run(&["down"]).code(0);
    }
    let project = Project::new().env("MY_SECRET_KEY", "topsecretvalue99");
    let project = project.procfile("[services.a]\nrun = \"{svc:a}\"\nport = \"${MY_SECRET_KEY}\"\n");
    project.run(&["check"]).code(2).says("invalid port \"••••\"");
}

#[test]
fn a_secret_is_one_under_any_name() {
    let project = Project::new().procfile(TAKEN_ON);
    project.write(".env", ENV);
    project.run(&["up", "-d"]).code(0);
    eventually("its line", PATIENCE, || project.read(".devrun/logs/api.log").contains("zzTOP").then_some(()));
    project.run(&["report"]).code(0);
    let report = unpacked(&project.path("devrun-report.tar.gz"));
    assert!(report.contains("== devrun-report/logs/api.log"), "{report}");
    let mut outputs = vec![("report".to_owned(), report)];
    for args in [
        &["config"][..],
        &["config", "--json"],
        &["config", "--origin"],
        &["config", "--origin", "--json"],
        &["inspect", "api"],
        &["inspect", "api", "--json"],
        &["ps", "--json"],
        &["events", "--json"],
    ] {
        let out = project.run(args).code(0);
        outputs.push((args.join(" "), format!("{}{}", out.stdout, out.stderr)));
    }
    project.run(&["down"]).code(0);
    for (what, text) in &outputs {
        for value in VALUES {
            assert!(!text.contains(value), "{what} shows {value}:\n{text}");
        }
    }
    for (what, text) in outputs.iter().filter(|(what, _)| what.starts_with("config") || what.starts_with("inspect")) {
        assert!(
            text.contains("see me") && text.contains("a-••••-z") && text.contains("amqp://mq:••••@h:5672/"),
            "{what}:\n{text}"
        );
    }
    project.run(&["config", "--reveal"]).code(0).says("zzTOPSECRETzz").says("r4bb1tpw");
    project.run(&["env", "api"]).code(0).says("inner-value-77");
}

#[test]
fn common_values_stay_readable() {
    let project = Project::new().procfile(
        r#"
        [project]
        name = "shop"
        [services.postgres]
        external = "postgres://postgres:postgres@127.0.0.1:5432/postgres"
        [services.app]
        run = "sleep 1000"
        env = { DATABASE_URL = "${postgres.url}", POSTGRES_PASSWORD = "postgres", POSTGRES_USER = "postgres", DEBUG = "true", AUTH_ENABLED = "true", API_TOKEN = "shop", MONKEY_ISLAND = "guybrush", KEYBOARD = "us" }
        "#,
    );
    let text = project.run(&["config"]).code(0).stdout;
    for line in [
        "DATABASE_URL = \"postgres://postgres:••••@127.0.0.1:5432/postgres\"",
        "POSTGRES_PASSWORD = \"••••\"",
        "POSTGRES_USER = \"postgres\"",
        "AUTH_ENABLED = \"true\"",
        "DEBUG = \"true\"",
        "API_TOKEN = \"••••\"",
        "MONKEY_ISLAND = \"guybrush\"",
        "KEYBOARD = \"us\"",
        "name = \"shop\"",
        "[services.postgres]",
        "external = \"postgres://postgres:••••@127.0.0.1:5432/postgres\"",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn a_report_masks_what_the_shell_of_up_had() {
    let procfile = "[services.api]\nrun = [\"sh\", \"-c\", \"echo got $GITHUB_TOKEN and $OTHER; echo SMTP_PASS=hunter2x; exec sleep 1000\"]\n";
    let project = Project::new().procfile(procfile).env("GITHUB_TOKEN", "plain-looking-4711");
    let quiet = Project::new();
    project.run(&["up", "-d"]).code(0);
    eventually("its line", PATIENCE, || project.read(".devrun/logs/api.log").contains("SMTP_PASS").then_some(()));
    // Another shell, without the token: with the stack up, and with it down.
    for up in [true, false] {
        if !up {
            project.run(&["down"]).code(0);
        }
        let archive = project.path("r.tar.gz");
        let out = project.run_in_shell("unset GITHUB_TOKEN; exec \"$0\" report -o r.tar.gz").code(0);
        let text = unpacked(&archive);
        assert!(text.contains("got •••• and"), "{out}\n{text}");
        assert!(!text.contains("plain-looking-4711") && !text.contains("hunter2x"), "{text}");
        std::fs::remove_file(&archive).unwrap();
    }
    // The value is nowhere on disk but in the log that the service wrote.
    let kept = std::fs::read_dir(project.path(".devrun")).unwrap().map(|entry| entry.unwrap().path());
    for file in kept.filter(|path| path.is_file()) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains("plain-looking-4711"), "{}", file.display());
    }
    assert_eq!(std::fs::metadata(project.path(".devrun/masks.json")).unwrap().permissions().mode() & 0o777, 0o600);
    drop(quiet);
}

#[test]
fn last_lines_and_artifacts_are_masked_and_private() {
    let project = Project::new().procfile(
        "[services.api]\nrun = [\"sh\", \"-c\", \"echo bad interval $TOK; echo ghp_abcdefghijklmnopqrstuvwxyz0123456789; echo x/postgres://u:litPw12@h; exit 3\"]\nenv = { TOK = \"${CI_TOKEN}\" }\nready = { log = \"never said\" }\n",
    );
    let project = project.env("CI_TOKEN", "tok-ABCDEF0123456789");
    let secrets = ["tok-ABCDEF0123456789", "ghp_abcdefghij", "litPw12"];
    for args in [&["up"][..], &["up", "-d"]] {
        let out = project.run(args);
        assert_ne!(out.code, Some(0), "{out}");
        // An attached one shows what services write; the talk about them is ours.
        assert!(out.stderr.contains("bad interval ••••") || args.len() == 1, "{out}");
        for secret in secrets {
            assert!(!out.stderr.contains(secret), "{secret}: {out}");
        }
        project.run(&["down"]);
    }
    project.rewrite("[services.api]\nrun = [\"sh\", \"-c\", \"echo bad interval $TOK; echo ghp_abcdefghijklmnopqrstuvwxyz0123456789; echo x/postgres://u:litPw12@h; exec sleep 1000\"]\nenv = { TOK = \"${CI_TOKEN}\" }\nready = { log = \"litPw12\" }\n");
    let out = project.run_in_shell("umask 000; exec \"$0\" run --artifacts out --junit junit.xml -- true").code(0);
    let text = format!("{}{}", folder_text(&project.path("out")), project.read("junit.xml"));
    assert!(text.contains("bad interval ••••"), "{out}\n{text}");
    for secret in secrets {
        assert!(!text.contains(secret), "{secret}:\n{text}");
    }
    for entry in std::fs::read_dir(project.path("out")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", entry.path().display());
    }
    assert_eq!(std::fs::metadata(project.path("junit.xml")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_secret_on_a_command_line_is_warned_of() {
    let project = Project::new().procfile(
        "[secrets]\ngenerate = [\"db\"]\n[services.a]\nrun = \"sleep ${secret.db}\"\n[services.b]\nrun = [\"sleep\", \"${API_TOKEN}\"]\n\
         [services.c]\nrun = \"sleep $T | cat\"\nenv = { T = \"${secret.db}\" }\n[services.d]\nrun = \"sleep ${API_TOKEN:+1} ${LEVEL:-3}\"\n",
    );
    let project = project.env("API_TOKEN", "abcdefgh");
    let out = project.run(&["check"]).code(0);
    assert_eq!(out.stderr.matches("on a command line can be read by every user").count(), 2, "{out}");
    let out = out.says("help: pass it in the environment: env = { NAME = \"${secret.db}\" }");
    out.says("${API_TOKEN}").says_not("abcdefgh");
}

#[test]
fn errors_show_no_password_of_an_address() {
    let project = Project::new()
        .procfile("[services.a]\nrun = \"sleep 1000\"\nenv = { DATABASE_URL = \"postgres://u:errPw123@h:99999/d\" }\n");
    project.run(&["check"]).says("99999").says_not("errPw123");
}

/// What `run` masks is masked in every other command, in headers and in settings too.
#[test]
fn config_masks_the_commands_headers_and_settings_of_all_keys() {
    let project = Project::new().procfile(
        r#"
        [services.b]
        run = "sleep 1000"
        ready = { cmd = ["true", "--password", "S3KRITcmd"] }
        stop = { command = ["true", "--token", "S3KRITstop"] }
        [services.r]
        use = "redis"
        set = { masterauth = "S3KRITmaster", requirepass = "S3KRITpass" }
        [services.a]
        run = ["redis-cli", "-a", "S3KRITrun"]
        port = "auto"
        ready = { http = "/", headers = { Authorization = "Basic S3KRIThdr", X-Api-Key = "S3KRITkey", Cookie = "s=S3KRITc" } }
        "#,
    );
    for command in [&["config"][..], &["config", "--json"], &["inspect", "a"], &["inspect", "b", "--json"], &["check"]] {
        project.run(command).says_not("S3KRIT");
    }
}

/// The report is printed by `import`, by `check` and at a start beside a compose file; the procfile has the values themselves.
#[test]
fn the_report_of_a_compose_file_prints_no_secret() {
    let project = Project::new();
    project.write(
        "docker-compose.yml",
        "services:\n  meili: { image: 'getmeili/meilisearch:v1.6', command: meilisearch --master-key S3KRIT3 }\n  cache: { image: 'redis:7', command: redis-server --tls-key-file-pass S3KRIT2 }\n  app: { image: 'python:3', command: 'sh -c \"sleep 1000 --token S3KRIT4 || exec sleep 1000\"' }\n  k: { image: 'quay.io/keycloak/keycloak:24', command: 'start-dev --db-password S3KRIT5 --db-url jdbc:postgresql://h/d?password=S3KRIT6' }\n",
    );
    project.run(&["check"]).says_not("S3KRIT");
    let import = project.run(&["import", "docker-compose.yml", "-o", "out.toml"]);
    assert!(!import.stderr.contains("S3KRIT") && !import.stdout.contains("S3KRIT"), "{import}");
    assert!(project.read("out.toml").contains("S3KRIT4"), "the command itself stays as it is");
}
