//! `O…`: nothing is ever left running. What is alive is read from `/proc`, what a process did from files it wrote itself.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, ZombieAges, eventually, figures, is_root, long, signal, skipped};
use crate::waits::{stays_true_for, within};

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
    let mut now = Vec::new();
    let seen = within(PATIENCE, || {
        now = project.alive(name);
        (now.len() == count).then_some(())
    });
    assert!(seen.is_some(), "{count} of {name}: {now:?}\n{}", project.run(&["ps"]));
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
    stays_true_for("it lives during its grace", Duration::from_millis(700).saturating_sub(begun.elapsed()), || {
        let alive = project.alive("deaf").iter().any(|process| i64::from(process.pid) == leader);
        alive || begun.elapsed() > Duration::from_secs(1)
    });
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
    // Grace is 2 s; not the 10 s of the default, whatever else the machine does.
    assert!(took < Duration::from_secs(9), "{took:?}");
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

/// Nothing ties the escapee to the stack but that it became a child of the supervisor when its keeper ended.
#[test]
fn o07_an_escapee_with_nothing_left_of_a_lost_keeper_does_not_outlive_a_down() {
    for lose in [Signal::SIGKILL, Signal::SIGSTOP] {
        let text = "[services.a]\nrun = \"{svc:a} --setsid-escape --clobber-env --close-fds\"\n";
        let project = Project::new().env("DEVRUN_NO_CGROUP", "1").procfile(text);
        project.run(&["up", "-d"]).code(0);
        alive(&project, "a", 2);
        let keeper = project.keepers()[0].pid;
        signal(keeper, lose);
        if lose == Signal::SIGKILL {
            let another = || project.keepers().first().is_some_and(|now| now.pid != keeper).then_some(());
            eventually("another keeper", PATIENCE, another);
            alive(&project, "a", 2);
        }
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
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
    assert!(down.took < Duration::from_secs(30), "{down}");
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
    let project = Project::new().procfile(
        "[services.a]\nrun = \"{svc:a} --exit 1 --after 30\"\nrestart = \"always\"\nbackoff = { initial = \"1ms\", max = \"1ms\" }\n[services.b]\nrun = \"{svc:b}\"\n",
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    alive(&project, "b", 1);
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
    eventually("a new keeper", PATIENCE, || {
        let now = project.keepers();
        (now.len() == 1 && now[0].pid != old[0].pid).then_some(())
    });
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
    // As fast as they can be made, beside twice as many busy loops as there are processors. In `scripts/soak` there are 500
    // more, in the course of a minute. `other` is started again and again beside them, as exits that are reported must not
    // drown in those that nobody asks for.
    let busy = 2 * std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    let project = up(&r#"
        [services.z]
        run = "{svc:z} --zombies 500 --zombie-ms 0 --children 1"
        [services.slow]
        run = "{svc:slow} --zombies {more} --zombie-ms 115"
        [services.busy]
        run = "sh -c 'while :; do :; done' {token}"
        replicas = {busy}
        [services.other]
        run = "sh -c 'echo begun >> begun; sleep 0.2; exit 3' {token}"
        restart = "on-failure:3"
        backoff = { initial = "50ms", max = "50ms" }
        "#
    .replace("{busy}", &busy.to_string())
    .replace("{more}", if long() { "500" } else { "1" }));
    let mut zombies = ZombieAges::of(&[project.keepers()[0].pid, project.supervisor()]);
    eventually("all of them made", Duration::from_secs(300), || {
        zombies.look();
        let done = |name: &str| project.read(&format!(".devrun/logs/{name}.log")).contains("zombies done");
        (done("z") && done("slow")).then_some(())
    });
    eventually("none is left", PATIENCE, || (zombies.look() == 0).then_some(()));
    figures(&format!("no zombie seen for longer than {} ms", zombies.oldest().as_millis()));
    let other = project.wait_state("other", "failed");
    assert_eq!((&other["exit_code"], count_lines(&project, "begun")), (&serde_json::json!(3), 4), "{other:#}");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

fn count_lines(project: &Project, file: &str) -> usize {
    project.read(file).lines().count()
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

/// Neither the keeper nor a service has another priority than the caller.
#[test]
fn a_service_has_the_priority_that_devrun_was_started_with() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run_in_shell("exec nice -n 5 \"$0\" up -d").code(0);
    // Fields 19 and 41 of proc_pid_stat(5): the nice value and the scheduling policy.
    let priority = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<i64> = stat
            .rsplit_once(')')
            .map_or("", |(_, fields)| fields)
            .split_whitespace()
            .skip(1)
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        (fields[15], fields[37])
    };
    // `nice` adds to what this test has.
    let own = priority(std::process::id().cast_signed());
    for pid in [project.alive("a")[0].pid, project.keepers()[0].pid, project.supervisor()] {
        assert_eq!(priority(pid), ((own.0 + 5).min(19), own.1), "{pid}");
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A folder of a run whose journal is lost is known to nobody; the end of another run finds it.
#[test]
fn an_abandoned_cgroup_is_taken_away_and_one_in_use_is_not() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let Some(mount) = mount.filter(|_| is_root() && std::env::var_os("DEVRUN_NO_CGROUP").is_none()) else {
        return skipped("needs root and a cgroup2 that it may write");
    };
    let folder = |name: &str| std::path::PathBuf::from(format!("{mount}/{name}"));
    let number = format!("{:024x}", std::process::id());
    let names = ["aaaaaaaa", "bbbbbbbb", "cccccccc"].map(|end| folder(&format!("devrun-{number}{end}")));
    let stranger = folder(&format!("devrunner-{number}"));
    let [abandoned, locked, populated] = &names;
    // Locked before it can be seen empty by the runs of other tests.
    let begin = |folder: &std::path::Path| {
        fs::create_dir(folder).and_then(|()| fs::File::open(folder)).and_then(|file| file.lock_shared().map(|()| file))
    };
    let Ok(lock) = begin(locked) else { return skipped("needs root and a cgroup2 that it may write") };
    let passing = begin(populated).expect("as the one before");
    let mut inhabitant = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep runs");
    fs::write(populated.join("cgroup.procs"), inhabitant.id().to_string()).expect("root may move its child");
    drop(passing);
    fs::create_dir(&stranger).expect("as the ones before");
    fs::create_dir_all(abandoned.join("api.1.1")).expect("as the ones before");
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
    let gone =
        std::panic::catch_unwind(|| eventually("the abandoned one is gone", PATIENCE, || (!abandoned.exists()).then_some(())));
    let stay = [locked, populated, &stranger].map(|folder| folder.exists());
    inhabitant.kill().and_then(|()| inhabitant.wait()).expect("our own child");
    drop(lock);
    for folder in [locked, populated, &stranger] {
        eventually("it can be removed", PATIENCE, || (fs::remove_dir(folder).is_ok() || !folder.exists()).then_some(()));
    }
    assert!(gone.is_ok());
    assert_eq!(stay, [true; 3], "locked, populated, and of another name");
}

/// A supervisor that is killed between its word and our call is not waited for.
#[test]
fn a_client_sees_that_its_supervisor_was_killed() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    let up = project.start(&["up", "-d"]);
    let client = up.pid();
    // Held as soon as there is a supervisor; whether it got as far as its call or not, it must not wait for a dead one.
    let supervisor = eventually("the supervisor", PATIENCE, || {
        let list = fs::read_to_string(format!("/proc/{client}/task/{client}/children")).unwrap_or_default();
        list.split_whitespace().next().and_then(|pid| pid.parse::<i32>().ok())
    });
    signal(client, Signal::SIGSTOP);
    eventually("the answer", PATIENCE, || {
        // With its answer it lets go of the pipe, which only root can see.
        let answered = fs::read_link(format!("/proc/{supervisor}/fd/1")).is_ok_and(|target| target.ends_with("null"));
        (answered || !is_root() && !project.keepers().is_empty()).then_some(())
    });
    signal(supervisor, Signal::SIGKILL);
    eventually("the keeper's end", PATIENCE, || project.leftovers().iter().all(|process| process.pid == client).then_some(()));
    signal(client, Signal::SIGCONT);
    let begun = Instant::now();
    let up = up.outcome();
    assert!(begun.elapsed() < Duration::from_secs(9), "it waited\n{up}");
    // Where it had just begun to ask, it was in the middle of the start.
    assert!(matches!(up.code, Some(6 | 125)), "{up}");
    up.says("the supervisor").says("help: ");
    project.nothing_left();
}
