//! Programs that a restart would not find: nothing that runs is stopped for it.

use std::os::unix::fs::PermissionsExt;

use crate::harness::Project;

/// `check` runs no program: what an installed server said of its version is remembered from a command that does.
fn ask_for_the_version(project: &Project) {
    project.run(&["which", "redis"]);
}

#[test]
fn a_program_that_is_missing_stops_nothing_that_runs() {
    let text = "[services.cache]\nrun = \"{svc:cache}\"\n[services.api]\nrun = \"{svc:api}\"\ndepends_on = [\"cache\"]\n";
    let project = Project::new().procfile(text);
    project.run(&["up", "-d"]).code(0);
    ask_for_the_version(&project);
    let pids = || ["cache", "api"].map(|name| project.service(name)["pid"].clone());
    let before = pids();
    for (launch, missing) in [("use = \"redis@99\"", "no redis 99 here"), ("run = \"no-such-program\"", "`no-such-program`")] {
        // The other one has changed too, and could be restarted.
        let api = "[services.api]\nenv = { A = \"1\" }\nrun = \"{svc:api}\"\n";
        project.rewrite(&format!("[services.cache]\n{launch}\n{api}"));
        let named = format!("procfile.toml:2:{}: cache: ", launch.find('"').expect("a value") + 1);
        let check = project.run(&["check"]).code(0).says(&named).says(missing).says("help: ");
        assert!(check.stderr.contains(&format!("warning: {named}")), "{check}");
        project.run(&["up", "--plan"]).code(0).says(&named).says(missing).says("restart  cache");
        for command in [&["up", "-d"][..], &["restart", "cache"], &["restart"]] {
            let refused = project.run(command).code(7).says(&named).says(missing).says("help: ");
            assert!(refused.last_line().contains("nothing was stopped"), "{refused}");
            assert_eq!(pids(), before, "{command:?}: {refused}");
        }
    }
    // What runs before it is looked for as well.
    project.rewrite(
        "[services.cache]\nrun = \"{svc:cache}\"\npre_start = \"no-such-preparation now\"\n[services.api]\nrun = \"{svc:api}\"\n",
    );
    project.run(&["check"]).code(0).says("warning: ").says("`no-such-preparation`");
    for command in [&["up", "-d"][..], &["restart", "cache"]] {
        let refused = project.run(command).code(7).says("`no-such-preparation`");
        assert!(refused.last_line().contains("nothing was stopped"), "{refused}");
        assert_eq!(pids(), before, "{command:?}: {refused}");
    }
    project.rewrite("[services.cache]\nrun = \"no-such-program\"\n[services.api]\nrun = \"{svc:api}\"\n");
    project.write(".devrun/data/kept", "");
    let refused = project.run(&["rebuild", "-d", "--yes"]).code(7).says("`no-such-program`");
    assert!(refused.last_line().contains("nothing was deleted"), "{refused}");
    assert_eq!(pids(), before);
    // What is not concerned is restarted.
    project.run(&["restart", "api"]).code(0);
    project.rewrite(text);
    project.run(&["up", "-d"]).code(0).says_not("no-such-program");
    project.run(&["down"]).code(0);
}

#[test]
fn what_probes_and_stops_a_service_is_looked_for_too() {
    let text = "[services.api]\nrun = \"{svc:api}\"\n";
    let project = Project::new().procfile(text);
    project.run(&["up", "-d"]).code(0);
    let pid = project.service("api")["pid"].clone();
    for (keys, place, missing) in [
        ("ready = { cmd = \"no-such-probe -f\" }", "procfile.toml:3:17: api: ready.cmd: ", "`no-such-probe`"),
        ("ready = { cmd = [\"no-such-probe\", \"-f\"] }", "procfile.toml:3:17: api: ready.cmd: ", "`no-such-probe`"),
        ("ready = { cmd = \"no-such-probe -f > log\" }", "procfile.toml:3:17: api: ready.cmd: ", "`no-such-probe`"),
        ("alive = { cmd = \"no-such-probe\" }", "procfile.toml:3:17: api: alive.cmd: ", "`no-such-probe`"),
        ("stop = { command = \"no-such-stop now\" }", "procfile.toml:3:20: api: stop.command: ", "`no-such-stop`"),
    ] {
        project.rewrite(&format!("{text}{keys}\n"));
        project.run(&["check"]).code(0).says(&format!("warning: {place}")).says(missing);
        for command in [&["up", "-d"][..], &["restart", "api"]] {
            let refused = project.run(command).code(7).says(place).says(missing).says("help: ");
            assert!(refused.last_line().contains("nothing was stopped"), "{refused}");
            assert_eq!(project.service("api")["pid"], pid, "{keys}");
        }
    }
    // A line that needs a shell, a builtin, and a file that the service may make.
    for keys in [
        "ready = { cmd = \"no-such-probe || true\" }",
        "ready = { cmd = \"test -d . && true\" }",
        "ready = { cmd = \"./no-such-probe || true\" }",
        "alive = { cmd = \"./bin/made-later\" }",
        "stop = { command = \"if true; then true; fi\" }",
    ] {
        project.rewrite(&format!("{text}{keys}\n"));
        project.run(&["check"]).code(0).says_not("cannot find");
        project.run(&["up", "-d"]).code(0);
    }
    // A shell that is replaced by its command is sure to look for it.
    project.rewrite("[services.api]\nrun = \"no-such-program > log\"\n");
    project.run(&["check"]).code(0).says("warning: procfile.toml:2:7: api: ").says("`no-such-program`");
    project.run(&["restart", "api"]).code(7).says("`no-such-program`");
    assert_eq!(project.service("api")["state"], "running");
    project.rewrite(text);
    project.run(&["down"]).code(0);
}

#[test]
fn a_secret_is_kept_where_its_reader_could_not_be_started_again() {
    let text = "[secrets]\ngenerate = [\"key\"]\n[services.api]\nrun = \"{svc:api}\"\nenv = { KEY = \"${secret.key}\" }\n";
    let project = Project::new().procfile(text);
    project.run(&["up", "-d"]).code(0);
    let before = (project.read("secrets/infra/key"), project.service("api")["pid"].clone());
    project.rewrite(&text.replace("{svc:api}", "no-such-program"));
    let refused = project.run(&["secret", "rotate", "key"]).code(7).says("procfile.toml:4:7: api: ");
    assert!(refused.last_line().contains("nothing was changed"), "{refused}");
    assert_eq!((project.read("secrets/infra/key"), project.service("api")["pid"].clone()), before);
    project.rewrite(text);
    project.run(&["secret", "rotate", "key"]).code(0);
    assert_ne!(project.read("secrets/infra/key"), before.0);
    project.run(&["down"]).code(0);
}

#[test]
fn a_program_that_its_start_may_install_is_not_missing() {
    let project = Project::new().procfile("[services.api]\nrun = \"{svc:api}\"\n");
    project.run(&["up", "-d"]).code(0);
    let installs = "mkdir -p bin && printf '#!/bin/sh\\nexec sleep 1000\\n' > bin/installed && chmod +x bin/installed";
    project.rewrite(&format!(
        "[services.api]\nrun = \"installed\"\npre_start = \"\"\"{installs}\"\"\"\nenv = {{ PATH = \"{{dir}}/bin:${{PATH}}\" }}\n"
    ));
    for command in [&["check"][..], &["up", "--plan"], &["up", "-d"]] {
        project.run(command).code(0).says_not("cannot find");
    }
    assert_eq!(project.service("api")["state"], "running");
    project.run(&["down"]).code(0);
}

#[test]
fn a_start_of_nothing_names_what_is_missing_in_the_plan() {
    let project = Project::new().procfile(
        "[services.cache]\nuse = \"redis@99\"\n[services.extra]\nuse = \"redis@98\"\nport = \"auto\"\noptional = true\n",
    );
    ask_for_the_version(&project);
    project.run(&["check"]).code(0).says("warning: procfile.toml:2:7: cache: no redis 99 here").says_not("redis 98");
    project.run(&["up", "--plan"]).code(0).says("procfile.toml:2:7: cache: no redis 99 here").says_not("redis 98");
}

#[test]
fn check_runs_no_installed_server() {
    let elsewhere = tempfile::tempdir().unwrap();
    let (server, trace) = (elsewhere.path().join("redis-server"), elsewhere.path().join("was-run"));
    std::fs::write(&server, format!("#!/bin/sh\ntouch {}\necho 'Redis server v=7.2.4'\n", trace.display())).unwrap();
    std::fs::set_permissions(&server, PermissionsExt::from_mode(0o755)).unwrap();
    let project = Project::new().procfile("[services.cache]\nuse = \"redis@99\"\n");
    let path = format!("{}:{}", elsewhere.path().display(), project.variables()["PATH"]);
    let project = project.env("PATH", &path);
    for command in [&["check"][..], &["up", "--plan"]] {
        project.run(command).code(0);
        assert!(!trace.exists(), "{command:?}");
    }
    project.run(&["which", "redis"]).code(7);
    assert!(trace.exists());
    project.run(&["check"]).code(0).says("no redis 99 here");
}
