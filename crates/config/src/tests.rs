//! The whole way through the public face, in tables: what a placeholder becomes, what a child gets, what is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::*;
use devrun_model::{CommandLine, Condition, Launch, Paths, Plan, RecipeBook, RecipeData, RestartPolicy};

#[derive(Debug)]
struct Book(BTreeMap<String, RecipeData>);

impl Book {
    fn new() -> Self {
        let texts = [
            "name = \"postgres\"\nsummary = \"x\"\nport = 5432\nkeeps_data = true\nuser = \"postgres\"\nwants_password = true\nscheme = \"postgres\"\n[service]\nready = { sql = \"SELECT 1\" }\nstop = { signal = \"INT\", then = \"QUIT\", grace = \"60s\" }\n",
            "name = \"redis\"\nsummary = \"x\"\nport = 6379\nscheme = \"redis\"\n[ports]\nbus = 16379\n[service]\nready = { redis = \"PING\" }\n",
            "name = \"kv\"\nsummary = \"x\"\nport = 6000\nwants_password = true\npassword_file = \"kv.conf\"\nscheme = \"redis\"\n",
        ];
        Self(texts.iter().map(|text| toml::from_str::<RecipeData>(text).unwrap()).map(|r| (r.name.clone(), r)).collect())
    }
}

impl RecipeBook for Book {
    fn find(&self, name: &str) -> Option<&RecipeData> {
        self.0.get(name)
    }
    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

pub(crate) fn facts() -> Facts {
    let shell =
        [("SHELL_VAR", "shell"), ("BOTH", "shell"), ("EMPTY", ""), ("PATH", "/bin"), ("AWS_X", "1"), ("DEVRUN_RUN_ID", "old")];
    Facts {
        shell: shell.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        env_files: BTreeMap::from([
            ("/p/.env".into(), Some("BOTH=file\nFILE=one\nPW='a b$HOME\"#'\n".to_owned())),
            ("/p/.env.local".into(), Some("FILE=two\n".to_owned())),
            ("/p/flag.env".into(), Some("FILE=flag\nBOTH=flag\n".to_owned())),
            ("/p/svc.env".into(), Some("FROM_FILE=svc\nOVER=file\n".to_owned())),
        ]),
        secrets: BTreeMap::from([("token".to_owned(), "s${X}$$1".to_owned())]),
        seed: 7,
        ..Facts::of_places(Paths { root: "/p".into(), state: "/p/.devrun".into(), run: "/run/d".into() })
    }
}

fn source(text: &str) -> Source {
    Source { name: "procfile.toml".to_owned(), path: "/p/procfile.toml".into(), text: text.to_owned() }
}

pub(crate) fn try_lower(text: &str, options: &Options, facts: &Facts) -> Result<Plan, String> {
    let document = read(&[source(text)], options, &Book::new()).map_err(|report| report.render(false))?;
    document.lower(facts).map(|(plan, _)| plan).map_err(|report| report.render(false))
}

pub(crate) fn lower(text: &str) -> Plan {
    try_lower(text, &Options::default(), &facts()).unwrap_or_else(|text| panic!("{text}"))
}

fn spec<'p>(plan: &'p Plan, id: &str) -> &'p devrun_model::ServiceSpec {
    plan.services.values().find(|spec| spec.id.as_str() == id).unwrap()
}

fn command(plan: &Plan, id: &str) -> CommandLine {
    match &spec(plan, id).launch {
        Launch::Run(command) => command.clone(),
        other => panic!("{other:?}"),
    }
}

const HEAD: &str = "[project]\nname = \"shop\"\nenv_file = [\".env\", \".env.local\"]\n[secrets]\ngenerate = [\"token\"]\n[services.db]\nuse = \"postgres@16\"\nport = 5433\nuser = \"u@\"\npassword = \"p#12\"\ndatabase = \"d b\"\n";

#[test]
fn what_a_placeholder_becomes() {
    for (text, expected) in [
        ("plain", "plain"),
        ("${SHELL_VAR}", "shell"),
        ("${BOTH}", "shell"),
        ("${FILE}", "two"),
        ("${OWN}", "own"),
        ("${NONE:-d}", "d"),
        ("${NONE-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NONE:-${ALSO:-${FILE}}}", "two"),
        ("${FILE:+yes}${NONE:+no}${EMPTY:+no}${EMPTY+set}", "yesset"),
        ("${FILE:?needed}", "two"),
        ("a$$b$c", "a$b$c"),
        ("$FILE", "$FILE"),
        ("${secret.token}", "s${X}$$1"),
        ("${PW}", "a b$HOME\"#"),
        ("${db.host} ${db.port} ${db.addr}", "127.0.0.1 5433 127.0.0.1:5433"),
        ("${db.url}", "postgres://u%40:p%2312@127.0.0.1:5433/d%20b"),
        ("${db.url:postgresql+psycopg}", "postgresql+psycopg://u%40:p%2312@127.0.0.1:5433/d%20b"),
        ("${db.user} ${db.password} ${db.database}", "u@ p#12 d b"),
        ("${db.data}", "/p/.devrun/data/db"),
        ("${dir.data} ${dir.logs} ${dir.run}", "/p/.devrun/data /p/.devrun/logs /run/d/a"),
        ("${project}/${mode}/${instance}", "shop//"),
        ("${replica.name} ${replica.index}", "a 1"),
        ("${PORT} ${PORT_METRICS} ${a.ports.metrics}", "8000 9100 9100"),
        ("${a.url}", "http://127.0.0.1:8000"),
    ] {
        let plan = lower(&format!(
            "{HEAD}[services.a]\nrun = \"x\"\nport = 8000\nports = {{ metrics = 9100 }}\nenv = {{ OWN = \"own\", V = '{text}' }}\n"
        ));
        assert_eq!(spec(&plan, "a").env["V"], expected, "{text}");
    }
}

#[test]
fn a_flag_file_beats_the_projects_and_the_shell_beats_it() {
    let text = format!("{HEAD}[services.a]\nrun = \"x\"\nenv = {{ A = \"${{FILE}}\", B = \"${{BOTH}}\" }}\n");
    let facts = Facts { env_file_flag: Some("/p/flag.env".into()), ..facts() };
    let plan = try_lower(&text, &Options::default(), &facts).unwrap();
    assert_eq!((spec(&plan, "a").env["A"].as_str(), spec(&plan, "a").env["B"].as_str()), ("flag", "shell"));
}

#[test]
fn a_variable_may_build_on_what_lies_beneath_it() {
    let plan = lower(
        "[env]\nPATH = \"/opt:${PATH}\"\nLEVEL = \"${LEVEL:-info}\"\n[services.a]\nrun = \"x $LEVEL\"\nenv = { LEVEL = \"${LEVEL}-own\" }\n[services.b]\nrun = \"x $LEVEL\"\n",
    );
    assert_eq!(spec(&plan, "a").env["LEVEL"], "info-own");
    assert_eq!(spec(&plan, "a").env["PATH"], "/opt:/bin");
    assert_eq!(command(&plan, "b").argv, ["x", "info"]);
}

#[test]
fn commands_keep_values_in_one_word() {
    for (run, argv, args) in [
        ("'x $PW y'", vec!["x", "a b$HOME\"#", "y"], vec![]),
        ("'x \"p=$PW\"'", vec!["x", "p=a b$HOME\"#"], vec![]),
        ("\"x '$PW'\"", vec!["x", "a b$HOME\"#"], vec![]),
        ("'x $PW | cat'", vec!["sh", "-c", "x \"${DEVRUN_ARG_1}\" | cat"], vec!["a b$HOME\"#"]),
        ("'x $PW > f'", vec!["sh", "-c", "exec x \"${DEVRUN_ARG_1}\" > f"], vec!["a b$HOME\"#"]),
        (
            "'x \"$PW\" \"$(y ${FILE})\"'",
            vec!["sh", "-c", "exec x \"${DEVRUN_ARG_1}\" \"$(y \"${DEVRUN_ARG_2}\")\""],
            vec!["a b$HOME\"#", "two"],
        ),
        ("[\"x\", \"$PW\", \"${PW}\", \"a b\"]", vec!["x", "$PW", "a b$HOME\"#", "a b"], vec![]),
    ] {
        let plan = lower(&format!("{HEAD}[services.a]\nrun = {run}\n"));
        let command = command(&plan, "a");
        assert_eq!(command.argv, argv, "{run}");
        assert_eq!(command.env.into_values().collect::<Vec<_>>(), args, "{run}");
    }
    let plan = lower("[services.a]\nrun = \"echo hi\"\nshell = true\n[services.b]\nrun = \"echo a|b\"\nshell = false\n");
    assert_eq!(command(&plan, "a").argv, ["sh", "-c", "exec echo hi"]);
    assert_eq!(command(&plan, "b").argv, ["echo", "a|b"]);
}

#[test]
fn what_a_child_gets() {
    let plan = lower(
        "[env]\nG = \"global\"\nOVER = \"global\"\n[services.a]\nrun = \"x\"\nenv_file = \"svc.env\"\nenv = { PYTHONUNBUFFERED = \"0\", GONE = \"1\" }\n[services.b]\nrun = \"x\"\nenv_from = \"a\"\nenv = { OVER = \"b\", GONE = false }\n[services.c]\nrun = \"x\"\npass_env = [\"AWS_*\"]\n[services.d]\nuse = \"redis\"\n",
    );
    let (a, b, c, d) = (spec(&plan, "a"), spec(&plan, "b"), spec(&plan, "c"), spec(&plan, "d"));
    assert_eq!((a.env["OVER"].as_str(), a.env["FROM_FILE"].as_str(), a.env["PYTHONUNBUFFERED"].as_str()), ("file", "svc", "0"));
    assert_eq!((b.env["OVER"].as_str(), b.env["FROM_FILE"].as_str(), b.env["G"].as_str()), ("b", "svc", "global"));
    assert!(!b.env.contains_key("GONE"));
    assert!(a.env.contains_key("SHELL_VAR") && !a.env.contains_key("DEVRUN_RUN_ID"));
    assert!(c.env.contains_key("AWS_X") && c.env.contains_key("PATH") && !c.env.contains_key("SHELL_VAR"));
    assert!(!d.env.contains_key("AWS_X") && d.env["PORT"] == "6379" && d.env["PORT_BUS"] == "16379");
    assert_eq!((a.env["DEVRUN_SERVICE"].as_str(), a.env["DEVRUN_INSTANCE"].as_str()), ("a", ""));
}

#[test]
fn what_is_asked_for_before_a_plan_can_be_made() {
    let text = "[secrets]\ndir = \"keys\"\ngenerate = { jwt = { length = 40 } }\n[services.db]\nuse = \"postgres\"\n[services.r]\nuse = \"redis\"\nport = \"private\"\n[services.a]\nrun = \"x\"\nport = \"${APORT:-auto}\"\n[services.w]\nrun = \"x\"\nport = 8000\nreplicas = 2\n[services.f]\nrun = \"x\"\nport = 7000\n";
    let wants = read(&[source(text)], &Options::default(), &Book::new()).unwrap().required_values(&facts()).unwrap();
    assert_eq!(wants.secrets_dir, PathBuf::from("/p/keys"));
    let secrets: Vec<(&str, usize)> = wants.secrets.iter().map(|want| (want.name.as_str(), want.length)).collect();
    assert_eq!(secrets, [("jwt", 40), ("db-password", 24)]);
    let ports: Vec<String> =
        wants.ports.iter().map(|want| format!("{}.{} {:?}", want.service, want.name, want.preference)).collect();
    assert_eq!(
        ports,
        ["a.main Auto", "db.main Usual(5432)", "r.main Private", "r.bus Usual(16379)", "w.main.1 Auto", "w.main.2 Auto"]
    );
    assert_eq!(wants.fixed, BTreeSet::from([7000, 8000]), "8000 is the address that the copies share");
    let auto = Options { instance: "b".to_owned(), ..Options::default() };
    let wants = read(&[source(text)], &auto, &Book::new()).unwrap().required_values(&facts()).unwrap();
    assert!(
        wants.fixed.is_empty() && wants.ports.iter().any(|want| want.service == "f" && want.preference == PortPreference::Auto)
    );
}

#[test]
fn chosen_ports_reach_probe_url_and_environment() {
    let text = "[services.db]\nuse = \"postgres\"\npassword = \"x\"\n[services.w]\nrun = \"x --port $PORT\"\nport = \"auto\"\nreplicas = 2\nready = { tcp = true }\ndepends_on = [\"db\"]\n";
    let mut facts = facts();
    for ((service, name), number) in
        [(("db", "main"), 6000), (("w", "main"), 6009), (("w", "main.1"), 6001), (("w", "main.2"), 6002)]
    {
        facts.ports.insert((service.to_owned(), name.to_owned()), number);
    }
    let plan = try_lower(text, &Options::default(), &facts).unwrap();
    assert_eq!(spec(&plan, "db").attributes["url"], "postgres://postgres:x@127.0.0.1:6000");
    assert_eq!(command(&plan, "w.2").argv, ["x", "--port", "6002"]);
    assert_eq!(spec(&plan, "w.2").attributes["url"], "http://127.0.0.1:6009", "the address that the copies share");
    assert_eq!(spec(&plan, "w.1").ready.as_ref().unwrap().checks[0].endpoint().unwrap().port, 6001);
    assert_eq!(spec(&plan, "w.2").depends_on[0].condition, Condition::Healthy);
}

#[test]
fn edges_take_the_condition_of_their_targets_kind() {
    let plan = lower(
        "[services.plain]\nrun = \"x\"\n[services.probed]\nrun = \"x\"\nready = { uptime = \"0s\" }\n[tasks.t]\nrun = \"x\"\n[services.a]\nrun = \"x\"\ndepends_on = [\"plain\", \"probed\", \"t\", \"probed2:started\"]\n[services.probed2]\nuse = \"redis\"\nrestart = \"on-failure:5\"\n",
    );
    let edges: Vec<String> =
        spec(&plan, "a").depends_on.iter().map(|edge| format!("{}:{}", edge.on, edge.condition.as_str())).collect();
    assert_eq!(edges, ["plain:started", "probed:healthy", "t:completed", "probed2:started"]);
    assert_eq!(spec(&plan, "probed2").restart, RestartPolicy::OnFailure { max: Some(5) });
    assert_eq!(spec(&plan, "a").depth, 2);
}

#[test]
fn profiles_modes_names_and_scale() {
    let text = "[modes.prod]\nservices.w.replicas = 3\n[modes.dev]\nservices.gone = false\n[services.w]\nrun = \"x\"\n[services.extra]\nrun = \"x\"\nprofiles = [\"full\"]\ndepends_on = [\"base\"]\n[services.base]\nrun = \"x\"\nprofiles = [\"full\"]\n[services.gone]\nrun = \"x\"\n";
    let ids = |options: &Options| -> String {
        let plan = try_lower(text, options, &facts()).unwrap();
        plan.services.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids(&Options::default()), "gone w");
    assert_eq!(ids(&Options { profiles: vec!["full".to_owned()], ..Options::default() }), "base extra gone w");
    assert_eq!(ids(&Options { profiles: vec!["*".to_owned()], ..Options::default() }), "base extra gone w");
    assert_eq!(ids(&Options { named: vec!["extra".to_owned()], ..Options::default() }), "base extra gone w");
    assert_eq!(ids(&Options { mode: Some("prod".to_owned()), ..Options::default() }), "gone w.1 w.2 w.3");
    assert_eq!(ids(&Options { mode: Some("dev".to_owned()), ..Options::default() }), "w");
    assert_eq!(ids(&Options { scale: BTreeMap::from([("w".to_owned(), 2)]), ..Options::default() }), "gone w.1 w.2");
    let plan = try_lower(text, &Options::default(), &facts()).unwrap();
    assert_eq!(plan.inactive.len(), 2);
    assert!(
        try_lower(text, &Options { profiles: vec!["ful".to_owned()], ..Options::default() }, &facts())
            .unwrap_err()
            .contains("did you mean `full`?")
    );
}

#[test]
fn a_mode_keeps_its_data_apart_and_drops_what_it_replaces() {
    let text = "[modes.dev]\nservices.db.password = \"dev\"\n[services.db]\nuse = \"postgres\"\npassword = \"${NONE:?set it}\"\n";
    let dev = Options { mode: Some("dev".to_owned()), ..Options::default() };
    let plan = try_lower(text, &dev, &facts()).unwrap();
    assert_eq!(plan.volumes.values().next().unwrap().path, PathBuf::from("/p/.devrun/data/dev/db"));
    assert!(try_lower(text, &Options::default(), &facts()).unwrap_err().contains("`NONE` is not set: set it"));
}

#[test]
fn later_files_win_and_point_into_themselves() {
    let first = source("[services.a]\nrun = \"x\"\nport = 8000\nready = { http = \"/\" }\n");
    let second = Source {
        name: "over.toml".to_owned(),
        path: "/p/over.toml".into(),
        text: "[services.a]\nport = false\nready = false\n".to_owned(),
    };
    let document = read(&[first.clone(), second], &Options::default(), &Book::new()).unwrap();
    let (plan, _) = document.lower(&facts()).unwrap();
    assert!(spec(&plan, "a").ports.is_empty() && spec(&plan, "a").ready.is_none());
    let bad = Source { name: "over.toml".to_owned(), path: "/p/over.toml".into(), text: "[services.a]\nprot = 1\n".to_owned() };
    assert!(
        read(&[first, bad], &Options::default(), &Book::new()).unwrap_err().render(false).starts_with("over.toml:2:1: error")
    );
}

#[test]
fn secrets_are_masked_in_every_form() {
    let plan = lower(
        "[secrets]\ngenerate = [\"token\"]\n[services.db]\nuse = \"postgres\"\npassword = \"p@ss word\"\n[services.a]\nrun = \"x\"\nenv = { API_KEY = \"abcdef\", SHORT_KEY = \"abc\", NAME = \"visible\" }\n",
    );
    for masked in ["s${X}$$1", "p@ss word", "p%40ss%20word", "cEBzcyB3b3Jk", "abcdef"] {
        assert!(plan.masks.contains(masked), "{masked}: {:?}", plan.masks);
    }
    assert!(!plan.masks.contains("abc") && !plan.masks.contains("visible"));
}

#[test]
fn what_is_made_from_a_secret_is_known() {
    let text = "[env]\nG = \"${X_TOKEN}\"\n[services.a]\nrun = \"x ${X_TOKEN}\"\nenv_file = \"svc.env\"\n\
                env = { A = \"<${G}>\", B = \"${A}\", C = \"${NO:-${B}}\", D = \"${X_TOKEN:+set}\", E = \"${HARMLESS}\", F = \"$${X_TOKEN}\" }\n";
    let mut facts = facts();
    facts
        .shell
        .extend([("X_TOKEN", "hidden-1"), ("HARMLESS", "shown-1")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    facts.env_files.insert("/p/svc.env".into(), Some("FILE_SECRET=hidden-2\nFROM=$FILE_SECRET\nLIT='$FILE_SECRET'\n".to_owned()));
    let plan = try_lower(text, &Options::default(), &facts).unwrap();
    assert_eq!(plan.derived.iter().map(String::as_str).collect::<Vec<_>>(), ["A", "B", "C", "FROM", "G"]);
    assert!(plan.masks.contains("hidden-1") && plan.masks.contains("hidden-2") && !plan.masks.contains("shown-1"));
}

#[test]
fn what_is_wrong_with_a_value_does_not_tell_a_secret() {
    let mut facts = facts();
    facts.shell.insert("MY_SECRET_KEY".to_owned(), "topsecretvalue99".to_owned());
    facts.env_files.insert("/p/svc.env".into(), Some("FILE_SECRET=hidden-2\n".to_owned()));
    let keys = [
        "port = \"V\"",
        "ready = { tcp = true, within = \"V\" }",
        "restart = \"V\"",
        "limits = { memory = \"V\" }",
        "dir = \"V\\u0000\"",
        "user_id = \"V\"",
        "stop = { grace = \"V\" }",
        "stop = { signal = \"V\" }",
        "replicas = \"V\"",
        "watch = { paths = [\"V\"], on = \"V\" }",
    ];
    let mut wrong = 0;
    for key in keys {
        for (name, value) in [("MY_SECRET_KEY", "topsecretvalue99"), ("OTHER", "hidden-2"), ("secret.token", "s${X}$$1")] {
            let key = key.replace('V', &format!("${{{name}}}"));
            let text = format!(
                "[secrets]\ngenerate = [\"token\"]\n[services.a]\nrun = \"x\"\nenv_file = \"svc.env\"\nenv = {{ OTHER = \"${{FILE_SECRET}}\" }}\n{key}\n"
            );
            if let Err(shown) = try_lower(&text, &Options::default(), &facts) {
                assert!(!shown.contains(value), "{key}: {shown}");
                wrong += usize::from(shown.contains(devrun_model::mask::MASK));
            }
        }
    }
    assert!(wrong >= 12, "{wrong} messages quote a value");
}

#[test]
fn external_servers_are_probed_and_never_spawned() {
    let plan = lower(
        "[services.db]\nexternal = \"postgres://u:p%40@db.example:6000/d\"\nready = { sql = \"SELECT 1\" }\n[services.a]\nrun = \"x\"\nenv = { U = \"${db.url}\", H = \"${db.host}\" }\n",
    );
    assert!(matches!(&spec(&plan, "db").launch, Launch::External { url } if url.ends_with("/d")));
    assert!(!spec(&plan, "db").ready.as_ref().unwrap().owner);
    assert_eq!(spec(&plan, "a").env["U"], "postgres://u:p%40@db.example:6000/d");
    assert_eq!(spec(&plan, "a").env["H"], "db.example");
}

#[test]
fn the_scheme_of_an_external_address_tells_how_it_is_probed() {
    let check = |address: &str, more: &str| {
        let text = format!(
            "[defaults]\nready = {{ within = \"2s\" }}\n[services.x]\nexternal = \"{address}\"\n{more}[services.a]\nrun = \"x\"\ndepends_on = [\"x\"]\n"
        );
        let plan = lower(&text);
        let ready = spec(&plan, "x").ready.clone();
        let expected = if ready.is_some() { devrun_model::Condition::Healthy } else { devrun_model::Condition::Started };
        assert_eq!(spec(&plan, "a").depends_on[0].condition, expected, "{address}");
        ready.map(|ready| {
            assert_eq!((ready.within.as_secs(), ready.owner, ready.checks.len()), (2, false, 1), "{address}");
            ready.checks[0].clone()
        })
    };
    let kind = |address: &str, more: &str| check(address, more).map(|check| check.kind());
    for (address, expected) in [
        ("postgres://u:p@h/d", "sql"),
        ("postgresql+psycopg://h/d", "pg"),
        ("redis://h:1/0", "redis"),
        ("rediss://h:1/0", "tcp"),
        ("http://h", "tcp"),
        ("http://h/health", "http"),
        ("https://h:8443/health", "http"),
        ("bolt://h", "bolt"),
        ("grpc://h:50051/shop.Api", "grpc"),
        ("tcp://h:9", "tcp"),
        ("amqp://h", "tcp"),
        ("mysql://u:p@h/d", "tcp"),
    ] {
        assert_eq!(kind(address, ""), Some(expected), "{address}");
    }
    assert_eq!(kind("mongodb+srv://cluster.example/d", ""), None);
    assert_eq!(kind("tcp://h:9", "ready = false\n"), None);
    assert_eq!(kind("postgres://h", "ready = { tcp = true }\n"), Some("tcp"));
    let Some(devrun_model::Check::Http { at, tls, path, headers, .. }) = check("https://a:b@h:8443/live?x=1", "") else {
        panic!()
    };
    assert_eq!((at.to_string().as_str(), tls, path.as_str()), ("h:8443", true, "/live?x=1"));
    assert_eq!(headers["Authorization"], "Basic YTpi");
    let refused = "[services.x]\nexternal = \"tcp://h\"\n";
    let messages = try_lower(refused, &Options::default(), &facts()).unwrap_err();
    assert!(format!("{messages:?}").contains("names no port"), "{messages:?}");
}

#[test]
fn a_recipe_may_be_a_file() {
    let text = "[services.mail]\nuse = \"./mail.toml\"\n[services.a]\nrun = \"x\"\ndepends_on = [\"mail:healthy\"]\n";
    let document = read(&[source(text)], &Options::default(), &Book::new()).unwrap();
    assert_eq!(document.files().1, [PathBuf::from("/p/mail.toml")]);
    let recipe = "name = \"mail\"\nsummary = \"x\"\nport = 1025\nargv = [\"mail\"]\n[service]\nready = { tcp = true }\n";
    let facts = Facts { recipe_files: BTreeMap::from([("/p/mail.toml".into(), recipe.to_owned())]), ..facts() };
    let plan = try_lower(text, &Options::default(), &facts).unwrap();
    assert_eq!(spec(&plan, "mail").port(), Some(1025));
}

#[test]
fn files_stand_in_the_procfile_and_secrets_in_files() {
    let text = "[secrets]\nfiles = { pw = \"pw.txt\" }\n[services.a]\nrun = \"x\"\nport = 8000\nenv = { PW = \"${secret.pw}\" }\nfiles = { \"conf/a.conf\" = \"listen ${a.addr}; root ${dir.project}/html; $uri $${x};\" }\n";
    let document = read(&[source(text)], &Options::default(), &Book::new()).unwrap();
    assert_eq!(document.files().1, [PathBuf::from("/p/pw.txt")]);
    let given = |secret: &str| Facts { recipe_files: BTreeMap::from([("/p/pw.txt".into(), secret.to_owned())]), ..facts() };
    let plan = try_lower(text, &Options::default(), &given("\u{feff}s3 ${X}\r\n")).unwrap();
    assert_eq!(spec(&plan, "a").env["PW"], "s3 ${X}");
    assert_eq!(spec(&plan, "a").render["conf/a.conf"], "listen 127.0.0.1:8000; root /p/html; $uri ${x};");
    let missing = try_lower(text, &Options::default(), &facts()).unwrap_err();
    assert!(missing.contains("secret `pw`: cannot read /p/pw.txt"), "{missing}");
    let twice = "[secrets]\ngenerate = [\"pw\"]\nfiles = { pw = \"x\" }\n[services.a]\nrun = \"x\"\n";
    assert!(try_lower(twice, &Options::default(), &facts()).unwrap_err().contains("both generated and read from a file"));
    let outside = "[services.a]\nrun = \"x\"\nfiles = { \"../a\" = \"x\" }\n";
    assert!(try_lower(outside, &Options::default(), &facts()).unwrap_err().contains("is not a file in the run dir"));
}

#[test]
fn every_value_says_where_it_comes_from() {
    let text = format!("{HEAD}[services.a]\nrun = \"x\"\nenv_file = \"svc.env\"\nenv = {{ URL = \"${{db.url}}\" }}\n");
    let document = read(&[source(&text)], &Options::default(), &Book::new()).unwrap();
    let rows = document.values(&facts()).unwrap();
    let find = |key: &str| rows.iter().find(|row| row.0 == key).map(|row| (row.1.as_str(), row.2.as_str()));
    assert_eq!(find("services.db.port"), Some(("5433", "procfile.toml:8")));
    assert_eq!(find("services.db.stop.signal"), Some(("INT", "recipe postgres")));
    assert_eq!(find("services.a.env.FROM_FILE"), Some(("svc", "svc.env:1")));
    assert_eq!(find("services.db.password").map(|(_, origin)| origin), Some("procfile.toml:10"));
}

proptest::proptest! {
    #[test]
    fn any_value_stays_one_word_and_is_never_expanded(value in "[^\\x00]{0,30}", shell: bool) {
        let facts = Facts { shell: BTreeMap::from([("V".to_owned(), value.clone())]), ..facts() };
        let text = format!("[services.a]\nrun = 'x \"$V\" $V'\nshell = {shell}\nenv = {{ COPY = \"${{V}}\" }}\n");
        let plan = try_lower(&text, &Options::default(), &facts).unwrap();
        let command = command(&plan, "a");
        if shell {
            proptest::prop_assert_eq!(&command.env["DEVRUN_ARG_1"], &value);
            proptest::prop_assert_eq!(command.argv.len(), 3);
        } else {
            proptest::prop_assert_eq!(command.argv, vec!["x".to_owned(), value.clone(), value.clone()]);
        }
        proptest::prop_assert_eq!(&spec(&plan, "a").env["COPY"], &value);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = try_lower(&String::from_utf8_lossy(&bytes), &Options::default(), &facts());
    }

    #[test]
    fn no_template_panics(text in "(\\$\\{|\\$|[}:?+.-]|db|a|url|PORT|V|secret|token|\\PC){0,14}") {
        let quoted = toml::Value::String(text).to_string();
        let _ = try_lower(&format!("{HEAD}[services.a]\nport = 1\nrun = {quoted}\nenv = {{ V = {quoted} }}\n"), &Options::default(), &facts());
    }
}

/// A server whose own configuration is in the procfile does not know a password that is made elsewhere.
#[test]
fn a_password_is_generated_unless_the_procfile_gives_it_or_its_file() {
    let names = |keys: &str| {
        let text = format!("[services.c]\nuse = \"kv\"\n{keys}");
        let document =
            read(&[source(&text)], &Options::default(), &Book::new()).unwrap_or_else(|r| panic!("{}", r.render(false)));
        let wants = document.required_values(&facts()).unwrap_or_else(|report| panic!("{}", report.render(false)));
        wants.secrets.into_iter().map(|want| want.name).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["c-password"]);
    for keys in [
        "password = \"mine\"\n",
        "password = \"\"\n",
        "external = \"redis://127.0.0.1:1\"\n",
        "files = { \"kv.conf\" = \"port 1\" }\n",
        "render = { \"kv.in\" = \"kv.conf\" }\n",
    ] {
        assert_eq!(names(keys), [""; 0], "{keys}");
    }
    assert_eq!(names("files = { \"other.conf\" = \"x\" }\n"), ["c-password"]);
    let with = |password: &str| {
        let facts = Facts { secrets: BTreeMap::from([("c-password".to_owned(), "s3c".to_owned())]), ..facts() };
        let text = format!("[services.c]\nuse = \"kv\"\n{password}[services.a]\nrun = \"x\"\nenv = {{ URL = \"${{c.url}}\" }}\n");
        let plan = try_lower(&text, &Options::default(), &facts).unwrap_or_else(|text| panic!("{text}"));
        spec(&plan, "a").env["URL"].clone()
    };
    assert_eq!(with(""), "redis://:s3c@127.0.0.1:6000");
    assert_eq!(with("password = \"\"\n"), "redis://127.0.0.1:6000");
}

#[test]
fn a_small_file_cannot_give_any_number_of_variables() {
    let variables = |count: usize| (0..count).map(|n| format!("V{n} = \"x\"\n")).collect::<String>();
    let services =
        |count: usize, keys: &str| (0..count).map(|n| format!("[services.s{n}]\nrun = \"true\"\n{keys}")).collect::<String>();
    let expect =
        |text: String, refused: Option<&str>, facts: &Facts| match (try_lower(&text, &Options::default(), facts), refused) {
            (Ok(_), None) => {}
            (Err(report), Some(message)) => {
                assert!(report.contains(message) && report.contains("help: give variables only to"), "{report}");
                assert_eq!(report.matches("together").count(), 1, "once: {report}");
            }
            (found, _) => panic!("{refused:?}: {found:?}"),
        };
    for table in ["defaults.env", "env"] {
        let of = |keys: usize, count: usize| format!("[{table}]\n{}{}", variables(keys), services(count, ""));
        expect(of(50, 20), None, &facts());
        expect(of(50, 21), Some("50 variables for each of 21 services and tasks: more than 1000"), &facts());
    }
    let mut with_file = facts();
    let text = (0..60).map(|n| format!("F{n}=x\n")).collect::<String>();
    with_file.env_files.insert("/p/many.env".into(), Some(text));
    let keys = "env_file = \"many.env\"\n";
    expect(services(10, keys), None, &with_file);
    expect(services(30, keys), Some("more than 1000 environment variables together"), &with_file);
}

#[test]
fn the_places_of_placeholders_cost_no_more_than_the_limit() {
    let searched = |count: usize| {
        let value: String = (0..count).map(|n| format!("${{N{n}:-x}}")).collect();
        let text = format!("[services.a]\nrun = \"true\"\nenv.X = \"{value}\"\n");
        let (document, facts) = (read(&[source(&text)], &Options::default(), &Book::new()).unwrap(), facts());
        let resolver = document.resolver(&facts).unwrap();
        let service = resolver.services.get("a").unwrap();
        assert!(resolver.declared(service, 1, 0).is_ok());
        (resolver.searched.get(), text.len())
    };
    let limit = super::value_limits::MOST_SEARCHED;
    assert!(searched(100).0 < limit);
    for count in [4000, 8000] {
        let (bytes, length) = searched(count);
        assert!(bytes > limit && bytes <= limit + length, "{count}: {bytes}");
    }
}
