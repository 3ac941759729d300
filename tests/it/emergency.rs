//! Nothing is left running when both the keeper and the supervisor die, and when `down --emergency` has to end processes
//! that do their best to get away. Each case runs with cgroups and without; without, descent is often the only evidence.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{LONG, PATIENCE, Project, eventually, figures, is_root, rounds, signal};
use crate::waits::{let_time_pass, stays_true_for};

/// Both ways of containment.
fn both() -> [Project; 2] {
    [Project::new(), Project::new().env("DEVRUN_NO_CGROUP", "1")]
}

/// The keeper dies, and its supervisor while it is busy with that: before, while or after it starts a new keeper.
#[test]
fn n05_keeper_and_supervisor_killed_within_milliseconds() {
    let text = "[defaults]\nstop = { grace = \"3s\" }\n[services.a]\nrun = \"{svc:a} --children 1\"\n[services.b]\nrun = \"{svc:b} --setsid-escape\"\ndepends_on = [\"a\"]\n[services.c]\nrun = \"{svc:c}\"\nstop = { command = \"true\" }\n";
    let rounds = rounds(10);
    let (mut done, mut left_over) = (0, 0);
    for project in both() {
        let project = project.procfile(text);
        for round in 0..rounds {
            project.run(&["up", "-d"]).code(0);
            let (supervisor, keeper) = (project.supervisor(), project.keepers()[0].pid);
            signal(keeper, Signal::SIGKILL);
            let_time_pass("the moment between the kills is what is varied", Duration::from_micros(700 * (round % 10)));
            signal(supervisor, Signal::SIGKILL);
            // At once, while a new keeper may just be stopping what is left; every third time when that has settled.
            if round % 3 == 0 {
                eventually("the new keeper's end", PATIENCE, || project.keepers().is_empty().then_some(()));
                left_over += u32::from(!project.alive("").is_empty());
            }
            let up = project.start(&["up", "-d"]).outcome_within(LONG);
            assert_eq!(up.code, Some(0), "round {round}: {up}\n{}", project.read(".devrun/journal"));
            for (name, count) in [("a", 2), ("b", 2), ("c", 1)] {
                let alive = eventually("each once", PATIENCE, || {
                    let alive = project.alive(name);
                    (alive.len() == count).then_some(alive)
                });
                assert!(!alive.is_empty());
            }
            project.run(&["down"]).code(0);
            project.nothing_left();
            done += 1;
        }
    }
    figures(&format!("{done} rounds, 0 orphans; {left_over} times the next up had to stop what was left"));
}

/// Waits until a service has so many processes.
fn alive(project: &Project, name: &str, count: usize) {
    eventually("its processes", PATIENCE, || (project.alive(name).len() >= count).then_some(()));
}

/// One look that came between two hops is not proof.
#[track_caller]
fn stays_without_processes(project: &Project) {
    stays_true_for("nothing is left", Duration::from_millis(100), || {
        project.nothing_left();
        true
    });
}

#[test]
fn o08_emergency_ends_a_fork_storm() {
    for flags in ["", "--clobber-env --close-fds"] {
        for project in both() {
            let project = project.procfile(&format!("[services.storm]\nrun = \"{{svc:storm}} --storm 8 {flags}\"\n"));
            for _ in 0..2 {
                project.run(&["up", "-d"]).code(0);
                alive(&project, "storm", 2);
                project.run(&["down", "--emergency"]).code(0);
                project.nothing_left();
                stays_without_processes(&project);
            }
        }
    }
}

#[test]
fn o08_emergency_ends_a_fork_storm_whose_keeper_is_gone() {
    for project in both() {
        let project = project.procfile("[services.storm]\nrun = \"{svc:storm} --storm 8\"\n");
        project.run(&["up", "-d"]).code(0);
        alive(&project, "storm", 2);
        project.kill_both();
        project.run(&["down", "--emergency"]).code(0);
        stays_without_processes(&project);
    }
}

#[test]
fn o08_emergency_ends_a_daemon_that_only_its_keeper_knows() {
    for lose_a_keeper in [false, true] {
        for project in both() {
            let project = project.procfile("[services.a]\nrun = \"{svc:a} --setsid-escape --clobber-env --close-fds\"\n");
            project.run(&["up", "-d"]).code(0);
            alive(&project, "a", 2);
            if lose_a_keeper {
                // The supervisor inherits the daemon, and has nothing but the descent to know it by.
                let old = project.keepers()[0].pid;
                signal(old, Signal::SIGKILL);
                eventually("a new keeper", PATIENCE, || project.keepers().iter().any(|now| now.pid != old).then_some(()));
            }
            let begun = Instant::now();
            project.run(&["down", "--emergency"]).code(0).says("known by its");
            project.nothing_left();
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        }
    }
}

#[test]
fn o08_emergency_ends_what_has_dropped_root() {
    if !is_root() {
        return crate::harness::skipped("needs root");
    }
    let drop = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    for both_killed in [false, true] {
        for project in both() {
            // One is the leader, one has left its session, and one has left it without environment and descriptors.
            project.write(
                "escape.sh",
                &format!(
                    "setsid {drop} sleep 1000 &\n{}exec sleep 1000\n",
                    if both_killed {
                        ""
                    } else {
                        "setsid env -i /usr/bin/setpriv --reuid 65534 --regid 65534 --clear-groups sleep 1000 &\n"
                    }
                ),
            );
            let project =
                project.procfile(&format!("[services.a]\nrun = \"{drop} sleep 1000\"\n[services.b]\nrun = \"sh escape.sh\"\n"));
            project.run(&["up", "-d"]).code(0);
            let sleeps = || project.leftovers().iter().filter(|process| process.command.ends_with("sleep 1000")).count();
            eventually("all of them", PATIENCE, || (sleeps() >= if both_killed { 3 } else { 4 }).then_some(()));
            if both_killed {
                project.kill_both();
            }
            project.run(&["down", "--emergency"]).code(0);
            project.nothing_left();
        }
    }
}

/// The inner supervisor and keeper cannot be looked into by their own user, so descent is all there is.
#[test]
fn o08_emergency_ends_a_stack_within_a_service() {
    for project in both() {
        let project = if is_root() { project.for_user(65_534) } else { project };
        let devrun = if is_root() { project.root().join("bin/devrun") } else { crate::harness::devrun() };
        project.write(
            "inner/procfile.toml",
            &project.fill("[services.x]\nrun = \"{svc:x} --setsid-escape --clobber-env --close-fds\"\n"),
        );
        if is_root() {
            std::os::unix::fs::chown(project.path("inner"), Some(65_534), Some(65_534)).expect("root may chown");
        }
        project.write("nest.sh", &format!("{} -C inner up -d\nexec sleep 1000\n", devrun.display()));
        let project = project.procfile("[services.outer]\nrun = \"sh nest.sh\"\n");
        project.run(&["up", "-d"]).code(0);
        alive(&project, "x", 2);
        project.run(&["down", "--emergency"]).code(0);
        project.nothing_left();
    }
}

/// A process that cannot be ended is named, and its number is not taken for the all-clear.
#[test]
fn o08_emergency_names_what_belongs_to_another_user() {
    if !is_root() {
        return crate::harness::skipped("needs root");
    }
    for project in both() {
        let project = project.for_user(61_236);
        // A program that becomes another user, as `sudo` does: the copy belongs to that user and is set-user-id.
        let copy = project.root().join("bin/other");
        let python = std::fs::canonicalize("/usr/bin/python3").expect("python is installed");
        assert!(std::process::Command::new("cp").arg(python).arg(&copy).status().is_ok_and(|status| status.success()));
        std::os::unix::fs::chown(&copy, Some(61_237), None).expect("root may chown");
        std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).expect("root may chmod");
        project.write("other.py", "import os, time\nos.setresuid(os.geteuid(), os.geteuid(), os.geteuid())\nopen('begun', 'w') if os.access('.', os.W_OK) else None\ntime.sleep(1000)\n");
        let project = project.procfile("[services.a]\nrun = \"{dir}/../bin/other other.py {token}-a-\"\n");
        project.run(&["up", "-d"]).code(0);
        let other = eventually("it has become another user", PATIENCE, || {
            let pid = project.alive("a").first()?.pid;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.contains("Uid:\t61237\t61237").then_some(pid)
        });
        project.run(&["down", "--emergency"]).code(9).says(&other.to_string()).says("help:");
        signal(other, Signal::SIGKILL);
        project.nothing_left();
    }
}

/// The stop takes longer than a supervisor that does not answer is waited for.
#[test]
fn c03_an_up_during_a_down_waits_and_starts() {
    let mut text =
        "[defaults]\nstop = { grace = \"12s\" }\n[services.slow]\nrun = \"{svc:slow} --stop-takes 11500\"\n".to_owned();
    for number in 0..60 {
        let run = if number % 3 == 0 { "sh -c 'exit 3' {token}".to_owned() } else { format!("{{svc:s{number}}}") };
        text.push_str(&format!("[services.s{number}]\nrun = \"{run}\"\n"));
    }
    let project = Project::new().procfile(&text);
    // A third of it fails, which is what the exit code says.
    project.start(&["up", "-d"]).outcome_within(LONG).code(1);
    let slow = project.alive("slow")[0].pid;
    let down = project.start(&["down"]);
    eventually("the stop has begun", PATIENCE, || (project.alive("s1").is_empty()).then_some(()));
    let ups = [project.start(&["up", "-d"]), project.start(&["up", "-d"])];
    let codes = ups.map(|up| up.outcome_within(LONG).says("waiting for the stop").code);
    // Both meet in one stack.
    assert_eq!(codes, [Some(1), Some(1)]);
    down.outcome_within(LONG).code(0);
    let now = project.alive("slow");
    assert!(now.len() == 1 && now[0].pid != slow, "{now:?}");
    project.run(&["down", "--emergency"]).code(0);
    project.nothing_left();
}

/// The start that another terminal's emergency cuts short is not a fault of devrun.
#[test]
fn a_start_whose_supervisor_is_killed_says_so() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\nready = { cmd = \"false\", within = \"600s\" }\n");
    let up = project.start(&["up", "-d"]);
    project.wait_state("a", "starting");
    project.run(&["down", "--emergency"]).code(0);
    let up = up.outcome_within(PATIENCE).code(6).says("the supervisor was killed while the stack started").says("devrun up -d");
    assert!(!up.stderr.contains("please report"), "{up}");
    project.nothing_left();
    // One that stays attached is the supervisor itself, and one that has joined gets the same answer.
    let first = project.start(&["up", "-d"]);
    project.wait_state("a", "starting");
    let mut joined = project.start(&["up", "-d"]);
    joined.wait_for("already running");
    project.run(&["down", "--emergency"]).code(0);
    joined.outcome_within(PATIENCE).code(6).says("the supervisor was killed");
    first.outcome_within(PATIENCE).code(6);
    project.nothing_left();
}
