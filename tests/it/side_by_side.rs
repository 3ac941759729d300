//! Two checkouts of one repository, and two instances of one checkout, run beside each other: each has ports, data, a
//! generated file and an environment of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Outcome, Project, eventually, processes_with};
use crate::test_ports;

const STACK: &str = r#"
    [project]
    name = "shop"
    [config]
    template = "env.in"
    output = ".env.generated"
    [secrets]
    generate = ["db-password"]
    [services.db]
    run = "{svc:db} --listen $PORT"
    port = "auto"
    data = "db"
    password = "${secret.db-password}"
    ready = { tcp = true }
    [services.api]
    run = "{svc:api} --listen $PORT"
    port = "auto"
    env_file = [".env.generated"]
    depends_on = ["db"]
    ready = { tcp = true }
"#;

fn git(folder: &Path, words: &[&str]) -> bool {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"];
    Command::new("git").args(identity).args(words).current_dir(folder).stdout(Stdio::null()).status().is_ok_and(|s| s.success())
}

fn port(env: &Value, name: &str) -> u16 {
    env[name].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} in {env:#}"))
}

#[test]
fn two_worktrees_run_beside_each_other() {
    let project = Project::new().procfile(STACK);
    project.write("env.in", "DB_PORT=${db.port}\nDB_PASSWORD=${db.password}\nAPI_URL=${api.url}\n");
    project.write(".gitignore", ".env.generated\n");
    for words in [&["init", "-q"][..], &["add", "."], &["commit", "-qm", "first"], &["worktree", "add", "-q", "sub/two"]] {
        assert!(git(&project.dir(), words), "git {words:?}");
    }
    let second = |words: &[&str]| -> Outcome {
        let all: Vec<&str> = ["-C", "sub/two"].iter().chain(words).copied().collect();
        project.run(&all)
    };
    project.run(&["up", "-d"]).code(0);
    second(&["up", "-d"]).code(0);
    let env = |outcome: Outcome| outcome.code(0).json();
    let first_env = env(project.run(&["env", "api", "--format", "json"]));
    let second_env = env(second(&["env", "api", "--format", "json"]));
    let ports = [port(&first_env, "DB_PORT"), port(&first_env, "PORT"), port(&second_env, "DB_PORT"), port(&second_env, "PORT")];
    for (index, one) in ports.iter().enumerate() {
        assert!(!ports[..index].contains(one), "{ports:?}");
        assert!(std::net::TcpStream::connect(("127.0.0.1", *one)).is_ok(), "{one} of {ports:?}");
    }
    assert_ne!(first_env["DB_PASSWORD"], second_env["DB_PASSWORD"], "each checkout makes its own secrets");
    // The generated files say what the environments say.
    for (folder, env) in [("", &first_env), ("sub/two/", &second_env)] {
        let text = project.read(&format!("{folder}.env.generated"));
        assert!(text.contains(&format!("DB_PORT={}\n", port(env, "DB_PORT"))), "{text}");
        assert!(text.contains(&format!("API_URL=http://127.0.0.1:{}\n", port(env, "PORT"))), "{text}");
    }
    // Stable: down and up again, and the addresses are the same.
    second(&["down"]).code(0);
    assert_eq!(project.service("api")["state"], "running");
    second(&["up", "-d"]).code(0);
    assert_eq!(env(second(&["env", "api", "--format", "json"])), second_env);
    let stacks = project.run(&["ls", "--json"]).code(0).json();
    let roots: Vec<&str> = stacks.as_array().into_iter().flatten().filter_map(|stack| stack["root"].as_str()).collect();
    let here = project.dir().display().to_string();
    assert!(roots.contains(&here.as_str()) && roots.contains(&format!("{here}/sub/two").as_str()), "{roots:?}");
    second(&["down"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn ports_auto_is_remembered_for_as_long_as_the_stack_runs() {
    let taken = test_ports::listener();
    let fixed = taken.local_addr().expect("bound").port();
    let project = Project::new().procfile(&format!(
        "[services.a]\nrun = \"{{svc:a}} --listen $PORT\"\nport = {fixed}\nready = {{ tcp = true }}\n\
         [services.b]\nrun = \"{{svc:b}}\"\nenv = {{ A_PORT = \"${{a.port}}\" }}\n"
    ));
    project.run(&["up", "-d"]).code(5);
    project.run(&["down"]).code(0);
    project.run(&["up", "-d", "--ports", "auto"]).code(0);
    let port_of_a = project.service("a")["ports"]["main"].to_string();
    assert_ne!(port_of_a, fixed.to_string());
    let env_of_b = project.run(&["env", "b", "--format", "json"]).code(0).json();
    assert_eq!(env_of_b["A_PORT"], port_of_a.as_str());
    project.run(&["up", "--plan"]).code(0).says_not("restart");
    let pid = project.service("a")["pid"].clone();
    project.run(&["up", "-d"]).code(0);
    project.run(&["restart", "b"]).code(0);
    assert_eq!((project.service("a")["pid"].clone(), project.service("a")["ports"]["main"].to_string()), (pid, port_of_a));
    project.run(&["down"]).code(0);
    // Without the word the procfile counts again.
    drop(taken);
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.service("a")["ports"]["main"], fixed);
    project.run(&["down"]).code(0);
}

#[test]
fn two_instances_of_one_checkout_run_beside_each_other() {
    let project = Project::new().procfile(STACK);
    project.write("env.in", "DB_PORT=${db.port}\nWHERE=${dir.data}\nWHO=${instance}\n");
    project.run(&["up", "-d"]).code(0);
    let text = project.read(".env.generated");
    project.run(&["--instance", "b", "up", "-d"]).code(0);
    assert_eq!(project.read(".env.generated"), text, "the instance leaves the file of the first one alone");
    let own = project.read(".devrun/instances/b/.env.generated");
    assert!(own.contains("WHO=b\n") && own.contains("instances/b/data"), "{own}");
    let env = |words: &[&str]| project.run(words).code(0).json();
    let first = env(&["env", "api", "--format", "json"]);
    let second = env(&["--instance", "b", "env", "api", "--format", "json"]);
    assert_ne!(port(&first, "DB_PORT"), port(&second, "DB_PORT"));
    assert_ne!(port(&first, "PORT"), port(&second, "PORT"));
    assert!(own.contains(&format!("DB_PORT={}\n", port(&second, "DB_PORT"))), "{own}");
    assert_eq!((first["WHO"].as_str(), second["WHO"].as_str()), (Some(""), Some("b")));
    // Ending one leaves the other.
    project.run(&["down"]).code(0);
    let ps = project.run(&["--instance", "b", "ps", "--json"]).code(0).json();
    assert_eq!(ps["services"][0]["state"], "running", "{ps:#}");
    project.run(&["--instance", "b", "down"]).code(0);
    assert!(processes_with(&project.dir().display().to_string()).is_empty());
    project.nothing_left();
}

#[test]
fn many_stacks_that_start_in_one_moment_choose_different_ports() {
    const STACKS: usize = 8;
    let usual = test_ports::free_port();
    let project = Project::new();
    // A program that every stack asks for its version first.
    project
        .write("door", &project.fill("#!/bin/sh\n[ \"$1\" = --version ] && exec echo door 1.0\nexec {svc:door} --listen $1\n"));
    fs::set_permissions(project.path("door"), fs::Permissions::from_mode(0o755)).expect("our own file");
    let recipe = format!(
        "name = \"door\"\nsummary = \"a server\"\nport = {usual}\nbin = [\"{{dir}}/door\"]\nargv = [\"{{dir}}/door\", \"${{port}}\"]\n"
    );
    // The task holds every stack between the choice of its ports and their use until all have chosen.
    let text = "[tasks.gate]\nrun = \"until [ -e {dir}/open ]; do sleep 0.05; done\"\n\
                [services.door]\nuse = \"./door.toml\"\nready = { tcp = true }\ndepends_on = [\"gate\"]\n\
                [services.side]\nrun = \"{svc:side} --listen $PORT\"\nport = \"auto\"\nready = { tcp = true }\n\
                depends_on = [\"gate\"]\n";
    for stack in 0..STACKS {
        project.write(&format!("{stack}/procfile.toml"), &project.fill(text));
        project.write(&format!("{stack}/door.toml"), &project.fill(&recipe));
    }
    let at = |stack: usize| stack.to_string();
    let starts: Vec<_> = (0..STACKS).map(|stack| project.start(&["-C", &at(stack), "up", "-d"])).collect();
    let ports = |stack: usize| -> Vec<u64> {
        let ps = project.run(&["-C", &at(stack), "ps", "--json"]);
        let services = serde_json::from_str::<Value>(&ps.stdout).map(|ps| ps["services"].clone()).unwrap_or_default();
        services.as_array().into_iter().flatten().filter_map(|service| service["ports"]["main"].as_u64()).collect()
    };
    for stack in 0..STACKS {
        eventually("the stack has its ports", Duration::from_secs(60), || (ports(stack).len() == 2).then_some(()));
    }
    project.write("open", "");
    for start in starts {
        start.outcome().code(0);
    }
    let all: Vec<u64> = (0..STACKS).flat_map(ports).collect();
    let different: std::collections::BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!((all.len(), different.len()), (2 * STACKS, 2 * STACKS), "{all:?}");
    for stack in 0..STACKS {
        project.run(&["-C", &at(stack), "down"]).code(0);
    }
    project.nothing_left();
}
