//! What each recipe would run, as text: words, variables, files. A change here is a change of what users start.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use devrun_keeper::{KeeperHandle, KeeperOptions, Runner};
use devrun_model::keeper::{Identity, KeeperHello};
use devrun_model::{
    Failure, FailureKind, Launch, Paths, RecipeBook as _, RecipeUse, ServiceName, ServiceSpec, VolumeClass, VolumeName,
    VolumeSpec,
};
use devrun_runtime::exec_request::ExecRequest;
use devrun_runtime::recipes::{FirstBootOutcome, RecipeContext, RecipeRegistry, first_boot, prepare};
use devrun_store::Located;

struct Case {
    spec: ServiceSpec,
    recipe: RecipeUse,
    located: Located,
    places: Paths,
    volume: VolumeSpec,
}

fn case(book: &RecipeRegistry, name: &str, root: &std::path::Path) -> Case {
    let data = book.find(name).unwrap().clone();
    let mut spec = ServiceSpec::bare(ServiceName::new("svc").unwrap(), root.to_owned(), Vec::new());
    spec.ports = data.ports.clone();
    spec.ports.extend(data.port.map(|port| ("main".to_owned(), port)));
    spec.attributes = [("user", "app"), ("password", "#ThawZin2k77!"), ("database", "appdb")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let tools = data.bin.iter().map(|tool| (tool.clone(), PathBuf::from(format!("/opt/{name}/bin/{tool}")))).collect();
    let located = Located {
        recipe: name.to_owned(),
        version: "1.2.3".to_owned(),
        tools,
        env: BTreeMap::new(),
        origin: "path".to_owned(),
        why: String::new(),
    };
    let recipe = RecipeUse {
        recipe: data,
        version: None,
        settings: BTreeMap::new(),
        init: Vec::new(),
        extensions: Vec::new(),
        locale: None,
        encoding: None,
        migrations: None,
        source: None,
        init_cache: false,
        gateway: (name == "gateway").then(devrun_model::GatewaySpec::default),
    };
    spec.launch = Launch::Recipe(Box::new(recipe.clone()));
    let volume = VolumeSpec {
        name: VolumeName::new("vol").unwrap(),
        class: VolumeClass::Persistent,
        path: root.join("vol"),
        placed: false,
    };
    let places = Paths { root: root.to_owned(), state: root.join(".devrun"), run: root.join("run") };
    Case { spec, recipe, located, places, volume }
}

async fn runner(case: &Case) -> Runner {
    std::fs::create_dir_all(&case.places.run).unwrap();
    std::fs::create_dir_all(&case.places.state).unwrap();
    let hello = KeeperHello {
        run: "0".repeat(32),
        project: "p".to_owned(),
        root: case.places.root.clone(),
        journal: case.places.journal(),
        cgroup: false,
        supervisor: Identity { pid: 1, start: 0, boot: String::new() },
        inherited: Vec::new(),
    };
    let options = KeeperOptions { program: PathBuf::from(env!("CARGO_BIN_EXE_devrun")), hello, owns_children: false };
    let (keeper, _news) = KeeperHandle::start(options).await.unwrap();
    Runner {
        keeper,
        places: case.places.clone(),
        prepare: devrun_runtime::runtime_dir::ensure_run,
        service: case.spec.id.clone(),
        generation: 1,
        marks: BTreeMap::new(),
        sink: None,
    }
}

fn context<'a>(case: &'a Case, runner: &'a Runner) -> RecipeContext<'a> {
    RecipeContext {
        spec: &case.spec,
        recipe: &case.recipe,
        located: &case.located,
        places: &case.places,
        volume: case.recipe.recipe.keeps_data.then_some(&case.volume),
        runner,
    }
}

fn show(name: &str, request: Result<ExecRequest, Failure>) -> String {
    let mut text = format!("== {name}\n");
    match request {
        Err(failure) => {
            writeln!(text, "{:?}: {}", failure.kind, failure.reason).unwrap();
        }
        Ok(request) => {
            writeln!(text, "{}", request.argv.join(" ")).unwrap();
            for (name, value) in &request.env {
                writeln!(text, "{name}={value}").unwrap();
            }
            writeln!(text, "in {}", request.dir.display()).unwrap();
            for (path, content) in &request.files {
                writeln!(text, "-- {}\n{}", path.display(), content.trim_end()).unwrap();
            }
        }
    }
    text
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

#[test]
fn every_recipe_as_text() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let book = RecipeRegistry::new();
        let mut text = String::new();
        let runner = runner(&case(&book, "redis", folder.path())).await;
        for name in book.names() {
            // Postgres looks at its data first; the tests of real servers cover it.
            if name == "postgres" {
                continue;
            }
            let case = case(&book, name, folder.path());
            let request = prepare(&context(&case, &runner));
            if let Ok(request) = &request {
                assert!(request.argv.iter().all(|word| !word.contains("ThawZin")), "{name}: a password on the command line");
                assert!(request.argv.iter().all(|word| !word.contains("${")), "{name}");
            }
            text.push_str(&show(name, request));
        }
        // As root nginx is given the user of its workers.
        let text = text.replace(&folder.path().display().to_string(), "ROOT").replace(" -g user root root;", "");
        insta::assert_snapshot!(text);
    });
}

/// Each recipe that is a server has its row in docs/services.md, and the README counts the rows.
#[test]
fn the_documentation_counts_the_recipes() {
    let read = |name: &str| std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let services = read("docs/services.md");
    let table = services.split("| recipe | checked |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let (mut rows, mut real) = (Vec::new(), 0);
    for row in table.lines().skip(2) {
        let (names, checked) = row.trim_start_matches('|').split_once('|').unwrap();
        let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        real += if checked.trim().starts_with("real") { names.len() } else { 0 };
        rows.extend(names);
    }
    // Both are part of devrun.
    let own = ["gateway", "telemetry"];
    let book = RecipeRegistry::new();
    let mut servers: Vec<&str> = book.names().into_iter().filter(|name| !own.contains(name)).collect();
    rows.sort_unstable();
    servers.sort_unstable();
    assert_eq!(rows, servers);
    let counts = format!("| {} recipes, {real} of them run with their real server |", servers.len());
    assert!(read("README.md").contains(&counts), "README.md: {counts}");
}

/// A file of the user's own replaces the recipe's of that name and comes once, whether the recipe is data or code.
#[test]
fn each_file_is_written_once() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let book = RecipeRegistry::new();
        let runner = runner(&case(&book, "redis", folder.path())).await;
        let mut seen = 0;
        for name in book.names() {
            let mut case = case(&book, name, folder.path());
            let own: Vec<String> = case.recipe.recipe.render.keys().cloned().chain(["own.conf".to_owned()]).collect();
            case.spec.render = own.iter().map(|name| (name.clone(), format!("mine: {name}"))).collect();
            case.spec.env.insert("OF_THE_SERVICE".to_owned(), "1".to_owned());
            let Ok(request) = prepare(&context(&case, &runner)) else { continue };
            seen += 1;
            let run = folder.path().join("run/svc");
            for name in &own {
                let found: Vec<_> = request.files.iter().filter(|(path, _)| *path == run.join(name)).collect();
                assert_eq!(found, [&(run.join(name), format!("mine: {name}"))], "{name}");
            }
            let mut paths: Vec<_> = request.files.iter().map(|(path, _)| path).collect();
            paths.sort();
            paths.dedup();
            assert_eq!(paths.len(), request.files.len(), "{name}: a file twice");
            assert_eq!(request.env.get("OF_THE_SERVICE").map(String::as_str), Some("1"), "{name}: the service's environment");
            assert_eq!(request.needs_dir, request.dir == run, "{name}");
        }
        assert!(seen > 15, "only {seen} recipes could be prepared");
    });
}

#[test]
fn settings_reach_redis_and_unknown_ones_are_refused_elsewhere() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let book = RecipeRegistry::new();
        let mut redis = case(&book, "redis", folder.path());
        let runner = runner(&redis).await;
        for (name, value) in [("appendonly", "yes"), ("save", "900 1"), ("maxmemory-policy", "allkeys-lru")] {
            redis.recipe.settings.insert(name.to_owned(), value.to_owned());
        }
        let files = prepare(&context(&redis, &runner)).unwrap().files;
        for line in
            ["appendonly \"yes\"", "save \"900\" \"1\"", "maxmemory-policy \"allkeys-lru\"", "requirepass \"#ThawZin2k77!\""]
        {
            assert!(files[0].1.lines().any(|written| written == line), "{line} is not in {}", files[0].1);
        }
        redis.recipe.settings.insert("requirepass".to_owned(), "x".to_owned());
        assert_eq!(prepare(&context(&redis, &runner)).unwrap_err().kind, FailureKind::Config);
        let mut caddy = case(&book, "caddy", folder.path());
        caddy.recipe.settings.insert("nope".to_owned(), "1".to_owned());
        assert_eq!(prepare(&context(&caddy, &runner)).unwrap_err().kind, FailureKind::Config);
        caddy.recipe.settings.clear();
        caddy.spec.render.insert("Caddyfile".to_owned(), "mine".to_owned());
        let files = prepare(&context(&caddy, &runner)).unwrap().files;
        assert_eq!(files, [(folder.path().join("run/svc/Caddyfile"), "mine".to_owned())]);
    });
}

#[test]
fn a_first_boot_without_steps_makes_the_folder_once() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let book = RecipeRegistry::new();
        let redis = case(&book, "redis", folder.path());
        let runner = runner(&redis).await;
        assert!(matches!(first_boot(&context(&redis, &runner)).await.unwrap().outcome, FirstBootOutcome::Made { .. }));
        assert!(folder.path().join("vol/redis/data").is_dir());
        assert!(matches!(first_boot(&context(&redis, &runner)).await.unwrap().outcome, FirstBootOutcome::Done { .. }));
        let nginx = case(&book, "nginx", folder.path());
        assert_eq!(first_boot(&context(&nginx, &runner)).await.unwrap().outcome, FirstBootOutcome::NotNeeded);
    });
}
