//! What people type who come from docker compose.

use std::time::Duration;

use crate::harness::{PATIENCE, Project};

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

/// Shows: restart --timeout.
#[test]
fn verb_restart_timeout_kills_what_does_not_end() {
    let project = Project::new().procfile("[services.deaf]\nrun = \"{svc:deaf} --ignore-term\"\nstop = { grace = \"600s\" }\n");
    project.run(&["up", "-d"]).code(0);
    let pid = project.service("deaf")["pid"].clone();
    project.start(&["restart", "-t", "1", "deaf"]).outcome_within(PATIENCE).code(0);
    assert_ne!(project.service("deaf")["pid"], pid);
    project.run(&["restart", "--timeout", "soon"]).code(2).says("devrun restart --timeout 5s");
    project.run(&["down", "-t", "1"]).code(0);
}

/// Shows: exec --env, exec --workdir.
#[test]
fn exec_takes_variables_and_a_directory() {
    let project = Project::new().procfile("[services.web]\nrun = \"{svc:web}\"\ndir = \"web\"\nenv = { LEVEL = \"info\" }\n");
    project.write("web/keep", "");
    project.write("tools/keep", "");
    project.run(&["up", "-d"]).code(0);
    let script = "echo $LEVEL-$EXTRA-$(basename $PWD)";
    project.run(&["exec", "web", "sh", "-c", script]).code(0).says("info--web");
    let words = ["exec", "-e", "LEVEL=debug", "--env", "EXTRA=a=b", "-w", "tools", "web", "sh", "-c", script];
    project.run(&words).code(0).says("debug-a=b-tools");
    // A name alone is the caller's own; one that the caller lacks is left out.
    let out = project.run_in_shell("EXTRA=mine exec \"$0\" exec -e EXTRA -e LEVEL web sh -c 'echo \"$EXTRA-$LEVEL\"'").code(0);
    assert_eq!(out.stdout, "mine-\n", "{out}");
    project.run(&["exec", "-e", "=x", "web", "true"]).code(2).says("-e LOG_LEVEL=debug");
    project.run(&["exec", "-w", "nowhere", "web", "true"]).code(2).says("nowhere");
    project.run(&["down"]).code(0);
}

/// Shows: run --env, run --workdir.
#[test]
fn run_takes_variables_and_a_directory() {
    let project = Project::new().procfile("[services.web]\nrun = \"{svc:web}\"\n");
    project.write("tools/keep", "");
    let words = ["run", "-T", "-e", "LEVEL=debug", "-w", "tools", "web", "--", "sh", "-c", "echo $LEVEL-$(basename $PWD)"];
    project.run(&words).code(0).says("debug-tools");
    project.run(&["run", "--service-ports", "--rm", "-e", "A=b", "web", "pytest"]).code(2).says("devrun run web -- pytest");
}

/// Shows: config --quiet, config --services, config --profiles, config --volumes, volumes --quiet.
#[test]
fn config_lists_names_and_checks_quietly() {
    let project = Project::new().procfile(
        "[volumes.data]\nclass = \"persistent\"\n[tasks.seed]\nrun = \"true\"\n[services.web]\nrun = \"{svc:web}\"\nreplicas = 2\n\
         volumes = [\"data\"]\n[services.admin]\nrun = \"{svc:admin}\"\nprofiles = [\"tools\"]\n",
    );
    let quiet = project.run(&["config", "-q"]).code(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    assert_eq!(project.run(&["config", "--services"]).code(0).stdout, "seed\nweb\n");
    assert_eq!(project.run(&["--profile", "tools", "config", "--services"]).code(0).stdout, "admin\nseed\nweb\n");
    assert_eq!(project.run(&["config", "--volumes"]).code(0).stdout, "data\n");
    assert_eq!(project.run(&["volumes", "-q"]).code(0).stdout, "data\n");
    for words in [&["config", "--profiles"][..], &["--profile", "tools", "config", "--profiles"]] {
        assert_eq!(project.run(words).code(0).stdout, "tools\n");
    }
    project.write("procfile.toml", "[services.web]\ncomand = \"x\"\n");
    project.run(&["config", "--quiet"]).code(2).says("comand");
}

/// Shows: up --no-prefix, up --timestamps, up --no-color, up --watch, up --pull, up --wait-timeout, logs --no-color.
#[test]
fn options_of_output_are_those_of_compose() {
    let project = Project::new().procfile("[tasks.hello]\nrun = \"echo heard\"\n");
    for no_prefix in ["--no-prefix", "--no-log-prefix"] {
        let words = ["--color", "always", "up", "--no-color", no_prefix, "--watch", "--menu", "--pull", "never"];
        let up = project.run(&words).code(0);
        assert!(up.stdout.lines().any(|line| line == "heard"), "{up}");
    }
    let up = project.run(&["--color", "always", "up", "--timestamps", "--no-color"]).code(0);
    assert!(
        up.stdout.lines().any(|line| line.contains("hello") && line.contains("T") && line.ends_with("Z hello | heard")),
        "{up}"
    );
    assert!(!up.stdout.contains('\u{1b}'), "{up}");
    let logs = project.run(&["--color", "always", "logs", "--no-color", "--tail=all"]).code(0);
    assert!(logs.stdout.contains("hello | heard") && !logs.stdout.contains('\u{1b}'), "{logs}");
    // What a start may take is another matter than what a stop may.
    project.run(&["up", "-t", "10"]).code(2).says("devrun down --timeout 10");
    project.run(&["up", "-d", "--wait", "--wait-timeout", "60"]).code(0);
    project.run(&["up", "-d", "--wait-timeout", "soon"]).code(2).says("--wait-timeout");
}

/// Shows: config --format, down --rmi, kill --remove-orphans, ls --format, ls --no-trunc, ps --no-trunc, restart --no-deps,
/// scale --no-deps, start --wait, top --all, top --format, top --no-trunc, version --format, version --short, volumes --format,
/// volumes --no-trunc.
#[test]
fn what_compose_can_ask_for_and_is_always_so_is_accepted() {
    let project = Project::new().procfile("[services.web]\nrun = \"{svc:web}\"\nreplicas = 2\n");
    project.run(&["up", "-d", "-V", "--quiet-build", "--quiet-pull"]).code(0);
    assert_eq!(project.run(&["ps", "--services"]).code(0).stdout, "web.1\nweb.2\n");
    project.run(&["ps", "--no-trunc", "--orphans"]).code(0);
    assert!(project.run(&["ls", "--all", "--no-trunc", "--format", "json"]).code(0).json().is_array());
    assert!(
        project.run(&["top", "--all", "--no-trunc", "--no-stream", "--format", "json"]).code(0).json()["services"].is_array()
    );
    assert!(project.run(&["volumes", "--no-trunc", "--format", "json"]).code(0).json().is_array());
    assert!(project.run(&["config", "--format", "json"]).code(0).json()["services"].is_object());
    project.run(&["scale", "--no-deps", "web=1"]).code(0);
    project.run(&["start", "--wait", "web"]).code(0);
    project.run(&["restart", "--no-deps", "web"]).code(0);
    project.run(&["kill", "--remove-orphans", "-s", "USR2", "web"]).code(0);
    project.run(&["down", "--rmi", "local", "-v", "--remove-orphans"]).code(0);
    assert!(project.run(&["version", "--short"]).code(0).stdout.starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(project.run(&["version", "--format", "json"]).code(0).json()["name"], "devrun");
}

#[test]
fn other_options_of_compose_are_answered_with_what_does_it_here() {
    let project = Project::new();
    for (words, answer) in [
        (&["exec", "-u", "root", "web", "sh"][..], "devrun exec SERVICE -- sudo -u USER CMD"),
        (&["exec", "--index", "2", "web", "sh"], "devrun exec SERVICE.N -- CMD"),
        (&["exec", "-d", "web", "sh"], "&"),
        (&["up", "--dry-run"], "devrun up --plan"),
        (&["up", "--no-start"], "devrun up --plan"),
        (&["up", "--attach", "web"], "devrun logs -f SERVICE"),
        (&["down", "web"], "devrun stop web stops one service"),
        (&["run", "-d", "web"], "devrun up -d SERVICE"),
        (&["run", "--no-deps", "web", "--", "true"], "devrun exec SERVICE -- CMD"),
        (&["ps", "--filter", "status=running"], "devrun ps --status running"),
        (&["config", "--images"], "devrun which"),
        (&["logs", "--index", "2", "web"], "devrun logs SERVICE.N"),
        (&["--ansi", "never", "up"], "devrun --color"),
        (&["wait", "--down-project", "web"], "devrun down"),
    ] {
        let out = project.run(words).code(2).says(answer);
        assert!(out.stderr.contains("\nhelp: ") && out.last_line().contains("unexpected argument"), "{out}");
    }
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
        ("psx", "did you mean `devrun ps`?"),
        ("lgos", "did you mean `devrun logs`?"),
    ] {
        let out = project.run(&[word, "web"]).code(2).says(answer);
        assert!(out.last_line().contains(&format!("unknown command `{word}`")), "{out}");
    }
    // A command, but for compose itself.
    project.run(&["compose", "web"]).code(2).says("leave out `compose`: devrun up");
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

/// Shows: import. What is mounted may be a file, a program or a directory that holds a `.env`; only the last is looked into.
#[test]
fn import_looks_into_mounted_directories_alone() {
    let project = Project::new();
    project.write("app.conf", "x\n");
    project.write("x.sql", "select 1;\n");
    project.write("src/.env", "DB_HOST=db\n");
    std::fs::write(project.path("tool"), [0u8, 159, 146, 150]).expect("a program that is no text");
    project.write(
        "compose.yaml",
        "services:\n  app: { image: 'python:3', command: ./tool serve, volumes: ['./app.conf:/app.conf', './src:/src'] }\n  db: { image: 'postgres:15', environment: { POSTGRES_PASSWORD: x }, volumes: ['./x.sql:/docker-entrypoint-initdb.d/x.sql'] }\n",
    );
    project.run(&["import", "compose.yaml"]).code(0);
    let procfile = project.read("procfile.toml");
    assert!(procfile.contains("DB_HOST = \"${db.host}\""), "{procfile}");
    project.run(&["check"]).code(0);
}

#[test]
fn an_error_in_a_mapped_text_names_the_line_it_comes_from() {
    let project = Project::new();
    project.write(
        "compose.yml",
        "services:\n\n\n\n  web:\n    image: python:3\n    command: sleep 600\n    environment: { DB: '${DB_PASS:?set it}' }\n",
    );
    let up = project.run(&["up", "-d"]).code(2);
    let place = up.stderr.split("compose.yml (as mapped):").nth(1).and_then(|rest| rest.split(':').next());
    let line: usize = place.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{up}"));
    drop(up.says(&format!("line {line} comes from services.web at compose.yml:5; `devrun import compose.yml -o -` prints")));
    let text = project.run(&["import", "compose.yml", "-o", "-"]).code(0).stdout;
    assert!(text.lines().nth(line - 1).is_some_and(|line| line.contains("DB_PASS")), "{line}: {text}");
}

/// What runs was started already: the commands that ask only the supervisor need no file.
#[test]
fn a_stack_whose_compose_file_was_broken_since_is_seen_and_stopped() {
    let project = Project::new();
    project.write("compose.yml", "services:\n  web:\n    image: python:3\n    command: sleep 600\n");
    project.run(&["up", "-d"]).code(0);
    project.write("compose.yml", "  : [");
    project.run(&["ps"]).code(0).says("web");
    for words in [&["logs"][..], &["why", "web"], &["wait", "web"], &["kill", "-s", "CONT", "web"]] {
        project.run(words).code(0);
    }
    let help = "help: fix the YAML there, then run the command again; the stack keeps running as it was started";
    for words in [&["exec", "web", "--", "true"][..], &["restart", "web"]] {
        let outcome = project.run(words).code(2);
        drop(outcome.says("error: compose.yml:1:3: missing key before `:`").says(help).says_not("Option<"));
    }
    project.write("compose.yml", "services: {}\nservices: {}\n");
    project.run(&["restart", "web"]).code(2).says("duplicate key: `services` stands here twice").says_not("DuplicateKeyPolicy");
    project.run(&["stop", "web"]).code(0);
    project.run(&["down"]).code(0);
    project.run(&["check"]).code(2).says("fix the YAML there, then run the command again").says_not("keeps running");
}
