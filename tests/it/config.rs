//! Five whole stacks through the public face of `config`: read, wanted, chosen, lowered. Each summary is compared with
//! the text beside it; `UPDATE_EXPECT=1` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use devrun_config::{Document, Facts, Options, Report, Source, read};
use devrun_model::{Check, Launch, Paths, Plan, RecipeBook, RecipeData, ServiceSpec, duration};

/// A book that is small and does not change with the real one.
#[derive(Debug)]
pub struct TestBook(BTreeMap<String, RecipeData>);

impl TestBook {
    pub fn new() -> Self {
        let texts = [
            "name = \"postgres\"\nsummary = \"x\"\nport = 5432\nkeeps_data = true\nwants_data = true\nown_keys = [\"init\", \"migrations\", \"extensions\", \"locale\", \"encoding\"]\nuser = \"postgres\"\ndatabase = \"postgres\"\nwants_password = true\nscheme = \"postgres\"\n[service]\nready = { sql = \"SELECT 1\" }\nstop = { signal = \"INT\", then = \"QUIT\", grace = \"60s\" }\n",
            "name = \"redis\"\nsummary = \"x\"\nport = 6379\nkeeps_data = true\nscheme = \"redis\"\n[service]\nready = { redis = \"PING\" }\nstop = { grace = \"60s\" }\n",
            "name = \"minio\"\nsummary = \"x\"\nport = 9000\nkeeps_data = true\nuser = \"minioadmin\"\nwants_password = true\n[ports]\nconsole = 9001\n[service]\nready = { http = \"/minio/health/ready\" }\n",
            "name = \"neo4j\"\nsummary = \"x\"\nport = 7687\nkeeps_data = true\nuser = \"neo4j\"\nwants_password = true\nscheme = \"bolt\"\n[ports]\nhttp = 7474\n[service]\nready = { bolt = true, within = \"300s\" }\n",
            "name = \"qdrant\"\nsummary = \"x\"\nport = 6333\nkeeps_data = true\n[ports]\ngrpc = 6334\n[service]\nready = { http = \"/readyz\" }\n",
            "name = \"ollama\"\nsummary = \"x\"\nport = 11434\nkeeps_data = true\n[service]\nready = { http = \"/\" }\n",
            "name = \"meilisearch\"\nsummary = \"x\"\nport = 7700\nkeeps_data = true\n[service]\nready = { http = \"/health\" }\n",
            "name = \"caddy\"\nsummary = \"x\"\nport = 8080\nkeeps_data = true\n[service]\nready = { http = \"/\" }\n",
            "name = \"prometheus\"\nsummary = \"x\"\nport = 9090\nkeeps_data = true\n[service]\nready = { http = \"/-/ready\" }\n",
            "name = \"gateway\"\nsummary = \"x\"\nport = 8080\nrefuses_user_id = true\n[service]\nready = { tcp = true }\n",
            "name = \"grafana\"\nsummary = \"x\"\nport = 3000\nkeeps_data = true\n",
            "name = \"loki\"\nsummary = \"x\"\nport = 3100\nkeeps_data = true\n[ports]\ngrpc = 9096\n",
            "name = \"promtail\"\nsummary = \"x\"\nport = 9080\n",
            "name = \"blackbox_exporter\"\nsummary = \"x\"\nport = 9115\n",
            "name = \"node_exporter\"\nsummary = \"x\"\nport = 9100\n",
        ];
        let recipes = texts.iter().map(|text| toml::from_str::<RecipeData>(text).expect("a recipe"));
        Self(recipes.map(|recipe| (recipe.name.clone(), recipe)).collect())
    }
}

impl RecipeBook for TestBook {
    fn find(&self, name: &str) -> Option<&RecipeData> {
        self.0.get(name)
    }
    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

pub fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), path: Path::new("/project").join(name), text: text.to_owned() }
}

pub fn facts(shell: &[(&str, &str)]) -> Facts {
    Facts {
        places: Paths { root: "/project".into(), state: "/project/.devrun".into(), run: "/run/d".into() },
        shell: shell.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        env_files: BTreeMap::new(),
        unread_env: None,
        env_file_flag: None,
        secrets: BTreeMap::new(),
        ports: BTreeMap::new(),
        recipe_files: BTreeMap::new(),
        keys: BTreeMap::new(),
        seed: 1,
        branch: None,
        shared: BTreeMap::new(),
        local_ca: None,
    }
}

/// What a caller does between reading and lowering: choose ports, make secrets.
pub fn choose(document: &Document, facts: &mut Facts) -> Result<(), Report> {
    let wants = document.required_values(facts)?;
    for (index, want) in wants.ports.iter().enumerate() {
        let number = match want.preference {
            devrun_config::PortPreference::Usual(number) => number,
            _ => 40_000 + u16::try_from(index).expect("few ports"),
        };
        facts.ports.insert((want.service.clone(), want.name.clone()), number);
    }
    for want in wants.secrets {
        facts.secrets.insert(want.name.clone(), format!("generated/{}", want.name));
    }
    Ok(())
}

fn lower(name: &str, options: &Options, mut facts: Facts) -> Result<(Plan, Report), Report> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stacks").join(format!("{name}.toml"));
    let text = std::fs::read_to_string(path).expect("the fixture");
    let document = read(&[source("procfile.toml", &text)], options, &TestBook::new())?;
    choose(&document, &mut facts)?;
    document.lower(&facts)
}

fn check(check: &Check) -> String {
    match check {
        Check::Http { at, path, .. } => format!("http {at}{path}"),
        Check::Pg { at, database, user } => format!("pg {user}@{at}/{database}"),
        Check::Sql { at, user, password, database, query } => {
            format!("sql {user}:{}@{at}/{database} {query:?}", password.as_deref().unwrap_or("-"))
        }
        Check::Redis { at, password, roundtrip, .. } => {
            format!("redis {at} password={} roundtrip={roundtrip}", password.as_deref().unwrap_or("-"))
        }
        Check::Cmd { command } => format!("cmd {:?}", command.argv),
        Check::Uptime { least } => format!("uptime {}", duration::format(*least)),
        Check::Bolt { at } => format!("bolt {at}"),
        other => format!("{other:?}"),
    }
}

fn show(spec: &ServiceSpec, out: &mut String) {
    let _ = writeln!(out, "{} ({:?}, tier {:?}, depth {})", spec.id, spec.kind, spec.tier, spec.depth);
    let _ = match &spec.launch {
        Launch::Run(command) => writeln!(out, "  run      {:?} {:?}", command.argv, command.env),
        Launch::Recipe(used) => writeln!(
            out,
            "  recipe   {}@{} set={:?} init={:?} extensions={:?} migrations={:?}",
            used.recipe.name,
            used.version.as_deref().unwrap_or("any"),
            used.settings,
            used.init,
            used.extensions,
            used.migrations
        ),
        other => writeln!(out, "  launch   {other:?}"),
    };
    if let Launch::Recipe(used) = &spec.launch
        && let Some(gateway) = &used.gateway
    {
        for route in &gateway.routes {
            let limit = route.max_body.map(|size| format!(" up to {size}")).unwrap_or_default();
            let _ = writeln!(out, "  route    {} → {}{limit}", route.path, route.target);
        }
        let _ = writeln!(out, "  headers  {:?} upstreams {:?}", gateway.headers, gateway.upstreams);
        let _ = writeln!(out, "  names    {:?}", gateway.names);
    }
    let _ = writeln!(out, "  ports    {:?} bind {}", spec.ports, spec.bind);
    let _ = writeln!(out, "  attrs    {:?}", spec.attributes);
    let _ = writeln!(out, "  env      {:?}", spec.env);
    let edges: Vec<String> = spec.depends_on.iter().map(|edge| format!("{}:{}", edge.on, edge.condition.as_str())).collect();
    let _ = writeln!(out, "  needs    {}", edges.join(" "));
    match &spec.ready {
        None => out.push_str("  ready    none\n"),
        Some(ready) => {
            let checks: Vec<String> = ready.checks.iter().map(check).collect();
            let timing = [ready.interval, ready.timeout, ready.start_period, ready.within].map(duration::format).join(" ");
            let _ = writeln!(out, "  ready    {} | {timing} x{}", checks.join(" + "), ready.retries);
        }
    }
    let _ = writeln!(
        out,
        "  policy   restart {} stop {} {} data {:?} volumes {:?}",
        spec.restart,
        spec.stop.signal,
        duration::format(spec.stop.grace),
        spec.data.as_ref().map(ToString::to_string),
        spec.volumes.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    if let Some(task) = &spec.task {
        let _ = writeln!(out, "  task     {:?}", task);
    }
    if !spec.render.is_empty() {
        let _ = writeln!(out, "  render   {:?}", spec.render);
    }
    let _ = writeln!(
        out,
        "  log      json={} {} x{} dir {}",
        spec.log.json,
        spec.log.max_size,
        spec.log.max_files,
        spec.dir.display()
    );
}

fn summary(plan: &Plan, report: &Report) -> String {
    let mut out = format!("{} mode {:?} timeout {}\n", plan.project, plan.mode, duration::format(plan.timeout));
    for spec in plan.services.values() {
        show(spec, &mut out);
    }
    for volume in plan.volumes.values() {
        let _ = writeln!(out, "volume {} {:?} {} placed={}", volume.name, volume.class, volume.path.display(), volume.placed);
    }
    let inactive: Vec<String> = plan.inactive.iter().map(|(name, profiles)| format!("{name}:{}", profiles.join(","))).collect();
    let _ = writeln!(out, "inactive {}", inactive.join(" "));
    for warning in report.warnings() {
        let _ = writeln!(out, "warning {warning}");
    }
    out
}

/// Compares with the text beside the fixtures, or writes it.
#[track_caller]
pub fn expect(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, actual).expect("the expected text is written");
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs; UPDATE_EXPECT=1 writes it anew", path.display());
}

#[track_caller]
fn stack(name: &str, case: &str, options: &Options, facts: Facts) {
    let (plan, report) = lower(name, options, facts).unwrap_or_else(|report| panic!("{}", report.render(false)));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stacks").join(format!("{case}.expected"));
    expect(&path, &summary(&plan, &report));
}

#[test]
fn s0_template() {
    stack("s0", "s0", &Options::default(), facts(&[("PATH", "/bin"), ("HOME", "/h"), ("AWS_KEY", "hidden")]));
}

#[test]
fn s1_unified_with_and_without_its_profile() {
    stack("s1", "s1", &Options::default(), facts(&[]));
    let celery = Options { profiles: vec!["with-celery".to_owned()], ..Options::default() };
    stack("s1", "s1-celery", &celery, facts(&[("DB_PORT", "5433"), ("DB_PASSWORD", "p@ss word")]));
}

#[test]
fn s2_pyairtable() {
    let mut facts = facts(&[("HEALTH_CHECK_TIMEOUT", "300"), ("GEMINI_API_KEY", "g-123")]);
    let env = "POSTGRES_USER=py\nPOSTGRES_PASSWORD='pa$$ #1'\nPOSTGRES_DB=pyairtable\nREDIS_PASSWORD=r\nAIRTABLE_TOKEN=t\nGEMINI_API_KEY=file\nAPI_KEY=a\nJWT_SECRET=j\nNEXTAUTH_SECRET=n\n";
    facts.env_files.insert("/project/.env".into(), Some(env.to_owned()));
    stack("s2", "s2", &Options::default(), facts);
}

#[test]
fn s2_names_all_missing_variables_at_once() {
    let mut facts = facts(&[]);
    facts.env_files.insert("/project/.env".into(), Some("POSTGRES_USER=py\nJWT_SECRET=your-jwt-secret\nAPI_KEY=\n".to_owned()));
    let report = lower("s2", &Options::default(), facts).expect_err("variables are missing");
    let first = report.errors().into_iter().find(|error| error.starts_with("required")).expect("one error for all");
    for name in ["POSTGRES_PASSWORD (not set)", "API_KEY (empty)", "JWT_SECRET (still \"your-jwt-secret\")"] {
        assert!(first.contains(name), "{first}");
    }
    assert!(!first.contains("POSTGRES_USER"), "{first}");
}

#[test]
fn s3_interview_with_its_profile() {
    let options = Options { profiles: vec!["observability".to_owned()], ..Options::default() };
    let mut facts = facts(&[]);
    let env = "DB_PASSWORD=\"#ThawZin2k77!\"\nMINIO_ROOT_USER=admin\nMINIO_ROOT_PASSWORD=secret88\n";
    facts.env_files.insert("/project/.env".into(), Some(env.to_owned()));
    for (path, text) in [
        ("config/caddy/Caddyfile.in", "reverse_proxy ${fastapi-app.addr}\n"),
        ("config/prometheus/prometheus.yml.in", "targets: [${fastapi-app.addr}] # $$1\n"),
        ("config/grafana/datasources.yml.in", "url: ${prometheus.url} ${loki.url}\n"),
        ("config/promtail/promtail.yml.in", "__path__: ${dir.logs}/*.log\n"),
    ] {
        facts.recipe_files.insert(PathBuf::from("/project").join(path), text.to_owned());
    }
    stack("s3", "s3", &options, facts);
}

#[test]
fn s4_ordinaut_in_both_modes() {
    stack("s4", "s4-dev", &Options::default(), facts(&[]));
    let prod = Options { mode: Some("prod".to_owned()), ..Options::default() };
    stack("s4", "s4-prod", &prod, facts(&[("POSTGRES_PASSWORD", "orchestrate!"), ("LOG_LEVEL", "warn")]));
}

/// What the quoting is for: a real shell hands each value on as it is, wherever its placeholder stands.
#[test]
fn a_shell_passes_values_on_unaltered() {
    let values =
        ["plain", "two words", "#ThawZin2k77!", "a$HOME`id`", "it's \"q\"", "*", "a;b|c&d", "back\\slash\\", "", "line\nbreak"];
    let scripts = [
        ("printf '[%s]' $V | cat", "[@]"),
        ("printf '[%s]' \"a $V b\" | cat", "[a @ b]"),
        ("printf '[%s]' 'a $V b' | cat", "[a @ b]"),
        ("printf '[%s]' x${V}y$V | cat", "[x@y@]"),
        ("printf '[%s]' \"$(printf '%s' $V; echo .)\"", "[@.]"),
        ("printf '[%s]' `printf x` \"$V\"", "[x][@]"),
        ("(printf '[%s]' $V)", "[@]"),
        ("for i in 1 2; do printf '[%s]' $$i $V; done", "[1][@][2][@]"),
        ("printf '[%s]' $V > /dev/stdout", "[@]"),
    ];
    for value in values {
        for (script, expected) in scripts {
            let text = format!("[services.a]\nrun = {}\n", toml::Value::String(script.to_owned()));
            let document = read(&[source("procfile.toml", &text)], &Options::default(), &TestBook::new()).expect("a good file");
            let (plan, _) = document.lower(&facts(&[("V", value)])).unwrap_or_else(|report| panic!("{}", report.render(false)));
            let Some(Launch::Run(command)) = plan.services.values().next().map(|spec| spec.launch.clone()) else { panic!() };
            assert_eq!(command.argv[..2], ["sh", "-c"], "{script}");
            let output = std::process::Command::new("sh").args(&command.argv[1..]).envs(&command.env).output().expect("sh runs");
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(shown, expected.replace('@', value), "{script} with {value:?}: {}", command.argv[2]);
        }
    }
}
