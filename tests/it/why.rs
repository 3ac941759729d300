//! `why`, `resources`, `top --tree`, `help --markdown`, `init --agents`.

use crate::harness::{PATIENCE, Project, eventually};

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
    project.run(&["why", "db"]).code(0).says("exited with code 7");
    project.run(&["why", "nothing"]).code(2).says("unknown service or task `nothing`").says("there are: api, db");
    project.run(&["down"]).code(0);
    project.nothing_left();
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
