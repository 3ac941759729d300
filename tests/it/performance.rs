//! What can be asserted on any machine, however busy: wake-ups and what `analyze` adds up. Times are `scripts/bench`'s.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{Project, eventually};
use crate::waits::stays_equal_for;

/// Context switches of every thread, voluntary or not, by thread: whoever runs has switched, and whoever has not slept.
fn switches(pid: i32) -> BTreeMap<i32, u64> {
    let mut found = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        let sum = counts.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum();
        found.insert(tid, sum);
    }
    found
}

#[test]
fn a_hundred_services_without_probes_wake_nobody_for_thirty_seconds() {
    let services = (0..100).map(|number| format!("[services.s{number}]\nrun = [\"sleep\", \"100000\"]\n")).collect::<String>();
    let project = Project::new().procfile(&services);
    project.run(&["up", "-d"]).code(0);
    let (supervisor, keeper) = (project.supervisor(), project.keepers()[0].pid);
    let look = || (switches(supervisor), switches(keeper));
    // Threads that did blocking work while it started end when they have been idle for ten seconds; then it is steady.
    let mut before = look();
    let mut since = Instant::now();
    eventually("the start is over", Duration::from_secs(60), || {
        let now = look();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_secs(11)).then_some(())
    });
    stays_equal_for("no thread wakes, comes or goes while nothing happens", Duration::from_secs(30), &before, look);
    project.run(&["down"]).code(0);
}

/// Shows: analyze, analyze --json.
#[test]
fn analyze_finds_the_critical_path_and_the_open_port() {
    let project = Project::new().procfile(
        "[services.db]\nrun = \"{svc:db} --ready-after 300 --listen $PORT\"\nport = \"auto\"\nready = { tcp = true }\n\
         [services.side]\nrun = \"{svc:side}\"\n\
         [tasks.seed]\nrun = \"true\"\ndepends_on = [\"db\"]\n\
         [services.api]\nrun = \"{svc:api}\"\ndepends_on = [\"seed\"]\n",
    );
    assert!(project.run(&["analyze"]).code(0).stdout.contains("nothing was started yet"));
    project.run(&["up", "-d"]).code(0);
    let report = project.run(&["analyze", "--json"]).code(0).json();
    let path: Vec<&str> = report["critical_path"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
    assert_eq!(path, ["db", "seed", "api"], "{report:#}");
    let of =
        |name: &str| report["services"].as_array().and_then(|all| all.iter().find(|one| one["name"] == name)).expect("listed");
    let at = |name: &str, key: &str| of(name)[key].as_i64().unwrap_or_else(|| panic!("{name} has no {key}: {report:#}"));
    assert!(at("db", "listening_us") - at("db", "spawned_us") >= 250_000, "{report:#}");
    assert!(at("db", "ready_us") >= at("db", "listening_us"));
    assert!(at("api", "spawned_us") >= at("seed", "ready_us") && at("seed", "spawned_us") >= at("db", "ready_us"), "{report:#}");
    assert!(report["total_us"].as_i64() >= Some(at("api", "ready_us")) && report["added_us"].as_i64() > Some(0), "{report:#}");
    assert_eq!(of("side")["critical"], false);
    project.run(&["analyze"]).code(0).says("critical path: db → seed → api").says("LISTENING");
    project.run(&["down"]).code(0);
    // It reads files only.
    project.run(&["analyze"]).code(0).says("db → seed → api");
    project.nothing_left();
}
