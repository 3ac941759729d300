//! The command of `run` and `exec`: looked for before the stack is started, and with the recipes' programs on its PATH.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Project, devrun};

#[test]
fn a_command_that_does_not_exist_starts_nothing() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh -c 'echo x > started; exec sleep 1000'\"\n");
    let run = project.run(&["run", "--", "no-such-command"]).code(127);
    assert!(run.last_line().contains("cannot find the command `no-such-command`"), "{run}");
    project.run(&["run", "--", "./no-such-file"]).code(127);
    project.write("plain", "x");
    project.run(&["run", "--", "./plain"]).code(126);
    for (name, first_line, code, reason) in [
        ("script", "#!/no/such/interpreter".to_owned(), 127, "script needs /no/such/interpreter, which is not there"),
        ("closed", format!("#!{}", project.path("plain").display()), 126, "plain, which is not executable"),
    ] {
        project.write(name, &format!("{first_line}\n"));
        std::fs::set_permissions(project.path(name), std::fs::Permissions::from_mode(0o755)).expect("our own file");
        let run = project.run(&["run", "--", &format!("./{name}")]).code(code);
        assert!(run.last_line().contains(reason), "{run}");
    }
    assert!(!project.path("started").exists(), "the stack was started");
    project.run(&["run", "--", "true"]).code(0);
    assert!(project.path("started").exists());
}

#[test]
fn check_names_a_working_directory_that_is_not_there() {
    let other = "[services.b]\nrun = \"true\"\n";
    let text = |more: &str| format!("[services.a]\nrun = \"true\"\ndir = \"no/such\"\n{more}");
    let project = Project::new().procfile(&text(other));
    let message = "error: service `a`: cannot find working directory no/such";
    drop(project.run(&["check"]).code(2).says(&format!("procfile.toml:3:7: {message}")).says_not("`b`"));
    // On a fresh checkout a task, a build or a volume may make it.
    let task = "depends_on = [\"make\"]\n[tasks.make]\nrun = \"mkdir -p no/such\"\n";
    for more in [task, "build = \"true\"\n", "[volumes.made]\npath = \"no\"\n", "optional = true\n"] {
        project.rewrite(&text(&format!("{more}{other}")));
        project.run(&["check"]).code(0).says_not("error:");
    }
}

#[test]
fn a_working_directory_that_nothing_makes_starts_nothing() {
    let other = "[services.other]\nrun = \"sh -c 'echo x > started; exec sleep 1000'\"\n";
    let project = Project::new();
    for command in [&["up", "-d"][..], &["run", "--", "true"]] {
        project.rewrite(&format!("{other}[services.a]\nrun = \"true\"\ndir = \"no/such\"\n"));
        let up = project.run(command).code(2).says("help: mkdir -p");
        assert!(
            up.last_line().contains("procfile.toml:5:7: a: missing directory") && up.last_line().ends_with("/no/such"),
            "{up}"
        );
        assert!(!project.path("started").exists(), "{up}");
    }
    // A task makes it, or it belongs to something else than what is asked for.
    let made =
        "[tasks.make]\nrun = \"mkdir -p no/such\"\n[services.a]\nrun = \"{svc:a}\"\ndir = \"no/such\"\ndepends_on = [\"make\"]\n";
    project.rewrite(&format!("{other}{made}[services.b]\nrun = \"true\"\ndir = \"nowhere\"\n"));
    project.run(&["up", "-d", "a"]).code(0);
    project.run(&["down"]).code(0);
    // What runs before the service itself names the directory too.
    std::fs::remove_dir_all(project.path("no")).expect("our own directory");
    project.rewrite("[services.b]\nrun = \"{svc:b}\"\n[services.a]\nrun = \"true\"\ndir = \"no/such\"\npre_start = \"true\"\ndepends_on = [\"b\"]\n");
    let up = project.run(&["up", "-d"]).code(2);
    assert!(up.last_line().contains("/no/such: No such file"), "{up}");
    project.run(&["down"]).code(0);
}

#[test]
fn a_command_that_a_task_installs_is_looked_for_afterwards() {
    let text = "[tasks.install]\nrun = \"sh -c 'mkdir -p bin; cp /bin/true bin/made'\"\n\
                [services.a]\nrun = \"{svc:a}\"\ndepends_on = [\"install\"]\n";
    let project = Project::new().procfile(text);
    project.run(&["run", "--", "bin/made"]).code(0);
    project.run(&["run", "--", "bin/other"]).code(127);
}

#[test]
fn the_programs_of_a_recipe_are_on_the_path_of_exec_and_run() {
    let project = Project::new();
    std::fs::create_dir_all(project.path("redis/bin")).expect("a directory");
    for (name, text) in [
        ("redis-server", "#!/bin/sh\ncase $1 in --version) echo 'Redis server v=7.9.9'; exit;; esac\nexec sleep 1000\n"),
        ("redis-cli", "#!/bin/sh\necho \"the cli of 7.9.9: $*\"\n"),
    ] {
        let file = project.path(&format!("redis/bin/{name}"));
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let project = project.procfile(
        "[sources.redis]\npath = \"redis\"\nversion = \"7.9.9\"\n[services.cache]\nuse = \"redis\"\nport = \"auto\"\nready = false\n",
    );
    let run = project.run(&["run", "--", "redis-cli", "a b", "c"]).code(0);
    assert_eq!(run.stdout.trim(), "the cli of 7.9.9: a b c", "{run}");
    project.run(&["up", "-d"]).code(0);
    for command in [&["exec", "cache", "--", "redis-cli", "ping"][..], &["exec", "cache", "--", "sh", "-c", "redis-cli ping"]] {
        let exec = project.run(command).code(0);
        assert_eq!(exec.stdout.trim(), "the cli of 7.9.9: ping", "{exec}");
    }
    project.run(&["down"]).code(0);
}

/// A command of devrun inside the command of a temporary stack is about that stack, as the variables are which the command was given.
#[test]
fn what_the_command_of_an_ephemeral_run_asks_is_answered_by_its_stack() {
    let project = Project::new()
        .procfile("[services.a]\nrun = \"{svc:a} --listen $PORT\"\nport = 41801\n[modes.test.services.b]\nrun = \"{svc:b}\"\n");
    let other = Project::new().procfile("[services.c]\nrun = \"{svc:c}\"\n");
    let script = format!(
        "D={}; $D ps --json >first && $D up -d 2>up.said && $D ps --json >second && $D --state-dir other ps --json >third && \
         $D -C {} ps --json >fourth; echo $? >code",
        devrun().display(),
        other.dir().display(),
    );
    project.run(&["--mode", "test", "run", "--ephemeral", "--", "sh", "-c", &script]).code(0);
    let shown = |file: &str| -> serde_json::Value {
        serde_json::from_str(&project.read(file)).unwrap_or_else(|error| panic!("{file}: {error}: {}", project.read("code")))
    };
    let (first, second) = (shown("first"), shown("second"));
    assert!(first["supervisor_pid"].is_u64() && first["mode"] == "test", "{first:#}");
    let pids = |all: &serde_json::Value| -> Vec<serde_json::Value> {
        all["services"].as_array().expect("services").iter().map(|one| one["pid"].clone()).collect()
    };
    assert!(pids(&first).len() == 2 && pids(&first).iter().all(serde_json::Value::is_u64), "{first:#}");
    assert_ne!(first["services"][0]["ports"]["main"], 41801, "its ports are its own");
    assert_eq!(pids(&first), pids(&second), "nothing is restarted: {}", project.read("up.said"));
    for elsewhere in ["third", "fourth"] {
        assert!(shown(elsewhere)["supervisor_pid"].is_null(), "{elsewhere}: {:#}", shown(elsewhere));
    }
    assert!(!project.path(".devrun/data").exists() && !project.path(".devrun/logs").exists());
    assert_eq!(project.read("code").trim(), "0");
    other.nothing_left();
    project.nothing_left();
}

/// Nothing but the recipe is named: the procfile is the one that was made for it.
#[test]
fn what_the_command_of_a_run_with_a_recipe_asks_is_answered_by_its_stack() {
    let project = Project::new().procfile("[services.own]\nrun = \"{svc:own}\"\n");
    let script = format!("{} ps --json >shown", devrun().display());
    project.run(&["--mode", "test", "run", "--with", "telemetry", "--", "sh", "-c", &script]).code(0);
    let shown: serde_json::Value = serde_json::from_str(&project.read("shown")).expect("JSON");
    assert_eq!(
        (&shown["services"][0]["name"], &shown["services"][0]["state"]),
        (&"telemetry".into(), &"running".into()),
        "{shown:#}"
    );
    assert!(shown["supervisor_pid"].is_u64());
    project.run(&["ps", "--json"]).code(0).says_not("telemetry");
    project.nothing_left();
}

/// It is not a stack that one could use: what to type is to wait for its end.
#[test]
fn a_run_during_a_stop_says_that_it_is_being_stopped() {
    let project = Project::new().procfile("[services.slow]\nrun = \"{svc:slow} --ignore-term\"\nstop = { grace = \"3s\" }\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["run", "--", "true"]).code(6).says("the stack is up already").says("help: devrun exec SERVICE");
    let down = project.start(&["down"]);
    project.wait_state("slow", "stopping");
    project
        .run(&["run", "--", "true"])
        .code(6)
        .says("is being stopped")
        .says("help: devrun down waits until it is stopped, then run this again")
        .says_not("devrun exec");
    down.outcome().code(0);
    project.nothing_left();
}
