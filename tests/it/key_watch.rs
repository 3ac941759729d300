//! `watch`: a changed file restarts the service.

use std::time::Duration;

use crate::harness::{PATIENCE, Project, eventually, skipped};
use crate::waits::{let_time_pass, stays_equal_for};

fn restarted(project: &Project, name: &str, before: i64) -> i64 {
    eventually(&format!("a restart of {name}"), PATIENCE, || {
        let service = project.service(name);
        let pid = service["pid"].as_i64()?;
        (pid != before && service["state"] == "running").then_some(pid)
    })
}

/// Shows: service.watch.
#[test]
fn watch_restarts_on_a_change_and_on_nothing_else() {
    let project = Project::new().procfile(
        r#"
        [services.api]
        run = "{svc:api}"
        watch = ["src/**/*.py", "conf"]
        [services.other]
        run = "{svc:other}"
        "#,
    );
    project.write("src/deep/app.py", "1");
    project.write("conf/a.toml", "1");
    project.run(&["up", "-d"]).code(0);
    let pid = project.service("api")["pid"].as_i64().expect("a pid");
    let other = project.service("other")["pid"].as_i64().expect("a pid");
    project.write("src/deep/app.py", "2");
    let pid = restarted(&project, "api", pid);
    project.run(&["ps"]).code(0);
    // A folder as a glob stands for all in it, also what is new.
    project.write("conf/new/b.toml", "1");
    let pid = restarted(&project, "api", pid);

    // None of these counts: another ending, an editor's file, a compiled one, our own state.
    for path in ["src/deep/app.txt", "src/deep/app.py~", "src/deep/.app.py.swp", "src/__pycache__/app.py", ".devrun/x.py"] {
        project.write(path, "1");
    }
    let pid_of = |name: &str| project.service(name)["pid"].as_i64();
    // What counts comes after them and restarts it once: nothing was queued before it.
    stays_equal_for("nothing restarts it", Duration::from_millis(600), &Some(pid), || pid_of("api"));
    // A burst is one restart.
    for number in 0..20 {
        project.write("src/deep/app.py", &number.to_string());
    }
    let pid = restarted(&project, "api", pid);
    stays_equal_for("it is restarted once", Duration::from_millis(600), &Some(pid), || pid_of("api"));
    assert_eq!(pid_of("other"), Some(other));
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Its only service has failed, or is done: the next change starts it again, at once and detached.
#[test]
fn a_stack_of_one_watched_service_waits_for_the_next_change() {
    let project = Project::new().procfile("[services.api]\nrun = \"sh app.sh\"\nwatch = [\"app.sh\"]\nrestart = \"no\"\n");
    project.write("app.sh", "echo broken; exit 3");
    project.run(&["up", "-d"]).code(1).says("a change of a watched file starts it again");
    project.wait_state("api", "failed");
    project.write("app.sh", "echo fine");
    project.wait_state("api", "completed");
    project.write("app.sh", "echo works; exec sleep 1000");
    project.wait_state("api", "running");
    project.write("app.sh", "echo broken; exit 4");
    let failed = project.wait_state("api", "failed");
    assert_eq!(failed["exit_code"], 4, "{failed:#}");
    project.run(&["down"]).code(0);
    let mut attached = project.terminal(&["up"]);
    attached.wait_for("a change of a watched file starts it again");
    project.write("app.sh", "echo works again; exec sleep 1000");
    attached.wait_for("works again");
    attached.interrupt();
    let ended = attached.outcome();
    let table = ended.stdout.split("STOPPED AFTER").nth(1).unwrap_or_default();
    assert_eq!(table.matches("api").count(), 1, "stops of earlier processes are not listed: {ended}");
    project.nothing_left();
}

/// Logs and rendered files lie in our own folders; a glob that means everything must not make a loop of them.
#[test]
fn watch_of_everything_does_not_see_our_own_files() {
    let project = Project::new().procfile(
        r#"
        [services.api]
        run = ["sh", "-c", "while :; do echo line; sleep 0.05; done"]
        watch = ["**"]
        render = { "page.in" = "page" }
        "#,
    );
    project.write("page.in", "x\n");
    project.run(&["up", "-d"]).code(0);
    let pid = project.service("api")["pid"].as_i64();
    stays_equal_for("nothing restarts it", Duration::from_secs(1), &pid, || project.service("api")["pid"].as_i64());
    project.write("anything", "x");
    restarted(&project, "api", pid.expect("a pid"));
}

/// A service that has failed for good gets another chance with a change.
#[test]
fn watch_starts_a_failed_service_again() {
    let project = Project::new().procfile(
        r#"
        [services.api]
        run = ["sh", "app.sh", "{token}"]
        watch = ["app.sh"]
        [services.other]
        run = "{svc:other}"
        "#,
    );
    project.write("app.sh", "exit 3\n");
    // It has no probe: that it ends a moment later is no failed start.
    let _either = project.run(&["up", "-d"]);
    let up = project.wait_state("api", "failed");
    assert_eq!(up["exit_code"], 3);
    project.write("app.sh", "exec sleep 1000\n");
    project.wait_state("api", "running");
}

#[test]
fn files_are_polled_where_the_system_has_no_watches_left_and_a_line_says_so() {
    // Both limits are the user namespace's own, and may be lowered in one.
    let lowers = "unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_inotify_instances'";
    if !std::process::Command::new("sh").args(["-c", lowers]).output().is_ok_and(|done| done.status.success()) {
        return skipped("no user namespace of its own can be made");
    }
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        let project =
            Project::new().procfile("[services.api]\nrun = \"sh -c 'echo began; exec sleep 1000'\"\nwatch = [\"src\"]\n");
        project.write("src/a", "1");
        let script = format!("unshare -Ur sh -c 'echo 0 > /proc/sys/user/{limit}; exec \"$0\" up -d' \"$0\"");
        project.run_in_shell(&script).code(0).says("watch: the system has no file watches left, so files are polled every 1s");
        let began = || project.run(&["logs", "api"]).stdout.matches("began").count();
        for round in 1..3 {
            project.write("src/a", &"x".repeat(round + 1));
            eventually("a restart", PATIENCE, || (began() > round).then_some(()));
        }
        project.run(&["down"]).code(0);
    }
}

#[test]
fn a_restart_by_watch_is_named_afterwards() {
    let project = Project::new().procfile("[services.api]\nrun = \"sh -c 'echo began; exec {svc:api}'\"\nwatch = [\"app.py\"]\n");
    project.write("app.py", "1");
    project.run(&["up", "-d"]).code(0);
    let pid = project.service("api")["pid"].as_i64().expect("a pid");
    project.write("app.py", "22");
    let _pid = restarted(&project, "api", pid);
    project.run(&["why", "api"]).code(0).says("app.py changed");
    let lines: Vec<String> = eventually("the second start's line", PATIENCE, || {
        let logs = project.run(&["logs", "api"]).code(0);
        (logs.stdout.matches("began").count() == 2).then(|| logs.stdout.lines().map(str::to_owned).collect())
    });
    let place = |text: &str| lines.iter().position(|line| line.contains(text));
    let (changed, last) = (place("api * stopping: app.py changed"), lines.iter().rposition(|line| line.contains("began")));
    assert!(changed.is_some() && place("began") < changed && changed < last, "{lines:?}");
    assert_eq!(project.run(&["logs", "api", "-n", "1"]).stdout.lines().count(), 1, "what came before is no part of it");
    assert!(!project.run(&["logs", "api", "--no-prefix"]).stdout.contains("app.py"));
    let changed = project.run(&["logs", "api", "--json"]).json_lines();
    assert!(changed.iter().any(|line| line["stream"] == "devrun" && line["line"] == "stopping: app.py changed"), "{changed:?}");
    project.run(&["down"]).code(0);
}

#[test]
fn whoever_watches_is_told_why_a_service_restarts() {
    let project = Project::new().procfile("[services.api]\nrun = \"{svc:api}\"\nwatch = [\"app.py\"]\n");
    project.write("app.py", "1");
    let mut up = project.start(&["up"]);
    up.wait_for("ready in");
    let logs = project.start(&["logs", "-f"]);
    let pid = project.service("api")["pid"].as_i64().expect("a pid");
    // The first look of `logs -f` may come after the first change; each further one is told.
    eventually("`logs -f` names the file", PATIENCE, || {
        project.write("app.py", &format!("{:?}", std::time::Instant::now()));
        let_time_pass("a burst of changes would be one restart", Duration::from_millis(300));
        logs.stdout().contains("app.py").then_some(())
    });
    let _pid = restarted(&project, "api", pid);
    up.wait_for("api * stopping: ");
    assert!(up.stdout().lines().any(|line| line.contains("api *") && line.contains("app.py")), "{}", up.stdout());
    logs.signal(nix::sys::signal::Signal::SIGINT);
    drop(logs.outcome());
    up.signal(nix::sys::signal::Signal::SIGINT);
    up.outcome().code(130);
}
