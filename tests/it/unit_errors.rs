//! Errors of what the units of `export systemd` call (`devrun __unit`): each names the thing and the cause, and has something to type.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::harness::Project;

/// A service whose program names an interpreter that does not exist, one that devrun does not start, and one with a file to render.
fn project() -> Project {
    let project = Project::new().procfile(
        "[project]\nname = \"shop\"\n\
         [services.broken]\nrun = \"./broken\"\nstop = { command = \"./broken\" }\n\
         [services.other]\nexternal = \"redis://127.0.0.1:9\"\n\
         [services.rendered]\nrun = \"true\"\nrender = { \"a.in\" = \"a.conf\" }\n",
    );
    project.write("a.in", "x\n");
    project.write("broken", "#!/nonexistent/interpreter\n");
    fs::set_permissions(project.path("broken"), fs::Permissions::from_mode(0o755)).expect("our own file");
    project
}

/// Where the plan of the units is, as the error says that it is not there.
fn plan_file(project: &Project) -> PathBuf {
    let outcome = project.run(&["__unit", "exec", "broken"]).code(6).says("help: systemctl --user restart devrun-NAME.service");
    let (_, rest) = outcome.stderr.split_once("the stack's procfile has not been read: no ").expect("the path is named");
    PathBuf::from(rest.lines().next().expect("a line"))
}

#[test]
fn what_cannot_be_executed_is_named_with_the_reason() {
    let project = project();
    project.run(&["__unit", "plan"]).code(0);
    for action in ["exec", "stop"] {
        project
            .run(&["__unit", action, "broken"])
            .code(7)
            .says("broken needs /nonexistent/interpreter, which is not there")
            .says("help: install /nonexistent/interpreter");
    }
    project.nothing_left();
}

#[test]
fn a_unit_that_does_not_fit_the_procfile_says_how_to_write_it_again() {
    let project = project();
    project.run(&["__unit", "plan"]).code(0);
    for (action, name, reason) in [
        ("exec", "gone", "the procfile has no service or task gone now"),
        ("exec", "other", "other has no process of its own"),
        ("task", "broken", "broken is a service, and its unit takes it for a task"),
        ("address", "broken", "the copies of broken share no address now"),
    ] {
        project
            .run(&["__unit", action, name])
            .code(2)
            .says(&format!("error: {reason}"))
            .says("help: write the units again: devrun export systemd -o DIRECTORY --yes");
    }
    project.nothing_left();
}

#[test]
fn a_runtime_directory_that_cannot_be_used_is_named() {
    let project = project();
    let plan = plan_file(&project);
    project.run(&["__unit", "plan"]).code(0);
    // A file where the service's directory has to be.
    let dir = plan.with_file_name("rendered");
    fs::write(&dir, "").expect("the runtime directory is there");
    project
        .run(&["__unit", "exec", "rendered"])
        .code(2)
        .says(&format!("error: cannot write {}: ", dir.display()))
        .says(&format!("help: check owner, mode and free space: ls -ld {}", plan.parent().expect("a directory").display()));
    fs::write(&plan, "{").expect("the plan is ours");
    project
        .run(&["__unit", "exec", "rendered"])
        .code(2)
        .says(&format!("error: invalid {}: ", plan.display()))
        .says("help: systemctl --user restart devrun-NAME.service writes it again");
    project.nothing_left();
}

/// The help is that of `up`, with the place where systemd keeps the output.
#[test]
fn a_service_that_does_not_become_ready_has_the_help_of_its_last_answer() {
    let project = Project::new().procfile(
        "[services.web]\nrun = \"sleep 1000\"\nready = { cmd = \"sh -c 'exit 127'\", within = \"1s\", interval = \"100ms\" }\n",
    );
    project.run(&["__unit", "plan"]).code(0);
    project.run(&["__unit", "ready", "web"]).code(3).says(
        "help: journalctl shows its output; services.web.ready.cmd runs a command that is not there: install or correct it",
    );
    project.nothing_left();
}
