//! The promise of the project: whatever ends devrun, nothing of the stack is left, and it is found by looking at the
//! system. Case numbers (`O02`, `S01`, …) are those of `docs/reliability.md`.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, long, processes_with, signal};

/// Services that make stopping hard, one each.
const MIXED: &str = r#"
[defaults]
stop = { grace = "1s" }

[services.plain]
run = "{svc:plain} --children 3"

[services.escape]
run = "{svc:escape} --setsid-escape"

[services.clobber]
run = "{svc:clobber} --setsid-escape --clobber-env"

[services.closed]
run = "{svc:closed} --setsid-escape --close-fds"

[services.deaf]
run = "{svc:deaf} --ignore-term --children 2"
depends_on = ["plain"]
"#;

/// The graces of `MIXED` one after the other (two edges), and a second for a busy machine.
const GRACES: Duration = Duration::from_secs(6);

/// Every process of `MIXED`, its last grandchild too: what forks it first has ended by then.
fn all_there(project: &Project) {
    for (name, count) in [("plain", 4), ("escape", 2), ("clobber", 2), ("closed", 2), ("deaf", 3)] {
        eventually(name, PATIENCE, || (project.alive(name).len() == count).then_some(()));
    }
}

#[test]
fn o01_down_takes_every_child_with_it() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a} --children 5\"\n");
    project.run(&["up", "-d"]).code(0);
    eventually("six processes", PATIENCE, || (project.alive("a").len() == 6).then_some(()));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: stop.grace.
#[test]
fn o02_what_ignores_term_is_killed_at_the_end_of_its_grace_and_named() {
    let project =
        Project::new().procfile("[services.deaf]\nrun = \"{svc:deaf} --ignore-term --children 3\"\nstop = { grace = \"1s\" }\n");
    project.run(&["up", "-d"]).code(0);
    eventually("four processes", PATIENCE, || (project.alive("deaf").len() == 4).then_some(()));
    let down = project.run(&["down"]).code(0).says("deaf").says("killed");
    project.nothing_left();
    assert!(down.took >= Duration::from_millis(950), "it had its grace\n{down}");
}

#[test]
fn o03_a_child_that_needs_longer_than_its_leader_gets_the_grace() {
    let project = Project::new().procfile(
        r#"
        [services.worker]
        run = "sh leader.sh {token}"
        stop = { grace = "10s" }
        "#,
    );
    // The leader ends at once; the job gets TERM only then, and finishes what it does.
    project.write("leader.sh", "sh job.sh {token} & trap 'exit 0' TERM; wait\n");
    project.write("job.sh", "trap 'sleep 1; echo complete > job; exit 0' TERM; touch job-ready; while :; do sleep 0.1; done\n");
    project.run(&["up", "-d"]).code(0);
    eventually("the job runs", PATIENCE, || project.path("job-ready").exists().then_some(()));
    project.run(&["down"]).code(0);
    assert_eq!(project.read("job"), "complete\n");
    project.nothing_left();
}

#[test]
fn o04_escapees_of_every_kind_are_gone_after_down() {
    let project = Project::new().procfile(MIXED);
    project.run(&["up", "-d"]).code(0);
    all_there(&project);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn o05_the_keeper_stops_everything_when_the_supervisor_is_killed() {
    let project = Project::new().procfile(MIXED);
    project.run(&["up", "-d"]).code(0);
    all_there(&project);
    signal(project.supervisor(), Signal::SIGKILL);
    project.nothing_left_within(GRACES);
    assert_eq!(project.ps()["supervisor_pid"], serde_json::Value::Null);
    // And nothing stands in the way of the next start.
    project.run(&["up", "-d"]).code(0);
    all_there(&project);
}

#[test]
fn o05_the_keeper_keeps_the_reverse_order() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "sh notes.sh a"
        ready = { cmd = "grep -q 'start a' order" }
        [services.b]
        run = "sh notes.sh b"
        ready = { cmd = "grep -q 'start b' order" }
        depends_on = ["a"]
        "#,
    );
    // A second before it ends: an order that is only luck shows.
    project.write(
        "notes.sh",
        "echo \"start $1\" >> order; trap 'sleep 0.5; echo \"stop $1\" >> order; exit 0' TERM\nwhile :; do sleep 0.1; done\n",
    );
    project.run(&["up", "-d"]).code(0);
    signal(project.supervisor(), Signal::SIGKILL);
    project.nothing_left_within(Duration::from_secs(15));
    assert_eq!(project.read("order"), "start a\nstart b\nstop b\nstop a\n");
}

/// Shows: down --emergency.
#[test]
fn o08_emergency_cleans_up_when_both_were_killed() {
    let project = Project::new().procfile(MIXED);
    project.run(&["up", "-d"]).code(0);
    all_there(&project);
    let pids: Vec<i32> = project.alive("plain").iter().map(|process| process.pid).collect();
    project.kill_both();
    assert!(!project.alive("").is_empty(), "the services outlive both");
    let down = project.run(&["down", "--emergency"]).code(0);
    project.nothing_left();
    for pid in pids {
        assert!(down.stdout.contains(&pid.to_string()) || down.stderr.contains(&pid.to_string()), "names {pid}\n{down}");
    }
}

#[test]
fn o09_the_next_up_ends_what_both_left_and_starts_one_of_each() {
    let project = Project::new().procfile(MIXED);
    project.run(&["up", "-d"]).code(0);
    all_there(&project);
    let before: Vec<i32> = project.alive("").iter().map(|process| process.pid).collect();
    project.kill_both();
    project.run(&["up", "-d"]).code(0);
    all_there(&project);
    let now = project.alive("");
    assert!(now.iter().all(|process| !before.contains(&process.pid)), "none of the old ones: {now:?}");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn o10_a_killed_keeper_is_replaced_and_the_services_do_not_notice() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        [services.late]
        run = "{svc:late}"
        profiles = ["late"]
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let a = project.alive("a");
    let old = project.keepers();
    signal(old[0].pid, Signal::SIGKILL);
    eventually("a new keeper", Duration::from_secs(10), || {
        let now = project.keepers();
        (now.len() == 1 && now[0].pid != old[0].pid).then_some(())
    });
    assert_eq!(project.alive("a"), a, "untouched");
    project.run(&["--profile", "late", "up", "-d"]).code(0);
    assert_eq!(project.alive("late").len(), 1, "new spawns work");
    // The exit of one that the dead keeper had started is still seen.
    signal(a[0].pid, Signal::SIGKILL);
    assert_eq!(project.wait_state("a", "failed")["signal"], "SIGKILL");
    signal(project.supervisor(), Signal::SIGKILL);
    project.nothing_left_within(Duration::from_secs(15));
}

#[test]
fn o14_a_procfile_that_no_longer_parses_stops_no_one_from_stopping() {
    for args in [&["down"][..], &["down", "--emergency"]] {
        let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
        project.run(&["up", "-d"]).code(0);
        project.rewrite("[services.a\nrun = ");
        project.run(args).code(0);
        project.nothing_left();
    }
}

#[test]
fn o15_emergency_is_quick_with_many() {
    let mut text = "[project]\nname = \"many\"\n".to_owned();
    let many = if long() { 100 } else { 40 };
    for index in 0..many {
        text.push_str(&format!("[services.s{index}]\nrun = \"{{svc:s{index}}} --ignore-term\"\n"));
    }
    let project = Project::new().procfile(&text);
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.alive("").len(), many);
    let down = project.run(&["down", "--emergency"]).code(0);
    project.nothing_left();
    // The bar for a quiet machine is 2 s for 100; this one may be busy.
    assert!(down.took < Duration::from_secs(10), "{down}");
    crate::harness::figures(&format!("{many} services ended in {:.2} s", down.took.as_secs_f64()));
}

/// Shows: exit 130.
#[test]
fn s01_ctrl_c_stops_in_order_and_each_service_gets_one_term() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "sh notes.sh a"
        ready = { cmd = "grep -q 'start a' order" }
        [services.b]
        run = "sh notes.sh b"
        ready = { cmd = "grep -q 'start b' order" }
        depends_on = ["a"]
        "#,
    );
    project.write(
        "notes.sh",
        "echo \"start $1\" >> order\ntrap 'echo \"int $1\" >> order' INT\ntrap 'echo \"term $1\" >> order; sleep 0.3; exit 0' TERM\nwhile :; do sleep 0.1; done\n",
    );
    let mut terminal = project.terminal(&["up"]);
    project.wait_state("b", "running");
    terminal.interrupt();
    terminal.outcome().code(130);
    project.nothing_left();
    assert_eq!(project.read("order"), "start a\nstart b\nterm b\nterm a\n");
}

#[test]
fn s02_a_second_ctrl_c_kills_at_once() {
    let project =
        Project::new().procfile("[services.deaf]\nrun = \"{svc:deaf} --ignore-term --children 2\"\nstop = { grace = \"60s\" }\n");
    let mut terminal = project.terminal(&["up"]);
    project.wait_state("deaf", "running");
    terminal.interrupt();
    project.wait_state("deaf", "stopping");
    assert!(!project.alive("deaf").is_empty(), "the grace is a minute");
    let second = Instant::now();
    terminal.interrupt();
    terminal.outcome().code(130);
    project.nothing_left();
    assert!(second.elapsed() < Duration::from_secs(10), "after {:?}", second.elapsed());
}

/// Shows: exit 129.
#[test]
fn s03_a_closed_terminal_is_a_graceful_stop() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh notes.sh\"\n");
    project.write("notes.sh", "trap 'echo clean > ended; exit 0' TERM\nwhile :; do echo line; sleep 0.05; done\n");
    let terminal = project.terminal(&["up"]);
    project.wait_state("a", "running");
    let ended = terminal.hang_up().code(129);
    project.nothing_left();
    assert_eq!(project.read("ended"), "clean\n", "{ended}");
}

/// The kernel sends HUP when a terminal is closed, and many a shell does too. The second one is not a request to hurry.
#[test]
fn s03_two_hang_ups_are_one_graceful_stop() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh notes.sh\"\n");
    project.write("notes.sh", "trap 'touch asked; until [ -e go ]; do sleep 0.05; done; echo clean > ended; exit 0' TERM\n: > up\nwhile :; do sleep 0.05; done\n");
    let running = project.start(&["up"]);
    eventually("it runs", PATIENCE, || project.path("up").exists().then_some(()));
    running.signal(Signal::SIGHUP);
    eventually("it is asked to stop", PATIENCE, || project.path("asked").exists().then_some(()));
    running.signal(Signal::SIGHUP);
    // The second one is taken before this is answered.
    drop(project.run(&["ps"]));
    project.write("go", "");
    let ended = running.outcome().code(129);
    project.nothing_left();
    assert_eq!(project.read("ended"), "clean\n", "{ended}");
}

#[test]
fn s04_a_reader_that_goes_away_ends_nothing_by_itself() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh -c 'while :; do echo line; sleep 0.05; done'\"\n");
    let mut running = project.start(&["up"]);
    running.wait_for("line");
    running.close_stdout();
    project.wait_state("a", "running");
    running.signal(Signal::SIGTERM);
    let ended = running.outcome().code(143);
    assert!(!ended.stderr.contains("panicked"), "{ended}");
    project.nothing_left();
}

#[test]
fn s06_a_service_gets_no_signal_dispositions_of_ours() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    // HUP ignored, as under nohup.
    let started = project.run_in_shell("trap '' HUP PIPE; exec \"$0\" up -d");
    started.code(0);
    let pid = project.alive("a")[0].pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    for field in ["SigBlk:", "SigIgn:"] {
        let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel tells");
        let mask = u64::from_str_radix(line[field.len()..].trim(), 16).expect("a mask");
        // The fixture's own runtime ignores PIPE, and the C library keeps signals 32 and 33 to itself.
        let theirs = 1_u64 << (libc::SIGPIPE - 1) | 1 << 31 | 1 << 32;
        assert_eq!(mask & !theirs, 0, "{line}");
    }
}

#[test]
fn s07_ctrl_c_during_the_start_unwinds_it() {
    let project = Project::new().procfile(
        r#"
        [services.slow]
        run = "{svc:slow}"
        ready = { file = "never-there" }
        [services.next]
        run = "{svc:next}"
        depends_on = ["slow"]
        "#,
    );
    let mut terminal = project.terminal(&["up"]);
    project.wait_state("slow", "starting");
    terminal.interrupt();
    terminal.outcome().code(130);
    project.nothing_left();
    assert!(!project.path(".devrun/logs/next.log").exists() || project.read(".devrun/logs/next.log").is_empty());
}

/// Shows: exit 143.
#[test]
fn term_to_an_attached_up_stops_the_stack() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a} --children 2\"\n");
    let running = project.start(&["up"]);
    project.wait_state("a", "running");
    running.signal(Signal::SIGTERM);
    running.outcome().code(143);
    project.nothing_left();
}

#[test]
fn ctrl_c_only_detaches_from_a_stack_that_was_up_already() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh -c 'while :; do echo {token}; sleep 0.1; done'\"\n");
    project.run(&["up", "-d"]).code(0);
    let a = project.service("a")["pid"].clone();
    let mut terminal = project.terminal(&["up"]);
    // A line of the service shows that it follows the logs by now.
    terminal.wait_for(&project.fill("{token}"));
    terminal.interrupt();
    let ended = terminal.outcome();
    assert!(matches!(ended.code, Some(0 | 130)), "{ended}");
    let after = project.service("a");
    assert_eq!((&after["pid"], &after["state"]), (&a, &"running".into()), "still there");
}

#[test]
fn p01_a_bystander_named_in_the_journal_lives() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    let recorded = project.alive("a")[0].pid;
    project.kill_both();

    // A bystander with a marker of ours that is not this project's; the journal's pid is replaced by the bystander's.
    let bystander = std::process::Command::new("sleep").arg("1000").spawn().map(Guard).expect("sleep runs");
    let journal = project.path(".devrun/journal");
    let text = std::fs::read_to_string(&journal).expect("the journal is text");
    let forged = text.replace(&format!(":{recorded}"), &format!(":{}", bystander.0.id()));
    std::fs::write(&journal, forged).expect("our own file");
    signal(recorded, Signal::SIGKILL);

    project.run(&["down", "--emergency"]).code(0);
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    let pid = i32::try_from(bystander.0.id()).expect("a pid");
    assert!(processes_with("sleep 1000").iter().any(|process| process.pid == pid), "the bystander lives");
}

/// A child of the test that ends with the test.
struct Guard(std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The stop wins; what is asked for meanwhile has not failed, it came too late.
#[test]
fn a_restart_during_a_down_says_that_the_stack_is_being_stopped() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh notes.sh\"\nstop = { grace = \"60s\" }\n");
    project.write("notes.sh", "trap 'until [ -e go ]; do sleep 0.05; done; exit 0' TERM\n: > up\nwhile :; do sleep 0.05; done\n");
    project.run(&["up", "-d"]).code(0);
    eventually("the trap", PATIENCE, || project.path("up").exists().then_some(()));
    let down = project.start(&["down"]);
    project.wait_state("a", "stopping");
    for verb in ["restart", "start"] {
        let outcome = project.run(&[verb, "a"]).code(6);
        drop(outcome.says("error: the stack is being stopped").says("devrun up -d").says_not("a service failed"));
    }
    project.write("go", "");
    down.outcome().code(0);
    project.nothing_left();
}
