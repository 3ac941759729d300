//! `R…`: who comes back, when, and how often. Starts are counted by the services themselves, in files.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{PATIENCE, Project, eventually, long, signal};
use crate::waits::stays_equal_for;

/// Milliseconds since 1970 at each start, one a line.
const NOTE: &str = "date +%s%3N >> starts\n";

fn starts(project: &Project) -> Vec<i64> {
    project.read("starts").lines().filter_map(|line| line.parse().ok()).collect()
}

fn count(project: &Project, name: &str) -> usize {
    project.read(name).lines().count()
}

#[test]
fn r01_delays_grow_and_the_limit_is_exact() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "sh a.sh"
        restart = "on-failure:5"
        backoff = { initial = "50ms", max = "400ms" }
        ready = { uptime = "5s" }
        "#,
    );
    project.write("a.sh", &format!("{NOTE}exit 1\n"));
    project.run(&["up", "-d"]).code(1);
    let a = project.wait_state("a", "failed");
    assert_eq!((&a["exit_code"], &a["restarts"]), (&1.into(), &5.into()), "{a:#}");
    let starts = starts(&project);
    assert_eq!(starts.len(), 6, "one start and five restarts");
    let waits: Vec<i64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 50, 100, 200, 400, 400 ms, a tenth less at most; a busy machine only adds.
    for (wait, least) in waits.iter().zip([45, 90, 180, 360, 360]) {
        assert!(*wait >= least, "{waits:?}");
    }
    assert!(waits[0] < 1000, "the first comes within a second: {waits:?}");
}

#[test]
fn r02_after_a_long_run_the_wait_begins_anew() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "sh a.sh"
        restart = "on-failure:2"
        backoff = { initial = "20ms", max = "1s", reset = "500ms" }
        "#,
    );
    // Longer than `reset` each time: five crashes are more than the limit of two in a row, and none counts.
    project.write("a.sh", &format!("{NOTE}[ \"$(wc -l < starts)\" -gt 5 ] && exec sleep 1000\nsleep 0.8\nexit 1\n"));
    project.run(&["up", "-d"]);
    eventually("six starts", PATIENCE, || (starts(&project).len() == 6).then_some(()));
    project.wait_state("a", "running");
}

#[test]
fn r03_every_way_to_end_under_every_policy() {
    let ways = [("exit 0", Some(0), None), ("exit 1", Some(1), None), ("kill -KILL $$$$", None, Some("SIGKILL"))];
    let policies = ["no", "on-failure", "always", "unless-stopped"];
    let mut text =
        "[defaults]\nbackoff = { initial = \"10ms\", max = \"20ms\" }\n[services.keep]\nrun = \"{svc:keep}\"\n".to_owned();
    for (way, (ends, _, _)) in ways.iter().enumerate() {
        for policy in policies {
            text.push_str(&format!(
                "[services.{policy}-{way}]\nrun = [\"sh\", \"a.sh\", \"{policy}-{way}\", \"{ends}\"]\nrestart = \"{policy}\"\n"
            ));
        }
    }
    let project = Project::new().procfile(&text);
    // The first incarnation ends as told; a second one stays.
    project.write(
        "a.sh",
        "echo start >> $1\n[ \"$(wc -l < $1)\" -gt 1 ] && exec sleep 1000\nwhile [ ! -e end ]; do sleep 0.05; done\neval \"$2\"\n",
    );
    project.run(&["up", "-d"]).code(0);
    project.write("end", "");
    for (way, (_, code, signal)) in ways.iter().enumerate() {
        for policy in policies {
            let name = format!("{policy}-{way}");
            let back = match policy {
                "no" => false,
                "on-failure" => *code != Some(0),
                _ => true,
            };
            if back {
                eventually(&name, PATIENCE, || (count(&project, &name) == 2).then_some(()));
                assert_eq!(project.wait_state(&name, "running")["restarts"], 1, "{name}");
            } else {
                let state = if *code == Some(0) { "completed" } else { "failed" };
                let shown = project.wait_state(&name, state);
                let wanted = (code.map_or(Value::Null, Value::from), signal.map_or(Value::Null, Value::from));
                assert_eq!((&shown["exit_code"], &shown["signal"]), (&wanted.0, &wanted.1), "{shown:#}");
                assert_eq!(count(&project, &name), 1, "{name}");
            }
        }
    }
}

#[test]
fn r04_rollback_leaves_nothing_and_names_the_cause() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        ready = { file = "never", within = "1s" }
        [services.b]
        run = "sh -c 'touch b-ran; exec sleep 1000'"
        depends_on = ["a"]
        [services.c]
        run = "sh -c 'touch c-ran; exec sleep 1000'"
        depends_on = ["b"]
        "#,
    );
    let up = project.run(&["up", "-d", "--rollback"]).code(3);
    assert!(up.last_line().contains('a'), "{up}");
    project.nothing_left();
    assert!(!project.path("b-ran").exists() && !project.path("c-ran").exists(), "never spawned");
    for name in ["b", "c"] {
        let shown = project.service(name);
        assert!(matches!(shown["state"].as_str(), Some("blocked" | "stopped")), "{shown:#}");
    }
}

/// Shows: dependency.condition, dependency.restart.
#[test]
fn r05_a_crash_leaves_dependents_alone_and_a_restart_takes_those_along_whose_edge_says_so() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a} --listen $PORT"
        port = "auto"
        ready = { tcp = true }
        restart = "always"
        backoff = { initial = "20ms" }
        [services.along]
        run = "{svc:along}"
        depends_on = { a = { condition = "healthy", restart = true } }
        [services.stays]
        run = "{svc:stays}"
        depends_on = ["a"]
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let pid = |name: &str| project.alive(name).first().map(|process| process.pid);
    let (a, along, stays) = (pid("a"), pid("along"), pid("stays"));
    signal(a.expect("a lives"), Signal::SIGKILL);
    eventually("a comes back", PATIENCE, || (pid("a").is_some() && pid("a") != a).then_some(()));
    eventually("its probe has to pass again", PATIENCE, || (project.service("a")["health"] == "healthy").then_some(()));
    // As compose has it, `restart = true` is about restarts that somebody asks for, and not about crashes.
    assert_eq!((pid("along"), pid("stays")), (along, stays));
    project.run(&["restart", "a"]).code(0);
    eventually("it goes along", PATIENCE, || (pid("along").is_some() && pid("along") != along).then_some(()));
    assert_eq!(pid("stays"), stays, "the other is left alone");
}

#[test]
fn r06_restarts_and_a_stop_while_it_waits_end_in_one_copy() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        ready = { file = "a-ready", start_interval = "20ms" }
        [services.b]
        run = "{svc:b}"
        depends_on = ["a"]
        "#,
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    project.wait_state("b", "waiting");
    // They wait for the start, which waits for `a`: not for their end here.
    let asked: Vec<_> = (0..3).map(|_| project.start(&["restart", "b"])).collect();
    project.wait_state("b", "waiting");
    // One of them may be slow to come and meet the stop already: then it is stopped again.
    eventually("b is stopped", PATIENCE, || {
        project.run(&["stop", "b"]).code(0);
        (project.service("b")["state"] == "stopped").then_some(())
    });
    let start = project.start(&["start", "b"]);
    project.wait_state("b", "waiting");
    assert!(project.alive("b").is_empty());
    project.write("a-ready", "");
    start.outcome().code(0);
    asked.into_iter().for_each(|run| drop(run.outcome()));
    project.wait_state("b", "running");
    assert_eq!(project.alive("b").len(), 1);
}

#[test]
fn r07_a_stop_ends_the_wait_for_a_restart_at_once() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"sh -c 'echo start >> starts; exit 1'\"\nrestart = \"always\"\nbackoff = { initial = \"2s\", max = \"2s\" }\n[services.b]\nrun = \"{svc:b}\"\n[services.c]\nrun = \"sh -c 'exit 1'\"\nrestart = \"always\"\nbackoff = { initial = \"5m\", max = \"5m\" }\n",
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    project.wait_state("c", "backing-off");
    project.run(&["stop", "c"]).code(0);
    project.wait_state("a", "backing-off");
    project.run(&["stop", "a"]).code(0);
    let before = count(&project, "starts");
    stays_equal_for("no later start", Duration::from_millis(2500), &before, || count(&project, "starts"));
}

#[test]
fn r08_generations_never_overlap() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh a.sh\"\nstop = { grace = \"20s\" }\n");
    // Each incarnation holds a folder; `overlap` is written by one that finds it held.
    project.write(
        "a.sh",
        "mkdir held 2>/dev/null || echo overlap >> overlap\ntrap 'sleep 1; rmdir held; exit 0' TERM\necho up >> ups\nwhile :; do sleep 0.05; done\n",
    );
    project.run(&["up", "-d"]).code(0);
    eventually("the first", PATIENCE, || (count(&project, "ups") == 1).then_some(()));
    let stop = project.start(&["stop", "a"]);
    project.wait_state("a", "stopping");
    project.run(&["start", "a"]).code(0);
    stop.outcome();
    eventually("the second", PATIENCE, || (count(&project, "ups") == 2).then_some(()));
    assert!(!project.path("overlap").exists());
    project.run(&["down"]).code(0);
    assert!(!project.path("held").exists(), "the second had its clean-up too");
}

#[test]
fn r09_a_hanging_probe_is_ended_with_its_children() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        ready = { cmd = "sh probe.sh", timeout = "300ms", start_interval = "50ms", within = "20m" }
        "#,
    );
    // Two of them at once would be seen; each has a child that ignores TERM.
    project.write(
        "probe.sh",
        "mkdir probing 2>/dev/null || echo twice >> twice\necho probe >> probes\nsh -c 'trap \"\" TERM; exec sleep 1000' {token} &\nsleep 1000\n"
            .replace("{token}", &project.fill("{token}-probe-"))
            .as_str(),
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    // Five minutes in `scripts/soak`.
    let begun = Instant::now();
    for probe in 1.. {
        if probe > 4 && (!long() || begun.elapsed() > Duration::from_secs(300)) {
            break;
        }
        eventually("the next probe", PATIENCE, || {
            // The folder of the one before is taken away once nothing of it lives.
            let all = crate::harness::processes_with(&project.fill("{token}-probe-"));
            assert!(all.len() <= 2, "{all:?}");
            let _held = std::fs::remove_dir(project.path("probing"));
            (count(&project, "probes") >= probe).then_some(())
        });
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn a_crash_loop_is_named_with_what_it_said_last() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"sh -c 'echo cannot open the spoon; exit 3'\"\nrestart = \"always\"\nbackoff = { initial = \"20ms\", max = \"20ms\" }\n[services.b]\nrun = \"{svc:b}\"\n",
    );
    let mut up = project.start(&["up"]);
    up.wait_for("crash loop: ended 5 times within a minute; its last line: cannot open the spoon");
    up.signal(Signal::SIGTERM);
    up.outcome().code(143);
    project.nothing_left();
}

#[test]
fn a_stop_by_hand_is_remembered_by_the_next_supervisor() {
    let project = Project::new()
        .procfile("[services.a]\nrun = \"{svc:a}\"\nrestart = \"unless-stopped\"\n[services.b]\nrun = \"{svc:b}\"\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["stop", "a"]).code(0);
    signal(project.supervisor(), Signal::SIGKILL);
    project.nothing_left_within(Duration::from_secs(15));
    project.run(&["up", "-d", "b"]).code(0);
    assert_eq!((project.alive("a").len(), project.alive("b").len()), (0, 1));
    assert_eq!(project.service("a")["state"], "stopped");
}
