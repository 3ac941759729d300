//! What someone meets who types `devrun` for the first time: no procfile, no arguments.

use crate::harness::{LONG, Project, eventually};

#[test]
fn without_arguments_the_next_steps_are_named_and_it_is_not_an_error() {
    let project = Project::new();
    project.run(&[]).code(0).says("devrun init").says("devrun demo").says("devrun run --with postgres");
    project.write("compose.yml", "services: {}\n");
    project.run(&[]).code(0).says("compose.yml can be run as it is").says("devrun import");
    project.rewrite("[services.a]\nrun = \"{svc:a}\"\n");
    project.run(&[]).code(0).says("devrun up").says("devrun check");
}

#[test]
fn without_arguments_the_file_of_another_tool_is_named_with_its_import() {
    for name in ["process-compose.yaml", "process-compose.yml", "Procfile", "docker-compose.yml", "compose.yaml"] {
        let project = Project::new();
        project.write(name, "x: 1\n");
        project.run(&[]).code(0).says(&format!("devrun import {name}"));
    }
}

#[test]
fn a_procfile_that_may_not_be_used_is_an_error_without_arguments_too() {
    if !crate::harness::is_root() {
        return crate::harness::skipped("a file of another user needs root");
    }
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    std::os::unix::fs::chown(project.path("procfile.toml"), Some(65_534), Some(65_534)).expect("root may");
    project.run(&[]).code(2).says("belongs to another user");
}

#[test]
fn verb_version_json_names_the_build() {
    let version = Project::new().run(&["version", "--json"]).code(0).json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["os"], std::env::consts::OS);
    assert_eq!(version["arch"], std::env::consts::ARCH);
}

#[test]
fn the_files_of_the_demo_are_valid_and_an_existing_directory_is_kept() {
    let project = Project::new();
    project.run(&["demo", "--write", "shop"]).code(0).says("devrun -C shop up");
    project.run(&["-C", "shop", "check"]).code(0).says("no errors");
    project.write("shop/notes.sql", "-- mine\n");
    project.run(&["demo", "--write", "shop"]).code(2).says("shop exists");
    assert_eq!(project.read("shop/notes.sql"), "-- mine\n");
}

/// What a start says to type next works where it was typed: the demo lies in a temporary directory.
#[test]
fn the_commands_after_a_start_name_a_directory_that_is_elsewhere() {
    let project = Project::new();
    let path = project.path("other/procfile.toml");
    project.write("other/procfile.toml", "[services.web]\nrun = \"sleep 1000\"\n");
    // As the demo is started.
    let file = path.display().to_string();
    let directory = project.path("other").display().to_string();
    let up = project.run(&["-f", &file, "up", "-d"]).code(0).says(&format!("devrun -C {directory} ps "));
    drop(up.says(&format!("devrun -C {directory} logs -f    follow the logs")));
    project.run(&["-C", &directory, "ps"]).code(0).says("running");
    project.run(&["-C", &directory, "down"]).code(0);
    project.write("procfile.toml", "[services.web]\nrun = \"sleep 1000\"\n");
    project.run(&["up", "-d"]).code(0).says("  devrun ps         what runs");
    project.run(&["down"]).code(0);
}

#[test]
fn a_stopped_demo_leaves_neither_process_nor_directory() {
    let project = Project::new();
    let mut demo = project.start(&["demo"]);
    // Where the servers are not installed and cannot be fetched, the demo fails; it must leave nothing all the same.
    let directory = eventually("the demo's directory", LONG, || demo_directories(&project).into_iter().next());
    demo.wait_for("postgres");
    demo.signal(nix::sys::signal::Signal::SIGINT);
    assert_ne!(demo.outcome_within(LONG).code, Some(0));
    assert!(!directory.exists(), "{}", directory.display());
}

fn demo_directories(project: &Project) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(project.root().join("tmp")).expect("our own directory").flatten();
    entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("devrun-demo-")).collect()
}

#[test]
fn a_procfile_with_errors_leaves_completions_and_says_that_the_stack_runs_on() {
    let project = Project::new().procfile("[services.web]\nrun = \"{svc:web}\"\n");
    project.run(&["up", "-d"]).code(0);
    project.rewrite("[services.web]\nrun = 5\n");
    assert_eq!(project.run(&["__services"]).code(0).stdout, "web\n");
    for command in [&["exec", "web", "--", "true"][..], &["env", "web"], &["restart", "web"]] {
        project.run(command).code(2).says("the stack keeps running as it was started");
    }
    project.run(&["down"]).code(0);
}

#[test]
fn a_variable_that_stands_in_an_env_file_that_is_not_read_is_found_there() {
    let service = "[services.a]\nrun = \"{svc:a}\"\nenv = { TOKEN = \"${API_TOKEN}\" }\n";
    let project = Project::new().procfile(service);
    project.run(&["check"]).code(2).says("help: set it in the shell: export API_TOKEN=");
    project.write(".env", "API_TOKENS=x\n");
    project.run(&["check"]).code(2).says("help: set it in the shell");
    project.write(".env", "OTHER=x\nAPI_TOKEN=abc\n");
    for command in [&["check"][..], &["up", "-d"]] {
        project
            .run(command)
            .code(2)
            .says("`API_TOKEN` is not set")
            .says("help: .env has it: [project] env_file = \".env\", or give");
    }
    project.write("other.env", "API_TOKENS=x\n");
    project.rewrite(&format!("[project]\nenv_file = \"other.env\"\n{service}"));
    project.run(&["check"]).code(2).says("help: .env has it: add \".env\" to env_file of [project]");
    // As the help says.
    project.rewrite(&format!("[project]\nenv_file = [\"other.env\", \".env\"]\n{service}"));
    project.run(&["check"]).code(0);
}
