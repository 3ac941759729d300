//! Commands that exit and leave processes running: what they leave is ended and named, and a service that put itself into
//! the background has failed.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, signal};

/// `up -d` with this procfile; nothing of `bg` lives afterwards, and no time-out was waited for.
fn up(procfile: &str, code: i32) -> (Project, crate::harness::Outcome) {
    let project = Project::new().procfile(procfile);
    let up = project.run(&["up", "-d"]).code(code);
    assert!(up.took < Duration::from_secs(25), "{up}");
    eventually("the end of what was left", PATIENCE, || project.alive("bg").is_empty().then_some(()));
    (project, up)
}

#[test]
fn pre_start_and_build_go_on_without_what_they_left() {
    let (project, up) = up(
        r#"
        [services.a]
        run = "{svc:a}"
        pre_start = "sh -c '{svc:bg} & exit 0'"
        "#,
        0,
    );
    up.says("its pre_start left testsvc (pid ");
    assert_eq!(project.alive("a").len(), 1);
    project.run(&["down"]).code(0);
    let project =
        Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\nbuild = \"sh -c '{svc:bg} --ignore-term & exit 0'\"\n");
    let built = project.run(&["up", "-d", "--build"]).code(0).says("its build left testsvc (pid ");
    assert!(built.took < Duration::from_secs(25), "{built}");
    assert!(project.alive("bg").is_empty(), "killed when it ignores the signal");
    project.run(&["down"]).code(0);
}

#[test]
fn a_probe_passes_and_what_it_left_is_ended() {
    let (project, up) = up(
        r#"
        [services.a]
        run = "{svc:a}"
        ready = { cmd = "sh -c '{svc:bg} & exit 0'", timeout = "5s", within = "20s" }
        "#,
        0,
    );
    up.says("its probe command left testsvc (pid ");
    project.run(&["down"]).code(0);
}

#[test]
fn a_stop_command_that_leaves_a_process_does_not_hold_up_the_stop() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "{svc:a}"
        stop = { command = "sh -c '{svc:bg} & exit 0'", grace = "60s" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let down = project.run(&["down"]).code(0).says("its stop command left testsvc (pid ");
    assert!(down.took < Duration::from_secs(25), "{down}");
    project.nothing_left();
}

#[test]
fn a_task_is_done_without_what_it_left_unless_it_is_to_run_once() {
    let (project, up) = up(
        r#"
        [tasks.t]
        run = "sh -c '{svc:bg} & exit 0'"
        [services.a]
        run = "{svc:a}"
        depends_on = ["t"]
        "#,
        0,
    );
    up.says("left testsvc (pid ");
    assert_eq!(project.service("t")["state"], "completed");
    project.run(&["down"]).code(0);
    let once = r#"
        [volumes]
        data = { class = "persistent" }
        [tasks.seed]
        run = "sh -c '{svc:bg} & exit 0'"
        once = "data/.seeded"
        "#;
    let (project, up) = self::up(once, 4);
    up.says("its work may be half done").says("spare = [\"testsvc\"]");
    assert!(!project.path(".devrun/data/data/.seeded").exists());
    // It may be tried again.
    project.run(&["up", "-d"]).code(4).says("half done").says_not("task resolve");
}

#[test]
fn a_service_that_puts_itself_into_the_background_has_failed() {
    for ready in ["", "ready = { uptime = \"1s\" }", "restart = \"unless-stopped\"\nready = { file = \"never\" }"] {
        let project = Project::new().procfile(&format!(
            r#"
            [services.a]
            run = "sh -c '{{svc:bg}} & sleep 0.05'"
            {ready}
            [services.redis]
            run = "sh redis-server --daemonize yes"
            ready = {{ uptime = "5s" }}
            profiles = ["redis"]
            "#
        ));
        let up = project.run(&["up", "-d"]);
        let a = eventually("the failure", PATIENCE, || Some(project.service("a")).filter(|a| a["state"] == "failed"));
        let reason = a["reason"].as_str().unwrap_or_default();
        assert!(reason.starts_with("exited with code 0 and left testsvc (pid "), "{a:#}");
        // Without a probe the start may be over before it is known.
        if !ready.is_empty() {
            up.code(1).says("in the foreground").says_not("ready in");
        }
        project.write("redis-server", "sleep 1000 &\n");
        project.run(&["--profile", "redis", "up", "-d", "redis"]).code(1).says("redis-server --daemonize no");
        let _down = project.run(&["down"]);
        project.nothing_left();
    }
}

#[test]
fn what_ends_by_itself_in_a_moment_is_no_daemon() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "sh -c '(trap \"\" TERM; sleep 0.1) & exit 0'"
        [services.b]
        run = "{svc:b}"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let a = project.wait_state("a", "completed");
    assert_eq!(a["exit_code"], 0);
    project.run(&["down"]).code(0);
}

#[test]
fn what_a_leader_left_answers_for_nothing_before_its_exit_is_known() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "sh -c 'until [ -e go ]; do sleep 0.02; done; {svc:bg} --listen $PORT &'"
        port = "auto"
        ready = { http = "/" }
        "#,
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    project.wait_state("a", "starting");
    let keeper = project.keepers()[0].pid;
    // It would report the exit.
    signal(keeper, Signal::SIGSTOP);
    project.write("go", "");
    eventually("an answer of what it left", PATIENCE, || {
        let seen = project.run(&["inspect", "a", "--json"]).code(0).json();
        let passed = seen["probes"].as_array().is_some_and(|all| all.iter().any(|probe| probe["passed"] == true));
        passed.then_some(())
    });
    assert_eq!(project.service("a")["state"], "starting");
    signal(keeper, Signal::SIGCONT);
    let a = eventually("the failure", PATIENCE, || Some(project.service("a")).filter(|a| a["state"] == "failed"));
    assert!(a["reason"].as_str().unwrap_or_default().starts_with("exited with code 0 and left testsvc (pid "), "{a:#}");
    project.run(&["down"]).code(0);
    project.nothing_left();
}
