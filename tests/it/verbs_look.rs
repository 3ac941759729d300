//! The verbs that only look: what they print while a stack is up, and after it is down.

use serde_json::Value;

use crate::harness::{PATIENCE, Project, eventually, is_root};
use crate::test_ports;

/// A database that is none, an API with a secret, and a task with a sentinel.
const STACK: &str = r#"
[project]
name = "shop"
[env]
REGION = "eu"
[secrets]
generate = ["db-password"]
[volumes]
v = {}
[services.db]
run = "{svc:db} sleep"
port = "auto"
ready = false
description = "the data"
links = { "Docs" = "/docs" }
[services.api]
run = ["sh", "-c", "echo hello from api; exec sleep 1000", "{token}"]
depends_on = ["db", "seed"]
env = { DB_PASSWORD = "${secret.db-password}", DB_ADDR = "${db.addr}", QUOTED = "it's $$5", LEVEL = "${LEVEL:-info}" }
[tasks.seed]
run = "true"
once = "v/.seed"
depends_on = ["db"]
"#;

fn up(text: &str) -> Project {
    // The fixture's own words are not of interest here: a shell that sleeps does.
    let project = Project::new();
    let text = text.replace("{svc:db} sleep", "sh -c 'exec sleep 1000' {token}");
    project.rewrite(&text);
    project.run(&["up", "-d"]).code(0);
    project
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Shows: events, events --since, events --tail.
#[test]
fn events_have_the_keys_of_the_contract_and_outlive_the_stack() {
    let project = up(STACK);
    project.run(&["down"]).code(0);
    let events = project.run(&["events", "--json"]).code(0).json_lines();
    assert!(!events.is_empty());
    for event in &events {
        assert_eq!(
            keys(event),
            ["exit_code", "from", "health", "pid", "reason", "replica", "seq", "service", "to", "ts"],
            "{event}"
        );
    }
    let of =
        |service: &str| events.iter().filter(|event| event["service"] == service).map(|event| &event["to"]).collect::<Vec<_>>();
    assert!(of("db").contains(&&Value::from("running")) && of("db").last() == Some(&&Value::from("stopped")), "{:?}", of("db"));
    assert!(of("seed").contains(&&Value::from("completed")));
    let plain = project.run(&["events"]).code(0);
    assert!(plain.stdout.lines().any(|line| line.contains("db") && line.contains("→ running")), "{plain}");
    assert_eq!(project.run(&["events", "--since", "2999-01-01T00:00:00Z"]).code(0).stdout, "");
    let last = events.last().and_then(|event| event["ts"].as_str()).expect("a stamp").to_owned();
    assert!(!project.run(&["events", "--since", &last]).code(0).stdout.is_empty(), "the last one is not before itself");
    project.run(&["events", "--since", "soon"]).code(2);
    // The same words as those of `logs`.
    let newest = project.run(&["events", "--json", "-n", "2"]).code(0).json_lines();
    assert_eq!(newest, events[events.len() - 2..]);
    assert_eq!(project.run(&["events", "--json", "--tail", "all"]).code(0).json_lines(), events);
    project.run(&["events", "-n", "few"]).code(2).says("--tail few: no number");
}

#[test]
fn events_follow_shows_what_comes() {
    let project = up(STACK);
    let mut follower = project.start(&["events", "-f", "--since", "2999-01-01T00:00:00Z"]);
    project.run(&["restart", "api"]).code(0);
    let mut all = project.start(&["events", "--json", "-f"]);
    all.wait_for("restart");
    assert_eq!(follower.stdout(), "", "--since holds while following");
    for running in [&mut follower, &mut all] {
        running.signal(nix::sys::signal::Signal::SIGTERM);
    }
    let _ends = (follower.outcome(), all.outcome());
    project.run(&["down"]).code(0);
}

/// Shows: logs --previous.
#[test]
fn logs_previous_shows_the_start_before_the_last_one() {
    let project = Project::new().procfile(
        "[services.a]\nrun = [\"sh\", \"-c\", \"n=$(cat count 2>/dev/null || echo 0); n=$((n+1)); echo $n > count; echo start $n; exec sleep 1000\"]\n",
    );
    project.run(&["up", "-d"]).code(0);
    let said = |args: &[&str], text: &str| {
        eventually(text, PATIENCE, || {
            let out = project.run(args).code(0).stdout;
            out.contains(text).then_some(out)
        })
    };
    said(&["logs", "a"], "start 1");
    assert_eq!(project.run(&["logs", "--previous"]).code(0).stdout, "", "there was no earlier start");
    project.run(&["restart", "a"]).code(0);
    said(&["logs", "a"], "start 2");
    let previous = said(&["logs", "--previous", "--no-prefix"], "start 1");
    assert_eq!(previous, "start 1\n");
    project.run(&["down"]).code(0);
    project.run(&["up", "-d"]).code(0);
    said(&["logs", "a"], "start 3");
    project.run(&["down"]).code(0);
    assert_eq!(project.run(&["logs", "--previous", "--no-prefix", "a"]).code(0).stdout, "start 2\n");
    project.run(&["logs", "--previous", "-f"]).code(2);
}

/// Shows: urls, urls --json, ports, ports --json.
#[test]
fn urls_and_ports_as_tables_and_json() {
    let project = up(STACK);
    let urls = project.run(&["urls", "--json"]).code(0).json();
    assert_eq!(urls.as_array().map(Vec::len), Some(1), "{urls:#}");
    let port = project.service("db")["ports"]["main"].clone();
    assert_eq!(urls[0]["url"], format!("http://127.0.0.1:{port}"));
    assert_eq!(urls[0]["links"]["Docs"], format!("http://127.0.0.1:{port}/docs"));
    assert_eq!((&urls[0]["name"], &urls[0]["description"]), (&Value::from("db"), &Value::from("the data")));
    project.run(&["urls"]).code(0).says("the data");
    let ports = project.run(&["ports", "--json"]).code(0).json();
    assert_eq!((&ports[0]["port"], &ports[0]["port_name"]), (&port, &Value::from("main")), "{ports:#}");
    project.run(&["ports"]).code(0).says(&port.to_string());
    project.run(&["down"]).code(0);
    let after = project.run(&["ports", "--json"]).code(0).json();
    assert_eq!(after[0]["port"], port, "the chosen port is remembered");
}

#[test]
fn urls_and_ports_leave_private_ports_out() {
    let project = Project::new().procfile(
        "[services.hidden]\nrun = \"sleep 1000\"\nport = \"private\"\nready = false\n[services.shown]\nrun = \"sleep 1000\"\nport = \"auto\"\nready = false\nports = { inner = \"private\" }\n",
    );
    project.run(&["up", "-d"]).code(0);
    for verb in ["urls", "ports"] {
        let json = project.run(&[verb, "--json"]).code(0).json();
        assert_eq!(json.as_array().map(Vec::len), Some(1), "{verb}: {json:#}");
        assert_eq!(json[0]["name"], "shown");
    }
    project.run(&["down"]).code(0);
}

/// Shows: graph, graph --format, graph --live.
#[test]
fn graph_in_four_formats() {
    let project = up(STACK);
    let text = project.run(&["graph"]).code(0).stdout;
    assert!(text.starts_with("api\n├─ db (started)\n└─ seed (completed)\n"), "{text}");
    assert!(text.ends_with("\n\n(started) its process runs\n(completed) it has exited with 0\n"), "a legend: {text}");
    project.run(&["graph", "--live"]).code(0).says("db [running]").says("seed [completed]");
    project.run(&["graph", "--format", "dot"]).code(0).says("\"api\" -> \"seed\" [label=\"completed\"]");
    project.run(&["graph", "--format", "mermaid"]).code(0).says("graph LR");
    let json = project.run(&["graph", "--format", "json"]).code(0).json();
    assert_eq!(json["edges"].as_array().map(Vec::len), Some(3), "{json:#}");
    project.run(&["graph", "--format", "png"]).code(2);
    project.run(&["down"]).code(0);
}

/// Shows: config, config --json, config --origin.
#[test]
fn config_is_a_procfile_that_can_be_read_again() {
    let project = up(STACK);
    let masked = project.run(&["config"]).code(0);
    let secret = project.read("secrets/infra/db-password");
    assert!(secret.len() > 10 && !masked.stdout.contains(secret.trim()), "{masked}");
    assert!(masked.stdout.contains("DB_PASSWORD = \"••••\""), "{masked}");
    let table: toml::Table = toml::from_str(&masked.stdout).expect("valid TOML");
    assert_eq!(table["project"]["name"].as_str(), Some("shop"));
    let revealed = project.run(&["config", "--reveal"]).code(0).says(secret.trim());
    project.write("again/procfile.toml", &revealed.stdout);
    project.run(&["-f", "again/procfile.toml", "check"]).code(0);
    // What was read again resolves to the same.
    let json = |args: &[&str]| project.run(args).code(0).json();
    let first = json(&["config", "--json", "--reveal"]);
    let again = json(&["-f", "again/procfile.toml", "config", "--json", "--reveal"]);
    assert_eq!(first["services"]["api"]["env"], again["services"]["api"]["env"]);
    assert_eq!(first["services"]["api"]["env"]["QUOTED"], "it's $5");
    assert_eq!(first["services"]["api"]["run"], again["services"]["api"]["run"]);
    let one = json(&["config", "api", "--json"]);
    assert_eq!(keys(&one["services"]), ["api"]);
    let origin = project.run(&["config", "--origin"]).code(0);
    let line = origin.stdout.lines().find(|line| line.starts_with("services.api.env.LEVEL")).expect("listed");
    assert!(line.contains("procfile.toml:"), "{line}");
    project.run(&["config", "nobody"]).code(2);
    project.run(&["down"]).code(0);
}

/// Shows: env, env --format.
#[test]
fn env_in_five_forms_is_never_masked() {
    let project = up(STACK);
    let secret = project.read("secrets/infra/db-password").trim().to_owned();
    let json = project.run(&["env", "api", "--format", "json"]).code(0).json();
    assert_eq!(json["DB_PASSWORD"], Value::from(secret.clone()));
    assert_eq!((&json["REGION"], &json["DEVRUN_RUN_ID"]), (&Value::from("eu"), &Value::Null));
    let shell = project.run_in_shell("eval \"$(\"$0\" env api --format shell)\"; printf '%s|%s' \"$QUOTED\" \"$DB_PASSWORD\"");
    assert_eq!(shell.code(0).stdout, format!("it's $5|{secret}"));
    for (form, line) in [("dotenv", "QUOTED=\"it's \\$5\""), ("fish", "set -gx QUOTED 'it\\'s $5'"), ("github", "QUOTED=it's $5")]
    {
        let out = project.run(&["env", "api", "--format", form]).code(0);
        assert!(out.stdout.lines().any(|found| found == line), "{form}\n{out}");
    }
    assert_eq!(project.run(&["env", "--format", "json"]).code(0).json()["REGION"], "eu");
    project.run(&["down"]).code(0);
}

/// Shows: inspect.
#[test]
fn inspect_says_everything_but_secrets() {
    let project = up(&STACK.replace("port = \"auto\"\nready = false", "port = \"auto\"\nready = { cmd = \"true\" }"));
    let json = project.run(&["inspect", "api", "--json"]).code(0).json();
    assert_eq!(json["argv"][2], "echo hello from api; exec sleep 1000", "{json:#}");
    assert_eq!(json["env"]["DB_PASSWORD"], "••••");
    assert_eq!(json["env"]["REGION"], "eu");
    assert_eq!((&json["state"], &json["restarts"]), (&Value::from("running"), &Value::from(0)));
    assert_eq!(json["sha256"].as_str().map(str::len), Some(64));
    let db = project.run(&["inspect", "db", "--json"]).code(0).json();
    assert!(db["probes"].as_array().is_some_and(|probes| probes.iter().any(|probe| probe["passed"] == true)), "{db:#}");
    let text = project.run(&["inspect", "db"]).code(0).says("probes:");
    let started = text.stdout.lines().find_map(|line| line.strip_prefix("started_at: ")).expect("it runs");
    assert_eq!(started.len(), "2026-11-28 03:56:54".len(), "local time, to the second: {started}");
    project.run(&["inspect", "nobody"]).code(2).says("nobody");
    project.run(&["down"]).code(0);
    let after = project.run(&["inspect", "api", "--json"]).code(0).json();
    assert_eq!((&after["state"], &after["pid"]), (&Value::from("stopped"), &Value::Null));
}

/// Shows: top, top --once, top --json.
#[test]
fn top_sums_the_tree_of_each_service() {
    let project =
        Project::new().procfile("[services.a]\nrun = [\"sh\", \"-c\", \"sleep 1000 & sleep 1000 & wait\", \"{token}\"]\n");
    project.run(&["top", "--once"]).code(6);
    project.run(&["up", "-d"]).code(0);
    let usage = eventually("three processes", PATIENCE, || {
        let json = project.run(&["top", "--once", "--json"]).code(0).json();
        (json["services"][0]["processes"] == 3).then_some(json)
    });
    let service = &usage["services"][0];
    assert_eq!(service["name"], "a");
    assert!(service["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 10_000), "{usage:#}");
    for key in ["cpu_percent", "cpu_ms", "read_bytes", "write_bytes", "pid"] {
        assert!(service[key].is_number(), "{key}: {usage:#}");
    }
    project.run(&["stats", "--no-stream"]).code(0).says("PROCESSES");
    // A pipe gets one table; a terminal one after the other.
    let piped = project.start(&["top"]).outcome_within(PATIENCE).code(0);
    assert_eq!(piped.stdout.matches("PROCESSES").count(), 1, "{piped}");
    let mut terminal = project.terminal(&["top"]);
    terminal.wait_for_times("PROCESSES", 2);
    terminal.interrupt();
    drop(terminal.outcome());
    project.run(&["down"]).code(0);
}

/// Shows: ls, ls --json.
#[test]
fn ls_lists_stacks_also_dead_ones() {
    let project = up(STACK);
    let mine = |project: &Project| {
        let list = project.run(&["ls", "--json"]).code(0).json();
        let root = project.dir().canonicalize().expect("our own folder").display().to_string();
        list.as_array().into_iter().flatten().find(|stack| stack["root"] == root.as_str()).cloned().unwrap_or(Value::Null)
    };
    let stack = mine(&project);
    assert_eq!((&stack["project"], &stack["status"]), (&Value::from("shop"), &Value::from("running")), "{stack:#}");
    assert_eq!((&stack["services"], &stack["running"]), (&Value::from(2), &Value::from(2)));
    project.run(&["ls"]).code(0).says("shop");
    crate::harness::signal(project.supervisor(), nix::sys::signal::Signal::SIGKILL);
    eventually("a dead stack", PATIENCE, || (mine(&project)["status"] == "dead").then_some(()));
    project.run(&["ls"]).code(0).says("dead: the supervisor was killed").says("devrun down --emergency");
    project.run(&["down"]).code(0);
    assert_eq!(mine(&project), Value::Null);
}

#[test]
fn ls_lists_no_project_in_which_nothing_was_started() {
    let listener = test_ports::listener();
    let port = listener.local_addr().expect("bound").port();
    let project = Project::new().env("DEVRUN_OFFLINE", "1");
    // Other stacks of this user may run on this machine.
    let dir = project.dir().canonicalize().expect("our own directory").display().to_string();
    let is_listed = || {
        let list = project.run(&["ls", "--json"]).code(0).json();
        list.as_array().expect("a list").iter().any(|stack| stack["root"] == dir.as_str())
    };
    project.run(&["init"]).code(0);
    assert!(!is_listed(), "after init");
    project.rewrite(&format!("[services.a]\nrun = \"{{svc:a}} --listen $PORT\"\nport = {port}\n"));
    project.run(&["up", "-d"]).code(5);
    assert!(!is_listed(), "after a start that was refused");
    test_ports::close(listener);
    project.run(&["up", "-d"]).code(0);
    assert!(is_listed(), "after a start");
    project.run(&["down"]).code(0);
}

/// As a user of its own: every other stack of the user who runs the tests would be ended with it.
/// Shows: down --all.
#[test]
fn down_emergency_all_ends_every_stack_of_the_user() {
    if !is_root() {
        return crate::harness::skipped("needs root");
    }
    let uid = crate::harness::unused_uid();
    let text = "[services.a]\nrun = [\"sh\", \"-c\", \"exec sleep 1000\", \"{token}\"]\n";
    let project = Project::new().for_user(uid);
    project.rewrite(text);
    project.write("other/procfile.toml", &project.fill(text));
    std::os::unix::fs::chown(project.path("other"), Some(uid), Some(uid)).expect("root may chown");
    project.run(&["up", "-d"]).code(0);
    project.kill_both();
    project.run(&["-f", "other/procfile.toml", "up", "-d"]).code(0);
    assert_eq!(project.run(&["ls", "--json"]).code(0).json().as_array().map(Vec::len), Some(2));
    // From a folder without a procfile, as there may be none any more.
    project.run(&["-C", "/", "down", "--emergency", "--all"]).code(0);
    project.nothing_left();
    assert_eq!(project.run(&["ls", "--json"]).code(0).json().as_array().map(Vec::len), Some(0));
}

#[test]
fn config_origin_follows_placeholders() {
    let project = Project::new().procfile(
        r#"
        [project]
        env_file = [".env"]
        [secrets]
        generate = ["token"]
        [services.db]
        run = "{svc:db} --listen $PORT"
        port = "${DB_PORT:-auto}"
        [services.api]
        run = "{svc:api} ${LEVEL}"
        env = { LEVEL = "${LEVEL:-info}", DB = "${db.url}", HOME_OF = "${HOME}", T = "${secret.token}" }
        "#,
    );
    project.write(".env", "# first\nLEVEL=debug\n");
    let rows = project.run(&["config", "--origin", "--json"]).code(0).json();
    let origin = |key: &str| {
        let row = rows.as_array().into_iter().flatten().find(|row| row["key"] == key);
        row.and_then(|row| row["origin"].as_str()).unwrap_or_else(|| panic!("{key} in {rows:#}")).to_owned()
    };
    for (key, end) in [
        ("services.api.env.LEVEL", " ← .env:2"),
        ("services.api.env.DB", " ← computed: db.url"),
        ("services.api.env.HOME_OF", " ← shell: HOME"),
        ("services.api.env.T", " ← secret: token"),
        ("services.db.port", " ← default"),
    ] {
        let origin = origin(key);
        assert!(origin.starts_with("procfile.toml:") && origin.ends_with(end), "{key}: {origin}");
    }
    assert!(origin("services.api.run").contains(" ← procfile.toml:"), "{}", origin("services.api.run"));
}

#[test]
fn completion_knows_the_services_of_the_project() {
    let project = Project::new()
        .procfile("[services.web]\nrun = \"x\"\n[services.worker]\nrun = \"x\"\nreplicas = 2\n[tasks.seed]\nrun = \"x\"\n");
    assert_eq!(project.run(&["__services"]).code(0).stdout, "seed\nweb\nworker\n");
    // As bash asks: the words, the place of the cursor, then what may stand there.
    let script = "set -e; mkdir -p bin; ln -sf \"$0\" bin/devrun; PATH=\"$PWD/bin:$PATH\"; \
                  bash --norc -c 'eval \"$(devrun completions bash)\"; COMP_WORDS=(devrun logs w); COMP_CWORD=2; \
                  _devrun_with_services devrun w logs; echo \"${COMPREPLY[*]}\"'";
    let out = project.run_in_shell(script).code(0);
    assert!(out.stdout.contains("web") && out.stdout.contains("worker") && !out.stdout.contains("seed"), "{out}");
}
