//! Cases beyond the list of the design, under the id that they are nearest to: a server behind `go run` (Q03), an editor
//! started from `devrun shell` and a compiler's daemon (Q07).

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::{LONG, PATIENCE, Project, eventually, processes_with, signal, skipped};

#[test]
fn q03_a_server_behind_go_run_is_ready_and_leaves_nothing() {
    let go = ["/usr/local/go/bin/go", "/usr/bin/go", "/usr/lib/go/bin/go"];
    let Some(go) = go.into_iter().find(|path| Path::new(path).exists()) else {
        return skipped("Go is not installed");
    };
    let project = Project::new();
    // Without the standard library's servers, which take a minute to compile: `go run` is what this is about.
    project.write("go.mod", "module served\n\ngo 1.18\n");
    project.write(
        "main.go",
        r#"package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	port, _ := strconv.Atoi(os.Args[1])
	socket, _ := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	_ = syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if syscall.Bind(socket, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}) != nil || syscall.Listen(socket, 8) != nil {
		os.Exit(1)
	}
	asked := make(chan os.Signal, 8)
	signal.Notify(asked, syscall.SIGTERM)
	go func() {
		for {
			if other, _, fault := syscall.Accept(socket); fault == nil {
				_ = syscall.Close(other)
			}
		}
	}()
	<-asked
	marks, _ := os.OpenFile(os.Args[2], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	_, _ = marks.WriteString("term\n")
}
"#,
    );
    // What Go has compiled once is kept beside our own build, where that may be written.
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache");
    let _taken = std::fs::create_dir_all(&kept);
    let cache = if tempfile::tempfile_in(&kept).is_ok() { kept } else { project.path("go-cache") }.display().to_string();
    project.rewrite(&format!(
        "[services.web]\nrun = \"{go} run . $PORT {{dir}}/marks {{token}}-web-\"\nport = \"auto\"\nenv = {{ GOFLAGS = \"-mod=mod\", GOTOOLCHAIN = \"local\", GOPROXY = \"off\", CGO_ENABLED = \"0\", GOCACHE = \"{cache}\" }}\nready = {{ tcp = true, within = \"5m\" }}\n"
    ));
    // The first one compiles the runtime.
    project.start(&["up", "-d"]).outcome_within(LONG * 3).code(0);
    assert_eq!(project.service("web")["health"], "healthy", "the listener is ours, in a grandchild");
    // `go run` ends by the TERM and hands nothing on: its program gets the signal as what is left of the tree.
    project.run(&["down"]).code(0);
    assert_eq!(project.read("marks"), "term\n", "the signal exactly once");
    project.nothing_left();
}

#[test]
fn q07_an_editor_from_a_shell_of_ours_outlives_the_stack() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n").env("SHELL", "/bin/sh").env("PS1", "ready> ");
    project.run(&["up", "-d"]).code(0);
    let mark = project.fill("{token}").replacen("dvt", "editor", 1);
    let mut terminal = project.terminal(&["shell", "a"]);
    terminal.wait_for("ready> ");
    terminal.send(format!("setsid sh -c 'sleep 1000 & wait' {mark} </dev/null >/dev/null 2>&1 &\r").as_bytes());
    let editor = || processes_with(&mark).into_iter().find(|found| found.command.starts_with("sh -c")).map(|found| found.pid);
    let pid = eventually("the editor", PATIENCE, editor);
    let children = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()).collect::<Vec<_>>()
    };
    eventually("its child", PATIENCE, || (!children().is_empty()).then_some(()));
    let below = children();
    terminal.send(b"exit\r");
    drop(terminal.outcome());
    for end in [&["down"][..], &["down", "--emergency"]] {
        project.run(end).code(0);
        assert!(project.alive("a").is_empty(), "{end:?}");
        assert_eq!((editor(), children()), (Some(pid), below.clone()), "it lives after {end:?}");
        project.run(&["up", "-d"]).code(0);
    }
    // Nor does the next `up` after a crash take it for a leftover.
    project.kill_both();
    project.run(&["up", "-d"]).code(0);
    assert_eq!((editor(), children()), (Some(pid), below.clone()), "it lives after the sweep");
    project.run(&["down"]).code(0);
    below.into_iter().chain([pid]).for_each(|pid| signal(pid, Signal::SIGKILL));
    project.nothing_left_within(PATIENCE);
}

#[test]
fn q07_a_spared_daemon_outlives_the_stack_and_harms_no_later_one() {
    let project = Project::new().procfile(
        r#"
        [services.build]
        run = ["sh", "-c", "setsid {dir}/dvcached 600 & exec {dir}/dvbuild 1000"]
        stop = { spare = ["dvcached"] }
        "#,
    );
    for name in ["dvcached", "dvbuild"] {
        let copied = Command::new("cp").args(["/bin/sleep", name]).current_dir(project.dir()).status();
        assert!(copied.is_ok_and(|status| status.success()));
    }
    let named = |text: &str| {
        let mark = project.fill(text);
        processes_with(&mark)
            .into_iter()
            .filter(|found| found.command.starts_with('/'))
            .map(|found| found.pid)
            .collect::<Vec<_>>()
    };
    let (daemons, builds) = (|| named("{dir}/dvcached 600"), || named("{dir}/dvbuild 1000"));
    project.run(&["up", "-d"]).code(0);
    let first = eventually("the daemon", PATIENCE, || daemons().first().copied());
    let mut known = vec![first];
    // After a stop, after both of ours were killed and the next `up`, and after the emergency verb: each start adds one of its
    // own, and none is ever ended.
    let mut next = |what: &str| {
        project.run(&["up", "-d"]).code(0);
        eventually(what, PATIENCE, || (builds().len() == 1 && daemons().len() == known.len() + 1).then_some(()));
        assert!(known.iter().all(|pid| daemons().contains(pid)), "{what}: {known:?} of {:?}", daemons());
        known = daemons();
    };
    project.run(&["down"]).code(0);
    assert!(builds().is_empty());
    next("after a stop");
    project.kill_both();
    next("after both were killed");
    project.kill_both();
    project.run(&["down", "--emergency"]).code(0);
    assert!(builds().is_empty(), "the service itself is gone");
    next("after the emergency verb");
    project.run(&["down"]).code(0);
    let left = daemons();
    assert_eq!(left.len(), 4, "{left:?}");
    left.into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
    project.nothing_left_within(PATIENCE);
}
