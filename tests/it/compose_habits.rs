//! What people type who come from docker compose.

use std::time::Duration;

use crate::harness::Project;

/// Shows: up --wait, up --force-recreate, up --remove-orphans, exec --interactive, run --rm, ps --all, ps --format, down --remove-orphans,
/// build --no-cache.
#[test]
fn options_of_compose_are_accepted() {
    let project = Project::new().procfile("[services.web]\nrun = \"{svc:web}\"\n[services.db]\nrun = \"{svc:db}\"\n");
    project.run(&["up", "-d", "--wait", "--remove-orphans"]).code(0);
    let pid = project.service("web")["pid"].clone();
    project.run(&["up", "--wait", "--no-build"]).code(0).says("nothing to do");
    assert_eq!(project.service("web")["pid"], pid);
    project.run(&["up", "-d", "--force-recreate"]).code(0);
    assert_ne!(project.service("web")["pid"], pid, "it was restarted");
    for options in [&["-T"][..], &["-it"], &["-i", "-t"], &["--interactive"]] {
        let words: Vec<&str> = ["exec"].into_iter().chain(options.iter().copied()).chain(["web", "echo", "heard"]).collect();
        project.run(&words).code(0).says("heard");
    }
    let one = project.run(&["ps", "-a", "web"]).code(0);
    assert!(one.stdout.contains("web") && !one.stdout.contains("db"), "{one}");
    let json = project.run(&["ps", "--all", "--format", "json", "db"]).code(0).json();
    assert_eq!(json["services"].as_array().map(Vec::len), Some(1), "{json:#}");
    project.run(&["ps", "nobody"]).code(2).says("unknown service or task `nobody`").says("db, web");
    project.run(&["down", "--remove-orphans", "--timeout", "5s"]).code(0);
    project.run(&["build", "--no-cache", "--pull"]).code(0);
    project.run(&["run", "--rm", "web", "--", "true"]).code(0);
    // As compose has it, the command follows the service; here it would be a second one.
    project.run(&["run", "--rm", "web", "pytest", "-q"]).code(2);
    project.run(&["run", "--rm", "web", "pytest"]).code(2).says("devrun run web -- pytest").says("devrun exec web -- pytest");
}

/// Shows: stop --timeout.
#[test]
fn verb_stop_timeout_kills_what_does_not_end() {
    let project = Project::new().procfile("[services.deaf]\nrun = \"{svc:deaf} --ignore-term\"\nstop = { grace = \"60s\" }\n");
    project.run(&["up", "-d"]).code(0);
    let stop = project.run(&["stop", "-t", "1", "deaf"]).code(0);
    assert!(stop.took < Duration::from_secs(25), "{stop}");
    assert!(project.alive("deaf").is_empty());
    project.run(&["stop", "--timeout", "soon"]).code(2).says("soon");
    project.run(&["down"]).code(0);
}

#[test]
fn commands_of_compose_and_misspelt_ones_are_answered_with_ours() {
    let project = Project::new();
    for (word, answer) in [
        ("port", "devrun ports"),
        ("pull", "devrun fetch"),
        ("rm", "devrun stop SERVICE"),
        ("pause", "devrun kill -s STOP SERVICE"),
        ("watch", "watch = ["),
        ("cp", "cp copies"),
        ("compose", "devrun up"),
        ("psx", "did you mean `devrun ps`?"),
        ("lgos", "did you mean `devrun logs`?"),
    ] {
        let out = project.run(&[word, "web"]).code(2).says(answer);
        assert!(out.last_line().contains(&format!("unknown command `{word}`")), "{out}");
    }
}

#[test]
fn words_of_compose_in_a_procfile_are_answered_with_ours() {
    let project = Project::new().procfile(
        r#"
        [services.web]
        comand = "x"
        networks = ["a"]
        container_name = "web"
        labels = ["a"]
        deploy = { replicas = 2 }
        ports = ["5432:5432"]
        build = "."
        run = "x"
        extends = "base"
        configs = ["a"]
        pull_policy = "always"
        [services.pulled]
        image = "postgres:16"
        [services.db]
        run = "x"
        port = "8080:80"
        volumes = ["./src:/app"]
        "#,
    );
    let check = project.run(&["check"]).code(2);
    for answer in [
        "the command stands in `run`",
        "remove it",
        "containers are not used",
        "replicas = 2",
        "`port = 5432`",
        "nothing is built from a Dockerfile",
        "port = 8080",
        "files are used where they are",
        "env_from",
        "fills templates in",
        "images are not used",
        "`image` is for exports",
    ] {
        assert!(check.stderr.contains(answer), "lacks {answer:?}\n{check}");
    }
    // The last line is the first error, and there is one closing.
    assert!(check.last_line().contains("procfile.toml:3:") && check.last_line().contains("comand"), "{check}");
    assert_eq!(check.stderr.matches("unknown key `comand`").count(), 2, "{check}");
    assert!(!check.stderr.contains("\nerror: "), "{check}");
}

#[test]
fn columns_of_ps_stand_under_their_heads_in_colour() {
    let project = Project::new()
        .procfile("[services.a]\nrun = \"{svc:a}\"\n[services.longer-name]\nrun = \"sh -c 'exit 3'\"\nrestart = \"no\"\n");
    project.run(&["up", "-d"]).code(1);
    let ps = project.run(&["--color", "always", "ps"]).code(0);
    assert!(ps.stdout.contains("\u{1b}["), "it is coloured: {ps}");
    let plain = |line: &str| -> String {
        line.split('\u{1b}')
            .enumerate()
            .map(|(at, part)| if at == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) })
            .collect()
    };
    let lines: Vec<String> = ps.stdout.lines().map(plain).collect();
    let at = lines[0].find("HEALTH").expect("a head");
    assert!(lines[1..].iter().all(|line| line[at..].starts_with("none")), "{lines:#?}");
    project.run(&["down"]).code(0);
}

#[test]
fn a_directory_without_a_procfile_names_what_makes_one() {
    let project = Project::new();
    project.write(".git/HEAD", "");
    project.run(&["up"]).code(2).says("devrun init").says("devrun import FILE");
    project.write("process-compose.yaml", "processes: {}\n");
    project.run(&["up"]).code(2).says("devrun import process-compose.yaml");
}
