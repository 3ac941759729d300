//! The command of `run` and `exec`: looked for before the stack is started, and with the recipes' programs on its PATH.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::Project;

#[test]
fn a_command_that_does_not_exist_starts_nothing() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh -c 'echo x > started; exec sleep 1000'\"\n");
    let run = project.run(&["run", "--", "no-such-command"]).code(127);
    assert!(run.last_line().contains("cannot find the command `no-such-command`"), "{run}");
    project.run(&["run", "--", "./no-such-file"]).code(127);
    project.write("plain", "x");
    project.run(&["run", "--", "./plain"]).code(126);
    for (name, first_line, code, reason) in [
        ("script", "#!/no/such/interpreter".to_owned(), 127, "script needs /no/such/interpreter, which is not there"),
        ("closed", format!("#!{}", project.path("plain").display()), 126, "plain, which is not executable"),
    ] {
        project.write(name, &format!("{first_line}\n"));
        std::fs::set_permissions(project.path(name), std::fs::Permissions::from_mode(0o755)).expect("our own file");
        let run = project.run(&["run", "--", &format!("./{name}")]).code(code);
        assert!(run.last_line().contains(reason), "{run}");
    }
    assert!(!project.path("started").exists(), "the stack was started");
    project.run(&["run", "--", "true"]).code(0);
    assert!(project.path("started").exists());
}

#[test]
fn check_names_a_working_directory_that_is_not_there() {
    let project = Project::new().procfile("[services.a]\nrun = \"true\"\ndir = \"no/such\"\n[services.b]\nrun = \"true\"\n");
    let check =
        project.run(&["check"]).code(0).says("warning: a: missing directory").says("mkdir -p").says_not("b: missing directory");
    assert!(check.to_string().contains("/no/such"), "{check}");
}

#[test]
fn a_working_directory_that_nothing_makes_starts_nothing() {
    let other = "[services.other]\nrun = \"sh -c 'echo x > started; exec sleep 1000'\"\n";
    let project = Project::new();
    for command in [&["up", "-d"][..], &["run", "--", "true"]] {
        project.rewrite(&format!("{other}[services.a]\nrun = \"true\"\ndir = \"no/such\"\n"));
        let up = project.run(command).code(2).says("help: mkdir -p");
        assert!(up.last_line().contains("a: missing directory") && up.last_line().ends_with("/no/such"), "{up}");
        assert!(!project.path("started").exists(), "{up}");
    }
    // A task makes it, or it belongs to something else than what is asked for.
    let made =
        "[tasks.make]\nrun = \"mkdir -p no/such\"\n[services.a]\nrun = \"{svc:a}\"\ndir = \"no/such\"\ndepends_on = [\"make\"]\n";
    project.rewrite(&format!("{other}{made}[services.b]\nrun = \"true\"\ndir = \"nowhere\"\n"));
    project.run(&["up", "-d", "a"]).code(0);
    project.run(&["down"]).code(0);
    // What runs before the service itself names the directory too.
    std::fs::remove_dir_all(project.path("no")).expect("our own directory");
    project.rewrite("[services.b]\nrun = \"{svc:b}\"\n[services.a]\nrun = \"true\"\ndir = \"no/such\"\npre_start = \"true\"\ndepends_on = [\"b\"]\n");
    let up = project.run(&["up", "-d"]).code(2);
    assert!(up.last_line().contains("/no/such: No such file"), "{up}");
    project.run(&["down"]).code(0);
}

#[test]
fn a_command_that_a_task_installs_is_looked_for_afterwards() {
    let text = "[tasks.install]\nrun = \"sh -c 'mkdir -p bin; cp /bin/true bin/made'\"\n\
                [services.a]\nrun = \"{svc:a}\"\ndepends_on = [\"install\"]\n";
    let project = Project::new().procfile(text);
    project.run(&["run", "--", "bin/made"]).code(0);
    project.run(&["run", "--", "bin/other"]).code(127);
}

#[test]
fn the_programs_of_a_recipe_are_on_the_path_of_exec_and_run() {
    let project = Project::new();
    std::fs::create_dir_all(project.path("redis/bin")).expect("a directory");
    for (name, text) in [
        ("redis-server", "#!/bin/sh\ncase $1 in --version) echo 'Redis server v=7.9.9'; exit;; esac\nexec sleep 1000\n"),
        ("redis-cli", "#!/bin/sh\necho \"the cli of 7.9.9: $*\"\n"),
    ] {
        let file = project.path(&format!("redis/bin/{name}"));
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let project = project.procfile(
        "[sources.redis]\npath = \"redis\"\nversion = \"7.9.9\"\n[services.cache]\nuse = \"redis\"\nport = \"auto\"\nready = false\n",
    );
    let run = project.run(&["run", "--", "redis-cli", "a b", "c"]).code(0);
    assert_eq!(run.stdout.trim(), "the cli of 7.9.9: a b c", "{run}");
    project.run(&["up", "-d"]).code(0);
    for command in [&["exec", "cache", "--", "redis-cli", "ping"][..], &["exec", "cache", "--", "sh", "-c", "redis-cli ping"]] {
        let exec = project.run(command).code(0);
        assert_eq!(exec.stdout.trim(), "the cli of 7.9.9: ping", "{exec}");
    }
    project.run(&["down"]).code(0);
}
