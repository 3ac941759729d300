//! Programs that a project has installed for itself, and what is said of one that is nowhere.

use std::os::unix::fs::PermissionsExt;

use crate::harness::Project;

#[test]
fn programs_of_a_virtual_environment_and_of_node_are_found() {
    let project = Project::new().procfile(
        r#"
        [tasks.install]
        dir = "api"
        run = "sh -c 'mkdir -p node_modules/.bin; cp ../.venv/bin/tool node_modules/.bin/later; echo later >> node_modules/.bin/later; cp node_modules/.bin/later node_modules/.bin/sleep'"
        [services.api]
        dir = "api"
        run = "tool api"
        ready = { file = "api/tool-api" }
        [services.front]
        dir = "api"
        run = "later front"
        depends_on = ["install"]
        ready = { file = "api/tool-front" }
        # It waits for the task by way of a service, and the machine has a program of that name.
        [services.shadowed]
        dir = "api"
        run = "sleep shadowed"
        depends_on = ["front"]
        ready = { file = "api/tool-shadowed" }
        [services.chain]
        dir = "api"
        run = "later chain"
        depends_on = ["front"]
        ready = { file = "api/tool-chain" }
        [services.own]
        run = ["sh", "-c", "echo $PATH > path; exec sleep 1000"]
        env = { PATH = "/usr/bin:/bin" }
        "#,
    );
    project.write(".venv/bin/tool", "#!/bin/sh\ntouch tool-$1\nexec /bin/sleep 1000\n");
    project.write("api/keep", "");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(project.path(".venv/bin/tool"), executable).expect("our own file");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(project.read("path"), "/usr/bin:/bin\n", "a PATH of the procfile's is kept");
    // From a shell with the same PATH nothing has changed, although there are more directories now.
    project.run(&["up", "-d"]).code(0).says("nothing to do");
    project.run(&["exec", "api", "--", "sh", "-c", "command -v tool"]).code(0).says(".venv/bin/tool");
    project.run(&["down"]).code(0);
}

/// A tier is waited for without an edge.
#[test]
fn a_program_that_a_lower_tier_installs_is_found() {
    let project = Project::new().procfile(
        r#"
        [tasks.install]
        tier = 1
        run = ["sh", "-c", "mkdir -p .venv/bin; cp tool .venv/bin/later"]
        [services.api]
        tier = 2
        run = "later"
        [services.front]
        tier = 3
        run = "later"
        "#,
    );
    project.write("tool", "#!/bin/sh\nexec sleep 1000\n");
    std::fs::set_permissions(project.path("tool"), std::fs::Permissions::from_mode(0o755)).expect("our own file");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
}

#[test]
fn a_missing_program_is_named_without_the_path() {
    let project = Project::new().procfile("[services.a]\nrun = \"uvicron app:app\"\n[services.b]\nrun = \"uvicron b:b\"\n");
    let up = project.run(&["up", "-d"]).code(7).says("cannot find the command `uvicron`").says("install uvicron");
    drop(up.says_not("/usr/local/sbin"));
    project.run(&["exec", "a", "--", "nosuchcmd"]).code(127).says("nosuchcmd").says_not("/usr/local/sbin");
}
