//! Keys that no other test is about, each seen to do what the reference says.

use crate::harness::Project;

/// Shows: project.name, project.mode, file.project, DEVRUN_PROJECT of a child.
#[test]
fn key_project_name_and_mode_are_what_every_verb_and_child_sees() {
    let project = Project::new().procfile(
        r#"
        [project]
        name = "my-shop"
        mode = "fast"
        [services.a]
        run = "sh -c 'echo $DEVRUN_PROJECT > seen; exec sleep 1000'"
        ready = { file = "seen" }
        [modes.fast]
        services.extra.run = "sleep 1000"
        [modes.slow]
        services.other.run = "sleep 1000"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.read("seen"), "my-shop\n");
    let ps = project.ps();
    assert_eq!((&ps["project"], &ps["mode"]), (&"my-shop".into(), &"fast".into()));
    assert_eq!(project.service("extra")["state"], "running");
    project.run(&["down"]).code(0);
    project.run(&["--mode", "slow", "config"]).code(0).says("services.other").says_not("services.extra");
}

/// A private port is known to those who refer to it, and stands in no table, that of `up` included.
#[test]
fn key_service_port_private_is_in_no_table() {
    let project = Project::new().procfile(
        r#"
        [services.hidden]
        run = "{svc:hidden} --listen $PORT"
        port = "private"
        ready = { tcp = true }
        [services.shown]
        run = "sh -c 'echo ${hidden.port} > port; exec {svc:shown} --listen $PORT'"
        port = "auto"
        ready = { tcp = true }
        "#,
    );
    let up = project.run(&["up", "-d"]).code(0);
    let port = project.read("port");
    assert!(up.stdout.contains("shown") && !up.stdout.contains("hidden"), "{up}");
    for verb in ["urls", "ports"] {
        project.run(&[verb]).code(0).says("shown").says_not(port.trim());
    }
    project.run(&["down"]).code(0);
}

#[test]
fn key_service_dir_is_where_commands_run_and_shifts_no_other_path() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "./serve.sh"
        dir = "back end"
        env_file = "values.env"
        ready = { cmd = "test -e here" }
        "#,
    );
    project.write("back end/serve.sh", "#!/bin/sh\necho \"$PWD $VALUE\" > here\nexec sleep 1000\n");
    project.write("values.env", "VALUE=from-the-root\n");
    project.run_in_shell("chmod +x 'back end/serve.sh'").code(0);
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.read("back end/here"), project.fill("{dir}/back end from-the-root\n"));
}

/// Shows: service.description, service.links.
#[test]
fn key_service_description_and_links_stand_in_the_table_of_urls() {
    let project = Project::new().procfile(
        r#"
        [services.api]
        run = "{svc:api} --listen $PORT"
        port = "auto"
        ready = { tcp = true }
        description = "the REST interface"
        links = { "API docs" = "/docs", "Wiki" = "https://wiki.example/x" }
        "#,
    );
    let up = project.run(&["up", "-d"]).code(0);
    let port = project.service("api")["ports"]["main"].to_string();
    for text in ["the REST interface", "API docs", &format!(":{port}/docs"), "https://wiki.example/x"] {
        assert!(up.stdout.contains(text) || up.stderr.contains(text), "lacks {text:?}: {up}");
        project.run(&["urls"]).code(0).says(text);
    }
    project.run(&["down"]).code(0);
}

/// Shows: secrets.dir, secret.length.
#[test]
fn key_secret_length_and_secrets_dir() {
    let project = Project::new().procfile(
        r#"
        [secrets]
        dir = "my/secrets"
        generate = { short = { length = 9 }, long = { length = 200 } }
        [services.a]
        run = "sh -c 'echo ${secret.short} ${secret.long} > seen; exec sleep 1000'"
        ready = { file = "seen" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let (short, long) = (project.read("my/secrets/short"), project.read("my/secrets/long"));
    assert_eq!((short.trim().len(), long.trim().len()), (9, 200));
    assert_eq!(project.read("seen").trim(), format!("{} {}", short.trim(), long.trim()));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(project.path("my/secrets/short")).expect("a secret").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    project.run(&["down"]).code(0);
}

/// Shows: service.reserve, reserve.cpu, reserve.memory.
#[test]
fn key_reserve_is_summed_and_checked_against_the_machine() {
    let project = Project::new().procfile(
        "[defaults]\nrun = \"sleep 1000\"\nreserve = { cpu = 600.5, memory = \"500T\" }\n[services.a]\n[services.b]\n[services.c]\nreserve = false\n",
    );
    let up = project.run(&["up", "-d"]).code(0);
    let up = up.says("1201 cores").says("1000T of memory");
    assert!(up.stderr.contains("free") && !project.service("a")["pid"].is_null(), "a wish holds nothing up: {up}");
    project.run(&["down"]).code(0);
    project.rewrite("[services.a]\nrun = \"sleep 1000\"\nreserve = { cpu = 0.1, memory = \"1M\" }\n");
    project.run(&["up", "-d"]).code(0).says_not("reserve");
    project.run(&["down"]).code(0);
}

/// Where the kernel has the controllers the limits are in the service's group; where it has not, that is said and the
/// service runs.
///
/// Shows: limits.cpu, limits.memory, limits.pids.
#[test]
fn key_limits_cpu_memory_and_pids_are_kept_by_the_kernel_or_it_is_said() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"sh -c 'cat /proc/self/cgroup > group; exec sleep 1000'\"\nlimits = { cpu = 0.5, memory = \"64M\", pids = 64 }\nready = { file = \"group\" }\n",
    );
    let up = project.run(&["up", "-d"]).code(0);
    let mount = std::fs::read_to_string("/proc/self/mountinfo").expect("Linux").lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| before.split(' ').nth(4).unwrap_or_default().to_owned())
    });
    let group = project.read("group").lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned));
    for (controller, file, value) in
        [("cpu", "cpu.max", "50000 100000"), ("memory", "memory.max", "67108864"), ("pids", "pids.max", "64")]
    {
        let refused = format!("limits.{controller} of a is not enforced here");
        let kept =
            mount.iter().zip(&group).find_map(|(mount, group)| std::fs::read_to_string(format!("{mount}{group}/{file}")).ok());
        match kept {
            Some(kept) if !up.stderr.contains(&refused) => assert_eq!(kept.trim(), value),
            _ => assert!(up.stderr.contains(&refused), "{up}"),
        }
    }
    project.run(&["down"]).code(0);
    // What is not asked for is not spoken of.
    project.rewrite("[services.a]\nrun = \"sleep 1000\"\n");
    project.run(&["up", "-d"]).code(0).says_not("enforced");
    project.run(&["down"]).code(0);
}

#[test]
fn key_stop_then_is_the_second_and_stronger_signal() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = ["sh", "-c", "trap 'echo term >> got' TERM; trap 'echo quit >> got; exit 0' QUIT; touch up; while :; do sleep 0.05; done"]
        ready = { file = "up" }
        stop = { grace = "300ms", then = "QUIT" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0).says_not("killed");
    assert_eq!(project.read("got"), "term\nquit\n");
}

/// Shows: task.on_change, task.timeout.
#[test]
fn key_task_on_change_warns_runs_again_or_fails() {
    for (word, code, runs, says) in
        [("warn", 0, 1, "other inputs"), ("rerun", 0, 2, "runs again"), ("fail", 4, 1, "other inputs")]
    {
        let text = |more: &str| {
            format!(
                "[volumes]\nv = {{}}\n[tasks.t]\nrun = \"sh -c 'echo x >> runs{more}'\"\nonce = \"v/.done\"\non_change = \"{word}\"\ntimeout = \"20s\"\n[services.a]\nrun = \"sleep 1000\"\n"
            )
        };
        let project = Project::new().procfile(&text(""));
        project.run(&["up", "-d"]).code(0);
        project.run(&["down"]).code(0);
        project.run(&["up", "-d"]).code(0).says("already done");
        project.run(&["down"]).code(0);
        project.rewrite(&text("; :"));
        project.run(&["up", "-d"]).code(code).says(says);
        assert_eq!(project.read("runs").lines().count(), runs, "{word}");
        project.run(&["down"]).code(0);
    }
}

#[test]
fn key_dependency_required_false_holds_nobody_up() {
    let project = Project::new().procfile(
        r#"
        [services.broken]
        run = "sh -c 'exit 3'"
        ready = { file = "never" }
        [services.a]
        run = "{svc:a}"
        depends_on = { broken = { required = false } }
        [services.b]
        run = "{svc:b}"
        depends_on = { broken = { condition = "service_healthy", required = true } }
        "#,
    );
    project.run(&["up", "-d"]).code(1);
    assert_eq!(project.service("a")["state"], "running");
    assert_eq!(project.service("b")["state"], "blocked");
    project.run(&["down"]).code(0);
}

/// A name is part of paths, lock files, log files and unix sockets, so whatever could lead elsewhere is refused.
#[test]
fn names_that_could_lead_elsewhere_are_refused() {
    for name in ["a/b", "../a", "a b", "a\\tb", "a\\nb", "a\\u001b[2J", ".", "..", "", "-a", "ä", "a\\u0000"] {
        for table in ["services", "tasks", "volumes"] {
            let body = if table == "volumes" { "class = \"cache\"" } else { "run = \"true\"" };
            let text = format!("[services.ok]\nrun = \"touch ran\"\n[{table}.\"{name}\"]\n{body}\n");
            let project = Project::new().procfile(&text);
            let checked = project.run(&["check"]).code(2);
            assert!(!checked.stderr.contains('\u{1b}') && checked.stderr.contains("help:"), "{table} {name:?}: {checked}");
            project.run(&["up", "-d"]).code(2);
            assert!(!project.path("ran").exists());
        }
    }
}
