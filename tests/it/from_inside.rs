//! `down` as the command of a service of the stack that it ends: a target of a Makefile, a script in a terminal of the stack.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, devrun, eventually, signal};

/// `a` waits for the file `go` and then runs `devrun down`; `b` is needed by it and `c` needs it.
fn stack(project: Project, how: &str) -> Project {
    asking(project, &format!("down {how}"))
}

/// The same with any command.
fn asking(project: Project, command: &str) -> Project {
    project.write(
        "down.sh",
        &format!(
            "while ! test -e go; do sleep 0.02; done\n{} {command} >said 2>&1\necho \"exit $?\" >>said\nexec sleep 1000\n",
            devrun().display()
        ),
    );
    project.procfile(
        "[defaults]\nstop = { grace = \"100s\" }\n[services.b]\nrun = \"{svc:b} --setsid-escape\"\n\
         [services.a]\nrun = \"sh down.sh {token}-a-\"\ndepends_on = [\"b\"]\n\
         [services.c]\nrun = \"{svc:c} --stop-takes 2000 --children 1\"\ndepends_on = [\"a\"]\n",
    )
}

fn both() -> [Project; 2] {
    [Project::new(), Project::new().env("DEVRUN_NO_CGROUP", "1")]
}

/// Far below the grace that a service would be given if the command waited for its own end.
const SOON: Duration = Duration::from_secs(40);

#[test]
fn a_down_from_a_service_is_finished_by_the_supervisor() {
    for project in both() {
        let project = stack(project, "");
        project.run(&["up", "-d"]).code(0);
        project.write("go", "");
        project.nothing_left_within(SOON);
        let said = project.read("said");
        assert!(said.contains("a: pid ") && said.contains("(devrun) is this command"), "{said}");
        assert!(said.contains("the supervisor stops the stack\nexit 0\n"), "{said}");
        // In order, and to its end.
        project.run(&["down"]).code(0).says("nothing is running");
        std::fs::remove_file(project.path("go")).expect("our own file");
        project.run(&["up", "-d"]).code(0).says_not("earlier run");
        project.run(&["down", "-t", "3s"]).code(0);
        project.nothing_left();
    }
}

/// Nothing depends on `a`, so that it is stopped at once, and the command with it.
#[test]
fn a_command_that_ends_itself_says_so_before() {
    for command in ["down", "stop a", "kill a", "restart a"] {
        let project = Project::new();
        project.write(
            "ask.sh",
            &format!(
                "while ! test -e go; do sleep 0.02; done\nrm go\n{} {command} >said 2>&1\nexec sleep 1000\n",
                devrun().display()
            ),
        );
        let project = project.procfile("[services.a]\nrun = \"sh ask.sh\"\n[services.b]\nrun = \"sleep 1000\"\n");
        project.run(&["up", "-d"]).code(0);
        for _ in 0..5 {
            let before = project.service("a")["pid"].clone();
            project.write("go", "");
            match command {
                "down" => project.nothing_left_within(SOON),
                "restart a" => eventually("the restart", PATIENCE, || {
                    let now = project.service("a");
                    (now["state"] == "running" && now["pid"] != before).then_some(())
                }),
                _ => eventually("the stop", PATIENCE, || (project.service("a")["pid"].is_null()).then_some(())),
            }
            let said = project.read("said");
            assert!(said.contains("a: pid ") && said.contains("(devrun) is this command"), "{command}: {said:?}");
            std::fs::remove_file(project.path("said")).expect("it was written");
            if command != "restart a" {
                project.run(&["up", "-d"]).code(0);
            }
        }
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

/// The deletion comes after the stop, which the command would not live to see.
#[test]
fn what_goes_on_after_the_stop_is_refused_from_a_service() {
    for command in ["down --volumes", "rebuild -d --yes", "up --clean -d --yes"] {
        let project = asking(Project::new(), command);
        project.run(&["up", "-d"]).code(0);
        let before = project.supervisor();
        project.write("go", "");
        let answer = || Some(project.read("said")).filter(|said| said.contains("\nexit "));
        let said = eventually("the answer", PATIENCE, answer);
        assert!(
            said.contains("runs inside a and would be stopped with it") && said.contains("help: run it in a terminal"),
            "{said}"
        );
        assert!(said.ends_with("exit 2\n"), "{said}");
        project.run(&["wait", "a", "b", "c"]).code(0);
        assert_eq!(project.supervisor(), before, "the stack was started again");
        project.run(&["down", "-t", "3s"]).code(0);
        project.nothing_left();
    }
}

#[test]
fn a_down_from_a_service_whose_supervisor_died_is_finished_by_the_keeper() {
    for project in both() {
        let project = stack(project, "");
        project.run(&["up", "-d"]).code(0);
        // `c` is stopped first and takes its time.
        signal(project.supervisor(), Signal::SIGKILL);
        project.write("go", "");
        project.nothing_left_within(SOON);
        let said = project.read("said");
        assert!(said.contains("a: pid ") && said.contains("the keeper stops the stack"), "{said}");
    }
}

#[test]
fn an_emergency_from_a_service_needs_nobody() {
    for (stopped, project) in both().into_iter().chain(both()).zip([false, false, true, true]).map(|(one, two)| (two, one)) {
        let project = stack(project, "--emergency");
        project.run(&["up", "-d"]).code(0);
        if stopped {
            for pid in [project.supervisor(), project.keepers()[0].pid] {
                signal(pid, Signal::SIGSTOP);
            }
        }
        project.write("go", "");
        project.nothing_left_within(SOON);
        let said = eventually("the list", PATIENCE, || Some(project.read("said")).filter(|said| said.contains("this command")));
        assert!(said.contains("a: pid ") && said.contains("known by its supervisor") && said.contains("b: pid "), "{said}");
        std::fs::remove_file(project.path("go")).expect("our own file");
        project.run(&["up", "-d"]).code(0);
        project.run(&["down", "--emergency"]).code(0);
        project.nothing_left();
    }
}

/// A shell with the service's variables is not in the stack: it waits for the end as any other does.
#[test]
fn a_down_from_an_exec_waits_for_the_end() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["exec", "a", "--", &devrun().display().to_string(), "down"]).code(0).says_not("this command");
    project.nothing_left();
}
