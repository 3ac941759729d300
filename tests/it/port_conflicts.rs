//! Ports that somebody else holds, or that may not be bound: told before anything is started.

use crate::harness::{Project, is_root, skipped};
use crate::test_ports::{self, free_port};

#[test]
fn every_fixed_port_is_looked_at_before_anything_is_started() {
    let strangers = [0, 1].map(|_| test_ports::listener());
    let [one, two] = strangers.each_ref().map(|listener| listener.local_addr().expect("bound").port());
    let text = format!(
        "[tasks.slow]\nrun = \"sh -c 'touch ran; sleep 60'\"\n\
         [services.db]\nrun = \"{{svc:db}}\"\nport = {one}\ndepends_on = [\"slow\"]\n\
         [services.web]\nrun = \"{{svc:web}}\"\nport = {two}\ndepends_on = [\"db\"]\n\
         [services.extra]\nrun = \"{{svc:extra}}\"\nready = false\n"
    );
    let project = Project::new().procfile(&text);
    for command in [&["up", "-d"][..], &["up"], &["run", "--", "true"]] {
        let up = project.run(command).code(5);
        assert!(up.last_line().contains("port taken") && up.last_line().contains(&one.to_string()), "{up}");
        let up = up.says(&format!("db: port {one} is held by")).says(&format!("web: port {two} is held by"));
        let us = std::process::id();
        drop(up.says("--ports auto").says(&format!("kill {us}")));
        assert!(!project.path("ran").exists() && project.alive("").is_empty(), "nothing was started");
    }
    // What is not asked for does not stand in the way.
    project.run(&["up", "-d", "extra"]).code(0);
    project.run(&["down"]).code(0);
    // Chosen ports are others.
    for listener in strangers {
        test_ports::close(listener);
    }
}

#[test]
fn two_servers_of_one_recipe_have_a_port_each_for_check_too() {
    let project = Project::new().procfile("[services.a]\nuse = \"nats\"\n[services.b]\nuse = \"nats\"\n");
    project.run(&["check"]).code(0);
    project.run(&["up", "--plan"]).says_not("is given to");
}

#[test]
fn a_plan_names_the_ports_that_are_taken_and_their_holders() {
    let stranger = test_ports::listener();
    let port = stranger.local_addr().expect("bound").port();
    let text =
        format!("[services.web]\nrun = \"{{svc:web}} --listen $PORT\"\nport = {port}\n[services.free]\nrun = \"{{svc:free}}\"\n");
    let project = Project::new().procfile(&text);
    let plan = project.run(&["up", "--plan"]).code(0).says("start  web").says(&format!("web: port {port} is held by"));
    drop(plan.says(&format!("kill {}", std::process::id())).says("--ports auto"));
    project.run(&["up", "--plan", "free"]).code(0).says_not("is held by");
    test_ports::close(stranger);
    project.run(&["up", "-d"]).code(0);
    project.run(&["up", "--plan"]).code(0).says("keep").says_not("is held by");
    project.run(&["down"]).code(0);
}

#[test]
fn a_port_of_ones_own_other_stack_is_named_with_the_command_that_stops_it() {
    let port = free_port();
    let text = format!("[project]\nname = \"blog\"\n[services.db]\nrun = \"{{svc:db}} --listen $PORT\"\nport = {port}\n");
    let first = Project::new().procfile(&text);
    first.run(&["up", "-d"]).code(0);
    let run = first.root().join("run").display().to_string();
    let second = Project::new().procfile(&text.replace("blog", "shop")).env("XDG_RUNTIME_DIR", &run);
    let dir = first.fill("{dir}");
    let up = second.run(&["up", "-d"]).code(5).says(&format!("of project blog in {dir}")).says("--ports auto");
    up.says(&format!("devrun -C {dir} down")).says_not("kill ");
    let doctor = second.run(&["doctor"]).code(5).says(&format!("of project blog in {dir}")).says("--ports auto");
    doctor.says(&format!("devrun -C {dir} down")).says_not("kill ").says_not("end that process");
    second.run(&["ports"]).code(0).says("of devrun project");
    second.run(&["up", "-d", "--ports", "auto"]).code(0);
    second.run(&["down"]).code(0);
    first.run(&["down"]).code(0);
}

#[test]
fn a_port_that_only_root_may_bind_is_told_with_the_variable_to_set() {
    if !is_root() {
        return skipped("only root can become an ordinary user");
    }
    let first: u16 = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    if first <= 80 {
        return skipped("everybody may bind port 80 here");
    }
    let project = Project::new().for_user(65534).procfile(
        r#"
        [services.first]
        run = "sh -c 'touch started; exec {svc:first}'"
        [services.proxy]
        run = "{svc:proxy} --listen $PORT"
        port = "${PROXY_PORT:-80}"
        depends_on = ["first"]
        "#,
    );
    let up = project.run(&["up", "-d"]).code(5).says("PROXY_PORT=8080 devrun up");
    assert!(up.last_line().contains("cannot bind port 80"), "{up}");
    assert!(!project.path("started").exists(), "nothing was started");
    project
        .run(&["doctor"])
        .code(5)
        .says("cannot bind port 80: only root may listen")
        .says_not("held by")
        .says_not("end that process");
    // The service that may start is started when it alone is asked for.
    project.run(&["up", "-d", "first"]).code(0);
    project.run(&["down"]).code(0);
}

#[test]
fn a_second_up_looks_at_the_ports_of_what_it_adds_before_it_starts_any_of_it() {
    let listener = test_ports::listener();
    let port = listener.local_addr().expect("bound").port();
    let first = "[services.a]\nrun = \"{svc:a} --listen $PORT\"\nport = \"auto\"\n";
    let project = Project::new().procfile(first);
    project.run(&["up", "-d"]).code(0);
    project.rewrite(&format!(
        "{first}[tasks.slow]\nrun = \"sh -c 'echo x > ran'\"\n\
         [services.b]\nrun = \"{{svc:b}} --listen $PORT\"\nport = {port}\ndepends_on = [\"slow\"]\n"
    ));
    let second = project.run(&["up", "-d"]).code(5);
    assert!(second.last_line().contains(&format!("b: port {port} is held by")), "{second}");
    assert!(!project.path("ran").exists(), "the task was started: {second}");
    assert_eq!(project.service("a")["state"], "running");
    // Its own ports do not conflict, and a free one is taken.
    test_ports::close(listener);
    project.run(&["up", "-d"]).code(0);
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
}

#[test]
fn the_advice_for_a_taken_port_works_while_the_stack_is_up_and_holds() {
    let stranger = test_ports::listener();
    let (own, taken) = (free_port(), stranger.local_addr().expect("bound").port());
    let project = Project::new().procfile(&format!(
        "[services.a]\nrun = \"{{svc:a}} --listen $PORT\"\nport = {own}\n[services.a.links]\ndocs = \"/docs\"\n\
         [services.b]\nrun = \"{{svc:b}} --listen $PORT\"\nport = {taken}\n"
    ));
    project.run(&["up", "-d", "a"]).code(0);
    project.run(&["up", "-d", "b"]).code(5).says("help: let devrun choose free ports: devrun up -d --ports auto b;");
    let refused = project.run(&["up", "-d"]).code(5).says("devrun up -d --ports auto;");
    let advice = refused.stderr.split_once("free ports: devrun ").expect("the advice").1.split_once(';').expect("its end").0;
    let words: Vec<&str> = advice.split(' ').collect();
    project.run(&words).code(0);
    // Every command shows and uses what runs from now on.
    let shown = |name: &str| {
        let port = project.port(name);
        assert!(port != own && port != taken);
        assert!(project.run(&["urls"]).code(0).stdout.contains(&format!("http://127.0.0.1:{port}")), "{name}");
        assert!(project.run(&["ports"]).code(0).stdout.contains(&format!("127.0.0.1:{port} ")), "{name}");
        assert!(project.run(&["env", name]).code(0).stdout.contains(&format!("PORT={port}\n")), "{name}");
        port
    };
    let before = (shown("a"), shown("b"));
    // Later ones do not fall back.
    project.run(&["up", "-d"]).code(0).says("nothing to do");
    project.run(&["restart", "a"]).code(0);
    assert_eq!((shown("a"), shown("b")), before);
    project.run(&["down"]).code(0);
    project.run(&["up", "-d"]).code(5);
    test_ports::close(stranger);
}

#[test]
fn a_chosen_port_that_another_process_has_taken_is_chosen_again() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"{svc:a}\"\n[services.b]\nrun = \"{svc:b} --listen $PORT\"\nport = \"auto\"\n\
         [services.c]\nrun = \"{svc:c} --listen $PORT\"\nport = \"auto\"\nreplicas = 2\n",
    );
    project.run(&["up", "-d"]).code(0);
    let (before, other) = (project.port("b"), project.service("c.1")["ports"].clone());
    project.run(&["stop", "b"]).code(0);
    let stranger = std::net::TcpListener::bind(("127.0.0.1", before)).expect("it is free");
    project.run(&["up", "-d", "--ports", "auto"]).code(0);
    assert_ne!(project.port("b"), before);
    assert_eq!(project.service("c.1")["ports"], other, "what runs keeps its own");
    assert_eq!(project.run(&["up", "-d"]).code(0).stderr.matches("stopping").count(), 0);
    test_ports::close(stranger);
    project.run(&["down"]).code(0);
}

/// A project with a server whose recipe gives it this port.
fn with_door(usual: u16) -> Project {
    let project = Project::new().procfile("[services.door]\nuse = \"./door.toml\"\nready = { tcp = true }\n");
    project
        .write("door", &project.fill("#!/bin/sh\n[ \"$1\" = --version ] && exec echo door 1.0\nexec {svc:door} --listen $1\n"));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(project.path("door"), mode).expect("our own file");
    let recipe = format!(
        "name = \"door\"\nsummary = \"a server\"\nport = {usual}\nbin = [\"{{dir}}/door\"]\nargv = [\"{{dir}}/door\", \"${{port}}\"]\n"
    );
    project.write("door.toml", &project.fill(&recipe));
    project
}

/// To ask who holds a port, `up -d` needs an event loop, after which it executes itself once more.
#[test]
fn what_was_mapped_is_shown_once_where_a_port_is_chosen() {
    let stranger = test_ports::listener();
    let usual = stranger.local_addr().expect("bound").port();
    let project = with_door(usual);
    project.write("compose.yml", "services:\n  side: { image: alpine, command: sleep 600 }\n");
    let files = ["-f", "procfile.toml", "-f", "compose.yml"];
    let up = project.run(&[&files[..], &["up", "-d"]].concat()).code(0);
    let times = |text: &str| up.stderr.matches(text).count();
    assert_eq!(times(&format!("port {usual} is held by")), 1, "{up}");
    assert_eq!(times("writes a procfile.toml and the whole list"), 1, "{up}");
    let env = project.run(&[&files[..], &["exec", "side", "--", "env"]].concat()).code(0).stdout;
    assert!(!env.contains("WARNINGS_SHOWN"), "{env}");
    project.run(&[&files[..], &["down"]].concat()).code(0);
    test_ports::close(stranger);
}

#[test]
fn a_note_about_a_usual_port_names_the_stack_that_holds_it() {
    let usual = free_port();
    let text = format!("[project]\nname = \"blog\"\n[services.db]\nrun = \"{{svc:db}} --listen $PORT\"\nport = {usual}\n");
    let first = Project::new().procfile(&text);
    first.run(&["up", "-d"]).code(0);
    let run = first.root().join("run").display().to_string();
    let second = with_door(usual);
    let second = second.env("XDG_RUNTIME_DIR", &run);
    let up = second.run(&["up", "-d"]).code(0);
    drop(up.says(&format!("port {usual} is held by")).says(&format!("of project blog in {}; using", first.fill("{dir}"))));
    second.run(&["down"]).code(0);
    first.run(&["down"]).code(0);
}

#[test]
fn each_taken_port_has_its_own_line_and_command() {
    let strangers = [0, 1].map(|_| test_ports::listener());
    let [one, two] = strangers.each_ref().map(|listener| listener.local_addr().expect("bound").port());
    let project = Project::new().procfile(&format!(
        "[services.db]\nrun = \"{{svc:db}}\"\nport = {one}\n[services.web]\nrun = \"{{svc:web}}\"\nport = {two}\n"
    ));
    let up = project.run(&["up", "-d"]).code(5);
    let lines: Vec<&str> = up.stderr.lines().collect();
    let kill = format!("  to stop what holds it: kill {}", std::process::id());
    for (name, port) in [("db", one), ("web", two)] {
        let at = lines.iter().position(|line| line.contains(&format!("{name}: port {port} is held by")));
        assert_eq!(at.and_then(|at| lines.get(at + 1)), Some(&kill.as_str()), "{up}");
    }
}

/// What is left of the run is ended before the next start, so its ports are as good as free.
#[test]
fn chosen_ports_stay_when_supervisor_and_keeper_were_killed() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"{svc:a} --listen $PORT\"\nport = \"auto\"\nready = { tcp = true }\n\
         [services.c]\nrun = \"{svc:c} --listen $PORT\"\nport = \"auto\"\nreplicas = 2\nready = { tcp = true }\n",
    );
    let ports = |project: &Project| {
        let services = project.ps()["services"].as_array().cloned().expect("services");
        services.iter().map(|service| (service["ports"]["main"].clone(), service["url"].clone())).collect::<Vec<_>>()
    };
    project.run(&["up", "-d"]).code(0);
    let before = ports(&project);
    project.kill_both();
    assert_eq!(project.alive("a").len(), 1, "it still listens");
    project.run(&["up", "-d"]).code(0);
    assert_eq!(ports(&project), before);
    // Another program that takes a port meanwhile keeps it.
    project.run(&["down"]).code(0);
    let port = before[0].0.as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("it is free now");
    project.run(&["up", "-d"]).code(0);
    assert_ne!(ports(&project)[0], before[0]);
    assert_eq!(ports(&project)[1..], before[1..]);
    drop(taken);
    project.run(&["down"]).code(0);
    project.nothing_left();
}
