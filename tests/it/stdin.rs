//! Standard input: a service's stays open and silent, whatever becomes of supervisor and keeper; a task's is at its end.

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, signal};

/// Reads one byte from its standard input; a watcher of the usual kind ends when there is none to come.
const WATCHER: &str = "sh -c 'cat; echo at the end; exec sleep 1000'";

fn project() -> Project {
    Project::new().procfile(&format!(
        r#"
        [services.watcher]
        run = "{WATCHER}"
        [services.other]
        run = "{{svc:other}} --print-fds"
        pre_start = "cat"
        ready = {{ cmd = "cat" }}
        [tasks.once]
        run = "sh -c 'cat; echo at the end'"
        "#
    ))
}

fn ended(project: &Project, name: &str) -> bool {
    project.run(&["logs", name]).code(0).stdout.contains("at the end")
}

/// What the standard input of a service's leader is.
fn stdin(project: &Project, name: &str) -> String {
    let pid = project.service(name)["pid"].as_i64().expect("a pid");
    std::fs::read_link(format!("/proc/{pid}/fd/0")).expect("a descriptor").display().to_string()
}

/// A line that the service writes comes after the end of its input would have.
fn lives_on(project: &Project) {
    project.run(&["restart", "other"]).code(0);
    assert!(!ended(project, "watcher"));
    assert_eq!(project.service("watcher")["state"], "running");
}

/// Whether a descriptor of `/proc` is a pipe, or a FIFO whose name is gone (the portable drivers).
fn is_pipe(target: &str) -> bool {
    target.starts_with("pipe:") || target.contains("/stdin-")
}

#[test]
fn a_service_waits_at_its_input_and_everything_else_finds_its_end() {
    let project = project();
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.service("once")["state"], "completed");
    assert!(ended(&project, "once"));
    assert_eq!(project.service("other")["health"], "healthy", "pre_start and probe found the end");
    let (watcher, other) = (stdin(&project, "watcher"), stdin(&project, "other"));
    assert!(is_pipe(&watcher) && is_pipe(&other) && watcher != other, "{watcher} {other}");
    // No other process holds anything of it: neither keeper nor supervisor nor the other service.
    let pid = project.service("watcher")["pid"].as_i64().expect("a pid").to_string();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_of_the_service = name == pid
            || std::fs::read_to_string(entry.path().join("stat"))
                .is_ok_and(|stat| stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)) == Some(&*pid));
        let holds = std::fs::read_dir(entry.path().join("fd"))
            .is_ok_and(|fds| fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == &*watcher)));
        assert!(!holds || is_of_the_service, "{name} holds it");
    }
    lives_on(&project);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

fn only_keeper(project: &Project) -> Option<i32> {
    let keepers = project.keepers();
    if let [keeper] = keepers.as_slice() { Some(keeper.pid) } else { None }
}

#[test]
fn the_input_stays_open_when_keeper_and_supervisor_are_killed() {
    let project = project();
    project.run(&["up", "-d"]).code(0);
    let keeper = only_keeper(&project).expect("a keeper");
    signal(keeper, Signal::SIGKILL);
    let keeper = eventually("a new keeper", PATIENCE, || only_keeper(&project).filter(|new| *new != keeper));
    lives_on(&project);
    let supervisor = project.supervisor();
    let pid = i32::try_from(project.service("watcher")["pid"].as_i64().expect("a pid")).expect("a pid");
    // Both at once, or each would stop the stack for the other.
    signal(supervisor, Signal::SIGSTOP);
    signal(keeper, Signal::SIGKILL);
    signal(supervisor, Signal::SIGKILL);
    eventually("both are gone", PATIENCE, || (!std::path::Path::new(&format!("/proc/{supervisor}/fd/0")).exists()).then_some(()));
    let stdin = std::fs::read_link(format!("/proc/{pid}/fd/0")).expect("it runs on");
    assert!(is_pipe(&stdin.display().to_string()));
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
    assert!(!children.trim().is_empty(), "its reader still waits");
    project.run(&["down"]).code(0);
    project.nothing_left();
}
