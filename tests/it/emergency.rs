//! Nothing is left running when both the keeper and the supervisor die, and when `down --emergency` has to end processes
//! that do their best to get away. Each case runs with cgroups and without; without, descent is often the only evidence.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{LONG, PATIENCE, Project, eventually, figures, is_root, rounds, signal};

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
            std::thread::sleep(Duration::from_micros(700 * (round % 10)));
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
