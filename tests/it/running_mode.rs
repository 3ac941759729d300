//! A command of another mode than the one that runs: the modes share the supervisor and, with fixed ports, the addresses, so it
//! would act on the data and the processes of the mode that runs.

use crate::harness::{PATIENCE, Project, devrun, eventually};

const STACK: &str = r#"
[project]
mode = "dev"
[volumes]
store = {}
[services.store]
run = "{svc:store}"
data = "store"
[services.api]
run = "{svc:api}"
env = { MODE = "${mode}" }
[services.db]
external = "postgres://app:none@127.0.0.1:1/app"
[tasks.seed]
run = "touch seeded"
once = "store/.seeded"
[modes.prod]
env.X = "1"
[modes.dev]
env.X = "0"
"#;

/// Each is refused with both modes and with what can be typed, and changes nothing.
#[test]
fn what_acts_on_another_mode_than_the_one_that_runs_is_refused() {
    let project = Project::new().procfile(STACK);
    project.run(&["--mode", "dev", "up", "-d", "store", "api"]).code(0);
    project.write(".devrun/data/dev/store/row", "dev");
    let pid = project.service("api")["pid"].clone();
    project.write("x.sql", "");
    let refused: &[&[&str]] = &[
        &["sql", "SELECT 1"],
        &["psql", "-c", "SELECT 1"],
        &["migrate"],
        &["exec", "api", "--", "touch", "written"],
        &["backup", "store", "-o", "saved.tar"],
        &["restore", "store", "x.sql", "--yes"],
        &["db", "fork", "db"],
        &["snapshot", "save", "one"],
        &["task", "seed"],
        &["restart", "api"],
        &["start", "api"],
        &["stop", "api"],
        &["kill", "-s", "TERM", "api"],
        &["scale", "api=2"],
        &["wait", "api"],
        &["down", "--volumes"],
        &["down", "--backup"],
    ];
    for &words in refused {
        let outcome = project.run(&[&["--mode", "prod"][..], words].concat()).code(6);
        let help = format!("devrun --mode dev {} … acts on what runs; devrun --mode prod up -d changes the stack over", words[0]);
        drop(outcome.says("the stack runs in mode dev, and this command is for mode prod").says(&help));
    }
    project.run_in_shell("DEVRUN_MODE=prod \"$0\" exec api -- touch written").code(6).says("runs in mode dev");
    project.run(&["--mode", "", "restart", "api"]).code(6).says("this command is for no mode").says("devrun --mode '' up -d");
    for file in ["saved.tar", "written", "seeded", ".devrun/snapshots/one"] {
        assert!(!project.path(file).exists(), "{file}");
    }
    assert_eq!((project.service("api")["pid"].clone(), project.ps()["mode"].clone()), (pid, "dev".into()));
    assert_eq!(project.read(".devrun/data/dev/store/row"), "dev");
    // What only shows is not refused, and says whose values they are.
    for words in [&["ps"][..], &["logs", "api"], &["why", "api"], &["config"], &["check"]] {
        project.run(&[&["--mode", "prod"][..], words].concat()).code(0).says_not("this command is for");
    }
    for words in [&["env"][..], &["urls"], &["inspect", "api"]] {
        let shown = project.run(&[&["--mode", "prod"][..], words].concat()).code(0);
        drop(shown.says("note: the stack runs in mode dev; these are the values of mode prod"));
    }
    // The mode that runs, given or not.
    project.run(&["--mode", "dev", "exec", "api", "--", "sh", "-c", "test $MODE = dev"]).code(0);
    project.run(&["restart", "api"]).code(0);
    // A start changes the stack over, and a stop is for whatever runs.
    project.run(&["--mode", "prod", "up", "-d", "store", "api"]).code(0);
    assert_eq!(project.ps()["mode"], "prod");
    project.run(&["--mode", "prod", "restart", "api"]).code(0);
    // Where none is given the mode that runs is meant, whatever the procfile's own is.
    project.run(&["exec", "api", "--", "sh", "-c", "test $MODE = prod"]).code(0);
    project.run(&["restart", "api"]).code(0);
    project.run(&["exec", "api", "--", "sh", "-c", "test $MODE = prod"]).code(0);
    assert_eq!(project.ps()["mode"], "prod");
    project.run(&["stop", "api"]).code(0);
    project.run(&["--mode", "dev", "down"]).code(0);
    project.run(&["--mode", "dev", "snapshot", "save", "one"]).code(0);
    project.nothing_left();
}

/// A service does not know with which options its stack was started.
#[test]
fn a_command_inside_a_service_is_for_the_mode_of_its_stack() {
    let project = Project::new();
    project.write("inside.sh", &format!("{} exec api -- sh -c 'echo $MODE' >said 2>&1\nexec sleep 1000\n", devrun().display()));
    let project = project.procfile(
        "[project]\nmode = \"dev\"\n[services.api]\nrun = \"{svc:api}\"\nenv = { MODE = \"${mode}\" }\n\
         [services.inside]\nrun = \"sh inside.sh {token}-inside-\"\ndepends_on = [\"api\"]\n[modes.dev]\n[modes.prod]\n",
    );
    project.run(&["--mode", "prod", "up", "-d"]).code(0);
    let said = eventually("what it says", PATIENCE, || Some(project.read("said")).filter(|said| said.ends_with('\n')));
    assert_eq!(said, "prod\n");
    project.run(&["down"]).code(0);
    project.nothing_left();
}
