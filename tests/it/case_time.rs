//! `T…`: clocks and limits of the system.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, figures, is_root, long, signal, skipped};
use crate::waits::{let_time_pass, stays_equal_for};

/// Asks whoever owns this machine's wall clock to set it by so many seconds, and waits until it was done.
fn jump(requests: &Path, seconds: i64) {
    let (asked, new) = (requests.join("jump"), requests.join("new"));
    std::fs::write(&new, seconds.to_string()).and_then(|()| std::fs::rename(&new, &asked)).expect("the folder is open to us");
    let before = SystemTime::now();
    eventually("the clock is set", PATIENCE, || (!asked.exists()).then_some(()));
    let moved = SystemTime::now().duration_since(before).map_or(-1, |later| i64::try_from(later.as_secs()).unwrap_or(0));
    assert!(moved.signum() == seconds.signum() && (seconds < 0 || moved >= seconds - 5), "it moved by {moved} s");
}

#[test]
fn t01_the_wall_clock_jumps_and_nothing_is_early_or_late() {
    let Some(requests) = std::env::var_os("DEVRUN_TEST_CLOCK").map(PathBuf::from) else {
        return skipped("the wall clock of this machine is not ours to set; `scripts/soak-clock` runs it in a virtual machine");
    };
    // A machine that is emulated is slow, but not by an hour.
    const SLOW: Duration = Duration::from_secs(45);
    for hour in [3600, -3600] {
        let project = Project::new().procfile(
            r#"
            [services.slow]
            run = "{svc:slow}"
            ready = { file = "never", within = "5s" }
            [services.crash]
            run = "sh -c 'cut -d. -f1 /proc/uptime >> starts; exit 1'"
            restart = "always"
            backoff = { initial = "4s", max = "4s" }
            [services.web]
            run = "{svc:web} --listen $PORT"
            port = "auto"
            ready = { http = "/", interval = "200ms", timeout = "1s", retries = 2 }
            alive = { http = "/", interval = "200ms", timeout = "1s", retries = 2 }
            on_unhealthy = "restart"
            restart = "always"
            [services.deaf]
            run = "{svc:deaf} --ignore-term"
            stop = { grace = "4s" }
            "#,
        );
        let begun = Instant::now();
        project.run(&["up", "-d", "--no-wait"]).code(0);
        eventually("it is healthy", PATIENCE, || (project.service("web")["health"] == "healthy").then_some(()));
        let web = project.alive("web");
        // In the middle of the wait for readiness and of the wait before a restart.
        jump(&requests, hour);
        project.wait_state("slow", "failed");
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(4800) && took < SLOW, "{hour}: failed after {took:?}");
        eventually("the third start", PATIENCE, || (project.read("starts").lines().count() >= 3).then_some(()));
        let starts: Vec<i64> = project.read("starts").lines().map(|line| line.parse().expect("seconds")).collect();
        // Jitter, seconds that are cut, and a slow machine.
        assert!(starts.windows(2).all(|pair| (2..=30).contains(&(pair[1] - pair[0]))), "{hour}: {starts:?}");
        assert_eq!(project.alive("web"), web, "{hour}: not restarted");
        let now = project.service("web");
        assert_eq!((&now["health"], &now["restarts"]), (&"healthy".into(), &0.into()), "{hour}: {now:#}");
        // And in the middle of a grace, back to where it was.
        let down = project.start(&["down"]);
        eventually("its grace has begun", PATIENCE, || project.alive("web").is_empty().then_some(()));
        jump(&requests, -hour);
        let down = down.outcome().code(0);
        assert!(down.took > Duration::from_millis(3800) && down.took < SLOW, "{hour}: {down}");
        project.nothing_left();
    }
    figures("the clock set by an hour, forth and back, in a virtual machine of its own");
}

#[test]
fn t02_a_held_supervisor_calls_nobody_unhealthy() {
    let project = Project::new().procfile(
        r#"
        [services.web]
        run = "{svc:web} --listen $PORT"
        port = "auto"
        ready = { http = "/", interval = "200ms", timeout = "400ms", retries = 1 }
        alive = { http = "/", interval = "200ms", timeout = "400ms", retries = 1 }
        on_unhealthy = "restart"
        restart = "always"
        [services.slow]
        run = "{svc:slow}"
        ready = { file = "never", within = "4s" }
        "#,
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    eventually("it is healthy", PATIENCE, || (project.service("web")["health"] == "healthy").then_some(()));
    let (supervisor, web) = (project.supervisor(), project.alive("web"));
    signal(supervisor, Signal::SIGSTOP);
    // 30 s in `scripts/soak`.
    let_time_pass("longer than every time-out above", Duration::from_secs(if long() { 30 } else { 5 }));
    signal(supervisor, Signal::SIGCONT);
    assert_eq!(project.service("slow")["state"], "starting", "its time stood still");
    stays_equal_for("it is not restarted", Duration::from_millis(1500), &web, || project.alive("web"));
    let now = project.service("web");
    assert_eq!((&now["health"], &now["restarts"]), (&"healthy".into(), &0.into()), "{now:#}");
    // The time-out goes on from where it was.
    assert_eq!(project.wait_state("slow", "failed")["state"], "failed");
    project.run(&["down"]).code(0);
}

fn forty(project: Project) -> Project {
    let mut text = String::new();
    for index in 0..40 {
        text.push_str(&format!("[services.s{index}]\nrun = \"{{svc:s{index}}}\"\n"));
    }
    project.procfile(&text)
}

#[test]
fn t03_a_low_soft_limit_of_files_is_raised() {
    let project = forty(Project::new());
    project.run_in_shell("ulimit -Sn 64; exec \"$0\" up -d").code(0);
    assert_eq!(project.alive("").len(), 40);
    // The services have what we were started with.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", project.alive("s0")[0].pid)).expect("it lives");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the kernel tells");
    assert_eq!(line.split_whitespace().nth(3), Some("64"), "{line}");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn t03_a_low_hard_limit_of_files_is_told_and_nothing_hangs() {
    let project = forty(Project::new());
    let up = project.start_in_shell("ulimit -n 64; exec \"$0\" up -d").outcome_within(Duration::from_secs(60));
    assert_ne!(up.code, Some(0), "{up}");
    assert!(up.stderr.contains("ulimit -n") || up.stderr.contains("open files"), "{up}");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn t04_no_more_processes_is_a_failed_start_and_no_end_of_ours() {
    if !is_root() {
        return skipped(
            "the limit counts all processes of the user, who has others that are not ours; only root can be a new one",
        );
    }
    let project = forty(Project::new().for_user(crate::harness::unused_uid()));
    let up =
        project.start_in_shell("exec bash -c 'ulimit -u 40; exec \"$0\" up -d' \"$0\"").outcome_within(Duration::from_secs(60));
    assert!(matches!(up.code, Some(1 | 125)), "{up}");
    assert!(up.stderr.contains("no process could be made") || up.stderr.contains("Resource temporarily"), "{up}");
    if up.code == Some(1) {
        project.run(&["ps"]).code(0);
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
    // Given room again, everything starts.
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.alive("").len(), 40);
}
