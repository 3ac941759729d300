//! What goes wrong, and what devrun says then: the exit codes of the contract, the last line on stderr, and the story of
//! a failed start.

use std::time::Duration;

use crate::harness::{Outcome, PATIENCE, Project, eventually, is_root};
use crate::test_ports;

/// The last line names the code's meaning, the service and the reason.
#[track_caller]
fn last_line(outcome: &Outcome, parts: &[&str]) {
    for part in parts {
        assert!(outcome.last_line().contains(part), "the last line lacks {part:?}: {:?}\n{outcome}", outcome.last_line());
    }
}

/// Shows: exit 1, ps --check.
#[test]
fn a_failed_start_tells_the_whole_story() {
    let project = Project::new().procfile(
        r#"
        [services.db]
        run = "sh db.sh"
        ready = { tcp = true }
        port = "auto"
        [services.api]
        run = "{svc:api}"
        depends_on = ["db"]
        [services.other]
        run = "{svc:other}"
        "#,
    );
    // Thirty lines, so that the last twenty are told apart; alive long enough for a probe to be refused.
    project.write("db.sh", "for n in $(seq 30); do echo \"line-$n.\"; done\nsleep 1\nexit 42\n");
    let up = project.run(&["up", "-d"]).code(1);
    last_line(&up, &["a service failed", "db", "42"]);
    let up = up.says("42").says("line-30.").says("line-11.").says_not("line-10.").says("refused").says("api");
    assert!(up.stderr.contains("blocked"), "who is blocked by it\n{up}");
    assert_eq!(project.service("db")["exit_code"], 42);
    let api = project.service("api");
    assert_eq!(api["state"], "blocked");
    assert!(api["reason"].as_str().unwrap_or("").contains("db"), "{api:#}");
    assert_eq!(project.service("other")["state"], "running", "an independent branch goes on");
    project.run(&["ps"]).code(0);
    project.run(&["ps", "--check"]).code(1);
    assert!(project.alive("api").is_empty());
}

#[test]
fn a_signal_is_named_and_not_numbered() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh -c 'kill -SEGV $$$$'\"\nready = { uptime = \"5s\" }\n");
    let up = project.run(&["up", "-d"]).code(1).says("SIGSEGV");
    last_line(&up, &["a", "SIGSEGV"]);
    assert_eq!(project.service("a")["signal"], "SIGSEGV");
}

#[test]
fn exit_3_not_ready_in_time() {
    let project = Project::new().procfile(
        r#"
        [services.never]
        run = "{svc:never}"
        ready = { file = "never-there", within = "700ms" }
        "#,
    );
    let up = project.run(&["up", "-d"]).code(3);
    last_line(&up, &["not ready in time", "never"]);
}

/// Shows: up --rollback.
#[test]
fn exit_3_with_rollback_leaves_nothing() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        ready = { file = "never-there", within = "700ms" }
        [services.b]
        run = "{svc:b}"
        depends_on = ["a"]
        [services.c]
        run = "{svc:c}"
        depends_on = ["b"]
        "#,
    );
    project.run(&["up", "-d", "--rollback"]).code(3).says("a");
    project.nothing_left_within(Duration::from_secs(15));
}

#[test]
fn rollback_returns_after_what_it_started_is_gone() {
    let project = Project::new().procfile(
        r#"
        [services.slow]
        run = "{svc:slow} --stop-takes 1500"
        [services.never]
        run = "{svc:never}"
        ready = { file = "never-there", within = "700ms" }
        depends_on = ["slow"]
        "#,
    );
    let up = project.run(&["up", "-d", "--rollback"]).code(3);
    assert!(project.alive("slow").is_empty() && project.alive("never").is_empty(), "{up}");
    last_line(&up, &["not ready in time", "never"]);
    project.run(&["up", "-d", "--rollback"]).code(3).says_not("waiting for the stop that is under way");
}

#[test]
fn exit_4_a_task_failed() {
    let project = Project::new().procfile(
        r#"
        [tasks.seed]
        run = "sh -c 'echo went wrong >&2; exit 3'"
        [services.a]
        run = "{svc:a}"
        depends_on = ["seed"]
        "#,
    );
    let up = project.run(&["up", "-d"]).code(4).says("went wrong");
    last_line(&up, &["task", "seed", "3"]);
    assert_eq!(project.service("a")["state"], "blocked");
    assert!(project.alive("a").is_empty());
}

#[test]
fn exit_4_a_task_that_takes_too_long_is_ended() {
    let project = Project::new().procfile("[tasks.slow]\nrun = \"{svc:slow} --children 2\"\ntimeout = \"500ms\"\n");
    project.run(&["up", "-d"]).code(4).says("slow");
    eventually("the task's tree is gone", PATIENCE, || project.alive("slow").is_empty().then_some(()));
}

#[test]
fn exit_5_the_port_is_a_strangers_and_he_lives() {
    let listener = test_ports::listener();
    let port = listener.local_addr().expect("bound").port();
    let project = Project::new()
        .procfile(&format!("[services.a]\nrun = \"{{svc:a}} --listen $PORT\"\nport = {port}\nready = {{ tcp = true }}\n"));
    let up = project.run(&["up", "-d"]).code(5);
    last_line(&up, &["port taken", "a", &port.to_string()]);
    // The stranger is this very test.
    let up = up.says(&std::process::id().to_string());
    assert!(project.alive("").is_empty(), "nothing was spawned\n{up}");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), "the stranger was left alone");
}

#[test]
fn exit_6_where_nothing_runs() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    let stop = project.run(&["stop"]).code(6);
    last_line(&stop, &["not running"]);
}

/// Shows: service.depends_on.
#[test]
fn exit_7_a_missing_binary_is_told_before_anything_starts() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "there-is-no-such-program --flag"
        restart = "always"
        [services.b]
        run = "{svc:b}"
        depends_on = ["a"]
        "#,
    );
    let up = project.run(&["up", "-d"]).code(7).says("there-is-no-such-program");
    last_line(&up, &["binary missing", "a"]);
    assert!(project.alive("").is_empty());
}

#[test]
fn exit_7_what_cannot_be_executed_is_not_tried_again() {
    let project = Project::new().procfile("[services.a]\nrun = \"./script\"\nrestart = \"always\"\n");
    project.write("script", "#!/no/such/interpreter\n");
    std::os::unix::fs::symlink("x", project.path("loop")).expect("our own folder");
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(project.path("script"), mode).expect("our own file");
    project.run(&["up", "-d"]).code(7).says("script");
    let a = project.service("a");
    assert_eq!((&a["state"], &a["restarts"]), (&"failed".into(), &0.into()), "{a:#}");
}

#[test]
fn exit_124_the_whole_start_ran_out_of_time() {
    let project = Project::new()
        .procfile("[project]\ntimeout = \"800ms\"\n[services.slow]\nrun = \"{svc:slow}\"\nready = { file = \"never-there\" }\n");
    let up = project.run(&["up", "-d"]).code(124);
    last_line(&up, &["timeout", "slow"]);
}

#[test]
fn exit_2_a_bad_procfile_names_every_fault_and_spawns_nothing() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "touch ran-a"
        depnds_on = ["b"]
        stop = { grace = "ten" }
        [services.b]
        run = "touch ran-b"
        depends_on = ["nobody"]
        "#,
    );
    for args in [&["check"][..], &["up", "-d"]] {
        let outcome = project.run(args).code(2);
        for text in ["procfile.toml:", "depnds_on", "depends_on", "ten", "nobody", "help:"] {
            assert!(outcome.stderr.contains(text), "lacks {text:?}\n{outcome}");
        }
    }
    assert!(!project.path("ran-a").exists() && !project.path("ran-b").exists());
}

#[test]
fn exit_2_for_what_can_never_work() {
    let service = "[services.a]\nrun = \"{svc:a}\"\n";
    for (text, says) in [
        ("", "services"),
        ("[services.a\n", "procfile.toml:1"),
        ("[services.a]\n", "run"),
        (
            "[services.a]\nrun = \"x\"\ndepends_on = [\"b\"]\n[services.b]\nrun = \"x\"\ndepends_on = [\"a\"]\n",
            "wait for one another",
        ),
        ("[services.a]\nrun = \"x\"\ndepends_on = [\"a\"]\n", "itself"),
        ("[services.a]\nrun = \"x\"\n[services.a]\nrun = \"y\"\n", "a"),
        ("[services.a]\nrun = \"echo ${NOT_SET_ANYWHERE}\"\n", "NOT_SET_ANYWHERE"),
        ("[services.a]\nrun = \"x\"\nport = 7000\n[services.b]\nrun = \"x\"\nport = 7000\n", "7000"),
        ("[services.a]\nrun = 5\n", "run"),
    ] {
        let project = Project::new().procfile(text);
        project.run(&["up", "-d"]).code(2).says(says);
        assert!(project.leftovers().is_empty());
    }
    let project = Project::new().procfile(service);
    project.run(&["up", "-d", "nobody"]).code(2).says("nobody");
    project.run(&["up", "--no-such-flag"]).code(2);
    project.run(&["no-such-verb"]).code(2);
    project.run(&["-f", "absent.toml", "up", "-d"]).code(2).says("absent.toml");
    assert!(project.alive("").is_empty());
    let empty = Project::new();
    empty.run(&["up", "-d"]).code(2).says("procfile.toml");
}

/// Shows: check.
#[test]
fn checking_runs_nothing() {
    let project = Project::new().procfile("[services.a]\nrun = \"touch ran\"\nready = { cmd = \"touch probed\" }\n");
    for args in [&["check"][..], &["config"], &["ps"], &["ps", "--json"], &["logs"]] {
        project.run(args).code(0);
    }
    assert!(!project.path("ran").exists() && !project.path("probed").exists());
}

/// Shows: config --reveal.
#[test]
fn secrets_are_masked_in_what_config_prints() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"{svc:a}\"\nenv = { API_TOKEN = \"super-secret-value\", LEVEL = \"info-level-value\" }\n",
    );
    project.run(&["config"]).code(0).says_not("super-secret-value").says("info-level-value");
    project.run(&["config", "--reveal"]).code(0).says("super-secret-value");
}

#[test]
fn restart_on_failure_gives_up_at_its_limit() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "sh -c 'echo start >> starts; exit 1'"
        restart = "on-failure:3"
        backoff = { initial = "20ms", max = "50ms" }
        ready = { uptime = "1s" }
        "#,
    );
    let up = project.run(&["up", "-d"]).code(1);
    last_line(&up, &["a service failed", "a"]);
    let a = project.wait_state("a", "failed");
    assert_eq!((&a["exit_code"], &a["restarts"]), (&1.into(), &3.into()), "{a:#}");
    assert_eq!(project.read("starts").lines().count(), 4, "one start and three restarts");
}

#[test]
fn restart_policies_do_as_docker_says() {
    // What ends it, which policy, whether it comes back.
    for (ends, policy, back) in [
        ("exit 0", "no", false),
        ("exit 1", "no", false),
        ("exit 0", "on-failure", false),
        ("exit 1", "on-failure", true),
        ("exit 0", "always", true),
        ("kill -KILL $$$$", "on-failure", true),
        ("kill -KILL $$$$", "unless-stopped", true),
    ] {
        let project = Project::new().procfile(&format!(
            "[services.a]\nrun = \"sh a.sh\"\nrestart = \"{policy}\"\nbackoff = {{ initial = \"20ms\", max = \"50ms\" }}\n\
             [services.keep]\nrun = \"{{svc:keep}}\"\n"
        ));
        // The first incarnation ends when told to; the second stays.
        project.write(
            "a.sh",
            &format!(
                "echo start >> starts\n[ \"$(wc -l < starts)\" -gt 1 ] && exec sleep 1000\nwhile [ ! -e end ]; do sleep 0.02; done\n{}\n",
                ends.replace("$$$$", "$$")
            ),
        );
        project.run(&["up", "-d"]).code(0);
        project.wait_state("a", "running");
        project.write("end", "");
        if back {
            eventually(&format!("{ends} under {policy} comes back"), PATIENCE, || {
                (project.read("starts").lines().count() == 2).then_some(())
            });
            let a = project.wait_state("a", "running");
            assert_eq!(a["restarts"], 1, "{ends} under {policy}: {a:#}");
        } else {
            let state = if ends == "exit 0" { "completed" } else { "failed" };
            project.wait_state("a", state);
            assert_eq!(project.read("starts").lines().count(), 1, "{ends} under {policy}");
        }
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

#[test]
fn a_stop_during_the_wait_before_a_restart_wins() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "sh -c 'echo start >> starts; exit 1'"
        restart = "always"
        backoff = { initial = "30s" }
        "#,
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    project.wait_state("a", "backing-off");
    let stop = project.run(&["stop", "a"]).code(0);
    assert!(stop.took < Duration::from_secs(20), "{stop}");
    project.wait_state("a", "stopped");
    assert_eq!(project.read("starts"), "start\n");
}

/// Shows: up --exit-code-from.
#[test]
fn exit_code_from_hands_on_the_childs_code() {
    let project =
        Project::new().procfile("[services.job]\nrun = \"sh -c 'sleep 0.3; exit 17'\"\n[services.db]\nrun = \"{svc:db}\"\n");
    project.run(&["up", "--exit-code-from", "job"]).code(17);
    project.nothing_left();
}

/// The numbers of a child do not have the meanings of the contract.
#[test]
fn a_code_that_is_passed_on_is_not_explained() {
    let project = Project::new().procfile("[services.job]\nrun = \"sh -c 'exit 7'\"\n[services.db]\nrun = \"{svc:db}\"\n");
    let outcome = project.run(&["up", "--exit-code-from", "job"]).code(7);
    drop(outcome.says("devrun: exit 7 (the exit code of the service): job: exit 7").says_not("binary missing"));
    project.nothing_left();
}

/// Shows: exit 127.
#[test]
fn run_passes_the_commands_code_and_tears_down() {
    let project =
        Project::new().procfile("[services.db]\nrun = \"{svc:db} --listen $PORT\"\nport = \"auto\"\nready = { tcp = true }\n");
    project.run(&["run", "--", "sh", "-c", "exit 33"]).code(33);
    project.nothing_left();
    project.run(&["run", "--", "sh", "-c", "kill -KILL $$"]).code(137);
    project.nothing_left();
    project.run(&["run", "--", "no-such-command-anywhere"]).code(127);
    project.nothing_left();
}

#[test]
fn the_same_as_an_ordinary_user() {
    if !is_root() {
        return crate::harness::skipped("needs root; without it the whole suite runs as an ordinary user");
    }
    let project = Project::new().for_user(4321).procfile(
        r#"
        [services.db]
        run = "{svc:db} --listen $PORT --children 2"
        port = "auto"
        ready = { tcp = true }
        stop = { grace = "1s" }
        [services.deaf]
        run = "{svc:deaf} --ignore-term --setsid-escape"
        depends_on = ["db"]
        stop = { grace = "1s" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let pid = project.alive("db")[0].pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    assert!(status.contains("Uid:\t4321\t4321\t4321\t4321"), "{status}");
    project.run(&["ps", "--check"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();

    project.run(&["up", "-d"]).code(0);
    crate::harness::signal(project.supervisor(), nix::sys::signal::Signal::SIGKILL);
    project.nothing_left_within(Duration::from_secs(15));

    project.run(&["up", "-d"]).code(0);
    project.kill_both();
    project.run(&["down", "--emergency"]).code(0);
    project.nothing_left();
}

#[test]
fn services_that_end_at_once_are_named_with_their_codes() {
    let project = Project::new().procfile("[services.a]\nrun = \"true\"\n[services.b]\nrun = \"sh -c 'exit 0'\"\n");
    let up = project.run(&["up", "-d"]).code(0).says("a ended with exit code 0, b ended with exit code 0; nothing is running");
    drop(up.says_not("ready in"));
    eventually("the supervisor ends", PATIENCE, || project.supervisors().is_empty().then_some(()));
    let wait =
        project.run(&["wait", "a", "--timeout", "1500ms"]).code(6).says("nothing is running: a ended with exit code 0; waiting");
    last_line(&wait, &["nothing is running after 1.5s: a ended with exit code 0"]);
    project.rewrite("[services.a]\nrun = \"sh -c 'exit 3'\"\n[services.b]\nrun = \"true\"\n");
    let up = project.run(&["up", "-d"]).code(1);
    last_line(&up, &["a service failed", "a", "exit 3"]);
    project.rewrite("[services.a]\nrun = \"true\"\n[services.b]\nrun = \"{svc:b}\"\n");
    project.run(&["up", "-d"]).code(0).says("ready in").says("; a ended with exit code 0");
    project.run(&["wait", "a", "b"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_failed_start_names_the_place_of_what_failed() {
    let stranger = test_ports::listener();
    let port = stranger.local_addr().expect("bound").port();
    let project = Project::new().procfile(
        "[services.crash]\nrun = \"sh -c 'exit 3'\"\n[services.never]\nrun = \"{svc:never}\"\n\
         ready = { file = \"never-there\", within = \"700ms\" }\n[services.before]\nrun = \"{svc:before}\"\npre_start = \"false\"\n",
    );
    let up = project.run(&["up", "-d"]).says("exit 3 (procfile.toml:2:7)").says("(procfile.toml:8:13)");
    assert!(up.stderr.lines().any(|line| line.starts_with("never ") && line.contains("(procfile.toml:5:1)")), "{up}");
    project.run(&["down"]).code(0);
    project.rewrite(&format!("[services.web]\nrun = \"{{svc:web}} --listen $PORT\"\nport = {port}\n"));
    let taken = project.run(&["up", "-d"]).code(5).says("(procfile.toml:3:8)");
    last_line(&taken, &["port", &port.to_string(), "(procfile.toml:3:8)"]);
    project.run(&["up", "--plan"]).says("(procfile.toml:3:8)");
    std::fs::remove_file(project.path("procfile.toml")).expect("our own file");
    project.write("compose.yml", "name: x\nservices:\n  crash:\n    image: alpine\n    command: [\"sh\", \"-c\", \"exit 3\"]\n");
    project.run(&["up", "-d"]).code(1).says("exit 3 (compose.yml:3)");
    test_ports::close(stranger);
    project.nothing_left();
}

#[test]
fn a_start_that_is_interrupted_says_what_becomes_of_it() {
    let project =
        Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\nready = { file = \"never-there\", within = \"10m\" }\n");
    let up = project.start(&["up", "-d"]);
    eventually("it runs", PATIENCE, || (!project.alive("a").is_empty()).then_some(()));
    up.signal(nix::sys::signal::Signal::SIGINT);
    up.outcome().code(130).says("interrupted: undoing the start; stopping a (press Ctrl-C again to kill)");
    project.nothing_left();
    // A second one kills: the grace would be a minute.
    project.rewrite(
        "[services.a]\nrun = \"{svc:a} --ignore-term\"\nstop = { grace = \"60s\" }\nready = { file = \"never-there\", within = \"10m\" }\n",
    );
    let mut up = project.start(&["up", "-d"]);
    eventually("it runs", PATIENCE, || (!project.alive("a").is_empty()).then_some(()));
    up.signal(nix::sys::signal::Signal::SIGINT);
    up.wait_for("press Ctrl-C again to kill");
    project.wait_state("a", "stopping");
    up.signal(nix::sys::signal::Signal::SIGINT);
    let ended = up.outcome().code(130);
    assert!(ended.took < std::time::Duration::from_secs(50), "{ended}");
    project.nothing_left();
    project.rewrite("[services.a]\nrun = \"{svc:a}\"\nready = { file = \"never-there\", within = \"10m\" }\n");
    // Two in a row while the supervisor is being made, which may arrive as one: the start is undone without the one who asked for it.
    for _ in 0..5 {
        std::fs::remove_dir_all(project.path(".devrun")).expect("our own directory");
        let up = project.start(&["up", "-d"]);
        eventually("it has begun", PATIENCE, || project.path(".devrun/lock").exists().then_some(()));
        up.signal(nix::sys::signal::Signal::SIGINT);
        up.signal(nix::sys::signal::Signal::SIGINT);
        up.outcome().code(130);
        eventually("all has ended", PATIENCE, || project.leftovers().is_empty().then_some(()));
    }
    project.run(&["up", "-d", "--no-wait"]).code(0);
    let mut joined = project.start(&["up", "-d"]);
    joined.wait_for("already running under supervisor");
    eventually("it runs", PATIENCE, || (!project.alive("a").is_empty()).then_some(()));
    joined.signal(nix::sys::signal::Signal::SIGINT);
    joined
        .outcome()
        .code(130)
        .says("interrupted: the supervisor continues the start; running: a; to stop everything: devrun down");
    assert_eq!(project.alive("a").len(), 1);
    project.run(&["down"]).code(0);
    project.nothing_left();
}
