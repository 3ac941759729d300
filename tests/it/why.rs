//! `why`, `resources`, `top --tree`, `help --markdown`, `init --agents`.

use crate::harness::{PATIENCE, Project, eventually};
use crate::load::listening;

/// Shows: why, why --json.
#[test]
fn why_follows_what_is_waited_for_to_the_root() {
    let project = Project::new().procfile(
        r#"
        [services.db]
        run = "{svc:db} --exit 7 --after 50"
        restart = "always"
        backoff = { initial = "10m", max = "10m" }
        ready = { file = "{dir}/never" }
        [services.api]
        run = "{svc:api}"
        depends_on = ["db"]
        "#,
    );
    project.run(&["why", "api"]).code(0).says("api is not running: the stack is down").says("help: devrun up -d");
    project.run(&["up", "-d", "--no-wait"]).code(0);
    eventually("the exit of db", PATIENCE, || (project.service("db")["state"] == "backing-off").then_some(()));
    let found = project.run(&["why", "api", "--json"]).code(0).json();
    assert_eq!(found["state"], "waiting", "{found:#}");
    assert_eq!(found["summary"], "api waits for db to be healthy");
    assert_eq!(found["causes"][0]["service"], "db", "{found:#}");
    assert!(found["causes"][0]["text"].as_str().unwrap().contains("exited with code 7"), "{found:#}");
    project.run(&["why", "api"]).code(0).says("because db exited with code 7").says("help: devrun why db");
    project.run(&["why", "db"]).code(0).says("exited with code 7 and is started again in a moment\n");
    project.run(&["why", "nothing"]).code(2).says("unknown service or task `nothing`").says("there are: api, db");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn why_names_every_restart_with_its_reason() {
    let text = r#"
        [services.db]
        run = "{svc:db}"
        [services.api]
        run = "{svc:api}"
        depends_on = { db = { restart = true } }
        "#;
    let project = Project::new().procfile(text);
    project.run(&["up", "-d"]).code(0);
    project.run(&["restart", "db"]).code(0);
    let why = project.run(&["why", "db"]).code(0).says("db is running");
    drop(why.says("restart by hand"));
    project.run(&["why", "api"]).code(0).says("restart of db").says_not("by hand");
    project.rewrite(&text.replace("[services.api]", "[services.api]\n        env = { MORE = \"1\" }"));
    project.run(&["up", "-d"]).code(0);
    project.run(&["why", "api"]).code(0).says("changed: env MORE");
    project.run(&["stop", "api"]).code(0);
    project.run(&["start", "api"]).code(0);
    project.run(&["why", "api"]).code(0).says("stopped by hand");
    project.run(&["down"]).code(0);
}

#[test]
fn why_names_a_restart_that_overlaps() {
    let project = listening("", "");
    project.run(&["up", "-d"]).code(0);
    project.run(&["restart", "api"]).code(0);
    project.run(&["why", "api"]).code(0).says("restart by hand");
    project.run(&["down"]).code(0);
}

#[test]
fn why_shows_the_help_that_the_start_showed() {
    let stranger = crate::test_ports::listener();
    let port = stranger.local_addr().expect("bound").port();
    let project = Project::new().procfile(&format!(
        "[services.db]\nrun = \"{{svc:db}} --listen $PORT\"\nport = {port}\noptional = true\n[services.web]\nrun = \"{{svc:web}}\"\n\
         [services.bad]\nrun = \"{{svc:bad}} --exit 3\"\n"
    ));
    let up = project.run(&["up", "-d"]).code(1);
    let shown = up.stderr.lines().find_map(|line| line.trim().strip_prefix("help: ")).expect("a help line").to_owned();
    project.run(&["why", "bad"]).code(0).says(&format!("help: {shown}"));
    project.run(&["why", "db"]).code(0).says(&format!("kill {}", std::process::id()));
    project.run(&["down"]).code(0);
    project.run(&["why", "bad"]).code(0).says(&format!("help: {shown}"));
    drop(stranger);
}

#[test]
fn why_and_events_name_each_copy() {
    let project =
        Project::new().procfile("[services.w]\nrun = \"{svc:w}\"\nreplicas = 3\n[services.solo]\nrun = \"{svc:solo}\"\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["stop", "w.2"]).code(0);
    let why = project.run(&["why", "w"]).code(0).says("w.1 is running").says("w.2 is stopped: by hand");
    drop(why.says("w.3 is running").says("help: devrun start w.2"));
    let found = project.run(&["why", "w", "--json"]).code(0).json();
    assert_eq!((found["name"].as_str(), found["copies"].as_array().map(Vec::len)), (Some("w.2"), Some(2)), "{found:#}");
    let events = project.run(&["events"]).code(0).says("  w.1 ").says("  w.2 ").says("  w.3 ");
    drop(events.says("  solo ").says_not("  w ").says_not("solo.1"));
    project.run(&["down"]).code(0);
}

#[test]
fn a_service_of_a_profile_that_is_not_active_is_named_as_such() {
    let project = Project::new()
        .procfile("[services.web]\nrun = \"{svc:web}\"\n[services.beat]\nrun = \"{svc:beat}\"\nprofiles = [\"jobs\"]\n");
    project.run(&["up", "-d"]).code(0);
    for command in ["why", "ps", "logs", "wait", "stop"] {
        let asked = project.run(&[command, "beat"]).code(2).says("beat is in the profile jobs");
        drop(asked.says("help: start it with its profile: devrun --profile jobs up -d beat"));
    }
    project.run(&["scale", "beat=2"]).code(2).says("beat is in the profile jobs");
    project.run(&["--profile", "jobs", "up", "-d", "beat"]).code(0);
    project.run(&["wait", "beat"]).code(0);
    project.run(&["down"]).code(0);
}

#[test]
fn a_misspelt_service_is_answered_with_the_nearest_one() {
    let project = Project::new().procfile("[services.cache]\nrun = \"{svc:cache}\"\n[services.web]\nrun = \"{svc:web}\"\n");
    let commands = ["up", "logs", "wait", "why", "ps", "inspect", "restart", "stop", "exec"];
    for round in ["with the stack down", "with the stack up"] {
        for command in commands {
            if round == "with the stack down" && matches!(command, "wait" | "ps" | "restart" | "stop" | "exec") {
                continue;
            }
            let words: &[&str] = if command == "exec" { &["exec", "cahe", "--", "true"] } else { &[command, "cahe"] };
            let asked = project.run(words).code(2).says("unknown service or task `cahe`");
            drop(asked.says("did you mean `cache`?"));
        }
        project.run(&["up", "-d"]).code(0);
    }
    project.run(&["down"]).code(0);
}

/// Shows: resources, resources --json.
#[test]
fn resources_are_summed_and_what_is_enforced_is_said() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        limits = { memory = "64M", cpu = 0.5 }
        [services.b]
        run = "{svc:b}"
        limits = { memory = "32M" }
        reserve = { memory = "16M" }
        "#,
    );
    let found = project.run(&["resources", "--json"]).code(0).json();
    assert_eq!(found["total"]["limit_memory_bytes"], 96 << 20, "{found:#}");
    assert_eq!(found["total"]["reserve_memory_bytes"], 16 << 20);
    assert_eq!(found["total"]["limit_cpu"], 0.5);
    assert!(found["machine"]["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    project.run(&["resources"]).code(0).says("LIMIT MEMORY").says("total").says("nofile: enforced (setrlimit)");
    let off = Project::new().env("DEVRUN_NO_CGROUP", "1").procfile("[services.a]\nrun = \"{svc:a}\"\n");
    off.run(&["resources"]).code(0).says("memory: not enforced (DEVRUN_NO_CGROUP is set)");
}

#[test]
fn an_answer_of_before_the_last_pass_is_not_shown() {
    let project = Project::new().procfile("[services.db]\nrun = \"{svc:db}\"\nready = { file = \"up\" }\n");
    project.run(&["up", "-d", "--no-wait"]).code(0);
    eventually("a failed probe", PATIENCE, || project.run(&["why", "db"]).stdout.contains("last probe answer").then_some(()));
    project.write("up", "");
    project.run(&["wait", "db"]).code(0);
    project.run(&["why", "db"]).code(0).says("db is running and ready").says_not("last probe answer");
    assert!(project.service("db")["reason"].is_null(), "{}", project.service("db"));
    project.run(&["down"]).code(0);
}

#[test]
fn q_leaves_top_and_the_terminal_as_it_was() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    let mut shell = project.shell_on_terminal();
    // What is typed before it has ended is its own.
    shell.send(b"$DEVRUN top; echo left$((20 + 3))\n");
    shell.wait_for("MEMORY");
    shell.send(b"q");
    shell.wait_for("left23");
    shell.send(b"stty -a > terminal; $DEVRUN top; echo left$((20 + 4))\n");
    shell.wait_for_times("MEMORY", 2);
    shell.interrupt();
    shell.wait_for("left24");
    shell.send(b"exit\n");
    drop(shell.outcome());
    let words: Vec<String> = project.read("terminal").split_whitespace().map(|word| word.replace(';', "")).collect();
    assert!(words.iter().any(|word| word == "icanon") && words.iter().any(|word| word == "echo"), "{words:?}");
    project.run(&["down"]).code(0);
}

/// Shows: top --tree.
#[test]
fn top_shows_each_process_below_its_service() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a} --children 2\"\n[services.b]\nrun = \"{svc:b}\"\n");
    project.run(&["up", "-d"]).code(0);
    let named = project.run(&["top", "b", "--once", "--json"]).code(0).json();
    assert_eq!(named["services"].as_array().map(|all| (all.len(), all[0]["name"].clone())), Some((1, "b".into())), "{named:#}");
    project.run(&["top", "c", "--once"]).code(2).says("unknown service or task `c`");
    let found = eventually("three processes", PATIENCE, || {
        let json = project.run(&["top", "--once", "--json", "--tree"]).code(0).json();
        (json["services"][0]["tree"].as_array().map(Vec::len) == Some(3)).then_some(json)
    });
    let tree = &found["services"][0]["tree"];
    assert_eq!((tree[0]["depth"].as_u64(), tree[1]["depth"].as_u64()), (Some(0), Some(1)), "{found:#}");
    assert!(found["services"][0]["write_bytes_per_second"].is_number());
    project.run(&["top", "--once", "--tree"]).code(0).says("WRITTEN/S").says("    testsvc");
    project.run(&["down"]).code(0);
}

/// Shows: init --agents.
#[test]
fn documentation_for_machines() {
    let project = Project::new();
    project.run(&["help", "--markdown"]).code(0).says("`explain_failure`").says("## devrun up");
    project.run(&["help", "--markdown", "procfile"]).code(0).says("# procfile.toml: every key");
    project.run(&["help", "--markdown", "why"]).code(0).says("# devrun why");
    project.run(&["help", "frobnicate"]).code(2).says("unknown command `frobnicate`");
    project.write("AGENTS.md", "# Mine\n");
    project.run(&["init", "--agents"]).code(0).says("AGENTS.md has the section now");
    let text = project.read("AGENTS.md");
    assert!(text.starts_with("# Mine\n") && text.contains("`devrun why SERVICE`"), "{text}");
    project.run(&["init", "--agents"]).code(0).says("is up to date");
    assert_eq!(project.read("AGENTS.md"), text);
    assert!(!project.path("procfile.toml").exists(), "only the section is written");
}

#[test]
fn verb_cypher_read_only_is_refused_with_the_command_that_has_it() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["cypher", "--read-only", "RETURN 1"]).code(2).says("--read-only is for sql").says("devrun sql --read-only");
}

#[test]
fn why_shows_what_the_failed_service_wrote_last_and_nothing_twice() {
    let project = Project::new().procfile(
        "[services.db]\nrun = \"sh db.sh\"\nready = { file = \"never\" }\n\
         [services.web]\nrun = \"{svc:web}\"\ndepends_on = [\"db\"]\n[services.other]\nrun = \"{svc:other}\"\n",
    );
    project.write("db.sh", "for n in 1 2 3 4 5 6; do echo line $n; done\nexit 3\n");
    project.run(&["up", "-d"]).code(1);
    for name in ["db", "web"] {
        let why = project.run(&["why", name]).code(0).says("last lines of db:").says("    line 6").says_not("line 1");
        let named = why.stdout.lines().filter(|line| line.contains("exit 3")).count();
        assert_eq!(named, 1, "{why}");
    }
    project.run(&["down"]).code(0);
}
