//! `export compose`, read by the real compose: the demo, the five stacks, and files that go round through import and export.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::compose_meaning::{differences, meaning};
use crate::compose_tool::{compose, config};
use crate::harness::Project;
use crate::stack::skip;

trials![the_real_tool_reads_the_demo_and_the_five_stacks, a_round_trip_keeps_the_meaning, a_corpus_goes_round];

pub const VARIABLES: &[(&str, &str)] = &[
    ("POSTGRES_USER", "u"),
    ("POSTGRES_PASSWORD", "p1"),
    ("POSTGRES_DB", "d"),
    ("REDIS_PASSWORD", "r1"),
    ("AIRTABLE_TOKEN", "t"),
    ("GEMINI_API_KEY", "k"),
    ("API_KEY", "a"),
    ("JWT_SECRET", "jwt-0123456789"),
    ("NEXTAUTH_SECRET", "next-0123456789"),
    ("DB_PASSWORD", "#ThawZin2k77!"),
    ("MINIO_ROOT_USER", "root-user"),
    ("MINIO_ROOT_PASSWORD", "root-password"),
    // Passwords of servers whose image reads no `NAME_FILE`, or another one, and whose entry point is not known.
    ("FILES_PASSWORD", "f1"),
    ("GRAFANA_PASSWORD", "g1"),
    // Where a recipe needs a value, a variable without one is an error, as in any procfile.
    ("KEYCLOAK_ADMIN", "boss"),
    ("KEYCLOAK_ADMIN_PASSWORD", "k1"),
    ("BOOTSTRAP_SERVERS", "broker.example:9092"),
];

/// The files that the stacks name.
pub const FILES: &[(&str, &str)] = &[
    ("examples/shop/db/1.sql", "SELECT 1;\n"),
    ("examples/shop/setup.sql", "SELECT 1;\n"),
    ("secrets/env-template.txt", "DATABASE_URL=${postgres.url}\n"),
    ("infra/init-db.sql", "SELECT 1;\n"),
    ("infra/init.cypher", "RETURN 1;\n"),
    ("config/caddy/Caddyfile.in", "http://:8080 {\n\treverse_proxy ${fastapi-app.addr}\n}\n"),
    ("config/prometheus/prometheus.yml.in", "scrape_configs: []\n"),
    ("config/grafana/datasources.yml.in", "apiVersion: 1\n"),
    ("config/promtail/promtail.yml.in", "clients: []\n"),
    ("pretamane-website/index.html", "<p>site</p>\n"),
    ("migrations/001.sql", "SELECT 1;\n"),
];

/// A stack of the fixtures. The website of one lies next to its project, where no gateway may serve from.
pub fn stack(name: &str) -> String {
    let file = if name == "demo" { "procfile.toml".to_owned() } else { format!("tests/fixtures/stacks/{name}.toml") };
    std::fs::read_to_string(root().join(file)).expect("the procfile").replace("../pretamane-website", "pretamane-website")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn is_there() -> bool {
    match compose() {
        Ok(_) => true,
        Err(why) => {
            skip(&format!("docker-compose: {why}"));
            false
        }
    }
}

/// The stack as the real tool reads its export.
fn exported(name: &str, flags: &[&str]) -> (Value, String) {
    let mut project = Project::new();
    for (name, value) in VARIABLES {
        project = project.env(name, value);
    }
    project.rewrite(&stack(name));
    for (path, text) in FILES {
        project.write(path, text);
    }
    let outcome = project.run(&[flags, &["export", "compose", "-o", "compose.yaml"]].concat()).code(0);
    let read = config(&project.dir(), &["compose.yaml"], VARIABLES);
    (read.unwrap_or_else(|error| panic!("{error}\n{}", project.read("compose.yaml"))), outcome.stderr)
}

fn the_real_tool_reads_the_demo_and_the_five_stacks() {
    if !is_there() {
        return;
    }
    let (demo, _) = exported("demo", &[]);
    let api = &demo["services"]["api"];
    assert_eq!(api["depends_on"]["shop-setup"]["condition"], "service_completed_successfully", "{api:#}");
    // Both passwords are generated ones, which the script reads.
    assert!(api["environment"]["REDIS_URL"].is_null(), "{api:#}");
    assert!(
        api["command"][0].as_str().is_some_and(|script| script.contains("$$(cat /run/secrets/postgres-password)")
            && script.contains("$$(cat /run/secrets/redis-password)")),
        "{api:#}"
    );
    assert_eq!(api["healthcheck"]["interval"], "10s");
    assert_eq!(
        demo["secrets"]["postgres-password"]["file"].as_str().map(|file| file.ends_with("/secrets/infra/postgres-password")),
        Some(true)
    );
    assert_eq!(demo["services"]["neo4j"]["profiles"], json!(["full"]));

    let (s0, _) = exported("s0", &[]);
    let api = &s0["services"]["api"];
    assert_eq!(api["depends_on"]["ollama"], json!({ "condition": "service_started", "required": false }), "{api:#}");
    let script = api["command"][0].as_str().unwrap_or_default();
    assert!(script.contains("DATABASE_URL") && script.contains("@postgres:5432/appdb"), "the template's variable: {script}");
    assert_eq!(s0["services"]["postgres"]["healthcheck"]["retries"], 5);
    assert_eq!(s0["services"]["minio-setup"]["depends_on"]["minio"]["condition"], "service_healthy");

    let (s1, said) = exported("s1", &[]);
    let db = &s1["services"]["db"];
    assert_eq!((&db["image"], &db["restart"]), (&json!("postgres:16"), &json!("unless-stopped")), "{db:#}");
    assert_eq!(db["healthcheck"]["start_period"], "10s");
    assert_eq!(db["deploy"]["resources"]["limits"], json!({ "cpus": 1, "memory": "536870912" }));
    assert_eq!(s1["services"]["backend"]["environment"]["DB_HOST"], "db");
    let celery = &s1["services"]["celery"];
    assert!(celery["environment"]["REDIS_URL"].is_null(), "{celery:#}");
    let script = celery["command"][0].as_str().unwrap_or_default();
    assert!(script.contains("REDIS_URL") && script.contains("$$(cat /run/secrets/redis-password)"), "of env_from: {script}");
    let proxy = &s1["services"]["proxy"];
    assert_eq!(proxy["ports"][0]["published"], "80");
    assert_eq!(proxy["image"], "caddy:2");
    let caddyfile = s1["configs"]["proxy-caddyfile"]["content"].as_str().unwrap_or_default();
    assert!(caddyfile.contains("to frontend:5173") && caddyfile.contains("max_size 104857600"), "{caddyfile}");
    assert!(caddyfile.find("/media/*") < caddyfile.find("to frontend:5173\n\t\t\t}\n\t\t}\n\t}"), "{caddyfile}");
    assert!(said.contains("not exported: services.backend.volumes:"), "{said}");

    let (s2, _) = exported("s2", &[]);
    let platform = &s2["services"]["platform-services"];
    assert_eq!(platform["environment"]["DATABASE_URL"], "postgres://u:p1@postgres:5432/d", "{platform:#}");
    let frontend = &s2["services"]["frontend"]["depends_on"];
    assert_eq!(frontend["api-gateway"]["condition"], "service_healthy", "the tier below: {frontend:#}");

    let (s3, _) = exported("s3", &[]);
    assert_eq!(s3["services"]["postgresql"]["environment"]["POSTGRES_PASSWORD"], "#ThawZin2k77!");
    let caddyfile = s3["configs"]["caddy-caddyfile"]["content"].as_str().unwrap_or_default();
    assert!(caddyfile.contains("reverse_proxy fastapi-app:8000"), "{caddyfile}");

    let (dev, _) = exported("s4", &[]);
    let script = dev["services"]["api"]["command"][0].as_str().unwrap_or_default();
    assert!(script.ends_with(" '--reload'") && script.contains("$$(cat /run/secrets/redis-password)"), "{script}");
    let (prod, said) = exported("s4", &["--mode", "prod"]);
    assert_eq!(prod["services"]["worker"]["deploy"]["replicas"], 4);
    assert!(prod["services"]["postgres"].get("ports").is_none(), "private");
    let script = prod["services"]["redis"]["command"][0].as_str().unwrap_or_default();
    assert!(script.contains("exec 'docker-entrypoint.sh' 'redis-server'"), "{script}");
    assert!(said.contains("services.worker.env: every copy gets the same `replica.name`"), "{said}");
}

/// The files below a directory that are text, as secrets and scripts are.
fn copy_texts(root: &Path, folder: &Path, project: &Project) {
    for entry in std::fs::read_dir(folder).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            copy_texts(root, &path, project);
        } else if entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() < 1 << 20)
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            let name = path.strip_prefix(root).expect("below it");
            project.write(&name.to_string_lossy(), &text);
        }
    }
}

/// Imports a compose file and exports it again. `Ok(None)`: the real tool refuses the file itself.
fn round(folder: &Path, name: &str) -> Result<Option<Vec<String>>, String> {
    let project = Project::new();
    copy_texts(folder, folder, &project);
    let Ok(before) = config(&project.dir(), &[name], VARIABLES) else { return Ok(None) };
    let mut project = project;
    for (variable, value) in VARIABLES {
        project = project.env(variable, value);
    }
    let import = project.run(&["import", name, "-o", "made.toml"]);
    if import.code != Some(0) {
        return Ok(None);
    }
    let explained = project.run(&["import", name, "-o", "again.toml"]);
    let export = project.run(&["-f", "made.toml", "export", "compose", "-o", "made.yaml"]);
    if export.code != Some(0) {
        return Err(format!("export: {}", export.last_line()));
    }
    // The env files that it says compose must be given.
    let files = export.stderr.lines().find_map(|line| line.split_once(": docker compose")?.1.strip_suffix(" up"));
    let mut given: Vec<(String, String)> = Vec::new();
    for file in files.into_iter().flat_map(|text| text.split(" --env-file ")).filter(|file| !file.trim().is_empty()) {
        let text = std::fs::read_to_string(project.path(file.trim())).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('='));
        given.extend(lines.map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches('"').to_owned())));
    }
    let variables = VARIABLES.iter().copied().filter(|(name, _)| !given.iter().any(|(known, _)| known == name));
    let variables: Vec<(&str, &str)> =
        variables.chain(given.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect();
    let after = config(&project.dir(), &["made.yaml"], &variables)?;
    let mut said = format!("{}{}{}{}", import.stdout, import.stderr, explained.stderr, export.stderr);
    let (before, after) = (meaning(&before), meaning(&after));
    // A long report leaves out what was mapped: the services in question are explained one by one.
    for line in differences(&before, &after, &said) {
        let service = line.split(['.', ' ']).next().unwrap_or_default();
        said.push_str(&project.run(&["import", "--explain", service, name]).stdout);
    }
    Ok(Some(differences(&before, &after, &said)))
}

fn a_round_trip_keeps_the_meaning() {
    if !is_there() {
        return;
    }
    let folder = root().join("tests/fixtures/compose/round");
    let differ = round(&folder, "shop.yml").unwrap_or_else(|error| panic!("{error}")).expect("a file that compose reads");
    assert!(differ.is_empty(), "{differ:#?}");
}

/// Every compose file below `DEVRUN_COMPOSE_CORPUS`, a directory of foreign files.
fn a_corpus_goes_round() {
    let Some(corpus) = std::env::var_os("DEVRUN_COMPOSE_CORPUS") else {
        return crate::harness::skipped("DEVRUN_COMPOSE_CORPUS names no directory of compose files");
    };
    if !is_there() {
        return;
    }
    let (mut folders, mut failed, mut count) = (vec![PathBuf::from(corpus)], Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the corpus").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                folders.push(path);
            } else if matches!(name.as_str(), "compose.yaml" | "compose.yml" | "docker-compose.yaml" | "docker-compose.yml") {
                match round(&folder, &name) {
                    Ok(Some(differ)) => {
                        count += 1;
                        failed.extend(differ.into_iter().map(|line| format!("{}: {line}", folder.display())));
                    }
                    Ok(None) => {}
                    Err(error) => failed.push(format!("{}: {error}", folder.display())),
                }
            }
        }
    }
    crate::harness::figures(&format!("{count} compose files went round"));
    assert!(failed.is_empty(), "{failed:#?}");
}
