//! `O…`: nothing is ever left running. What is alive is read from `/proc`, what a process did from files it wrote itself.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, long, signal};

/// As the cases' "5 mixed services": each notes signals in `marks`; `b` needs `a`.
const MIXED: &str = r#"
[defaults]
stop = { grace = "2s" }

[services.a]
run = "{svc:a} --mark {dir}/marks-a --done {dir}/done-a"
[services.b]
run = "{svc:b} --mark {dir}/marks-b --done {dir}/done-b"
depends_on = ["a"]
[services.tree]
run = "{svc:tree} --children 3 --mark {dir}/marks-tree"
[services.escape]
run = "{svc:escape} --setsid-escape --mark {dir}/marks-escape"
[services.deaf]
run = "{svc:deaf} --ignore-term"
"#;

fn up(text: &str) -> Project {
    let project = Project::new().procfile(text);
    project.write("talk.sh", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done\n");
    project.run(&["up", "-d"]).code(0);
    project
}

fn alive(project: &Project, name: &str, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = project.alive(name);
        if now.len() == count {
            return;
        }
        assert!(Instant::now() < deadline, "{count} of {name}: {now:?}\n{}", project.run(&["ps"]));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn o02_the_kill_comes_at_the_end_of_the_grace_and_not_before() {
    let project =
        up("[services.deaf]\nrun = \"{svc:deaf} --ignore-term --children 3 --mark {dir}/marks\"\nstop = { grace = \"1s\" }\n");
    alive(&project, "deaf", 4);
    let leader = project.service("deaf")["pid"].as_i64().expect("a pid");
    let begun = Instant::now();
    let down = project.start(&["down"]);
    eventually("the first TERM", PATIENCE, || project.read("marks").contains("leader 15").then_some(()));
    // Still there shortly before the grace ends …
    std::thread::sleep(Duration::from_millis(700).saturating_sub(begun.elapsed()));
    assert!(
        project.alive("deaf").iter().any(|process| i64::from(process.pid) == leader) || begun.elapsed() > Duration::from_secs(1)
    );
    // … and gone when `down` returns, which says whom it killed.
    down.outcome().code(0).says("deaf").says("killed");
    project.nothing_left();
}

#[test]
fn o04_an_escapee_gets_term_before_it_gets_kill() {
    let project = up("[services.a]\nrun = \"{svc:a} --setsid-escape --mark {dir}/marks\"\n");
    alive(&project, "a", 2);
    project.run(&["down"]).code(0);
    project.nothing_left();
    let marks = project.read("marks");
    assert!(marks.contains("leader 15") && marks.contains("escapee 15"), "{marks}");
    let position = |who: &str| marks.find(who).unwrap_or(usize::MAX);
    assert!(position("leader 15") < position("escapee 15"), "the leader first:\n{marks}");
}

#[test]
fn o05_a_killed_supervisor_leaves_nothing_and_everybody_cleans_up() {
    let project = up(MIXED);
    alive(&project, "tree", 4);
    alive(&project, "escape", 2);
    let begun = Instant::now();
    signal(project.supervisor(), Signal::SIGKILL);
    project.nothing_left_within(Duration::from_secs(10));
    let took = begun.elapsed();
    // Grace (2 s) and one second; some more for a busy machine.
    assert!(took < Duration::from_secs(5), "{took:?}");
    for name in ["a", "b"] {
        assert_eq!(project.read(&format!("done-{name}")), "leader done\n", "{name} did its clean-up");
    }
    assert_eq!(project.read("marks-tree").lines().count(), 4, "each of the tree got one signal: {}", project.read("marks-tree"));
    assert!(project.read("marks-escape").contains("escapee 15"));
    let time = |name: &str| fs::metadata(project.path(name)).and_then(|meta| meta.modified()).expect("it was written");
    assert!(time("done-b") <= time("marks-a"), "b had ended before a was asked");
}

#[test]
fn o06_an_escapee_without_environment_does_not_outlive_the_supervisor() {
    let project = up("[services.a]\nrun = \"{svc:a} --setsid-escape --clobber-env\"\n");
    alive(&project, "a", 2);
    signal(project.supervisor(), Signal::SIGKILL);
    project.nothing_left_within(Duration::from_secs(10));
}

#[test]
fn o07_an_escapee_without_descriptors_does_not_outlive_the_supervisor() {
    let project = up("[services.a]\nrun = \"{svc:a} --setsid-escape --close-fds\"\n");
    alive(&project, "a", 2);
    signal(project.supervisor(), Signal::SIGKILL);
    project.nothing_left_within(Duration::from_secs(10));
}

#[test]
fn o08_emergency_lists_each_pid_and_is_quick() {
    let project = up(MIXED);
    alive(&project, "tree", 4);
    alive(&project, "escape", 2);
    project.kill_both();
    let left: Vec<i32> = project.alive("").iter().map(|process| process.pid).collect();
    assert_eq!(left.len(), 9, "{left:?}");
    let down = project.run(&["down", "--emergency"]).code(0);
    project.nothing_left();
    for pid in left {
        assert!(down.stdout.contains(&format!("pid {pid} ")), "names {pid}\n{down}");
    }
    assert!(down.took < Duration::from_secs(4), "{down}");
}

#[test]
fn o08_emergency_ends_a_supervisor_that_is_stopped() {
    let project = up(MIXED);
    let supervisor = project.supervisor();
    signal(supervisor, Signal::SIGSTOP);
    let down = project.run(&["down", "--emergency"]).code(0);
    project.nothing_left();
    assert!(down.stdout.contains(&supervisor.to_string()), "names the supervisor\n{down}");
    // And nothing of it stands in the way.
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn o08_emergency_is_never_overtaken_by_a_restart() {
    let project = up(
        "[services.a]\nrun = \"{svc:a} --exit 1 --after 30\"\nrestart = \"always\"\nbackoff = { initial = \"1ms\", max = \"1ms\" }\n[services.b]\nrun = \"{svc:b}\"\n",
    );
    for _ in 0..3 {
        project.run(&["down", "--emergency"]).code(0);
        project.nothing_left();
        project.run(&["up", "-d", "--no-wait"]).code(0);
        alive(&project, "b", 1);
    }
    project.run(&["down", "--emergency"]).code(0);
    project.nothing_left();
}

#[test]
fn o09_leftovers_are_reported_and_ended_before_anything_starts() {
    let project = up(MIXED);
    alive(&project, "tree", 4);
    let old: Vec<i32> = project.alive("").iter().map(|process| process.pid).collect();
    project.kill_both();
    let up = project.run(&["up", "-d"]).code(0);
    let log = project.read(".devrun/logs/devrun.log");
    assert!(format!("{up}{log}").contains("earlier run"), "it is said\n{up}\n{log}");
    for pid in &old {
        assert!(!project.alive("").iter().any(|process| process.pid == *pid), "{pid} of the old run lives");
    }
    for (name, count) in [("a", 1), ("b", 1), ("tree", 4), ("escape", 2), ("deaf", 1)] {
        alive(&project, name, count);
    }
    // The old ones had their signal and their grace.
    assert!(project.read("marks-a").starts_with("leader 15"), "{}", project.read("marks-a"));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn o10_without_its_keeper_logs_go_on_codes_are_right_and_a_new_one_comes() {
    let project = up(r#"
        [services.talks]
        run = "sh talk.sh {token}"
        [services.ends]
        run = "sh -c 'while [ ! -e go ]; do sleep 0.05; done; exit 7' {token}"
        [services.new]
        run = "{svc:new}"
        profiles = ["later"]
        "#);
    let lines = || project.read(".devrun/logs/talks.log").lines().count();
    eventually("first lines", PATIENCE, || (lines() > 2).then_some(()));
    let (talks, old) = (project.service("talks")["pid"].clone(), project.keepers());
    signal(old[0].pid, Signal::SIGKILL);
    let killed = Instant::now();
    eventually("a new keeper", PATIENCE, || {
        let now = project.keepers();
        (now.len() == 1 && now[0].pid != old[0].pid).then_some(())
    });
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
    let before = lines();
    eventually("logs go on", PATIENCE, || (lines() > before + 3).then_some(()));
    assert_eq!(project.service("talks")["pid"], talks, "untouched");
    project.write("go", "");
    assert_eq!(project.wait_state("ends", "failed")["exit_code"], 7);
    project.run(&["--profile", "later", "up", "-d", "new"]).code(0);
    alive(&project, "new", 1);
    let log = project.read(".devrun/logs/talks.log");
    let numbers: Vec<u32> = log.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no line is lost or doubled: {log}");
    signal(project.supervisor(), Signal::SIGKILL);
    project.nothing_left_within(Duration::from_secs(15));
}

#[test]
fn o11_zombies_of_a_service_are_reaped() {
    // 500 in `scripts/soak`.
    let many = if long() { "500" } else { "150" };
    let text = "[services.z]\nrun = \"{svc:z} --zombies {many} --children 1\"\n[services.other]\nrun = \"sh -c 'sleep 1; exit 3' {token}\"\nrestart = \"no\"\n";
    let project = up(&text.replace("{many}", many));
    let keeper = project.keepers()[0].pid;
    let zombies = || {
        let mut count = 0;
        for entry in fs::read_dir("/proc").expect("/proc can be listed").flatten() {
            if let Ok(stat) = fs::read_to_string(entry.path().join("stat"))
                && let Some((_, fields)) = stat.rsplit_once(')')
            {
                let words: Vec<&str> = fields.split_whitespace().collect();
                if words.first() == Some(&"Z") && words.get(1).and_then(|ppid| ppid.parse().ok()) == Some(keeper) {
                    count += 1;
                }
            }
        }
        count
    };
    // A keeper that is not on a processor reaps nobody: what counts is that it never stays behind.
    let mut few = Instant::now();
    eventually("all of them made", Duration::from_secs(60), || {
        let now = zombies();
        if now <= 20 {
            few = Instant::now();
        }
        assert!(few.elapsed() < Duration::from_secs(1), "{now} zombies, and more than 20 for a second");
        project.read(".devrun/logs/z.log").contains("zombies done").then_some(())
    });
    eventually("none is left", PATIENCE, || (zombies() == 0).then_some(()));
    assert_eq!(project.wait_state("other", "failed")["exit_code"], 3);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: exit 125.
#[test]
fn a_panic_of_the_engine_leaves_nothing_and_tells_no_secret() {
    let secret = "s3cr3t-in-a-panic";
    let project = Project::new().procfile(MIXED).env("DEVRUN_FAILPOINT", secret);
    project.run(&["up", "-d", "--no-wait"]).code(0);
    project.nothing_left_within(Duration::from_secs(20));
    let log = project.read(".devrun/logs/devrun.log");
    assert!(log.contains("devrun failed at"), "{log}");
    assert!(!log.contains(secret), "{log}");
    let attached = project.run(&["up"]).code(125).says_not(secret);
    project.nothing_left();
    assert!(attached.stderr.contains("everything was stopped"), "{attached}");
}
