//! The five stacks of `tests/fixtures/stacks` with their real engines: the files as they are, with free ports and what this
//! machine lacks taken out by a second file. Their applications are not started; they are somebody else's programs.

use std::time::Duration;

use crate::harness::Project;
use crate::services::{fetched, store};
use crate::stack::skip;

trials![s0_template, s1_unified, s2_tiers, s3_observed, s4_modes];

/// A server that builds its graph on a busy machine takes its time.
const UP: Duration = Duration::from_secs(360);

struct Engines {
    project: Project,
    here: Vec<String>,
}

/// The stack `name`, and the engines of it that are on this machine. `wanted` are services with what `which` is asked for;
/// where one of the `quick` ones is absent nothing is run at all, which CI takes for a failure.
fn stack(name: &str, overlay: &str, wanted: &[(&str, &str)], files: &[(&str, &str)]) -> Option<Engines> {
    let project = Project::new().env("DEVRUN_BIN_CACHE", &store().display().to_string());
    let fixture = format!("{}/tests/fixtures/stacks/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    project.rewrite(&std::fs::read_to_string(fixture).expect("the fixture"));
    project.write("engines.toml", overlay);
    for (path, text) in files {
        project.write(path, text);
    }
    let mut here = Vec::new();
    // Asked from folders with no procfile in them or above them, as the stack's own pins are not the question.
    let nowhere = || Project::new().env("DEVRUN_BIN_CACHE", &store().display().to_string());
    let offline = nowhere().env("DEVRUN_OFFLINE", "true");
    for (service, recipe) in wanted {
        let quick = !["neo4j@5", "minio", "ollama", "versitygw"].contains(recipe);
        let mut found = offline.run(&["which", recipe, "--json"]);
        let mut fetched_now = Ok(());
        if quick && found.code != Some(0) {
            fetched_now = fetched(recipe);
            found = offline.run(&["which", recipe, "--json"]);
        }
        if found.code == Some(0) {
            here.push((*service).to_owned());
        } else if quick {
            skip(&format!("{recipe} is absent: {}", fetched_now.err().unwrap_or_else(|| found.last_line().to_owned())));
            return None;
        } else {
            eprintln!("SKIP {service} of {name}: {recipe} is absent; scripts/real-services builds it");
        }
    }
    Some(Engines { project: project.env("DEVRUN_OFFLINE", "true"), here })
}

impl Engines {
    fn has(&self, service: &str) -> bool {
        self.here.iter().any(|known| known == service)
    }
    fn run(&self, words: &[&str]) -> crate::harness::Outcome {
        let all: Vec<&str> = ["-f", "procfile.toml", "-f", "engines.toml"].iter().chain(words).copied().collect();
        self.project.start(&all).outcome_within(UP)
    }
    /// Up twice on the same data, with the engines that are here and `more`; `check` looks at them each time.
    fn twice(&self, flags: &[&str], more: &[&str], check: impl Fn(&Self, usize)) {
        let targets: Vec<&str> = self.here.iter().map(String::as_str).chain(more.iter().copied()).collect();
        for round in 0..2 {
            self.run(&[flags, &["up", "-d"], &targets].concat()).code(0);
            let ps = self.run(&[flags, &["ps", "--json"]].concat()).code(0).json();
            let all = ps["services"].as_array().cloned().unwrap_or_default();
            for target in &targets {
                let one = all.iter().find(|one| one["name"] == **target).unwrap_or_else(|| panic!("{target} in {ps:#}"));
                let state = one["state"].as_str().unwrap_or_default();
                assert!(matches!(state, "running" | "completed") || !self.has(target) && state == "skipped", "{one:#}");
            }
            check(self, round);
            self.run(&[flags, &["down"]].concat()).code(0);
            self.project.nothing_left();
        }
    }
    fn sql(&self, on: &str, query: &str) -> serde_json::Value {
        self.run(&["sql", "--on", on, query, "--json"]).code(0).json()
    }
    fn redis(&self, on: &str, words: &[&str], says: &str) {
        self.run(&[&["redis-cli", "--on", on], words].concat()).code(0).says(says);
    }
}

/// Six stores with their setup, secrets that are made once, and a written env file.
fn s0_template() {
    let overlay = "[services.postgres]\nport = \"auto\"\n[services.redis]\nport = \"auto\"\n\
                   [services.neo4j]\nport = \"auto\"\nports = { http = \"auto\" }\nset = { heap = \"256m\", pagecache = \"32m\" }\nready = { within = \"5m\" }\n\
                   [services.minio]\nport = \"auto\"\nports = { console = \"auto\" }\noptional = true\n\
                   [services.qdrant]\nport = \"auto\"\nports = { grpc = \"auto\" }\noptional = true\n[services.ollama]\nport = \"auto\"\n";
    let wanted =
        [("postgres", "postgres@16"), ("redis", "redis@7"), ("neo4j", "neo4j@5"), ("minio", "minio"), ("ollama", "ollama")];
    let files = [
        ("infra/init-db.sql", "CREATE TABLE items (id int);\nINSERT INTO items VALUES (7);\n"),
        ("infra/init.cypher", "CREATE (:Thing {name: 'one'});\n"),
        ("secrets/env-template.txt", "DATABASE_URL=${postgres.url}\n"),
    ];
    let Some(engines) = stack("s0", overlay, &wanted, &files) else { return };
    let mut more = vec!["qdrant", "minio-setup"];
    if engines.has("neo4j") {
        more.push("neo4j-setup");
    }
    engines.twice(&[], &more, |engines, _| {
        let extensions = "SELECT (SELECT count(*) FROM pg_extension WHERE extname = 'pgcrypto') AS made, id FROM items";
        assert_eq!(engines.sql("postgres", extensions), serde_json::json!([{ "made": 1, "id": 7 }]));
        engines.redis("redis", &["PING"], "PONG");
        if engines.has("neo4j") {
            let rows = engines.run(&["cypher", "MATCH (t:Thing) RETURN count(t) AS n", "--json"]).code(0).json();
            assert_eq!(rows, serde_json::json!([{ "n": 1 }]));
        }
        let written = engines.project.read(".env.generated");
        assert!(written.contains("DATABASE_URL=postgres://appuser:"), "{written}");
    });
}

/// One database, one cache, limits and reservations.
fn s1_unified() {
    // What the whole stack needs is more than these two do.
    let overlay =
        "[project.requires]\ndisk = \"1G\"\nmemory = \"1G\"\n[services.db]\nport = \"auto\"\n[services.redis]\nport = \"auto\"\n";
    let Some(engines) = stack("s1", overlay, &[("db", "postgres@16"), ("redis", "redis@7")], &[]) else { return };
    engines.twice(&[], &[], |engines, round| {
        if round == 0 {
            engines.sql("db", "CREATE TABLE kept AS SELECT 1 AS x");
            engines.redis("redis", &["SET", "kept", "1"], "OK");
        }
        assert_eq!(
            engines.sql("db", "SELECT current_database() AS name, x FROM kept"),
            serde_json::json!([{ "name": "backend_db", "x": 1 }])
        );
        engines.redis("redis", &["GET", "kept"], "1");
    });
}

/// Required variables, numbered tiers, probes that write and read, and a stop that asks first.
fn s2_tiers() {
    let overlay = "[services.postgres]\nport = \"auto\"\n[services.redis]\nport = \"auto\"\n";
    let keys = "POSTGRES_USER=u\nPOSTGRES_PASSWORD='p1-#x'\nPOSTGRES_DB=d\nREDIS_PASSWORD='r #1'\nAIRTABLE_TOKEN=t0k3n\nGEMINI_API_KEY=k3y\n\
                API_KEY=4pi\nJWT_SECRET=jwt-0123456789\nNEXTAUTH_SECRET=next-0123456789\n";
    let wanted = [("postgres", "postgres@16"), ("redis", "redis@7")];
    let Some(engines) = stack("s2", overlay, &wanted, &[(".env", keys)]) else { return };
    engines.twice(&[], &[], |engines, _| {
        assert_eq!(engines.sql("postgres", "SELECT current_user AS name"), serde_json::json!([{ "name": "u" }]));
        engines.redis("redis", &["PING"], "PONG");
    });
}

/// A database, S3, a web server and what watches them; three of its servers have no source and are left out.
fn s3_observed() {
    let auto = ["postgresql", "caddy", "prometheus", "blackbox", "node-exporter"];
    let left_out = ["meilisearch", "grafana", "loki", "promtail"];
    let mut overlay: String = auto.iter().map(|name| format!("[services.{name}]\nport = \"auto\"\n")).collect();
    overlay.extend(left_out.iter().map(|name| format!("[services.{name}]\nport = \"auto\"\noptional = true\n")));
    overlay.push_str("[services.minio]\nport = \"auto\"\nports = { console = \"auto\" }\noptional = true\n");
    // The application behind the web server is not here.
    let overlay = overlay.replace("[services.caddy]\n", "[services.caddy]\ndepends_on = []\n");
    let wanted = [
        ("postgresql", "postgres@16"),
        ("caddy", "caddy"),
        ("prometheus", "prometheus"),
        ("blackbox", "blackbox_exporter"),
        ("node-exporter", "node_exporter"),
        ("minio", "minio"),
    ];
    let files = [
        (".env", "DB_PASSWORD=\"#ThawZin2k77!\"\nMINIO_ROOT_USER=root-user\nMINIO_ROOT_PASSWORD=root-password\n"),
        ("init-scripts/postgres/1.sql", "CREATE TABLE posts (id int);\n"),
        (
            "config/caddy/Caddyfile.in",
            "{\n\tadmin off\n\tauto_https off\n}\nhttp://127.0.0.1:${caddy.port} {\n\trespond \"website\"\n}\n",
        ),
        ("config/prometheus/prometheus.yml.in", "global:\n  scrape_interval: 5s\nscrape_configs: []\n"),
        ("config/grafana/datasources.yml.in", "apiVersion: 1\n"),
        ("config/promtail/promtail.yml.in", "clients: []\n"),
    ];
    let Some(engines) = stack("s3", &overlay, &wanted, &files) else { return };
    std::fs::create_dir_all(engines.project.root().join("pretamane-website")).expect("our own folder");
    let more: Vec<&str> = left_out.iter().copied().chain(["minio-setup"]).collect();
    engines.twice(&["--profile", "observability"], &more, |engines, _| {
        assert_eq!(engines.sql("postgresql", "SELECT count(*) AS n FROM posts"), serde_json::json!([{ "n": 0 }]));
    });
}

/// Migrations, settings of the cache, two modes with another database each.
fn s4_modes() {
    // The patch releases that the file pins have no source.
    let overlay =
        "[services.postgres]\nuse = \"postgres@16\"\nport = \"auto\"\n[services.redis]\nuse = \"redis@7\"\nport = \"auto\"\n";
    let files = [
        (".env", "POSTGRES_PASSWORD=x-12345678\n"),
        (".env.example", "POSTGRES_PASSWORD=\n"),
        ("migrations/001.sql", "CREATE TABLE due_work (id int);\nINSERT INTO due_work VALUES (1);\n"),
    ];
    let wanted = [("postgres", "postgres@16"), ("redis", "redis@7")];
    let Some(engines) = stack("s4", overlay, &wanted, &files) else { return };
    engines.twice(&[], &[], |engines, _| {
        assert_eq!(engines.sql("postgres", "queue"), serde_json::json!([{ "count": 1 }]));
        assert_eq!(
            engines.sql("postgres", "SELECT current_database() AS name"),
            serde_json::json!([{ "name": "orchestrator_dev" }])
        );
        engines.redis("redis", &["CONFIG", "GET", "maxmemory-policy"], "allkeys-lru");
    });
}
