//! `F…`: what is wrong with the file, the ports or the binaries is told before, or instead of, a start. Every single
//! message is in `invalid.rs`; here it is the whole binary and what it left alone.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Project, is_root};
use crate::test_ports;

#[test]
fn f01_all_faults_at_once_with_their_places_and_nothing_spawned() {
    for (text, says) in [
        ("[services.a]\nrun = \"touch ran\"\nrnu = 1\n", "procfile.toml:3:1"),
        ("[services.a]\nrun = \"touch ran\"\nreplicas = \"two\"\n", "procfile.toml:3:"),
        ("[services.a]\nrun = \"touch ran\"\ndepends_on = [\"a\"]\n", "procfile.toml:3:"),
        (
            "[services.a]\nrun = \"touch ran\"\ndepends_on = [\"b\"]\n[services.b]\nrun = \"touch ran\"\ndepends_on = [\"a\"]\n",
            "procfile.toml:",
        ),
        ("[services.a]\nrun = \"touch ran\"\ndepends_on = [\"nobody\"]\n", "nobody"),
        ("[services.a]\nrun = \"touch ran\"\n[services.a]\nrun = \"touch ran\"\n", "procfile.toml:3:"),
        ("[services.a]\nrun = \"touch ran\"\nready = { interval = \"10 parsecs\", tcp = true }\n", "procfile.toml:3:"),
        ("", "procfile.toml"),
    ] {
        let project = Project::new().procfile(text);
        for verb in [&["check"][..], &["up", "-d"], &["up"]] {
            let ended = project.run(verb).code(2).says(says);
            assert!(ended.stderr.contains("help:"), "{ended}");
        }
        assert!(!project.path("ran").exists());
        project.nothing_left();
    }
    let ring: String =
        (1..=5).map(|n| format!("[services.s{n}]\nrun = \"touch ran\"\ndepends_on = [\"s{}\"]\n", n % 5 + 1)).collect();
    let project = Project::new().procfile(&format!("{ring}[services.bad]\nrun = \"x\"\nrnu = 1\n"));
    let ended = project.run(&["up", "-d"]).code(2).says("rnu");
    for n in 1..=5 {
        assert!(ended.stderr.contains(&format!("s{n}")), "the whole ring\n{ended}");
    }
    assert!(!project.path("ran").exists());
}

#[test]
fn f01_ten_megabytes_are_no_hang() {
    let project = Project::new().procfile(&format!("[services.a]\nrun = \"touch ran\"\n{}", "# x\n".repeat(2_500_000)));
    project.run(&["check"]);
    let project = Project::new().procfile(&"[[[[".repeat(2_500_000));
    let ended = project.run(&["check"]).code(2);
    assert!(ended.stderr.len() < 1 << 20, "the message is no copy of the file: {} bytes", ended.stderr.len());
}

#[test]
fn f02_a_port_named_twice_or_held_by_a_stranger() {
    let project = Project::new()
        .procfile("[services.a]\nrun = \"touch ran\"\nport = 18081\n[services.b]\nrun = \"touch ran\"\nport = 18081\n");
    let ended = project.run(&["up", "-d"]).code(2).says("18081");
    assert!(ended.stderr.contains("procfile.toml:3:") && ended.stderr.contains("procfile.toml:6:"), "both places\n{ended}");
    assert!(!project.path("ran").exists());

    let stranger = test_ports::listener();
    let port = stranger.local_addr().expect("bound").port();
    let project = Project::new().procfile(&format!("[services.a]\nrun = \"touch ran\"\nport = {port}\n"));
    project.run(&["up", "-d"]).code(5).says(&std::process::id().to_string());
    assert!(!project.path("ran").exists());
    assert!(stranger.local_addr().is_ok(), "it lives: it is us");
}

#[test]
fn f03_what_cannot_be_executed_is_tried_once() {
    for (what, bytes, mode) in [
        ("not executable", &b"#!/bin/sh\n"[..], 0o644),
        ("for another machine", b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf3\x00", 0o755),
        ("a `#!` to nothing", b"#!/no/such/interpreter\n", 0o755),
        ("no program at all", b"\x00\x01\x02", 0o755),
    ] {
        let project =
            Project::new().procfile("[services.a]\nrun = \"./prog\"\nrestart = \"always\"\nbackoff = { initial = \"1ms\" }\n");
        std::fs::write(project.path("prog"), bytes).expect("our own file");
        std::fs::set_permissions(project.path("prog"), std::fs::Permissions::from_mode(mode)).expect("our own file");
        let ended = project.run(&["up", "-d"]).code(7);
        assert!(ended.stderr.contains("prog"), "{what}: {ended}");
        project.nothing_left_within(std::time::Duration::from_secs(10));
    }
    Project::new()
        .procfile("[services.a]\nrun = \"no-such-program-at-all\"\n")
        .run(&["up", "-d"])
        .code(7)
        .says("no-such-program-at-all");
}

#[test]
fn x07_read_only_verbs_run_nothing() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "touch {dir}/ran-a"
        pre_start = "touch {dir}/ran-pre"
        build = "touch {dir}/ran-build"
        ready = { cmd = "touch {dir}/ran-probe" }
        stop = { command = "touch {dir}/ran-stop" }
        env = { X = "$(touch {dir}/ran-env)", Y = "`touch {dir}/ran-tick`" }
        [tasks.t]
        run = "touch {dir}/ran-task"
        "#,
    );
    for verb in
        [&["ps"][..], &["config"], &["check"], &["graph"], &["logs"], &["completions", "bash"], &["urls"], &["ports"], &["env"]]
    {
        let trace = project.root().join("trace");
        let mut words = String::new();
        for word in verb {
            words.push_str(&format!(" '{word}'"));
        }
        let ended = project.run_in_shell(&format!(
            "command -v strace >/dev/null && strace -f -e trace=execve,connect,sendto -o '{}' \"$0\"{words} || \"$0\"{words}",
            trace.display()
        ));
        assert!(matches!(ended.code, Some(0 | 2)), "{ended}");
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        // Where tracing is forbidden the marks below have to do.
        if !text.is_empty() {
            assert!(text.matches("execve(").count() <= 1, "{verb:?} runs something:\n{text}");
            assert!(!text.contains("AF_INET"), "{verb:?} talks to somebody:\n{text}");
        }
    }
    let names: Vec<_> =
        std::fs::read_dir(project.dir()).expect("our own folder").flatten().map(|entry| entry.file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("ran-")), "{names:?}");
}

#[test]
fn x07_a_procfile_above_the_repository_or_of_somebody_else_is_not_ours() {
    let project = Project::new().procfile("[services.a]\nrun = \"touch ran\"\n");
    std::fs::create_dir_all(project.path("repo/.git")).expect("our own folder");
    std::fs::create_dir_all(project.path("repo/sub")).expect("our own folder");
    project.run(&["-C", project.path("repo/sub").to_str().expect("text"), "up", "-d"]).code(2);
    assert!(!project.path("ran").exists());
    if is_root() {
        let project = Project::new().for_user(65_534).procfile("[services.a]\nrun = \"touch ran\"\n");
        std::fs::create_dir(project.path("sub")).expect("our own folder");
        std::os::unix::fs::chown(project.path("sub"), Some(65_534), Some(65_534)).expect("root may");
        // The folder with the procfile is now a third user's.
        std::os::unix::fs::chown(project.dir(), Some(61_000), Some(61_000)).expect("root may");
        project.run(&["-C", project.path("sub").to_str().expect("text"), "up", "-d"]).code(2);
        assert!(!project.path("ran").exists());
    }
}
