//! `inputs` of a task: files whose contents belong to `once`.

use crate::harness::Project;

const TEXT: &str = "[volumes.v]\npath = \"made\"\nclass = \"cache\"\n\
                    [tasks.install]\nrun = \"sh -c 'mkdir -p made; echo ran >> made/ran'\"\nonce = \"v/.installed\"\n\
                    inputs = [\"requirements.txt\", \"db/**/*.sql\"]\non_change = \"ON_CHANGE\"\n\
                    [services.a]\nrun = \"{svc:a}\"\ndepends_on = [\"install\"]\n";

fn runs(project: &Project) -> usize {
    project.read("made/ran").lines().count()
}

fn project(on_change: &str) -> Project {
    let project = Project::new().procfile(&TEXT.replace("ON_CHANGE", on_change));
    project.write("requirements.txt", "flask\n");
    project.write("db/deep/a.sql", "SELECT 1");
    project.run(&["run", "--", "true"]).code(0);
    assert_eq!(runs(&project), 1);
    project.run(&["run", "--", "true"]).code(0);
    assert_eq!(runs(&project), 1, "nothing has changed");
    project
}

/// Shows: task.inputs.
#[test]
fn a_changed_input_runs_the_task_again_where_that_is_wanted() {
    let project = project("rerun");
    for (round, (file, text)) in
        [("requirements.txt", "flask\nredis\n"), ("db/deep/a.sql", "SELECT 2"), ("db/b.sql", "SELECT 3")].iter().enumerate()
    {
        project.write(file, text);
        project.run(&["task", "--status"]).code(0).says("changed");
        project.run(&["run", "--", "true"]).code(0);
        assert_eq!(runs(&project), round + 2, "{file}");
    }
    // What no glob names does not count.
    project.write("db/notes.txt", "x");
    project.run(&["run", "--", "true"]).code(0);
    assert_eq!(runs(&project), 4);
    // One that is gone does.
    std::fs::remove_file(project.path("db/b.sql")).expect("it is there");
    project.run(&["run", "--", "true"]).code(0);
    assert_eq!(runs(&project), 5);
}

#[test]
fn a_changed_input_is_said_or_fails() {
    let warns = project("warn");
    warns.write("requirements.txt", "flask\nredis\n");
    warns.run(&["run", "--", "true"]).code(0).says("with other inputs");
    assert_eq!(runs(&warns), 1);
    let fails = project("fail");
    fails.write("requirements.txt", "flask\nredis\n");
    fails.run(&["run", "--", "true"]).code(4).says("with other inputs").says("devrun task install --force");
    assert_eq!(runs(&fails), 1);
}

#[test]
fn inputs_that_mean_nothing_are_said() {
    let project = Project::new().procfile(&TEXT.replace("ON_CHANGE", "rerun"));
    project.run(&["run", "--", "true"]).code(0).says("no file matches \"requirements.txt\"");
    project.rewrite(&TEXT.replace("ON_CHANGE", "rerun").replace("requirements.txt", "a["));
    project.run(&["run", "--", "true"]).code(2).says("invalid glob \"a[\" in tasks.install.inputs");
    project.rewrite(&TEXT.replace("ON_CHANGE", "rerun").replace("once = \"v/.installed\"\n", ""));
    project.run(&["check"]).code(0).says("`inputs` of task `install` has no effect").says("once = \"VOLUME/.install\"");
}

/// The opening of a FIFO waits for a writer; a socket and a device are no content either.
#[test]
fn what_is_no_file_is_no_input_and_holds_nothing_up() {
    let project = Project::new().procfile(&TEXT.replace("ON_CHANGE", "rerun").replace("requirements.txt", "."));
    project.write("db/a.sql", "SELECT 1");
    for name in ["pipe", "db/pipe.sql"] {
        nix::unistd::mkfifo(&project.path(name), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    }
    let _socket = std::os::unix::net::UnixListener::bind(project.path("socket")).expect("a socket");
    project.run(&["task", "--status"]).code(0).says("fresh");
    project.run(&["run", "--", "true"]).code(0);
    assert_eq!(runs(&project), 1);
    let status = project.run(&["task", "--status"]).code(0);
    assert!(!status.stdout.contains("Z"), "a time for people: {status}");
}
