//! `C…`: several of us at once, and places that do not lend themselves.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::harness::{PATIENCE, Project, eventually, is_root, rounds};

const TWO: &str = "[services.a]\nrun = \"{svc:a}\"\n[services.b]\nrun = \"{svc:b} --ignore-term\"\ndepends_on = [\"a\"]\nstop = { grace = \"1s\" }\n";

#[test]
fn c01_twenty_at_once_are_one() {
    let project = Project::new().procfile(TWO);
    let runs: Vec<_> = (0..20).map(|_| project.start(&["up", "-d"])).collect();
    let ended: Vec<_> = runs.into_iter().map(|run| run.outcome_within(Duration::from_secs(90)).code(0)).collect();
    let supervisor = project.supervisor();
    let named = ended.iter().filter(|run| run.stderr.contains(&format!("supervisor {supervisor}"))).count();
    assert_eq!(named, 19, "all but the winner name it");
    assert_eq!((project.alive("a").len(), project.alive("b").len(), project.keepers().len()), (1, 1, 1));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn c02_no_lock_leaks_into_a_leftover() {
    let project = Project::new().procfile(TWO);
    project.run(&["up", "-d"]).code(0);
    let old = project.alive("b")[0].pid;
    project.kill_both();
    let up = project.run(&["up", "-d"]).code(0).says_not("already running");
    assert!(up.took > Duration::from_millis(900), "the leftover had its grace\n{up}");
    let now = project.alive("b");
    assert!(now.len() == 1 && now[0].pid != old, "{now:?}");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn c03_ups_and_downs_from_two_shells_end_well() {
    let project =
        Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n[services.b]\nrun = \"{svc:b}\"\ndepends_on = [\"a\"]\n");
    let rounds = rounds(6);
    let done = std::sync::atomic::AtomicUsize::new(0);
    /// Counts a shell that has ended, by a failure too: nobody looks on for ever.
    struct Ended<'a>(&'a std::sync::atomic::AtomicUsize);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _ended = Ended(&done);
                for _ in 0..rounds {
                    for args in [&["up", "-d"][..], &["down"]] {
                        let ended = project.run(args);
                        // Each may meet the other's opposite: that is said, and is no fault of ours.
                        assert!(matches!(ended.code, Some(0 | 1 | 6)), "{ended}");
                    }
                }
            });
        }
        scope.spawn(|| {
            eventually("both loops end", Duration::MAX, || {
                for name in ["a", "b"] {
                    // A child between fork and exec is no copy: it shows the keeper's own words.
                    let alive = project.alive(name);
                    assert!(alive.len() <= 1, "{alive:?}");
                }
                (done.load(std::sync::atomic::Ordering::SeqCst) == 2).then_some(())
            });
        });
    });
    project.run(&["up", "-d"]).code(0);
    assert_eq!((project.alive("a").len(), project.alive("b").len()), (1, 1));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn c03_a_clean_that_was_asked_before_an_up_takes_nothing_from_under_it() {
    let project = Project::new()
        .procfile("[volumes]\nwork = { class = \"persistent\" }\n[services.a]\nrun = \"{svc:a}\"\nvolumes = [\"work\"]\n");
    project.run(&["up", "-d"]).code(0);
    project.write(".devrun/data/work/kept", "kept");
    project.run(&["down"]).code(0);
    let mut terminal = project.terminal(&["clean"]);
    terminal.wait_for("[y/N]");
    project.run(&["up", "-d"]).code(0);
    terminal.send(b"y\r");
    terminal.outcome().code(6).says("the stack is up");
    assert_eq!(project.read(".devrun/data/work/kept"), "kept");
    assert_eq!(project.service("a")["state"], "running");
    project.run(&["down"]).code(0);
    project.run(&["--yes", "clean"]).code(0);
    assert!(!project.path(".devrun/data/work/kept").exists());
    project.nothing_left();
}

#[test]
fn c04_a_deep_and_odd_path_works() {
    let project = Project::new();
    let deep = format!("{}/a b/it's \"so\"/new\nline/ümläut-✓/{}", project.dir().display(), "long-folder-name/".repeat(15));
    assert!(deep.len() > 300);
    std::fs::create_dir_all(&deep).expect("our own folder");
    let text = project.fill(
        "[project]\nname = \"deep\"\n[volumes]\nwork = { class = \"persistent\" }\n[services.a]\nrun = \"{svc:a} --listen $PORT --done done\"\nport = \"auto\"\nvolumes = [\"work\"]\nready = { tcp = true }\n",
    );
    std::fs::write(format!("{deep}/procfile.toml"), text).expect("our own file");
    project.run(&["-C", &deep, "up", "-d"]).code(0);
    project.run(&["-C", &deep, "ps"]).code(0).says("running");
    project.run(&["-C", &deep, "logs"]).code(0).says("listening");
    project.run(&["-C", &deep, "down"]).code(0);
    project.nothing_left();
    let done = std::fs::read_to_string(format!("{deep}/done")).expect("it ran there");
    assert_eq!(done, "leader done\n");
}

#[test]
fn c05_a_folder_that_takes_nothing_is_told_before_any_spawn() {
    // Root writes anywhere: then it is another user's turn.
    let project = if is_root() { Project::new().for_user(65_534) } else { Project::new() };
    let project = project.procfile("[services.a]\nrun = \"{svc:a}\"\n");
    if is_root() {
        std::os::unix::fs::chown(project.dir(), Some(0), Some(0)).expect("root may");
    } else {
        std::fs::set_permissions(project.dir(), std::fs::Permissions::from_mode(0o555)).expect("our own folder");
    }
    let up = project.run(&["up", "-d"]).code(2).says(".devrun");
    assert!(up.stderr.contains("help:"), "{up}");
    assert!(project.alive("").is_empty() && project.keepers().is_empty());
    if !is_root() {
        std::fs::set_permissions(project.dir(), std::fs::Permissions::from_mode(0o755)).expect("our own folder");
    }
}

/// Shows: devrun --state-dir.
#[test]
fn c05_a_state_folder_that_others_can_write_is_refused() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    let state = project.root().join("state");
    std::fs::create_dir(&state).expect("our own folder");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).expect("our own folder");
    project.run(&["--state-dir", state.to_str().expect("text"), "up", "-d"]).code(2);
    assert!(project.alive("").is_empty());
    eventually("nobody is left", PATIENCE, || project.leftovers().is_empty().then_some(()));
}

/// Four clients of one stack: what one asks for is answered when it is up, and the limit of one is not another's.
#[test]
fn no_client_waits_for_what_another_one_has_asked_for() {
    let project = Project::new().procfile(
        "[services.slow]\nrun = \"{svc:slow}\"\n\
         ready = { cmd = \"test -e go\", interval = \"1s\", start_interval = \"50ms\", start_period = \"60s\" }\n\
         [services.other]\nrun = \"{svc:other}\"\n[services.third]\nrun = \"{svc:third}\"\n",
    );
    project.run(&["up", "-d", "other"]).code(0);
    // It is taken on and not waited for, as in a stack that begins.
    project.run(&["up", "-d", "--no-wait", "slow"]).code(0);
    let patient = project.start(&["up", "-d", "slow"]);
    project.wait_state("slow", "starting");
    project.run(&["up", "-d", "-t", "1s", "third"]).code(0);
    project.run(&["restart", "other"]).code(0);
    project.run(&["start", "third"]).code(0);
    // Well after the second of the hurried one.
    eventually("it is old enough", PATIENCE, || (project.service("third")["uptime_ms"].as_u64()? > 1_500).then_some(()));
    assert_eq!(project.service("slow")["state"], "starting", "the limit of another client's start is none of its own");
    project.write("go", "");
    patient.outcome().code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}
