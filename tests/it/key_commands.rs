//! What a command is given: words, environment, directory, limits, identity.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::stat::Mode;

use crate::harness::{PATIENCE, Project, eventually, is_root};

/// Runs the stack until `file` has a whole line, and returns its text.
fn wrote(project: &Project, file: &str) -> String {
    eventually(&format!("{file} is written"), PATIENCE, || {
        let text = project.read(file);
        text.ends_with('\n').then_some(text)
    })
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|one| one == line)
}

/// Shows: limits.nofile, service.limits.
#[test]
fn limits_nofile_is_what_the_process_gets() {
    let project = Project::new().procfile(
        r#"
        [tasks.limited]
        run = ["sh", "-c", "ulimit -n > limited"]
        limits = { nofile = 333 }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    assert_eq!(wrote(&project, "limited"), "333\n");
}

#[test]
fn umask_is_the_callers() {
    let project = Project::new().procfile("[tasks.a]\nrun = [\"sh\", \"-c\", \"umask > mask\"]\n");
    project.run_in_shell("umask 0027; \"$0\" up -d").code(0);
    assert_eq!(Mode::from_bits_truncate(u32::from_str_radix(wrote(&project, "mask").trim(), 8).expect("octal")).bits(), 0o027);
}

/// Shows: service.user_id.
#[test]
fn user_id_runs_as_another_user() {
    if !is_root() {
        return crate::harness::skipped("needs root");
    }
    let project = Project::new().procfile(
        r#"
        [tasks.who]
        run = ["sh", "-c", "id -un > out/who; id -gn >> out/who; echo $HOME >> out/who"]
        user_id = "nobody"
        "#,
    );
    fs::create_dir(project.path("out")).expect("our own folder");
    fs::set_permissions(project.path("out"), fs::Permissions::from_mode(0o777)).expect("our own folder");
    project.run(&["up", "-d"]).code(0);
    let home = nix::unistd::User::from_name("nobody").expect("users can be looked up").expect("there is nobody").dir;
    eventually("three lines", PATIENCE, || (project.read("out/who").lines().count() == 3).then_some(()));
    assert_eq!(project.read("out/who"), format!("nobody\nnogroup\n{}\n", home.display()));
}

/// What is rendered for a service and the socket it notifies on are its user's, and nobody else's.
#[test]
fn user_id_reaches_what_is_rendered_and_its_notify_socket() {
    if !is_root() {
        return crate::harness::skipped("needs root");
    }
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = ["python3", "a.py", "${dir.run}/conf/a.conf"]
        user_id = "nobody"
        ready = { notify = true }
        render = { "a.in" = "conf/a.conf" }
        [services.other]
        run = "sleep 1000"
        render = { "a.in" = "a.conf" }
        "#,
    );
    project.write("a.in", "for ${DEVRUN_SERVICE}\n");
    project.write(
        "a.py",
        "import os, socket, sys, time\nassert open(sys.argv[1]).read() == 'for a\\n' and os.getuid() != 0\n\
         socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\ntime.sleep(1000)\n",
    );
    // The runtime folder lies in one of root's own: that is said, with the folder's name.
    project.run(&["up", "-d"]).code(2).says("nobody cannot pass through").says("/run");
    project.run(&["down"]).code(0);
    let open = fs::Permissions::from_mode(0o711);
    fs::set_permissions(project.root().join("run"), open).expect("our own folder");
    for _ in 0..2 {
        project.run(&["up", "-d"]).code(0);
        assert_eq!(project.service("a")["health"], "healthy");
        project.run(&["restart", "a"]).code(0);
        assert_eq!(project.service("a")["health"], "healthy");
        // The other services stay closed to it.
        let base = project.root().join("run/devrun");
        let hidden = format!("cat {0}/*/other/a.conf || ls {0}", base.display());
        let looked = std::process::Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", &hidden])
            .output()
            .expect("setpriv runs");
        assert!(!looked.status.success(), "{looked:?}");
        project.run(&["down"]).code(0);
    }
}

#[test]
fn user_id_names_the_folder_that_cannot_be_passed() {
    if !is_root() {
        return crate::harness::skipped("needs root");
    }
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = "./deep/run.sh"
        user_id = "nobody"
        [services.b]
        run = "true"
        user_id = "no-such-user"
        "#,
    );
    project.write("deep/run.sh", "#!/bin/sh\nexec sleep 1000\n");
    fs::set_permissions(project.path("deep/run.sh"), fs::Permissions::from_mode(0o755)).expect("our own file");
    fs::set_permissions(project.path("deep"), fs::Permissions::from_mode(0o700)).expect("our own folder");
    project.run(&["up", "-d", "a"]).code(2).says("nobody cannot pass through").says("/p/deep").says("chmod o+x");
    project.run(&["down"]).code(0);
    project.run(&["up", "-d", "b"]).code(2).says("unknown user \"no-such-user\"");
    project.run(&["down"]).code(0);
}

/// Shows: service.pass_env, service.env, service.ports, PORT of a child, PYTHONUNBUFFERED of a child, DEVRUN_SERVICE of a
/// child, DEVRUN_REPLICA of a child, DEVRUN_INSTANCE of a child, DEVRUN_RUN_ID of a child.
#[test]
fn pass_env_and_inherited_environment() {
    let project = Project::new()
        .env("AWS_REGION", "north")
        .env("AWS_KEY", "k")
        .env("EDITOR", "ed")
        .env("DEVRUN_RUN_ID", "of an outer stack")
        .procfile(
            r#"
            [env]
            EVERYWHERE = "yes"
            [services.all]
            run = ["sh", "-c", "env > all; echo end >> all; exec sleep 1000"]
            [services.some]
            run = ["sh", "-c", "env > some; echo end >> some; exec sleep 1000"]
            pass_env = ["AWS_*"]
            port = "auto"
            ready = false
            ports = { metrics = "auto" }
            [services.none]
            run = ["sh", "-c", "env > none; echo end >> none; exec sleep 1000"]
            pass_env = []
            env = { PYTHONUNBUFFERED = "0" }
            "#,
        );
    project.run(&["up", "-d"]).code(0);
    let read = |file: &str| {
        eventually(file, PATIENCE, || {
            let text = project.read(file);
            text.ends_with("end\n").then_some(text)
        })
    };
    let (all, some, none) = (read("all"), read("some"), read("none"));
    for text in [&all, &some, &none] {
        assert!(has(text, "EVERYWHERE=yes") && has(text, "DEVRUN_REPLICA=1") && has(text, "DEVRUN_INSTANCE="), "{text}");
        assert!(text.contains("PATH=") && text.contains("HOME="), "{text}");
        assert!(!text.contains("of an outer stack") && text.contains("DEVRUN_RUN_ID="), "{text}");
    }
    assert!(has(&all, "EDITOR=ed") && has(&all, "AWS_KEY=k") && has(&all, "PYTHONUNBUFFERED=1"), "{all}");
    assert!(has(&some, "AWS_REGION=north") && has(&some, "AWS_KEY=k") && !some.contains("EDITOR="), "{some}");
    assert!(some.contains("\nPORT=") && some.contains("PORT_METRICS=") && has(&some, "DEVRUN_SERVICE=some"), "{some}");
    assert!(!none.contains("AWS_") && !none.contains("EDITOR=") && has(&none, "PYTHONUNBUFFERED=0"), "{none}");
}

/// Shows: service.env_file, service.env_from, project.env_file, envfile.path, envfile.required, file.env, project.required.
#[test]
fn env_file_and_env_from_in_their_order() {
    let project = Project::new().procfile(
        r#"
        [project]
        env_file = [".env"]
        [env]
        A = "env"
        B = "env"
        C = "env"
        D = "env"
        [services.base]
        run = ["sleep", "1000"]
        env = { B = "from base", C = "from base", D = "from base" }
        [services.api]
        run = ["sh", "-c", "echo $A/$B/$C/$D/$E/$ONLY > seen; exec sleep 1000"]
        env_from = "base"
        env_file = ["api.env", { path = "absent.env", required = false }]
        env = { D = "own", E = "${PLACE}" }
        "#,
    );
    project.write(".env", "PLACE=from dot env\nONLY=placeholders\n");
    project.write("api.env", "C='from file'\nD='from file'\n");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(wrote(&project, "seen"), "env/from base/from file/own/from dot env/\n");
}

#[test]
fn a_second_up_restart_and_start_use_the_environment_of_who_asks() {
    let project = Project::new().procfile(
        r#"
        [services.api]
        run = ["sh", "-c", "echo $LEVEL >> seen; exec sleep 1000"]
        env = { LEVEL = "${LOG_LEVEL:-info}" }
        [services.other]
        run = "{svc:other}"
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    assert_eq!(wrote(&project, "seen"), "info\n");
    let other = project.service("other")["pid"].clone();
    let lines = |wanted: &str| eventually(wanted, PATIENCE, || (project.read("seen") == wanted).then_some(()));
    project.run_in_shell("LOG_LEVEL=debug \"$0\" restart api").code(0);
    lines("info\ndebug\n");
    // A second up from a shell without the variable: the definition is another one again.
    project.run(&["up", "-d"]).code(0).says("LEVEL");
    lines("info\ndebug\ninfo\n");
    // What merely came along does not count as a change.
    let pid = project.service("api")["pid"].clone();
    project.run_in_shell("UNRELATED=1 \"$0\" up -d").code(0);
    assert_eq!(project.service("api")["pid"], pid);
    project.run(&["stop", "api"]).code(0);
    project.run_in_shell("LOG_LEVEL=trace \"$0\" start api").code(0);
    lines("info\ndebug\ninfo\ntrace\n");
    assert_eq!(project.service("other")["pid"], other);
}

/// Shows: service.shell, service.run.
#[test]
fn shell_words_and_placeholders_stay_whole() {
    let project = Project::new().env("SECRET", "a b \"c\" $HOME `id` #x 'y' \\ *").procfile(
        r#"
        [services.direct]
        run = "sh ./show.sh direct ${SECRET} $SECRET \"x $SECRET\""
        [services.scripted]
        run = "cd . && sh ./show.sh scripted ${SECRET} $SECRET \"x $SECRET\""
        [services.listed]
        run = ["sh", "./show.sh", "listed", "${SECRET}", "$SECRET"]
        "#,
    );
    project.write(
        "show.sh",
        "name=$1; shift; for word in \"$@\"; do printf '<%s>' \"$word\"; done > $name; echo >> $name\nexec sleep 1000\n",
    );
    project.run(&["up", "-d"]).code(0);
    let secret = "a b \"c\" $HOME `id` #x 'y' \\ *";
    let all = format!("<{secret}><{secret}><x {secret}>\n");
    assert_eq!(wrote(&project, "direct"), all);
    assert_eq!(wrote(&project, "scripted"), all);
    assert_eq!(wrote(&project, "listed"), format!("<{secret}><$SECRET>\n"), "a list leaves $NAME alone");
}

/// Shows: service.pre_start.
#[test]
fn pre_start_runs_before_every_start_in_the_same_environment() {
    let project = Project::new().procfile(
        r#"
        [services.api]
        pre_start = "echo before $LEVEL $PORT >> seen"
        run = ["sh", "-c", "echo main >> seen; exec sleep 1000"]
        port = "auto"
        ready = false
        env = { LEVEL = "one" }
        dir = "backend"
        [services.broken]
        pre_start = "echo 'cannot migrate' >&2; exit 3"
        run = "{svc:broken}"
        "#,
    );
    fs::create_dir(project.path("backend")).expect("our own folder");
    let up = project.run(&["up", "-d"]).code(4).says("pre_start failed").says("cannot migrate");
    assert!(up.last_line().contains("broken"), "{up}");
    project.run(&["restart", "api"]).code(0);
    let seen = eventually("two starts", PATIENCE, || {
        let seen = project.read("backend/seen");
        (seen.lines().count() == 4).then_some(seen)
    });
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].starts_with("before one ") && lines[1] == "main", "{seen}");
    assert_eq!((lines[0], lines[1]), (lines[2], lines[3]));
    assert!(project.alive("broken").is_empty());
    project.run(&["down"]).code(0);
}

/// Shows: service.replicas.
#[test]
fn replicas_have_their_own_name_port_log_and_number() {
    let project = Project::new().procfile(
        r#"
        [services.worker]
        run = ["sh", "-c", "echo $DEVRUN_REPLICA $PORT ${replica.name} ${replica.index} > r$DEVRUN_REPLICA; echo I am $DEVRUN_REPLICA; exec sleep 1000"]
        replicas = 3
        port = "auto"
        ready = false
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    let mut ports = Vec::new();
    for number in 1..=3 {
        let name = format!("worker.{number}");
        let service = project.wait_state(&name, "running");
        assert_eq!((service["service"].as_str(), service["replica"].as_u64()), (Some("worker"), Some(number)));
        let text = wrote(&project, &format!("r{number}"));
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!((words[0], words[2], words[3]), (&*number.to_string(), &*name, &*number.to_string()));
        assert_eq!(service["ports"]["main"].to_string(), words[1]);
        ports.push(words[1].to_owned());
        eventually("its own log", PATIENCE, || {
            (project.run(&["logs", "--no-prefix", &name]).stdout == format!("I am {number}\n")).then_some(())
        });
    }
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 3);
    assert_eq!(project.run(&["logs", "--no-prefix", "worker"]).stdout.lines().count(), 3);
    project.run(&["stop", "worker.2"]).code(0);
    assert_eq!(project.service("worker.2")["state"], "stopped");
    assert_eq!(project.service("worker.3")["state"], "running");
}

/// Shows: service.render.
#[test]
fn render_fills_templates_in() {
    let project = Project::new().procfile(
        r#"
        [services.web]
        run = ["sh", "-c", "cat ${dir.run}/conf/web.conf > seen; exec sleep 1000"]
        port = "auto"
        ready = false
        render = { "web.conf.in" = "conf/web.conf" }
        "#,
    );
    project.write("web.conf.in", "listen ${web.port};\ncost $$5\n");
    project.run(&["up", "-d"]).code(0);
    let port = project.service("web")["ports"]["main"].to_string();
    let seen = eventually("the rendered file", PATIENCE, || {
        let text = project.read("seen");
        text.contains("cost").then_some(text)
    });
    assert_eq!(seen, format!("listen {port};\ncost $5\n"));
}
