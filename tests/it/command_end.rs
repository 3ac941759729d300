//! The end of the command of `run` and `exec`: signals reach what it has started, a deadline holds, and a killed `run` leaves nothing.

use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use crate::harness::{LONG, PATIENCE, Project, Running, eventually, is_root, signal, skipped, unused_uid};

const STACK: &str = "[services.a]\nrun = \"{svc:a}\"\n";

/// A command whose leader is a shell that waits for `program`.
fn command_in_shell(project: &Project, args: &[&str], program: &str) -> Running {
    let script = project.fill(&format!("{program}; echo after > after"));
    let args: Vec<&str> = args.iter().copied().chain(["--", "sh", "-c", &script]).collect();
    let running = project.start(&args);
    eventually("the command", PATIENCE, || (programs(project) == 1).then_some(()));
    running
}

/// How many fixtures run below the shell. The shell and `devrun` itself have the same words in their command lines.
fn programs(project: &Project) -> usize {
    project
        .alive("cmd")
        .iter()
        .filter(|process| process.command.contains("testsvc --token"))
        .filter(|process| !process.command.contains("after"))
        .count()
}

#[test]
fn term_ends_what_the_shell_of_a_command_waits_for() {
    for name in [Signal::SIGTERM, Signal::SIGHUP] {
        let project = Project::new().procfile(STACK);
        let running = command_in_shell(&project, &["run"], "{svc:cmd}");
        running.signal(name);
        running.outcome().code(128 + name as i32);
        assert_eq!(project.read("after"), "");
        project.nothing_left();
    }
    let project = Project::new().procfile(STACK);
    project.run(&["up", "-d"]).code(0);
    let running = command_in_shell(&project, &["exec", "a"], "{svc:cmd}");
    running.signal(Signal::SIGTERM);
    running.outcome().code(143);
    assert_eq!(project.alive("cmd"), [], "what the command had started");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Leaders that start, or have a child start, a program when TERM comes, and one that has detached it long before.
const LATE_OR_DETACHED: [&str; 3] = [
    "trap '{svc:bg} & exit 3' TERM; echo begun; while :; do sleep 0.05; done",
    "sh -c 'trap \"{svc:bg} & exit 0\" TERM; echo begun; while :; do sleep 0.05; done' & wait",
    "(setsid {svc:bg} >/dev/null 2>&1 &); echo begun; while :; do sleep 0.05; done",
];

#[test]
fn term_ends_what_a_command_starts_late_or_has_detached() {
    if !devrun_keeper::INHERITS_ORPHANS {
        return skipped("orphans go to init here");
    }
    let project = Project::new().procfile(STACK);
    for script in LATE_OR_DETACHED {
        // In a file, as what names the program in its arguments counts as one.
        project.write("command.sh", &project.fill(script));
        for args in [&["run", "--", "sh", "command.sh"][..], &["exec", "a", "--", "sh", "command.sh"]] {
            let mut running = project.start(args);
            running.wait_for("begun");
            if script.contains("setsid") {
                eventually("what was detached", PATIENCE, || (project.alive("bg").len() == 1).then_some(()));
            }
            running.signal(Signal::SIGTERM);
            let ended = running.outcome();
            assert_eq!(project.alive("bg"), [], "{script} {ended}");
        }
    }
    project.nothing_left();
}

#[test]
fn a_closed_terminal_does_not_end_what_has_a_session_of_its_own() {
    let project = Project::new().procfile(STACK);
    project.write("command.sh", &project.fill(LATE_OR_DETACHED[2]));
    let mut running = project.start(&["exec", "a", "--", "sh", "command.sh"]);
    running.wait_for("begun");
    // `setsid` names the program before it has made the session.
    let has_session = |pid: i32| nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).is_ok_and(|sid| sid.as_raw() == pid);
    let detached = eventually("what was detached", PATIENCE, || project.alive("bg").pop().filter(|bg| has_session(bg.pid)));
    running.signal(Signal::SIGHUP);
    running.outcome().code(129);
    assert_eq!(project.alive("bg").len(), 1);
    signal(detached.pid, Signal::SIGKILL);
    project.nothing_left_within(PATIENCE);
}

#[test]
fn what_a_running_command_has_detached_is_reaped() {
    if !devrun_keeper::INHERITS_ORPHANS {
        return skipped("orphans go to init here");
    }
    let project = Project::new().procfile(STACK);
    let mut running = project.start(&["exec", "a", "--", "sh", "-c", "(sleep 0.1 &); (true &); echo begun; exec sleep 1000"]);
    running.wait_for("begun");
    let own = running.pid();
    eventually("one child, the command", PATIENCE, || (devrun_keeper::process_list::children(own).len() == 1).then_some(()));
    running.signal(Signal::SIGTERM);
    running.outcome().code(143);
    project.nothing_left();
}

#[test]
fn a_second_term_kills_a_command_that_ignores_it_and_what_it_started() {
    let project = Project::new().procfile(STACK);
    let running = command_in_shell(&project, &["run"], "trap '' TERM; {svc:cmd} --ignore-term");
    running.signal(Signal::SIGTERM);
    // Two that come at once are one for the receiver.
    eventually("the first is taken", PATIENCE, || {
        running.signal(Signal::SIGTERM);
        (programs(&project) == 0).then_some(())
    });
    running.outcome().code(137);
    project.nothing_left();
}

#[test]
fn a_command_ends_with_a_run_that_is_killed() {
    if cfg!(feature = "portable") {
        return skipped("only Linux signals a child whose parent was killed");
    }
    let project = Project::new().procfile(STACK);
    let program = project.fill("{svc:cmd}");
    let args: Vec<&str> = ["run", "--"].into_iter().chain(program.split_whitespace()).collect();
    let running = project.start(&args);
    eventually("the command", PATIENCE, || (programs(&project) == 2).then_some(()));
    running.signal(Signal::SIGKILL);
    let _killed = running.outcome();
    project.nothing_left_within(LONG);
}

/// Kills a run on a temporary copy and its keeper, so that neither can stop anything.
fn abandon(project: &Project) {
    let running = project.start(&["run", "--ephemeral", "--", "sleep", "1000"]);
    eventually("the service", PATIENCE, || (project.alive("a").len() == 1).then_some(()));
    let keepers = project.keepers();
    assert_eq!(keepers.len(), 1, "{keepers:?}");
    running.signal(Signal::SIGSTOP);
    let is_stopped = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    };
    eventually("the supervisor is stopped", PATIENCE, || is_stopped().then_some(()));
    signal(keepers[0].pid, Signal::SIGKILL);
    eventually("the keeper's end", PATIENCE, || project.keepers().is_empty().then_some(()));
    running.signal(Signal::SIGKILL);
    let _killed = running.outcome();
    assert_eq!(project.alive("a").len(), 1, "nothing has stopped it");
}

#[test]
fn what_an_abandoned_temporary_copy_left_is_ended_by_the_next_command() {
    if !is_root() {
        return skipped("the keeper of a temporary copy is found by what it holds open, which only root may look at");
    }
    for next in [&["down"][..], &["down", "--emergency"], &["run", "--", "true"], &["run", "--ephemeral", "--", "true"]] {
        let project = Project::new().procfile(STACK);
        abandon(&project);
        let ls = project.run(&["ls"]).code(0);
        assert!(ls.stdout.contains(" dead ") && ls.stderr.contains("devrun down --emergency"), "{ls}");
        let ended = project.run(next).code(0);
        let text = format!("{}{}", ended.stdout, ended.stderr);
        assert!(text.contains("killed what a temporary copy left") && text.contains("a: pid "), "{ended}");
        assert!(!text.contains("nothing was left"), "{ended}");
        project.nothing_left();
        let kept: Vec<_> = std::fs::read_dir(project.root().join("tmp")).expect("our own directory").flatten().collect();
        assert!(kept.is_empty(), "{next:?} left {kept:?}");
        assert!(!project.run(&["ls"]).code(0).stdout.contains(" dead "));
    }
}

#[test]
fn few_descriptors_are_a_limit_and_not_a_panic() {
    let project = Project::new().procfile(STACK);
    for limit in 6..=12 {
        for args in [&["check"][..], &["ps"], &["run", "--", "true"], &["up", "-d"]] {
            let running = project.start_prepared(args, |command| {
                // SAFETY: between fork and exec, one system call without memory of ours.
                unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?)) };
            });
            let ended = running.outcome_within(Duration::from_secs(30));
            assert!(!ended.stderr.contains("devrun failed at"), "{limit} {args:?}: {ended}");
            if ended.code != Some(0) {
                assert!(ended.stderr.contains("help: "), "{limit} {args:?}: {ended}");
            }
            if limit == 8 && args[0] == "run" {
                ended.code(125).says("Too many open files").says("ulimit -n");
            }
        }
    }
    let _down = project.run(&["down"]);
    project.nothing_left_within(PATIENCE);
}

/// The commands that serve, some of which only the keeper starts.
#[test]
fn few_descriptors_are_a_limit_of_a_server_and_not_a_panic() {
    let project = Project::new().procfile(STACK);
    let places = serde_json::json!({ "root": project.root(), "state": project.path(".devrun"), "run": project.root() });
    let port = crate::test_ports::free_port();
    for kind in ["routes", "shared-http", "shared-streams"] {
        let upstreams = serde_json::json!({ "api": { "host": "127.0.0.1" } });
        let config = serde_json::json!({
            "service": "front", "listen": { "host": "127.0.0.1", "port": port }, "logs": project.root(), "places": places, "kind": kind,
            "spec": { "routes": [], "headers": {}, "upstreams": upstreams, "copies": { "api": [{ "name": "api", "ports": { "main": 1 } }] } },
            "drain": project.path("drain"),
        });
        project.write(&format!("{kind}.json"), &config.to_string());
    }
    let port_word = port.to_string();
    for limit in [6, 8, 9, 10, 11, 12, 13, 16, 24] {
        for args in [
            &["web"][..],
            &["__gateway", "routes.json"],
            &["__gateway", "shared-http.json"],
            &["__gateway", "shared-streams.json"],
            &["__telemetry", "127.0.0.1", &port_word, "telemetry"],
        ] {
            let running = project.start_prepared(args, |command| {
                // SAFETY: between fork and exec, one system call without memory of ours.
                unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?)) };
            });
            let stat = format!("/proc/{}/stat", running.pid());
            let has_ended = || std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") Z "));
            let serves = || match args[0] {
                "web" => running.stdout().contains("http://"),
                _ => std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(),
            };
            eventually("it serves or has ended", PATIENCE, || (has_ended() || serves()).then_some(()));
            if !has_ended() {
                running.signal(Signal::SIGTERM);
            }
            let ended = running.outcome();
            assert!(
                !ended.stderr.contains("panicked") && !ended.stderr.contains("devrun failed at"),
                "{limit} {args:?}: {ended}"
            );
            if !matches!(ended.code, Some(0 | 143)) {
                ended.code(125).says("Too many open files").says("help: raise the limit on open files: ulimit -n");
            }
        }
    }
    project.nothing_left();
}

/// The directory of a copy that was killed before it had started anything, last changed an hour ago or just now.
fn unstarted_copy(project: &Project, name: &str, is_old: bool) -> std::path::PathBuf {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = project.root().join("tmp").join(name);
    let state = folder.join("state");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&state).expect("our own directory");
    std::fs::write(state.join(".ephemeral"), "").expect("our own file");
    if is_old {
        let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        for directory in [&state, &folder] {
            std::fs::File::open(directory).and_then(|file| file.set_modified(hour_ago)).expect("our own directory");
        }
    }
    folder
}

#[test]
fn directories_of_a_temporary_copy_that_started_nothing_are_removed_in_time() {
    let project = Project::new().procfile(STACK);
    let old = unstarted_copy(&project, "devrun-abcdef", true);
    let fresh = unstarted_copy(&project, "devrun-ghijkl", false);
    let empty = project.root().join("tmp/devrun-mnopqr");
    std::fs::create_dir(&empty).expect("our own directory");
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::open(&empty).and_then(|file| file.set_modified(hour_ago)).expect("our own directory");
    project.run(&["down"]).code(0);
    assert!(!old.exists() && !empty.exists() && fresh.exists(), "one that is about to start keeps its directory");
    project.nothing_left();
}

/// The command that removed it was killed: after the directory that names it, or in the middle of its own.
#[test]
fn a_temporary_copy_whose_removal_was_killed_is_removed_by_the_next_command() {
    let project = Project::new().procfile(STACK);
    let journal = unstarted_copy(&project, "devrun-abcdef", false);
    std::fs::write(journal.join("state/journal"), "").expect("our own file");
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    for directory in [journal.join("state"), journal.clone()] {
        std::fs::File::open(&directory).and_then(|file| file.set_modified(hour_ago)).expect("our own directory");
    }
    let half = unstarted_copy(&project, "devrun-ghijkl.removed", false);
    std::fs::remove_file(half.join("state/.ephemeral")).expect("our own file");
    project.run(&["down"]).code(0);
    assert!(!journal.exists() && !half.exists());
    project.nothing_left();
}

#[test]
fn a_refused_thread_is_a_limit_and_not_a_panic() {
    if !is_root() {
        return skipped("only root can become a user without other processes");
    }
    let project = Project::new().for_user(unused_uid()).procfile(STACK);
    for (limit, args) in
        [(1, &["ls"][..]), (2, &["ls"]), (2, &["run", "--", "true"]), (3, &["up", "-d"]), (5, &["run", "--", "true"])]
    {
        let running = project.start_prepared(args, |command| {
            // SAFETY: between fork and exec, one system call without memory of ours.
            unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NPROC, limit, limit)?)) };
        });
        let refused = running.outcome_within(Duration::from_secs(20));
        assert_eq!(refused.code, Some(125), "{limit} {args:?}: {refused}");
        refused.says("help: ").says("ulimit -u").says_not("please report it");
        project.nothing_left_within(PATIENCE);
    }
}
