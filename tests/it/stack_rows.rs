//! The configuration parts of five kinds of stack, each cut down to what its rows say: a template with keys; one door and
//! per-service files; required variables in tiers; three layers; base, development and production.

use serde_json::Value;

use crate::harness::{Outcome, Project, eventually};

fn env(project: &Project, words: &[&str], service: &str) -> Value {
    let all: Vec<&str> = words.iter().copied().chain(["env", service, "--format", "json"]).collect();
    project.run(&all).code(0).json()
}

/// `services.X` of `config --json`.
fn resolved(project: &Project, words: &[&str], service: &str) -> Value {
    let all: Vec<&str> = words.iter().copied().chain(["config", "--json", "--reveal"]).collect();
    project.run(&all).code(0).json()["services"][service].clone()
}

#[track_caller]
fn names(outcome: &Outcome, words: &[&str]) {
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} is missing\n{outcome}");
    }
}

const ONE_DOOR: &str = r#"
    [project]
    env_file = [".env"]
    [volumes]
    media  = { class = "persistent", path = "backend/media" }
    static = { class = "cache" }
    pgdata = { class = "persistent" }
    upload-parts = { class = "scratch" }
    [services.db]
    use      = "postgres"
    port     = "${DB_PORT:-5432}"
    data     = "pgdata"
    database = "${DB_NAME:-backend_db}"
    user     = "${DB_USER:-postgres}"
    password = "${DB_PASSWORD:-postgres}"
    [services.backend]
    run      = "sh -c 'env > backend.env; exec {svc:backend}'"
    port     = "${BACKEND_PORT:-auto}"
    ready = false
    env_file = ["backend/.env.docker"]
    volumes  = ["media", "static", "upload-parts"]
    env      = { DB_HOST = "${db.host}", DB_PORT = "${db.port}", DB_URL = "${db.url}", FRONTEND_API_URL = "${proxy.url}", FRONTEND_APP_NAME = "Application (Docker Dev)", LEVEL = "own" }
    [services.frontend]
    run      = "{svc:frontend}"
    env_file = ["frontend/.env.docker"]
    [services.proxy]
    run      = "{svc:proxy} --listen $PORT"
    port     = "${PROXY_PORT:-auto}"
    ready    = { tcp = true }
    [services.celery]
    profiles = ["with-celery"]
    run      = "sh -c 'env > celery.env; exec {svc:celery}'"
    env_from = "backend"
"#;

/// Services of the first stack that need no engine.
const WITHOUT_DB: [&str; 3] = ["backend", "frontend", "proxy"];

fn one_door() -> Project {
    let project = Project::new().procfile(ONE_DOOR);
    project.write("backend/.env.docker", "BACKEND_ONLY=1\n");
    project.write("frontend/.env.docker", "VITE_ONLY=1\n");
    project
}

#[test]
fn one_door_works_without_an_env_file_and_the_shell_beats_it() {
    let project = one_door();
    // M-042: defaults alone.
    let db = resolved(&project, &[], "db");
    assert_eq!((&db["port"], &db["database"], &db["user"]), (&5432.into(), &"backend_db".into(), &"postgres".into()));
    // M-051: each service has its own file and not the other's.
    let (backend, frontend) = (env(&project, &[], "backend"), env(&project, &[], "frontend"));
    assert_eq!((&backend["BACKEND_ONLY"], &backend["VITE_ONLY"]), (&"1".into(), &Value::Null));
    assert_eq!((&frontend["VITE_ONLY"], &frontend["BACKEND_ONLY"]), (&"1".into(), &Value::Null));
    // M-238: one variable moves server, URL and clients together; M-049: the shell beats the file, a service's own wins.
    project.write(".env", "DB_PORT=5433\nPROXY_PORT=18099\nLEVEL=file\n");
    let backend = env(&project, &[], "backend");
    assert_eq!(backend["DB_PORT"], "5433");
    assert!(backend["DB_URL"].as_str().is_some_and(|url| url.ends_with("@127.0.0.1:5433/backend_db")), "{backend:#}");
    assert_eq!(resolved(&project, &[], "db")["port"], 5433);
    let shell = project.run_in_shell("DB_PORT=5434 PROXY_PORT=18080 LEVEL=shell \"$0\" env backend --format json").code(0).json();
    assert_eq!((&shell["DB_PORT"], &shell["LEVEL"]), (&"5434".into(), &"own".into()));
    // M-065: what depends on the entry port follows it.
    assert_eq!(shell["FRONTEND_API_URL"], "http://127.0.0.1:18080");
    assert_eq!(backend["FRONTEND_API_URL"], "http://127.0.0.1:18099");
}

#[test]
fn one_door_profiles_children_and_volumes() {
    let project = one_door();
    let up: Vec<&str> = ["up", "-d"].into_iter().chain(WITHOUT_DB).collect();
    project.run(&up).code(0);
    // M-059: blanks and brackets arrive.
    let child = eventually("the child's environment", crate::harness::PATIENCE, || {
        Some(project.read("backend.env")).filter(|text| text.contains("DEVRUN_SERVICE"))
    });
    assert!(child.contains("FRONTEND_APP_NAME=Application (Docker Dev)\n"), "{child}");
    // M-226, M-227: off unless asked for; naming it is asking. env_from gives it the backend's variables.
    assert!(project.service("celery").is_null());
    project.run(&["up", "-d", "celery"]).code(0);
    assert_eq!(project.service("celery")["state"], "running");
    let celery = eventually("the worker's environment", crate::harness::PATIENCE, || {
        Some(project.read("celery.env")).filter(|text| text.contains("DEVRUN_SERVICE=celery"))
    });
    assert!(celery.contains("BACKEND_ONLY=1\n") && celery.contains("LEVEL=own\n"), "{celery}");
    assert!(project.run(&["--profile", "with-celery", "config", "--json"]).code(0).json()["services"]["celery"].is_object());
    // M-177, M-178, M-182, M-183: what goes with which verb.
    let fill = || {
        for (folder, file) in [("backend/media", "upload"), (".devrun/data/static", "js"), (".devrun/data/pgdata", "row")] {
            project.write(&format!("{folder}/{file}"), "x");
        }
    };
    fill();
    project.write(".devrun/data/upload-parts/part", "x");
    project.run(&["down"]).code(0);
    assert!(!project.path(".devrun/data/upload-parts/part").exists(), "scratch goes with each down");
    assert!(project.path(".devrun/data/pgdata/row").exists() && project.path(".devrun/data/static/js").exists());
    project.run(&["clean", "--only", "cache", "--yes"]).code(0);
    assert!(project.path(".devrun/data/pgdata/row").exists() && !project.path(".devrun/data/static/js").exists());
    fill();
    project.run_in_shell("CLEANUP_VOLUMES=true \"$0\" down").code(0);
    assert!(!project.path(".devrun/data/pgdata/row").exists() && !project.path(".devrun/data/static/js").exists());
    assert!(project.path("backend/media/upload").exists(), "a placed volume goes only when it is named");
    project.run(&["clean", "--yes"]).code(0);
    assert!(project.path("backend/media/upload").exists());
    project.nothing_left();
}

const TIERS: &str = r#"
    [project]
    timeout  = "${MAX_STARTUP_TIME:-600}s"
    env_file = [".env"]
    env_sample = ".env.example"
    required = ["POSTGRES_USER", "JWT_SECRET", "API_KEY"]
    [defaults.ready]
    within = "${HEALTH_CHECK_TIMEOUT:-120}s"
    [services.api]
    run  = "{svc:api}"
    env  = { JWT_SECRET = "${JWT_SECRET}", API_KEY = "${API_KEY}", USER_NAME = "${POSTGRES_USER}" }
    ready = { uptime = "${SERVICE_STARTUP_DELAY:-0}s" }
"#;

#[test]
fn tiers_required_variables_are_one_error_and_samples_are_missing() {
    let project = Project::new().procfile(TIERS);
    project.write(".env", "JWT_SECRET=your-jwt-secret\nAPI_KEY=\n");
    // M-043, M-044: all names, one error, nothing spawned.
    let refused = project.run(&["up", "-d"]).code(2);
    names(&refused, &["POSTGRES_USER (not set)", "JWT_SECRET (still \"your-jwt-secret\")", "API_KEY (empty)"]);
    assert_eq!(refused.stderr.matches("error:").count(), 1, "{refused}");
    assert!(project.alive("").is_empty());
    for placeholder in ["changeme", "CHANGE_ME please", "<your key>", "replace-me"] {
        project.write(".env", &format!("JWT_SECRET=s\nAPI_KEY={placeholder}\nPOSTGRES_USER=app\n"));
        names(&project.run(&["check"]).code(2), &["a required variable is missing: API_KEY (still"]);
    }
    // M-064: missing, renamed and unused against the sample.
    project.write(".env.example", "POSTGRES_USER=\nJWT_SECRET=\nAPI_KEY=\nGEMINI_API_KEY=\nAIRTABLE_TOKEN=\n");
    project.write(".env", "JWT_SECRET=s\nAPI_KEY=k\nPOSTGRES_USER=app\nAIRTABLE_TOKENS=x\nOLD_THING=1\n");
    names(
        &project.run(&["check"]).code(0),
        &["missing: GEMINI_API_KEY\n", "renamed: AIRTABLE_TOKENS → AIRTABLE_TOKEN\n", "unused: OLD_THING\n", "no errors"],
    );
    // Durations are parsed after substitution.
    let timed = project.run_in_shell("MAX_STARTUP_TIME=77 HEALTH_CHECK_TIMEOUT=33 \"$0\" config --json").code(0).json();
    assert_eq!(timed["project"]["timeout"], "1m17s", "{timed:#}");
    assert_eq!(timed["services"]["api"]["ready"]["within"], "33s", "{timed:#}");
    // M-061, M-062: git, and what is printed.
    let shown = project.run(&["config"]).code(0);
    assert!(!shown.stdout.contains("\"k\"") && shown.stdout.contains("••••"), "{shown}");
}

const LAYERS: &str = r#"
    [project]
    name     = "pretamane"
    env_file = [".env"]
    [volumes]
    site = { class = "source", path = "../website" }
    [services.postgresql]
    use      = "postgres"
    port     = 15432
    user     = "pretamane"
    database = "pretamane_db"
    password = "${DB_PASSWORD:?set DB_PASSWORD in .env}"
    [services.app]
    run  = "{svc:app} --listen $PORT"
    port = "auto"
    ready = { tcp = true }
    [services.app.env]
    APP_NAME    = "realistic demo"
    DB_PASSWORD = "${DB_PASSWORD}"
    DB_HOST     = "${postgresql.host}"
    DB_PORT     = "${postgresql.port}"
    DATABASE_URL = "${postgresql.url:postgresql+psycopg}"
    [services.caddy]
    run        = "sh -c 'cp ${dir.run}/Caddyfile rendered; exec {svc:caddy}'"
    depends_on = ["app"]
    volumes    = ["site"]
    render     = { "config/Caddyfile.in" = "Caddyfile" }
"#;

#[test]
fn layers_are_told_by_their_places_and_templates_follow_the_ports() {
    let project = Project::new().procfile(LAYERS);
    project.write(".env", "# first\nOTHER=1\nDB_PASSWORD=\"#ThawZin2k77!\"\n");
    project.write("config/Caddyfile.in", "reverse_proxy ${app.addr}\nname ${app.env:-x}\n");
    // A fault inside a template points into it.
    names(&project.run(&["check"]).code(2), &["config/Caddyfile.in:2:"]);
    project.write("config/Caddyfile.in", "reverse_proxy ${app.addr}\nlogs ${dir.logs}\n");
    project.write("../website/index.html", "hello");
    // M-046, M-047, M-048, M-055: each value, and where it comes from.
    let rows = project.run(&["config", "app", "--origin", "--json"]).code(0).json();
    let row = |name: &str| {
        let key = format!("services.app.env.{name}");
        let found = rows.as_array().into_iter().flatten().find(|row| row["key"] == key.as_str());
        found.cloned().unwrap_or_else(|| panic!("{name} in {rows:#}"))
    };
    let line =
        |text: &str| project.read("procfile.toml").lines().position(|line| line.trim().starts_with(text)).expect("there") + 1;
    assert_eq!(row("APP_NAME")["origin"], format!("procfile.toml:{}", line("APP_NAME")));
    assert_eq!((&row("DB_HOST")["value"], &row("DB_PORT")["value"]), (&"127.0.0.1".into(), &"15432".into()));
    assert_eq!(row("DB_PASSWORD")["value"], "••••");
    // M-057, M-058: the URL beside the single values, encoded, with the driver's prefix.
    let app = env(&project, &[], "app");
    assert_eq!(app["DATABASE_URL"], "postgresql+psycopg://pretamane:%23ThawZin2k77%21@127.0.0.1:15432/pretamane_db");
    assert_eq!(app["DB_PASSWORD"], "#ThawZin2k77!");
    project.run(&["config"]).code(0).says_not("ThawZin2k77");
    // M-060: a URL with a fault, and no word of its password.
    project.write(".env", "DB_PASSWORD=x\n");
    project.rewrite(&LAYERS.replace("APP_NAME    = \"realistic demo\"", "OTHER_URL = \"postgres//app:hidden@h/d\""));
    names(
        &project.run(&["check"]).code(2),
        &["procfile.toml:", "invalid URL in OTHER_URL: missing `:` between `postgres` and `//`"],
    );
    project.rewrite(&LAYERS.replace("[services.app.env]", "env_file = [\"app.env\"]\n[services.app.env]"));
    project.write("app.env", "A=1\nCACHE_URL=redis//:hidden@h\n");
    project.run(&["check"]).code(2).says("app.env:2: invalid URL in CACHE_URL").says_not("hidden");
    // The unset one, with the procfile's own words.
    project.rewrite(LAYERS);
    project.write(".env", "OTHER=1\n");
    names(&project.run(&["check"]).code(2), &["set DB_PASSWORD in .env"]);
    // M-185, M-234, M-236: the rendered file has the live address; the source folder outlives everything.
    project.write(".env", "DB_PASSWORD='#ThawZin2k77!'\n");
    project.run(&["up", "-d", "app", "caddy"]).code(0);
    let port = project.service("app")["ports"]["main"].to_string();
    let rendered = eventually("the rendered file", crate::harness::PATIENCE, || {
        Some(project.read("rendered")).filter(|text| text.contains("logs"))
    });
    assert_eq!(rendered, format!("reverse_proxy 127.0.0.1:{port}\nlogs {}\n", project.path(".devrun/logs").display()));
    let run = project.root().join("run/devrun");
    assert!(std::fs::read_dir(&run).is_ok_and(|mut entries| entries.next().is_some()));
    project.run(&["down", "--volumes"]).code(0);
    // M-181: what is short-lived is gone.
    assert!(std::fs::read_dir(&run).is_ok_and(|mut entries| entries.next().is_none()));
    project.run(&["clean", "--yes"]).code(0);
    assert_eq!(project.read("../website/index.html"), "hello");
}

const MODES: &str = r#"
    [project]
    name = "ordinaut"
    mode = "dev"
    [env]
    TZ        = "${TZ_NAME:-Europe/Chisinau}"
    LOG_LEVEL = "${LOG_LEVEL:-info}"
    [services.store]
    run  = "sh -c 'mkdir -p ${store.data}; echo $DEVRUN_SERVICE > ${store.data}/row; exec {svc:store}'"
    data = "pgdata"
    port = "auto"
    ready = false
    [services.api]
    run  = "{svc:api}"
    port = "auto"
    ready = false
    bind = "127.0.0.1"
    env  = { UVICORN_WORKERS = "1" }
    [services.worker]
    run  = "{svc:worker}"
    replicas = 2
    env  = { WORKER_ID = "${replica.name}", WORKER_LEASE_SECONDS = "60" }
    [modes.dev]
    env.LOG_LEVEL = "${LOG_LEVEL:-debug}"
    services.worker.replicas = 1
    [modes.prod]
    services.store.port = "private"
    services.api = { port = false, env = { UVICORN_WORKERS = "4" } }
    services.worker = { replicas = 3, env = { WORKER_LEASE_SECONDS = "90" } }
    services.edge = { run = "{svc:edge}", depends_on = ["api"] }
"#;

#[test]
fn modes_merge_by_key_and_never_share_data() {
    let project = Project::new().procfile(MODES);
    // M-052, M-053, M-220, M-231: development is the default.
    let worker = env(&project, &[], "worker");
    assert_eq!((&worker["TZ"], &worker["LOG_LEVEL"]), (&"Europe/Chisinau".into(), &"debug".into()));
    assert_eq!((&worker["WORKER_ID"], &worker["WORKER_LEASE_SECONDS"]), (&"worker".into(), &"60".into()));
    assert_eq!(env(&project, &[], "api")["UVICORN_WORKERS"], "1");
    let listed = |words: &[&str]| -> Vec<String> {
        let config = project.run(&[words, &["config", "--json"]].concat()).code(0).json();
        config["services"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(listed(&[]), ["api", "store", "worker"]);
    // M-228, M-229, M-233: deep, by key; the flag and the variable agree; `false` removes.
    let prod = ["--mode", "prod"];
    assert_eq!(listed(&prod), ["api", "edge", "store", "worker"]);
    let api = resolved(&project, &prod, "api");
    assert_eq!((&api["env"]["UVICORN_WORKERS"], &api["port"], &api["bind"]), (&"4".into(), &Value::Null, &"127.0.0.1".into()));
    assert_eq!(resolved(&project, &prod, "worker")["replicas"], 3);
    assert_eq!(env(&project, &prod, "worker.3")["WORKER_ID"], "worker.3");
    assert_eq!(env(&project, &prod, "worker")["LOG_LEVEL"], "info");
    let by_variable = project.run_in_shell("DEVRUN_MODE=prod \"$0\" config --json").code(0).stdout;
    assert_eq!(by_variable, project.run(&["--mode", "prod", "config", "--json"]).code(0).stdout);
    project.run(&["--mode", "produ", "check"]).code(2).says("prod");
    // M-230: any number of files, in order.
    project.write("one.toml", "[services.api]\nenv = { A = \"1\", B = \"1\" }\n");
    project.write("two.toml", "[services.api]\nenv = { B = \"2\", UVICORN_WORKERS = false }\n");
    let files = ["-f", "procfile.toml", "-f", "one.toml", "-f", "two.toml"];
    let api = env(&project, &files, "api");
    assert_eq!((&api["A"], &api["B"], &api["UVICORN_WORKERS"]), (&"1".into(), &"2".into(), &Value::Null));
    // M-186: each mode has its own data.
    project.run(&["up", "-d"]).code(0);
    let row = |mode: &str| project.read(&format!(".devrun/data/{mode}/pgdata/row"));
    eventually("the row of dev", crate::harness::PATIENCE, || (row("dev") == "store\n").then_some(()));
    assert_eq!(row("prod"), "");
    project.run(&["down"]).code(0);
    project.run(&["--mode", "prod", "up", "-d"]).code(0);
    eventually("the row of prod", crate::harness::PATIENCE, || (row("prod") == "store\n").then_some(()));
    // M-232: a private port stands in no table.
    project.run(&["--mode", "prod", "ports"]).code(0).says_not("store");
    project.run(&["--mode", "prod", "down", "--volumes"]).code(0);
    assert_eq!((row("dev").as_str(), row("prod").as_str()), ("store\n", ""));
    project.nothing_left();
}
