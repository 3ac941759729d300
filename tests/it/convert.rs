//! Foreign files → procfiles. Every file of `tests/fixtures/compose` is mapped, and both the procfile and the report are
//! compared to the letter (`UPDATE_EXPECT=1` writes them anew); every procfile passes `check`, as any import must.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use devrun_config::{Options, read};
use devrun_convert::{Converted, ForeignFormat, KeyOutcome};
use devrun_model::Failure;
use proptest::prelude::*;

use crate::config::{choose, expect, facts, source};
use crate::harness::Project;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/compose")
}

/// What lies around the fixtures.
fn around(path: &Path) -> Option<String> {
    let name = path.strip_prefix(folder()).ok()?.display().to_string();
    match name.as_str() {
        "backend/Dockerfile" => Some("FROM python:3.12 AS prod\nWORKDIR /app\nCOPY . .\nCMD [\"gunicorn\"]\n".to_owned()),
        ".env.api" => Some("X=1\n".to_owned()),
        "nginx.conf" => Some("upstream a { server a:3000; }\n".to_owned()),
        _ => std::fs::read_to_string(path).ok(),
    }
}

fn import(names: &[&str]) -> Result<Converted, Failure> {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder().join(name)).collect();
    let text = std::fs::read_to_string(&paths[0]).expect("the fixture");
    let format = devrun_convert::format_of(&paths[0], &text).expect("YAML");
    devrun_convert::import(format, &paths, &folder(), &around)
}

/// A compose file that is nowhere but here.
fn text(text: &str) -> Result<Converted, Failure> {
    let reader = |path: &Path| (path == Path::new("/p/compose.yml")).then(|| text.to_owned());
    devrun_convert::import(ForeignFormat::Compose, &[PathBuf::from("/p/compose.yml")], Path::new("/p"), &reader)
}

/// Reads the procfile, chooses, lowers.
fn passes(procfile: &str, shell: &[(&str, &str)]) -> Result<devrun_model::Plan, String> {
    let book = devrun_runtime::recipes::RecipeRegistry::new();
    let mut facts = facts(&[&[("PATH", "/bin"), ("HOME", "/home/u")], shell].concat());
    let document =
        read(&[source("procfile.toml", procfile)], &Options::default(), &book).map_err(|report| report.render(false))?;
    choose(&document, &mut facts).map_err(|report| report.render(false))?;
    document.lower(&facts).map(|(plan, _)| plan).map_err(|report| report.render(false))
}

#[test]
fn fixtures_become_the_expected_procfiles() {
    let cases: &[&[&str]] = &[&["stack.yml"], &["short.yml"], &["base.yml", "base.override.yml"], &["processes.yaml"]];
    for names in cases {
        let converted = import(names).unwrap_or_else(|failure| panic!("{names:?}: {failure}"));
        assert_eq!(converted.faults, [], "{names:?}: docker compose takes it");
        let path = folder().join(names[0]);
        expect(&path.with_extension("toml"), &converted.text);
        let all = [KeyOutcome::Mapped, KeyOutcome::Dropped, KeyOutcome::NotMapped];
        expect(&path.with_extension("report"), &converted.report.render(&all));
        if let Err(report) = passes(&converted.text, &[("DB_PASSWORD", "#a b$"), ("ALLOWED_HOSTS", "x")]) {
            panic!("{names:?} does not pass:\n{report}\n{}", converted.text);
        }
    }
}

/// No key of a file is lost without a word: each service's key has a line, or is a part of the procfile.
#[test]
fn every_key_of_a_service_has_a_line() {
    for name in ["stack.yml", "short.yml"] {
        let converted = import(&[name]).expect("mapped");
        for key in
            ["networks", "labels", "container_name", "external_links", "develop.watch", "deploy.replicas", "profiles", "links"]
        {
            let source = std::fs::read_to_string(folder().join(name)).expect("the fixture");
            if source.contains(&format!("{}:", key.split('.').next().unwrap_or(key))) {
                let said = converted.report.lines.iter().any(|line| line.what.contains(key) || line.what == key);
                assert!(said, "{name}: nothing is said of {key}");
            }
        }
        assert!(converted.report.lines.iter().all(|line| line.at.line > 0 && !line.text.is_empty()), "{name}");
    }
}

/// What nothing here can run stands at the end, ready for its command, and takes nothing from the others.
#[test]
fn a_service_without_a_recipe_keeps_its_keys_in_a_comment() {
    let yaml = "services:\n  shop:\n    image: acme/shop:3\n    command: serve --all\n    ports: ['5432:5432', '9000:9000']\n    environment: { DB: 'postgres://db:5432/x', TOKEN: '${TOKEN}' }\n    depends_on: [db]\n    restart: always\n    volumes: ['files:/files']\n  db:\n    image: postgres:16\n    ports: ['5432:5432']\nvolumes: { files: {} }\n";
    let converted = text(yaml).expect("mapped");
    for line in [
        "# acme/shop:3; external = \"tcp://127.0.0.1:5432\"",
        "# [services.shop]  # compose.yml:2",
        "# run        = \"COMMAND serve --all\"",
        "# depends_on = [\"db:started\"]",
        "# volumes    = [\"files\"]",
        "# restart    = \"always\"",
    ] {
        assert!(converted.text.contains(line), "{line}\n{}", converted.text);
    }
    assert!(converted.text.contains("postgres://${db.addr}/x"), "{}", converted.text);
    assert!(converted.text.contains("port = 5432") && !converted.text.contains("\nport = \"auto\""), "{}", converted.text);
    let lines = converted.report.render(&[KeyOutcome::NotMapped]);
    assert!(lines.contains("services.shop: what of command, ports, environment, depends_on, restart, volumes has"), "{lines}");
    assert!(!lines.contains("TOKEN"), "a comment needs no variable: {lines}");
    passes(&converted.text, &[]).unwrap_or_else(|report| panic!("{report}\n{}", converted.text));
}

/// Whatever stands in a service, its key has a line, or a line below it has.
#[test]
fn hooks_of_compose_are_answered_with_the_key_that_does_it_here() {
    let hooks = ["pre_start", "post_start", "pre_stop"].map(|hook| format!("    {hook}: [{{ command: echo {hook} }}]\n"));
    let converted =
        text(&format!("services:\n  a:\n    image: alpine\n    command: sleep 5\n{}", hooks.concat())).expect("mapped");
    for (hook, answer) in
        [("pre_start", "pre_start = \"COMMAND\""), ("post_start", "a task that depends on"), ("pre_stop", "stop = { command = ")]
    {
        let line = converted.report.lines.iter().find(|line| line.what == format!("services.a.{hook}"));
        assert!(line.is_some_and(|line| line.text.contains(answer)), "{hook}: {:?}", converted.report.lines);
    }
}

#[test]
fn no_key_is_lost_without_a_word() {
    let keys = [
        ("entrypoint", "['server']"),
        ("working_dir", "/srv"),
        ("secrets", "[key]"),
        ("cpu_count", "2"),
        ("mem_limit", "1g"),
        ("scale", "3"),
        ("deploy", "{ resources: { limits: { pids: 5, memory: 1g }, reservations: { generic_resources: [] } } }"),
        ("logging", "{ driver: json-file, options: { max-size: 1m, tag: x } }"),
        ("gpus", "all"),
        ("networks", "[a]"),
        ("not_known_at_all", "1"),
        ("develop", "{ watch: [{ path: ., action: sync, target: / }] }"),
    ];
    for (base, command) in [("postgres:16", "postgres"), ("alpine", "sleep 5"), ("minio/minio", "server /data")] {
        for (key, value) in keys {
            let yaml = format!(
                "services:\n  a:\n    image: {base}\n    command: {command}\n    {key}: {value}\nsecrets: {{ key: {{ file: x }} }}\n"
            );
            let converted = text(&yaml).expect("mapped");
            for key in [key, "image", "command"] {
                let own = format!("services.a.{key}");
                let is_reported = |what: &str| what == own || what.starts_with(&format!("{own}."));
                assert!(
                    converted.report.lines.iter().any(|line| is_reported(&line.what)),
                    "{base}, {key}:\n{}",
                    converted.report.render(&[KeyOutcome::Mapped, KeyOutcome::Dropped, KeyOutcome::NotMapped])
                );
            }
            for inner in ["pids", "memory", "tag"] {
                if value.contains(&format!("{inner}:")) && base == "alpine" {
                    assert!(converted.report.lines.iter().any(|line| line.what.ends_with(inner)), "{inner}");
                }
            }
        }
    }
}

#[test]
fn what_real_files_hold_passes_check() {
    // Buckets without a server of ours; two brokers; a variable for an address and a port.
    let buckets = "services:\n  init: { image: minio/mc, entrypoint: [sh, -c, 'mc mb s3/local'], restart: 'no' }\n  a: { image: alpine, command: sleep 5 }\n";
    let converted = text(buckets).expect("mapped");
    assert!(converted.text.contains("# [tasks.init]"), "{}", converted.text);
    passes(&converted.text, &[]).unwrap_or_else(|report| panic!("{report}\n{}", converted.text));
    let brokers = "services:\n  one: { image: 'rabbitmq:3' }\n  two: { image: 'rabbitmq:3-management' }\n";
    let converted = text(brokers).expect("mapped");
    passes(&converted.text, &[]).unwrap_or_else(|report| panic!("{report}\n{}", converted.text));
    let address = "services:\n  web: { image: node, command: node x.js, ports: ['${PORT:-8080}:80'] }\n";
    for (env, port) in [
        ("PORT=127.0.0.1:9090\n", "port = 9090"),
        ("PORT=nonsense\n", "port = \"auto\""),
        ("PORT=9091\n", "port = \"${PORT:-8080}\""),
    ] {
        let reader = |path: &Path| match path.to_str() {
            Some("/p/compose.yml") => Some(address.to_owned()),
            Some("/p/.env") => Some(env.to_owned()),
            _ => None,
        };
        let converted =
            devrun_convert::import(ForeignFormat::Compose, &[PathBuf::from("/p/compose.yml")], Path::new("/p"), &reader);
        let converted = converted.expect("mapped");
        let plain = converted.text.replace("port     =", "port =");
        assert!(plain.contains(port), "{env}: {}", converted.text);
    }
}

#[test]
fn short_depends_on_means_started() {
    let converted =
        text("services:\n  a: { image: postgres }\n  b: { image: node, command: node b.js, depends_on: [a] }\n").expect("mapped");
    assert!(converted.text.contains("depends_on = [\"a:started\"]"), "{}", converted.text);
}

#[test]
fn hazards_in_passwords_come_through() {
    for password in ["#ThawZin2k77!", "a'b\"c \\ @%:ä", "$$x"] {
        let yaml = format!(
            "services:\n  db:\n    image: postgres:16\n    environment:\n      POSTGRES_PASSWORD: '{}'\n",
            password.replace('\'', "''")
        );
        let converted = text(&yaml).expect("mapped");
        let plan = passes(&converted.text, &[]).unwrap_or_else(|report| panic!("{report}"));
        let db = plan.services.values().next().expect("a service");
        assert_eq!(db.attributes.get("password").map(String::as_str), Some(password.replace("$$", "$").as_str()));
    }
}

#[test]
fn bad_files_are_errors_with_a_place() {
    let bomb: String = std::iter::once("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned())
        .chain((1..20).map(|n| format!("a{n}: &a{n} [*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p}]\n", p = n - 1)))
        .collect();
    let large = format!("services:\n  s0: {{ image: x, environment: {{ A: {} }} }}\n", "a".repeat(900_000));
    let copies: String = (1..3000).map(|n| format!("  s{n}: {{ extends: s0 }}\n")).collect();
    let extending = format!("{large}{copies}");
    let table: &[(&str, &str)] = &[
        ("", "compose.yml:1: the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("- a\n", "compose.yml:1: the file holds a list"),
        ("services:\n  a: {image: x}\n  a: {image: y}\n", "compose.yml:3: duplicate"),
        ("services: [a]\n", "compose.yml:1: `services` is a list"),
        ("services: {}\n", "no services below"),
        ("services:\n  a: 5\n", "compose.yml:2: service `a` is a number"),
        ("version: '3'\n", "has no `services:`"),
        ("web:\n  image: x\n", "at the top of the file"),
        ("services:\n  a:\n    image: x\n   b: 1\n", "compose.yml:4"),
        ("services:\n  a: { extends: a, image: x }\n", "extends itself"),
        ("services:\n  a: { extends: { service: b } }\n", "cannot extend unknown service `b`"),
        ("include: [{pathh: a.yml}]\nservices: {a: {image: x}}\n", "compose.yml:1: unknown key `pathh` in `include`"),
        ("services:\n  a: { extends: { servce: b } }\n", "compose.yml:2: unknown key `servce` in `extends`"),
        ("include: [gone.yml]\nservices: {a: {image: x}}\n", "compose.yml:1: gone.yml cannot be read"),
        ("include: [compose.yml]\nservices: {a: {image: x}}\n", "deeply"),
        (&bomb, "compose.yml:"),
        (&extending, "take over by `extends` is more than 64 MiB"),
    ];
    for (yaml, expected) in table {
        let failure = text(yaml).expect_err(yaml);
        let reason = without_column(&failure.reason);
        assert!(reason.contains(expected), "{yaml:.60}: {}", failure.reason);
        assert!(failure.help.is_some(), "{yaml:.60}");
    }
}

/// Every place has a column behind the line: `compose.yml:3:5: …` becomes `compose.yml:3: …`.
fn without_column(reason: &str) -> String {
    let Some(at) = reason.find("compose.yml:").map(|at| at + "compose.yml:".len()) else { return reason.to_owned() };
    let mut parts = reason[at..].splitn(3, ':');
    let (line, column, rest) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let number = |text: &str| text.parse::<u32>().is_ok_and(|number| number > 0);
    assert!(number(line) && number(column), "no line and column in {reason}");
    format!("{}{line}:{rest}", &reason[..at])
}

#[test]
fn the_column_is_that_of_the_fault() {
    for (yaml, place) in [
        ("services:\n  a: {image: x}\n  a: {image: y}\n", "compose.yml:3:3: duplicate"),
        ("services:\n  a: 5\n", "compose.yml:2:3: service `a` is a number"),
        ("services: {b: {image: x}, a: { extends: { service: c } }}\n", "compose.yml:1:"),
    ] {
        let failure = text(yaml).expect_err(yaml);
        assert!(failure.reason.contains(place), "{place}: {}", failure.reason);
    }
}

/// Wrong types inside a service are lines of the report, never panics.
#[test]
fn wrong_types_are_said() {
    let keys = [
        "image",
        "build",
        "command",
        "entrypoint",
        "environment",
        "env_file",
        "ports",
        "volumes",
        "depends_on",
        "healthcheck",
        "restart",
        "profiles",
        "deploy",
        "scale",
        "ulimits",
        "stop_signal",
        "stop_grace_period",
        "logging",
        "develop",
        "links",
        "secrets",
        "configs",
        "networks",
        "expose",
        "extends",
        "working_dir",
        "tty",
        "mem_limit",
        "cpus",
    ];
    let values = [
        "null",
        "5",
        "true",
        "x",
        "[]",
        "{}",
        "[[1]]",
        "{a: {b: [c]}}",
        "[{a: 1}]",
        "''",
        "'$'",
        "'${'",
        "':'",
        "[':::']",
        "-1.5",
    ];
    for key in keys {
        for value in values {
            let yaml = format!("services:\n  a:\n    image: postgres:16\n    {key}: {value}\n  b:\n    build: .\n    command: x\n    {key}: {value}\n").replacen(
                &format!("    image: postgres:16\n    image: {value}"),
                &format!("    image: {value}"),
                1,
            );
            let yaml = if key == "build" || key == "command" {
                yaml.replacen(
                    &format!("    {}\n    {key}: {value}", if key == "build" { "build: ." } else { "command: x" }),
                    &format!("    {key}: {value}"),
                    1,
                )
            } else {
                yaml
            };
            if let Ok(converted) = text(&yaml) {
                let table: Result<toml::Table, _> = toml::from_str(&converted.text);
                assert!(table.is_ok(), "{key}: {value}: {:?}\n{}", table.err(), converted.text);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A compose file with bytes changed, cut and doubled ends in a procfile that is TOML, or in an error.
    #[test]
    fn mutated_files_never_panic(edits in prop::collection::vec((0usize..4000, 0usize..5, prop::sample::select(vec!["\n", ": ", "- ", "\"", "'", "{", "}", "[", "]", "*a", "&a ", "<<: ", "!x ", "$", "${", "#", "\t", "|", ">", "é", "\u{0}", "  "])), 1..8), which in 0usize..3) {
        let name = ["stack.yml", "short.yml", "processes.yaml"][which];
        let mut yaml = std::fs::read_to_string(folder().join(name)).expect("the fixture");
        for (at, cut, insert) in edits {
            let mut start = at % (yaml.len() + 1);
            while !yaml.is_char_boundary(start) { start -= 1; }
            let mut end = (start + cut).min(yaml.len());
            while !yaml.is_char_boundary(end) { end += 1; }
            yaml.replace_range(start..end, insert);
        }
        let reader = |_: &Path| Some(yaml.clone());
        let format = if which == 2 { ForeignFormat::ProcessCompose } else { ForeignFormat::Compose };
        if let Ok(converted) = devrun_convert::import(format, &[PathBuf::from("/p/compose.yml")], Path::new("/p"), &reader) {
            let table: Result<toml::Table, _> = toml::from_str(&converted.text);
            prop_assert!(table.is_ok(), "{:?}\n{}", table.err(), converted.text);
        }
    }
}

/// The document as compose YAML; nothing lies around it.
fn exported(document: &devrun_config::Document, shell: &[(&str, &str)]) -> String {
    let mut facts = facts(&[&[("PATH", "/bin"), ("HOME", "/home/u")], shell].concat());
    choose(document, &mut facts).unwrap_or_else(|report| panic!("{}", report.render(false)));
    let (plan, _) = document.lower(&facts).unwrap_or_else(|report| panic!("{}", report.render(false)));
    let merged = document.merged();
    let source = devrun_convert::ExportSource {
        merged: &merged,
        plan: &plan,
        read: &|_| None,
        list: &|_| Vec::new(),
        variable: &|_| None,
        versions: &BTreeMap::new(),
        secrets_dir: Path::new("/project/secrets/infra"),
    };
    let made = devrun_convert::export_compose(&source);
    made.files.into_iter().map(|(_, text)| text).collect()
}

/// What is exported reads back as what it was, as far as compose can say it.
#[test]
fn an_export_is_read_by_the_import() {
    let procfile = r##"
[project]
name = "shop"
[env]
TZ = "UTC"
[services.db]
use = "postgres@16"
port = 5433
user = "app"
password = "p: '\"#$$x"
database = "shop"
data = "pgdata"
[services.api]
run = "./api --port $PORT"
port = 8000
depends_on = { db = { condition = "healthy", restart = true } }
env = { DATABASE_URL = "${db.url:postgresql}", COLON = "a: b # c", YES = "yes" }
ready = { http = "/health", interval = "10s" }
restart = "on-failure:3"
limits = { cpu = 0.5, memory = "512M" }
replicas = 2
[tasks.migrate]
run = ["./migrate", "it's"]
depends_on = ["db"]
"##;
    let book = devrun_runtime::recipes::RecipeRegistry::new();
    let document = read(&[source("procfile.toml", procfile)], &Options::default(), &book)
        .unwrap_or_else(|report| panic!("{}", report.render(false)));
    let yaml = exported(&document, &[]);
    let again = text(&yaml).unwrap_or_else(|failure| panic!("{failure}\n{yaml}"));
    let table: toml::Table = toml::from_str(&again.text).expect("TOML");
    let get = |path: &str| {
        path.split('/').fold(Some(&toml::Value::Table(table.clone())).cloned(), |value, key| value?.get(key).cloned())
    };
    let expected: BTreeMap<&str, toml::Value> = [
        ("project/name", "shop".into()),
        ("services/db/use", "postgres@16".into()),
        ("services/db/port", 5433.into()),
        ("services/db/user", "app".into()),
        ("services/db/password", "p: '\"#$$x".into()),
        ("services/db/data", "pgdata".into()),
        ("services/api/port", 8000.into()),
        ("services/api/replicas", 2.into()),
        ("services/api/restart", "on-failure:3".into()),
        ("services/api/env/COLON", "a: b # c".into()),
        ("services/api/env/YES", "yes".into()),
        ("services/api/limits/memory", "512M".into()),
        ("services/api/depends_on/db/condition", "healthy".into()),
        ("services/api/depends_on/db/restart", true.into()),
    ]
    .into();
    for (path, value) in expected {
        assert_eq!(get(path), Some(value), "{path}\n{yaml}\n{}", again.text);
    }
    let second = devrun_convert::export_procfile(&document.merged());
    let twice: toml::Table = toml::from_str(&second).expect("TOML");
    assert_eq!(twice, document.merged(), "{second}");
}

/// Export, import, export again: nothing is lost on the way round.
#[test]
fn an_export_comes_back_the_same() {
    let book = devrun_runtime::recipes::RecipeRegistry::new();
    let export = |procfile: &str| {
        let document = read(&[source("procfile.toml", procfile)], &Options::default(), &book)
            .unwrap_or_else(|report| panic!("{}\n{procfile}", report.render(false)));
        exported(&document, &[("DB_PASSWORD", "x"), ("ALLOWED_HOSTS", "x")])
    };
    for name in ["stack.toml", "short.toml", "base.toml"] {
        let first = export(&std::fs::read_to_string(folder().join(name)).expect("the fixture"));
        let back = text(&first).unwrap_or_else(|failure| panic!("{name}: {failure}\n{first}"));
        // A check of a port by a shell comes back as the same command in other words.
        let second = export(&back.text).replace("- \"CMD\"\n        - \"sh\"\n        - \"-c\"\n", "- \"CMD-SHELL\"\n");
        // The import takes a port that is free on one address for the container's own number.
        same_lines(name, &first.replace("127.0.0.1::8080", "127.0.0.1:8080:8080"), &second);
    }
}

fn same_lines(name: &str, first: &str, second: &str) {
    let (first, second): (Vec<&str>, Vec<&str>) = (first.lines().collect(), second.lines().collect());
    let differ: Vec<_> = first.iter().zip(&second).filter(|(one, two)| one != two).take(5).collect();
    assert!(differ.is_empty() && first.len() == second.len(), "{name}: {} and {} lines, {differ:#?}", first.len(), second.len());
}

#[test]
fn a_check_by_whichever_program_there_is_becomes_one_of_ours() {
    let yaml = "services:\n  a:\n    image: alpine\n    command: x\n    ports: ['8000:8000', '${METRICS:-9100}:${METRICS:-9100}']\n    healthcheck: { test: \"wget -q http://localhost:8000/up || curl -f http://localhost:8000/up || exit 1\" }\n";
    let converted = text(yaml).expect("mapped");
    assert!(converted.text.contains("http = \"/up\""), "{}", converted.text);
    assert!(converted.text.contains("p9100"), "{}", converted.text);
    passes(&converted.text, &[]).unwrap_or_else(|report| panic!("{report}\n{}", converted.text));
}

#[test]
fn up_in_a_folder_with_only_a_compose_file() {
    let project = Project::new();
    project.write(
        "compose.yml",
        "services:\n  a:\n    image: alpine\n    command: sh -c \"echo one-$$GREETING; sleep 600\"\n    environment: { GREETING: hello }\n  b:\n    image: busybox\n    command: sleep 600\n    depends_on: [a]\n  gone: { image: acme/thing }\n",
    );
    project.run(&["up", "-d"]).code(0).says("compose.yml:10: not mapped: services.gone: acme/thing has no recipe");
    project.wait_state("b", "running");
    project.run(&["logs", "a"]).code(0).says("one-hello");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// Shows: import.
#[test]
fn import_writes_keeps_and_replaces() {
    let project = Project::new();
    project.write("docker-compose.yml", "services:\n  a: { image: alpine, command: sleep 600, ports: ['80:80'] }\n");
    project.run(&["import", "docker-compose.yml"]).code(0).says("services.a.command: run = \"sleep 600\"").says("not mapped");
    project.run(&["import", "docker-compose.yml"]).code(2).says("left as it is");
    project.run(&["import", "docker-compose.yml", "--yes"]).code(0).says(".bak");
    assert_eq!(project.read("procfile.toml"), project.read("procfile.toml.bak"));
    project.run(&["check"]).code(0);
    project.run(&["export", "procfile"]).code(0);
    project.run(&["import", "nowhere.yml"]).code(2);
}

/// Shows: import --explain.
#[test]
fn import_explains_one_service_and_writes_nothing() {
    let project = Project::new();
    project.write(
        "compose.yaml",
        "services:\n  a: { image: alpine, command: sleep 5, networks: [x] }\n  b: { image: alpine, command: sleep 6 }\nnetworks: { x: }\n",
    );
    let out = project.run(&["import", "compose.yaml", "--explain", "a"]).code(0);
    assert!(out.stdout.contains("dropped: services.a.networks") && !out.stdout.contains("services.b"), "{}", out.stdout);
    assert!(!project.path("procfile.toml").exists());
    project.run(&["import", "compose.yaml", "--explain", "c"]).code(2).says("has no service `c`");
}

/// Shows: service.files, secrets.files.
#[test]
fn files_and_secrets_of_a_compose_file_reach_the_service() {
    let project = Project::new();
    project.write("pw.txt", "s3cret-of-file\n");
    project.write(
        "procfile.toml",
        "[secrets]\nfiles = { pw = \"pw.txt\" }\n[services.a]\nrun = \"cat ${dir.run}/a.conf\"\nfiles = { \"a.conf\" = \"at ${dir.project} end\" }\n[tasks.t]\nrun = [\"sh\", \"-c\", \"test \\\"$$PW\\\" = s3cret-of-file\"]\nenv = { PW = \"${secret.pw}\" }\n",
    );
    let shown = project.run(&["config"]).code(0);
    assert!(shown.stdout.contains("a.conf") && !shown.stdout.contains("s3cret-of-file"), "{}", shown.stdout);
    project.run(&["check"]).code(0);
    project.run(&["task", "t"]).code(0);
}

#[test]
fn procfiles_by_any_name_and_in_any_order() {
    let project = Project::new();
    project.write("Procfile.dev", "web: sleep 600\ncss: sleep 600\n");
    project.write("extra.yml", "services:\n  db: { image: alpine, command: sleep 600 }\n");
    project.write(".env", "PORT=22700\n");
    let alone = project.run(&["config"]).code(0);
    assert!(alone.stdout.contains("port = 22700") && alone.stdout.contains("[services.css]"), "{}", alone.stdout);
    for order in [["-f", "Procfile.dev", "-f", "extra.yml"], ["-f", "extra.yml", "-f", "Procfile.dev"]] {
        let out = project.run(&[&order[..], &["up", "--plan"]].concat()).code(0);
        for name in ["web", "css", "db"] {
            assert!(out.stdout.contains(name), "{order:?}: {}", out.stdout);
        }
    }
    project.run(&["import", "Procfile.dev"]).code(0);
    let text = project.read("procfile.toml");
    assert!(text.starts_with("#:schema .devrun/procfile.schema.json\n") && text.contains("[services.web]"), "{text}");
    assert!(project.read(".devrun/procfile.schema.json").contains("\"services\""));
    // A file of another name is nobody's procfile yet.
    project.run(&["import", "extra.yml", "-o", "other.toml"]).code(0);
    assert!(!project.read("other.toml").contains("#:schema"));
}

#[test]
fn profiles_that_select_nothing_are_an_error() {
    let project = Project::new();
    project.write("compose.yaml", "services:\n  a: { image: alpine, command: sleep 600, profiles: [web] }\n");
    project.run(&["up", "-d"]).code(2).says("no service selected: all have profiles that are off (web)");
    project.write(".env", "COMPOSE_PROFILES=web\nCOMPOSE_PROJECT_NAME=hello\n");
    let out = project.run(&["config"]).code(0);
    assert!(out.stdout.contains("name = \"hello\"") && out.stdout.contains("[services.a]"), "{}", out.stdout);
}

#[test]
fn a_procfile_is_written_out() {
    let project = Project::new();
    project.write("Procfile", "web: echo $PORT; sleep 600\nworker: sleep 600\n");
    project.run(&["import", "Procfile"]).code(0);
    let table: toml::Table = toml::from_str(&project.read("procfile.toml")).expect("TOML");
    assert_eq!(table["services"]["web"]["port"].as_integer(), Some(5000), "{table}");
    project.run(&["check"]).code(0);
}

#[test]
fn init_looks_one_level_down_and_says_what_git_must_ignore() {
    let project = Project::new();
    project.write("api/app.py", "from fastapi import FastAPI\napp = FastAPI()\n");
    project.write("api/requirements.txt", "fastapi\nuvicorn\npsycopg\n");
    project.write("frontend/package.json", "{\"scripts\": {\"dev\": \"vite\"}}");
    project.write("db/init/01.sql", "SELECT 1;\n");
    project.write("node_modules/other/package.json", "{\"scripts\": {\"start\": \"never\"}}");
    project.write(".gitignore", "node_modules\n");
    let init = project.run(&["init"]).code(0).says("api: uvicorn app:app").says("add to .gitignore: .venv/ (");
    drop(init.says_not("never"));
    let text = project.read("procfile.toml");
    let table: toml::Table = toml::from_str(&text).expect("TOML");
    assert_eq!(table["services"]["api"]["dir"].as_str(), Some("api"), "{text}");
    assert_eq!(table["services"]["postgres"]["init"].as_str(), Some("db/init"), "{text}");
    assert!(table["tasks"].get("venv").is_some() && table["tasks"].get("npm").is_some(), "{text}");
    // The schema that the first line names is there.
    let schema = text.lines().next().and_then(|line| line.strip_prefix("#:schema ")).unwrap_or_default();
    assert!(project.read(schema).contains("\"$schema\""), "{schema:?}: {text}");
    project.run(&["check"]).code(0);
}

/// Shows: init.
#[test]
fn init_looks_around_and_passes_check() {
    let table: &[(&str, &str, &str)] = &[
        ("package.json", "{\"scripts\": {\"dev\": \"vite\"}}", "npm run dev -- --port $PORT"),
        ("package.json", "not json", "echo hello"),
        ("manage.py", "", "python manage.py runserver"),
        ("requirements.txt", "fastapi\n", "# run = \"uvicorn MODULE:app"),
        ("Cargo.toml", "[package]\nname = \"x\"\n", "cargo run"),
        ("go.mod", "module x\n", "go run ."),
        ("docker-compose.yml", "services: {a: {image: alpine, command: sleep 1}}\n", "sleep 1"),
    ];
    for (name, content, expected) in table {
        let project = Project::new();
        project.write(name, content);
        project.run(&["init"]).code(0);
        let text = project.read("procfile.toml");
        assert!(text.contains(expected), "{name}: {text}");
        project.run(&["check"]).code(0);
        project.run(&["init"]).code(2).says("left as it is");
        project.run(&["init", "--yes"]).code(0);
        assert!(project.path("procfile.toml.bak").exists(), "{name}");
    }
}

/// A Redis that a compose file gives no password is open there, and stays so.
#[test]
fn a_redis_without_a_password_stays_open() {
    let project = Project::new();
    project.write("compose.yml", "services:\n  cache:\n    image: redis:7\n  other:\n    image: valkey/valkey:8\n    command: valkey-server --requirepass x\n");
    project.run(&["import", "compose.yml", "-o", "made.toml"]).code(0);
    let made = project.read("made.toml");
    assert!(made.contains("password = \"\"") && made.contains("password = \"x\""), "{made}");
}
