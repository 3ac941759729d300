//! `I…`: one-time work through the whole binary. Kills in the middle of a first boot are in `init.rs` (every moment of the
//! protocol), `tests/real` (Postgres) and `case_real.rs` (a whole stack); here is what a user meets.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, is_root, rounds, signal, skipped};
use crate::services::installed;
use crate::waits::let_time_pass;

trials![
    i02_a_supervisor_killed_in_the_first_boot_leaves_nothing_half_made,
    i03_a_failing_first_boot_leaves_no_data_and_works_once_mended,
    i04_foreign_data_is_refused_and_keeps_its_bytes,
    i05_one_volume_removed_runs_its_steps_again_and_no_other,
    i06_an_interrupted_task_is_reported_and_not_run_again,
    i07_ten_first_ups_share_one_secret,
    i08_a_lost_secret_of_existing_data_is_no_new_secret
];

/// Whether a Postgres is installed where the binary looks for one; tests that need it pass without it, which the table of
/// `scripts/soak` shows as skipped.
pub fn postgres() -> bool {
    installed("initdb")
}

const DB: &str = "[services.db]\nuse = \"postgres\"\nport = \"auto\"\ninit = [\"10.sql\"]\n";

pub fn half_made(project: &Project) -> Vec<String> {
    let volume = project.path(".devrun/data/db");
    let names = std::fs::read_dir(&volume).into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            name.starts_with(".devrun-stage")
                || Path::new(name) == Path::new("postgres") && !volume.join("postgres/.devrun-init.json").exists()
        })
        .collect()
}

fn i02_a_supervisor_killed_in_the_first_boot_leaves_nothing_half_made() {
    if !postgres() {
        return skipped("no Postgres is installed");
    }
    for round in 0..rounds(3) {
        let project = Project::new().procfile(DB);
        project.write("10.sql", "create table marks (id int); insert into marks values (1);\n");
        let up = project.start(&["up", "-d"]);
        let_time_pass("the kill hits from before initdb to after it", Duration::from_millis(150 + 350 * (round % 6)));
        let supervisors = || Some(project.supervisors()).filter(|found| !found.is_empty());
        for pid in eventually("a supervisor", PATIENCE, supervisors) {
            signal(pid, Signal::SIGKILL);
        }
        drop(up.outcome());
        project.nothing_left_within(Duration::from_secs(30));
        project.run(&["up", "-d"]).code(0);
        assert_eq!(half_made(&project), Vec::<String>::new(), "round {round}");
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

fn i03_a_failing_first_boot_leaves_no_data_and_works_once_mended() {
    if !postgres() {
        return skipped("no Postgres is installed");
    }
    let project = Project::new().procfile(DB);
    project.write("10.sql", "this is no sql;\n");
    for _ in 0..2 {
        project.run(&["up", "-d"]).code(4).says("db");
        project.nothing_left_within(Duration::from_secs(10));
        assert!(!project.path(".devrun/data/db/postgres").exists(), "no data folder");
        assert_eq!(half_made(&project), Vec::<String>::new());
        project.run(&["logs", "db"]).code(0).says("this");
    }
    project.write("10.sql", "create table marks (id int);\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    project.nothing_left();
}

fn i04_foreign_data_is_refused_and_keeps_its_bytes() {
    if !postgres() {
        return skipped("no Postgres is installed");
    }
    let project = Project::new().procfile(DB);
    project.write("10.sql", "select 1;\n");
    project.write(".devrun/data/db/PG_VERSION", "9.1\n");
    if is_root() {
        std::fs::set_permissions(project.path(".devrun"), std::fs::Permissions::from_mode(0o700)).expect("our own folder");
    }
    let _mode = std::fs::set_permissions(project.path(".devrun"), std::fs::Permissions::from_mode(0o700));
    project.run(&["up", "-d"]).code(4).says("volumes adopt");
    project.nothing_left_within(Duration::from_secs(10));
    assert_eq!(project.read(".devrun/data/db/PG_VERSION"), "9.1\n");
    let names = std::fs::read_dir(project.path(".devrun/data/db")).expect("it is there").count();
    assert_eq!(names, 1, "nothing was added");
}

fn i05_one_volume_removed_runs_its_steps_again_and_no_other() {
    let project = Project::new().procfile(
        r#"
        [volumes]
        one = { class = "persistent" }
        two = { class = "persistent" }
        [tasks.first]
        run = "sh -c 'echo ran >> first-runs'"
        once = "one/.first"
        [tasks.second]
        run = "sh -c 'echo ran >> second-runs'"
        once = "two/.second"
        [services.a]
        run = "{svc:a}"
        depends_on = ["first", "second"]
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    std::fs::remove_dir_all(project.path(".devrun/data/one")).expect("it was made");
    project.run(&["up", "-d"]).code(0);
    assert_eq!((project.read("first-runs").as_str(), project.read("second-runs").as_str()), ("ran\nran\n", "ran\n"));
}

fn i06_an_interrupted_task_is_reported_and_not_run_again() {
    let project = Project::new().procfile(
        r#"
        [volumes]
        work = { class = "persistent" }
        [tasks.seed]
        run = "sh -c 'echo begun >> runs; exec sleep 1000'"
        once = "work/.seeded"
        [services.a]
        run = "{svc:a}"
        depends_on = ["seed"]
        "#,
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    eventually("it runs", PATIENCE, || (project.read("runs") == "begun\n").then_some(()));
    project.kill_both();
    project.run(&["down", "--emergency"]).code(0);
    for _ in 0..2 {
        project.run(&["up", "-d"]).code(4).says("task resolve seed");
        assert_eq!(project.read("runs"), "begun\n", "not by itself");
        assert!(project.alive("a").is_empty(), "what needs it never started");
        project.run(&["down"]).code(0);
    }
    project.nothing_left();
}

fn i07_ten_first_ups_share_one_secret() {
    let projects: Vec<Project> = (0..10).map(|_| Project::new()).collect();
    let shared = projects[0].root().join("shared");
    for project in &projects {
        project.rewrite(&format!(
            "[secrets]\ndir = \"{}\"\ngenerate = [\"key\"]\n[services.a]\nrun = \"sh -c 'printf %s \\\"$THE_KEY\\\" > got; exec sleep 1000'\"\nenv = {{ THE_KEY = \"${{secret.key}}\" }}\n",
            shared.display()
        ));
    }
    let runs: Vec<_> = projects.iter().map(|project| project.start(&["up", "-d"])).collect();
    runs.into_iter().for_each(|run| drop(run.outcome_within(Duration::from_secs(60)).code(0)));
    let value = std::fs::read_to_string(shared.join("key")).expect("it was made");
    assert!(value.trim_end().len() >= 16);
    for project in &projects {
        eventually("it was read", PATIENCE, || (project.read("got") == value.trim_end()).then_some(()));
        project.run(&["down"]).code(0);
    }
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&shared), mode(&shared.join("key"))), (0o700, 0o600));
}

fn i08_a_lost_secret_of_existing_data_is_no_new_secret() {
    if !postgres() {
        return skipped("no Postgres is installed");
    }
    let project = Project::new().procfile(
        "[secrets]\ngenerate = [\"db-password\"]\n[services.db]\nuse = \"postgres\"\nport = \"auto\"\npassword = \"${secret.db-password}\"\n",
    );
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    let file = project.path("secrets/infra/db-password");
    std::fs::remove_file(&file).expect("it was made");
    let up = project.run(&["up", "-d"]);
    assert_eq!(up.code, Some(2), "{up}");
    assert!(up.stderr.contains("db-password"), "{up}");
    assert!(!file.exists(), "no new one");
    project.nothing_left_within(Duration::from_secs(10));
}
