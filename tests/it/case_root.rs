//! `Q…`: what comes in front of a service, and what lies below it. Q01 is in `case_real.rs`, Q02 in `init.rs`.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, ZombieAges, eventually, is_root, long, signal, skipped};
use crate::waits::within;

fn there(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|done| done.status.success())
}

#[test]
fn q03_a_server_behind_wrappers_is_ready_and_gets_its_signal_once() {
    let project = Project::new();
    let server = project.fill("{svc:web} --listen $PORT --mark {dir}/marks");
    project.write("start.sh", &format!("{server}\n"));
    project.write("package.json", &format!("{{\"scripts\": {{\"start\": \"{server}\"}}}}"));
    let mut wrappers = vec!["sh start.sh", "sh -c 'sh start.sh; true'"];
    // npm hands TERM on to what it runs, so the server may see it from npm and, once npm is gone, not again from us.
    if there("npm") {
        wrappers.push("npm run start --silent");
    }
    for wrapper in wrappers {
        project.write("marks", "");
        project.rewrite(&format!("[services.web]\nrun = \"{wrapper}\"\nport = \"auto\"\nready = {{ http = \"/\" }}\n"));
        project.run(&["up", "-d"]).code(0);
        assert_eq!(project.service("web")["health"], "healthy", "{wrapper}: the listener is ours, in a grandchild");
        project.run(&["down"]).code(0);
        project.nothing_left();
        let marks = project.read("marks");
        assert_eq!(marks.lines().count(), 1, "{wrapper}: {marks}");
        assert!(marks.starts_with("leader 15"), "{wrapper}: {marks}");
    }
}

#[test]
fn q04_a_binary_with_file_capabilities_counts_with_a_note() {
    if !is_root() || !there("setcap") {
        return skipped("needs root and setcap");
    }
    // Capabilities make the process unreadable for an ordinary user, which is whom this is about.
    let project = Project::new().for_user(61_235);
    let copy = project.root().join("bin/testsvc");
    if !Command::new("setcap").arg("cap_net_bind_service=+ep").arg(&copy).status().is_ok_and(|status| status.success()) {
        return skipped("this file system keeps no capabilities");
    }
    let project =
        project.procfile("[services.web]\nrun = \"{svc:web} --listen $PORT\"\nport = \"auto\"\nready = { http = \"/\" }\n");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.service("web")["health"], "healthy");
    project.run(&["ps"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn q05_as_the_first_process_of_a_container() {
    if !is_root() {
        return skipped("needs a process-number namespace");
    }
    let project = Project::new()
        .procfile("[services.a]\nrun = \"{svc:a} --children 2 --done {dir}/done\"\n[services.strays]\nrun = \"sh strays.sh\"\n");
    project.write(
        "strays.sh",
        &"i=0; while [ $i -lt MANY ]; do (sleep 0.05 &) ; i=$((i+1)); done; echo made > made; exec sleep 1000\n"
            .replace("MANY", if long() { "500" } else { "100" }),
    );
    let run = project.start_in_shell("exec unshare --pid --fork --mount-proc --kill-child=KILL sh -c 'exec \"$0\" up' \"$0\"");
    let refused = within(PATIENCE, || {
        if run.stderr().contains("unshare failed") {
            return Some(true);
        }
        (project.alive("a").len() >= 3 && project.path("made").exists()).then_some(false)
    });
    match refused {
        Some(true) => {
            let _refused = run.outcome();
            return skipped("no process-number namespace may be made");
        }
        Some(false) => {}
        None => panic!("it does not start: {}", run.stderr()),
    }
    // Its pid out here is that of the only child of `unshare`.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.pid())).expect("it lives");
    let first: i32 = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a child");
    let parents: Vec<i32> = project.keepers().iter().map(|keeper| keeper.pid).chain([first]).collect();
    let mut zombies = ZombieAges::of(&parents);
    eventually("the strays are reaped", PATIENCE, || (zombies.look() == 0).then_some(()));
    signal(first, Signal::SIGTERM);
    run.outcome().code(143);
    assert_eq!(project.read("done").matches("leader done").count(), 1);
    project.nothing_left();
}

#[test]
fn q06_without_pidfds_the_results_are_the_same() {
    if !there("strace") {
        return skipped("needs strace");
    }
    let project = Project::new().procfile(
        "[defaults]\nstop = { grace = \"2s\" }\n[services.a]\nrun = \"{svc:a} --children 2\"\n[services.b]\nrun = \"{svc:b} --setsid-escape\"\n[services.c]\nrun = \"sh -c 'sleep 0.5; exit 3'\"\n",
    );
    // The supervisor and all that it starts; the tracer ends with them.
    let up = project.start_in_shell("exec strace -f -qq -e trace=none -e inject=pidfd_open:error=ENOSYS -o /dev/null \"$0\" up");
    let refused = within(PATIENCE, || {
        if up.stderr().contains("Operation not permitted") {
            return Some(true);
        }
        (project.alive("b").len() >= 2 && project.alive("a").len() >= 3).then_some(false)
    });
    match refused {
        Some(true) => {
            let _refused = up.outcome();
            return skipped("tracing is forbidden");
        }
        Some(false) => {}
        None => panic!("it does not start: {}", up.stderr()),
    }
    assert_eq!(project.wait_state("c", "failed")["exit_code"], 3);
    signal(project.supervisor(), Signal::SIGTERM);
    drop(up.outcome());
    project.nothing_left_within(Duration::from_secs(10));
}

#[test]
fn q07_what_a_shell_of_ours_started_is_no_part_of_the_stack() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    // An editor: a session of its own, with a child, started in the service's environment.
    let mark = project.fill("{token}").replacen("dvt", "editor", 1);
    let script = format!("setsid sh -c 'sleep 1000 & wait' {mark} < /dev/null > /dev/null 2>&1 &");
    let exec = project.run(&["exec", "a", "--", "sh", "-c", &script]);
    drop(exec.code(0));
    let alive = || {
        crate::harness::processes_with(&mark).into_iter().filter(|process| process.command.contains("wait")).collect::<Vec<_>>()
    };
    let editor = eventually("the editor", PATIENCE, || alive().first().map(|process| process.pid));
    let child = || {
        let text = std::fs::read_to_string(format!("/proc/{editor}/task/{editor}/children")).unwrap_or_default();
        let pid = text.split_whitespace().next().and_then(|pid| pid.parse::<i32>().ok())?;
        // Until exec it is a second one of the same command line.
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (name.trim() == "sleep").then_some(pid)
    };
    let below = eventually("its child", PATIENCE, child);
    project.run(&["down"]).code(0);
    assert!(project.alive("a").is_empty());
    assert_eq!((alive().len(), child()), (1, Some(below)), "it lives after `down`");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down", "--emergency"]).code(0);
    assert!(project.alive("a").is_empty());
    assert_eq!((alive().len(), child()), (1, Some(below)), "and after `down --emergency`");
    for pid in [below, editor] {
        signal(pid, Signal::SIGKILL);
    }
    project.nothing_left_within(PATIENCE);
}

#[test]
fn q08_a_worker_finishes_its_job() {
    let project = Project::new()
        .procfile("[services.w]\nrun = \"{svc:w} --worker {dir}/job --mark {dir}/marks\"\nstop = { grace = \"10s\" }\n");
    project.run(&["up", "-d"]).code(0);
    eventually("the job has begun", PATIENCE, || project.read("job").contains("step 1").then_some(()));
    project.run(&["down"]).code(0);
    assert!(project.read("job").ends_with("complete\n"), "{}", project.read("job"));
    assert!(project.read("marks").starts_with("leader 15"));
    project.nothing_left();
}
