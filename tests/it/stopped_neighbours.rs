//! Other stacks of the user whose supervisors are stopped (SIGSTOP, a debugger, Ctrl-Z): no command of this stack waits for each of them.

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Outcome, PATIENCE, Project, eventually, signal};

/// One deadline of two seconds for all, on a machine that is busy; three in a row would take nine.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Supervisors that are stopped while they are needed to be, and continued at the end so that their stacks can be ended.
struct Stopped(Vec<i32>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal(*pid, Signal::SIGCONT));
    }
}

fn neighbour(project: &Project, number: usize) -> String {
    let file = format!("neighbour{number}/procfile.toml");
    let text = "[services.web]\nrun = \"{svc:web} --listen $PORT\"\nport = \"auto\"\nready = { tcp = true }\n";
    project.write(&file, &project.fill(text));
    project.run(&["-f", &file, "up", "-d"]).code(0);
    file
}

/// The status of each stack of this test in `ls`, which lists those of all runtime directories of the user.
fn listed(project: &Project) -> (Outcome, Vec<String>) {
    let outcome = project.run(&["ls", "--json"]).code(0);
    let root = project.dir().canonicalize().expect("our own directory").display().to_string();
    let stacks = outcome.json();
    let own =
        stacks.as_array().into_iter().flatten().filter(|stack| stack["root"].as_str().is_some_and(|at| at.starts_with(&root)));
    let found = own.map(|stack| stack["status"].as_str().unwrap_or_default().to_owned()).collect();
    (outcome, found)
}

/// A service of another stack in the same runtime directory.
fn status(project: &Project, file: &str) -> Value {
    project.run(&["-f", file, "ps", "--json"]).code(0).json()
}

fn number(value: &Value) -> i32 {
    value.as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or_else(|| panic!("a number, not {value}"))
}

#[test]
fn three_stopped_supervisors_of_other_stacks_hold_nothing_up() {
    let project = Project::new();
    let files: Vec<String> = (0..3).map(|number| neighbour(&project, number)).collect();
    let seen: Vec<Value> = files.iter().map(|file| status(&project, file)).collect();
    let port = u16::try_from(number(&seen[0]["services"][0]["ports"]["main"])).expect("a port");
    project.rewrite(&format!(
        "[services.own]\nrun = \"{{svc:own}} --listen $PORT\"\nport = \"auto\"\nready = {{ tcp = true }}\n\
         [services.taken]\nrun = \"{{svc:taken}} --listen $PORT\"\nport = {port}\nprofiles = [\"taken\"]\n"
    ));
    let stopped = Stopped(seen.iter().map(|status| number(&status["supervisor_pid"])).collect());
    for (pid, file) in stopped.0.iter().zip(&files) {
        signal(*pid, Signal::SIGSTOP);
        eventually("the supervisor is stopped", PATIENCE, || {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T ")).then_some(())
        });
        // To its own commands it is said what resumes it.
        let own = project.run(&["-f", file, "ps"]).code(6).says(&format!("the supervisor (pid {pid}) is stopped"));
        own.says(&format!("kill -CONT {pid}"));
    }
    let (listed, found) = listed(&project);
    assert_eq!(found, ["silent"; 3], "{listed}");
    let table = project.run(&["ls"]).code(0).says("silent: the supervisor is stopped (Ctrl-Z or SIGSTOP) and does not answer");
    let resume = table.stderr.lines().find_map(|line| line.split_once("kill -CONT ")).expect("what resumes them").1;
    for pid in &stopped.0 {
        assert!(resume.split(' ').any(|word| word == pid.to_string()) && table.stdout.contains(&format!(" {pid} ")), "{table}");
    }
    let mut outcomes = vec![listed];
    for (args, code) in [
        (&["up", "-d"][..], 0),
        (&["ps"], 0),
        (&["ports"], 0),
        (&["urls"], 0),
        (&["ls"], 0),
        // The holder's stack does not answer, so the port is named with the process alone.
        (&["--profile", "taken", "up", "-d"], 5),
        (&["restart", "own"], 0),
        (&["down"], 0),
    ] {
        outcomes.push(project.run(args).code(code));
    }
    for outcome in outcomes {
        assert!(outcome.took < AT_ONCE, "{outcome}");
    }
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok(), "a neighbour's service runs on");
    drop(stopped);
    for file in &files {
        project.run(&["-f", file, "down"]).code(0);
    }
    project.nothing_left();
}

/// Nothing of the machine's own stacks, caches and settings reaches a test: every directory that devrun uses is the test's.
#[test]
fn tests_use_directories_of_their_own() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    let root = project.root().display().to_string();
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR"] {
        let value = project.variables().get(name).cloned().unwrap_or_default();
        assert!(value.starts_with(&root), "{name} is {value}");
    }
    let foreign = project.variables().keys().find(|name| name.starts_with("DEVRUN_") && *name != "DEVRUN_NO_CGROUP");
    assert_eq!(foreign, None, "a variable of the caller's shell would decide what is tested");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(listed(&project).1, ["running"]);
    let environment = std::fs::read(format!("/proc/{}/environ", project.supervisor())).expect("the supervisor runs");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    for variable in
        environment.split('\0').filter(|one| one.starts_with("HOME=") || one.starts_with("XDG_") || one.starts_with("TMPDIR="))
    {
        assert!(variable.contains(&root), "{variable}");
    }
    project.run(&["down"]).code(0);
    project.nothing_left();
}
