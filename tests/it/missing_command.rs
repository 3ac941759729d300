//! A command that a shell does not find: the error names it, says what to do, and has the code of a missing binary.

use crate::harness::Project;

#[test]
fn a_command_that_a_shell_does_not_find_is_a_missing_binary() {
    for run in ["run = \"cd . && uvicron app:app\"", "run = [\"sh\", \"-c\", \"cd . && uvicron app:app\"]"] {
        let project =
            Project::new().procfile(&format!("[services.web]\n{run}\nready = {{ file = \"never\", within = \"60s\" }}\n"));
        let up =
            project.run(&["up", "-d"]).code(7).says("`uvicron` was not found").says("help: install uvicron, or correct its name");
        let last = up.last_line();
        assert!(
            last.starts_with("devrun: exit 7 (binary missing or of the wrong version): web: `uvicron` was not found")
                && last.contains("procfile.toml:"),
            "{last}"
        );
        project.run(&["down"]).code(0);
        project.nothing_left();
    }
}

#[test]
fn a_task_whose_shell_does_not_find_a_command_blocks_with_the_same_code() {
    let project = Project::new().procfile(
        "[tasks.build]\nrun = \"cd . && no-such-builder\"\n[services.web]\nrun = \"{svc:web}\"\ndepends_on = [\"build\"]\n",
    );
    project.run(&["up", "-d"]).code(7).says("`no-such-builder` was not found").says("blocked by it: web");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A service that its policy starts again and again never lives for a moment either.
#[test]
fn restarts_do_not_hide_the_missing_command() {
    let policy = "restart = \"always\"\nbackoff = { initial = \"10ms\", max = \"20ms\" }";
    let project = Project::new().procfile(&format!("[services.web]\nrun = \"cd . && uvicron\"\n{policy}\n"));
    project.run(&["up", "-d"]).code(7).says("uvicron");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// No start runs a build unless asked.
#[test]
fn what_a_build_would_make_is_answered_with_the_build() {
    let project = Project::new().procfile(
        r#"
        [services.db]
        run = "sh -c 'echo x > started; exec sleep 1000'"
        [services.web]
        run = "./server"
        build = "sh -c 'cp /bin/sleep server'"
        [services.named]
        run = "named-server 1000"
        build = "sh -c 'mkdir -p .venv/bin; cp /bin/sleep .venv/bin/named-server'"
        [services.shell]
        run = "cd . && ./shell-server 1000"
        build = "sh -c 'cp /bin/sleep shell-server'"
        # Without a probe a shell that takes long to fail counts as started.
        ready = { file = "shell-server" }
        [services.never]
        run = "./nothing-makes-this"
        build = "true"
        "#,
    );
    for name in ["web", "named", "shell"] {
        let up = project.run(&["up", "-d", name]).code(7);
        drop(up.says(&format!("help: devrun up --build, if the build of {name} makes it; or ")));
    }
    project.rewrite(&project.read("procfile.toml").replace("./server\"", "./server 1000\""));
    project.run(&["up", "-d", "--build", "web", "named", "shell"]).code(0);
    // It has run, and made something else.
    project.run(&["up", "-d", "--build", "never"]).code(7).says("nothing-makes-this").says_not("devrun up --build");
    project.run(&["down"]).code(0);
    project.nothing_left();
}
