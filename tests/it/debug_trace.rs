//! `--debug` and `DEVRUN_LOG`: what is tried and decided can be read, and no secret with it.

use crate::harness::Project;

/// Its `api` crashes once and is restarted.
const FLAKY: &str = r#"
    [services.db]
    run = "sleep 1000"
    ready = { uptime = "50ms" }
    [services.api]
    run = "sh -c 'test -e once || { touch once; exit 3; }; exec sleep 1000'"
    restart = "on-failure"
    ready = { uptime = "300ms" }
    depends_on = ["db"]
"#;

/// Shows: devrun --debug.
#[test]
fn debug_shows_probes_requests_and_decisions() {
    let project = Project::new().procfile(FLAKY);
    let seen = project.run(&["--debug", "run", "--", "true"]).code(0);
    for expected in [
        "devrun::probe: attempt service=db passed=false",
        "devrun::probe: attempt service=db passed=true",
        "devrun::keeper: spawn service=db",
        "argv=sleep 1000",
        "devrun::engine: dependencies satisfied service=\"api\"",
        "devrun::engine: restart planned service=\"api\" delay_ms=",
        "devrun::engine: stop stage service=db stage=\"terminating\"",
    ] {
        assert!(seen.stderr.contains(expected), "{expected:?} is missing: {seen}");
    }
    project.nothing_left();
}

/// Shows: DEVRUN_LOG.
#[test]
fn devrun_log_selects_and_the_trace_of_a_detached_supervisor_is_in_its_log() {
    let project = Project::new().procfile(FLAKY).env("DEVRUN_LOG", "devrun::keeper=debug");
    let seen = project.run(&["up", "-d"]).code(0);
    seen.says_not("devrun::engine");
    let log = project.read(".devrun/logs/devrun.log");
    assert!(log.contains("devrun::keeper: spawn service=db") && !log.contains("devrun::probe"), "{log}");
    project.run(&["down"]).code(0);
    let project = project.env("DEVRUN_LOG", "devrun=loud");
    project.run(&["ps"]).code(2).says("invalid DEVRUN_LOG").says("help: ");
}

#[test]
fn nothing_is_traced_unless_asked() {
    let project = Project::new().procfile(FLAKY);
    project.run(&["run", "--", "true"]).code(0).says_not("devrun::");
}

#[test]
fn no_secret_of_a_command_line_an_environment_or_an_answer_is_traced() {
    let project = Project::new().procfile(
        r#"
        [secrets]
        dir = "secrets"
        generate = { key = { length = 24 } }
        [services.a]
        run = ["sh", "-c", "exec sleep 1000", "${secret.key}", "--token=x${secret.key}y"]
        env = { TOKEN = "${secret.key}" }
        pre_start = ["sh", "-c", "echo $TOKEN", "${secret.key}"]
        ready = { cmd = "sh -c 'echo refused $TOKEN; test -e ready || { touch ready; exit 1; }'" }
        "#,
    );
    let project = project.env("DEVRUN_LOG", "trace");
    let seen = project.run(&["run", "--", "true"]).code(0);
    let secret = project.read("secrets/key").trim().to_owned();
    assert_eq!(secret.len(), 24);
    assert!(seen.stderr.contains("devrun::keeper: spawn service=a") && seen.stderr.contains("exec sleep 1000"), "{seen}");
    assert!(seen.stderr.contains("devrun::probe: attempt service=a passed=false"), "{seen}");
    assert!(!seen.stderr.contains(&secret) && !seen.stdout.contains(&secret), "{secret}: {seen}");
}
