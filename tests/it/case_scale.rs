//! `N…`: many services, many cycles, many kills. The full figures are `scripts/soak`'s; these are the same cases in short, with
//! bars for a machine that is busy with other things.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, figures, long, rounds, signal};
use crate::waits::let_time_pass;

fn status(pid: i32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |list| list.count())
}

/// Ticks of processor time of a process, its dead children not counted.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().filter_map(|word| word.parse().ok()).collect())
        .unwrap_or_default();
    // utime and stime, behind ten numbers (the state is none).
    fields.get(10).unwrap_or(&0) + fields.get(11).unwrap_or(&0)
}

#[test]
fn n01_many_flat_services() {
    let count = std::env::var("DEVRUN_SOAK_SERVICES").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let text: String = (0..count).map(|n| format!("[services.s{n}]\nrun = \"sleep 1000{n}\"\n")).collect();
    let project = Project::new().procfile(&text);
    let up = project.start(&["up", "-d"]).outcome_within(Duration::from_secs(120)).code(0);
    // 3 s for 100 and 25 s for 1000 on a quiet machine.
    assert!(up.took < Duration::from_millis(20_000 + 100 * count), "{:?} for {count}", up.took);
    let (supervisor, keeper) = (project.supervisor(), project.keepers()[0].pid);
    for (who, pid) in [("supervisor", supervisor), ("keeper", keeper)] {
        let open = descriptors(pid);
        assert!(open <= 6 * usize::try_from(count).expect("small") + 64, "{who}: {open} descriptors");
    }
    let memory = (status(supervisor, "VmRSS:") + status(keeper, "VmRSS:")) / 1024;
    // A debug binary is larger than the one that the figures are of.
    assert!(memory < 80 + count / 5, "{memory} MB");
    // What is done once, when a start is over, is no polling: one quiet look is enough.
    let seconds = 2;
    let idle = eventually("it is at rest", PATIENCE, || {
        let before = ticks(supervisor) + ticks(keeper);
        let_time_pass("the window in which ticks are counted", Duration::from_secs(seconds));
        let idle = ticks(supervisor) + ticks(keeper) - before;
        (idle <= 5 * seconds).then_some(idle)
    });
    let down = project.start(&["down"]).outcome_within(Duration::from_secs(60)).code(0);
    assert!(down.took < Duration::from_millis(20_000 + 100 * count), "{:?}", down.took);
    project.nothing_left();
    figures(&format!(
        "{count} services: up {:.1} s, down {:.1} s, {memory} MB, {idle} idle ticks in {seconds} s",
        up.took.as_secs_f64(),
        down.took.as_secs_f64()
    ));
}

#[test]
fn n02_fifty_tiers_in_order() {
    let text: String = (0..50)
        .map(|n| {
            let needs = if n == 0 { String::new() } else { format!("depends_on = [\"s{}\"]\n", n - 1) };
            format!("[services.s{n}]\nrun = \"sh -c 'echo {n} >> order; exec sleep 1000'\"\nready = {{ cmd = \"grep -qx {n} order\" }}\n{needs}")
        })
        .collect();
    let project = Project::new().procfile(&text);
    project.run(&["up", "-d"]).code(0);
    let order: String = (0..50).map(|n| format!("{n}\n")).collect();
    assert_eq!(project.read("order"), order);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn n02_a_fan_waits_for_its_root() {
    let mut text =
        "[services.root]\nrun = \"sh -c 'sleep 0.3; date +%s%N > root; exec sleep 1000'\"\nready = { file = \"root\" }\n"
            .to_owned();
    for n in 0..99 {
        text.push_str(&format!(
            "[services.s{n}]\nrun = \"sh -c 'date +%s%N > leaf{n}; exec sleep 1000'\"\ndepends_on = [\"root\"]\n"
        ));
    }
    let project = Project::new().procfile(&text);
    project.start(&["up", "-d"]).outcome_within(Duration::from_secs(90)).code(0);
    let time = |name: &str| project.read(name).trim().parse::<u128>().ok();
    for n in 0..99 {
        let leaf = eventually("it began", PATIENCE, || time(&format!("leaf{n}")));
        assert!(Some(leaf) > time("root"), "leaf {n}");
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn n03_cycles_leave_no_trace() {
    let project = Project::new().procfile("[services.a]\nrun = \"sleep 100012345\"\n[services.b]\nrun = \"{svc:b}\"\n");
    project.run(&["up", "-d"]).code(0);
    let (supervisor, keeper) = (project.supervisor(), project.keepers()[0].pid);
    let now = || {
        let groups = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap_or_default();
        (descriptors(supervisor), descriptors(keeper), status(supervisor, "VmRSS:"), groups.split_whitespace().count())
    };
    let cycle = || {
        project.run(&["stop", "a"]).code(0);
        project.run(&["start", "a"]).code(0);
    };
    (0..5).for_each(|_| cycle());
    let before = now();
    (0..rounds(20)).for_each(|_| cycle());
    let after = now();
    assert!(after.0 <= before.0 + 2 && after.1 <= before.1 + 2, "descriptors: {before:?} then {after:?}");
    assert!(after.2 < before.2 + 10 * 1024, "memory: {before:?} then {after:?}");
    assert_eq!(after.3, before.3, "children");
    let journal = fs::metadata(project.path(".devrun/journal")).expect("it is there").len();
    assert!(journal < 2 << 20, "{journal} bytes");
    figures(&format!(
        "{} cycles: descriptors, memory and children {before:?}, then {after:?}; journal {journal} bytes",
        rounds(20)
    ));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn n04_a_storm_of_crashes_costs_little() {
    let text: String = (0..50)
        .map(|n| {
            format!(
                "[services.s{n}]\nrun = \"false {n}\"\nrestart = \"always\"\nbackoff = {{ initial = \"500ms\", max = \"2s\" }}\n"
            )
        })
        .chain(["[services.keep]\nrun = \"{svc:keep}\"\n".to_owned()])
        .collect();
    let project = Project::new().procfile(&text);
    project.run(&["up", "-d", "--no-wait"]).code(0);
    project.wait_state("s0", "backing-off");
    let supervisor = project.supervisor();
    let (before, begun) = (ticks(supervisor), Instant::now());
    let_time_pass("the window in which ticks are counted", Duration::from_secs(if long() { 60 } else { 3 }));
    let used = Duration::from_millis(10 * (ticks(supervisor) - before));
    // Half a core for the release; a debug binary costs several times as much.
    assert!(used < begun.elapsed(), "{used:?} in {:?}", begun.elapsed());
    let down = project.run(&["down"]).code(0);
    assert!(down.took < Duration::from_secs(60), "{down}");
    project.nothing_left();
}

#[test]
fn n05_killed_at_any_moment_the_next_start_is_clean() {
    let project = Project::new().procfile(
        r#"
        [defaults]
        stop = { grace = "1s" }
        [volumes]
        work = { class = "persistent" }
        [services.web]
        run = "{svc:web} --listen $PORT --ready-after 200"
        port = "auto"
        ready = { http = "/" }
        pre_start = "sleep 0.1"
        [services.tree]
        run = "{svc:tree} --children 3"
        [services.daemon]
        run = "{svc:daemon} --setsid-escape --clobber-env"
        [services.closed]
        run = "{svc:closed} --setsid-escape --close-fds"
        depends_on = ["web"]
        [services.deaf]
        run = "{svc:deaf} --ignore-term"
        [tasks.seed]
        run = "sh -c 'sleep 0.2; echo ran >> seeds'"
        once = "work/.seeded"
        idempotent = true
        depends_on = ["web"]
        [services.last]
        run = "{svc:last}"
        depends_on = ["seed"]
        "#,
    );
    let mut seed = 0x2545_f491_u64;
    for round in 0..rounds(8) {
        let up = project.start(&["up", "-d"]);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let_time_pass("the moment of the kill is what is varied", Duration::from_millis((seed >> 33) % 1500));
        let stopping = (round % 4 == 3).then(|| project.start(&["down"]));
        // Nobody before it is there and after it has gone.
        for pid in project.supervisors() {
            signal(pid, Signal::SIGKILL);
        }
        drop(up.outcome());
        drop(stopping.map(crate::harness::Running::outcome));
        if project.supervisors().is_empty() {
            project.nothing_left_within(Duration::from_secs(20));
        }
        let next = project.run(&["up", "-d"]);
        assert_eq!(next.code, Some(0), "round {round}: {next}");
        for (name, count) in [("web", 1), ("tree", 4), ("daemon", 2), ("closed", 2), ("deaf", 1), ("last", 1)] {
            eventually(name, PATIENCE, || (project.alive(name).len() == count).then_some(()));
        }
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}
