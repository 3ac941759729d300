//! `devrun which`, `fetch`, `lock` and `catalog`: where binaries come from. None of them needs a procfile, as long as the
//! recipe is named.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::ui::table;
use crate::ui::term::{Term, say};
use devrun_model::exit;
use devrun_model::{Failure, FailureKind, Launch, RecipeBook, RecipeUse};
use devrun_runtime::recipes::RecipeRegistry;
use devrun_store::lockfile::LockFile;
use devrun_store::{FetchOptions, Located};

use crate::app::load::{self, Wanted};
use crate::app::readonly;
use crate::app::session::Signals;
use crate::globals::Globals;
use crate::ui::exit_line;

// `which`.
#[derive(Debug, Args)]
pub struct WhichArgs {
    /// Recipes or services [default: those of the procfile]
    #[arg(value_name = "RECIPE")]
    pub recipes: Vec<String>,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
}

// `fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// Recipes or services [default: those that the procfile needs and this machine lacks]
    #[arg(value_name = "RECIPE")]
    pub recipes: Vec<String>,
    /// Do not access the network
    #[arg(long, env = "DEVRUN_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub offline: bool,
    /// Base URL or file:// directory to use instead of vendor hosts
    #[arg(long, value_name = "BASE", env = "DEVRUN_MIRROR")]
    pub mirror: Option<String>,
}

// `lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// With --update: only these recipes
    #[arg(value_name = "RECIPE", requires = "update")]
    pub recipes: Vec<String>,
    /// Update to the newest matching version
    #[arg(long)]
    pub update: bool,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
}

// `catalog`.
#[derive(Debug, Args)]
pub struct CatalogArgs {
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
}

/// Where to look and what for; a procfile adds its services, versions and sources.
struct Setting {
    recipes: Vec<RecipeUse>,
    options: FetchOptions,
}

fn setting(globals: &Globals, names: &[String], offline: bool, mirror: Option<String>, term: Term) -> Result<Setting, Failure> {
    let progress = crate::ui::download::progress(term);
    let found = load::project(globals);
    let (used, options) = match found {
        Ok(project) => {
            let plan = load::plan(globals, &project, &Wanted::look())?;
            let used: Vec<(String, RecipeUse)> = plan
                .services
                .values()
                .filter_map(|spec| match &spec.launch {
                    Launch::Recipe(recipe) => Some((spec.service.to_string(), (**recipe).clone())),
                    _ => None,
                })
                .collect();
            (used, load::fetch_options(&project, offline, mirror, progress))
        }
        Err(failure) if names.is_empty() => return Err(failure),
        Err(_) => {
            let root = std::env::current_dir().unwrap_or_default();
            let env = load::environment();
            let store = devrun_store::store_folder(&root, &env, nix::unistd::geteuid().is_root());
            (Vec::new(), FetchOptions { store, lock_file: root.join("devrun.lock"), offline, mirror, env, progress })
        }
    };
    let mut recipes: Vec<RecipeUse> = Vec::new();
    if names.is_empty() {
        for (_, recipe) in used {
            let is_same = |known: &RecipeUse| {
                let (name, version) = (&recipe.recipe.name, &recipe.version);
                known.recipe.name == *name && known.version == *version && known.extensions == recipe.extensions
            };
            if !recipes.iter().any(is_same) {
                recipes.push(recipe);
            }
        }
    } else {
        let book = RecipeRegistry::new();
        for name in names {
            recipes.push(named(name, &used, &book)?);
        }
    }
    Ok(Setting { recipes, options })
}

/// A service's name means its recipe as it uses it; a bare recipe's name too, where the procfile has one.
fn named(text: &str, used: &[(String, RecipeUse)], book: &RecipeRegistry) -> Result<RecipeUse, Failure> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version.to_owned())),
        None => (text, None),
    };
    let as_used = used.iter().find(|(service, recipe)| service == name || recipe.recipe.name == name);
    if let Some((_, recipe)) = as_used {
        let mut recipe = recipe.clone();
        if version.is_some() {
            recipe.version = version;
        }
        return Ok(recipe);
    }
    let recipe = book.find(name).ok_or_else(|| {
        Failure::new(FailureKind::Config, format!("unknown recipe {name:?}"))
            .help(format!("there are: {}", book.names().join(", ")))
    })?;
    Ok(RecipeUse {
        recipe: recipe.clone(),
        version,
        settings: std::collections::BTreeMap::new(),
        init: Vec::new(),
        extensions: Vec::new(),
        locale: None,
        encoding: None,
        migrations: None,
        source: None,
        init_cache: true,
        gateway: None,
    })
}

#[derive(Serialize)]
struct BinaryRow {
    recipe: String,
    version: String,
    origin: String,
    path: Option<PathBuf>,
    tools: std::collections::BTreeMap<String, PathBuf>,
    why: String,
}

impl BinaryRow {
    fn of(recipe: &RecipeUse, located: Located) -> Self {
        let path = recipe.recipe.bin.first().and_then(|name| located.tools.get(name)).cloned();
        Self {
            recipe: located.recipe,
            version: located.version,
            origin: located.origin,
            path,
            tools: located.tools.into_iter().collect(),
            why: located.why,
        }
    }
}

/// How long an interrupted fetch may take to remove what it has begun.
const CLEANUP: Duration = Duration::from_secs(5);

/// Asks for each in turn; the first failure decides the code, and the others are still shown.
fn each(
    setting: &Setting,
    json: bool,
    ask: impl AsyncFn(&RecipeUse, &FetchOptions) -> Result<Located, Failure>,
) -> Result<i32, Failure> {
    let runtime = crate::app::runtime::runtime()?;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    let mut signals = runtime.block_on(async { Signals::take() })?;
    for recipe in &setting.recipes {
        let answer = runtime.block_on(async {
            tokio::select! {
                answer = ask(recipe, &setting.options) => Ok(answer),
                code = signals.next() => Err(code),
            }
        });
        match answer {
            Ok(Ok(located)) => found.push(BinaryRow::of(recipe, located)),
            Ok(Err(failure)) => failures.push((recipe.recipe.name.clone(), failure)),
            Err(code) => {
                // What was begun is removed by its threads.
                runtime.shutdown_timeout(CLEANUP);
                return Ok(code);
            }
        }
    }
    if json {
        readonly::json(&found)?;
    } else if !found.is_empty() {
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|found| {
                let path = found.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
                vec![found.recipe.clone(), found.version.clone(), found.origin.clone(), path, found.why.clone()]
            })
            .collect();
        readonly::text(&table::render(&["RECIPE", "VERSION", "FROM", "PATH", "WHY"], &rows));
    } else if failures.is_empty() {
        say("no service of the procfile uses a recipe");
    }
    for (name, failure) in failures.iter().skip(1) {
        say(format!("{name}: {failure}"));
    }
    match failures.into_iter().next() {
        None => Ok(exit::DONE),
        Some((name, failure)) => {
            if let Some(help) = &failure.help {
                say(format!("help: {help}"));
            }
            let code = exit::of(failure.kind);
            say(exit_line::last_line(code, Some(&name), &failure.reason));
            Ok(code)
        }
    }
}

/// `devrun which`.
///
/// # Errors
/// `Config` for a name that is no recipe.
pub fn which(globals: &Globals, args: &WhichArgs, term: Term) -> Result<i32, Failure> {
    let setting = setting(globals, &args.recipes, true, None, term)?;
    each(&setting, args.json, async |recipe, options| devrun_store::which(recipe, options).await)
}

/// `devrun fetch`.
///
/// # Errors
/// `Config` for a name that is no recipe.
pub fn fetch(globals: &Globals, args: &FetchArgs, term: Term) -> Result<i32, Failure> {
    let setting = setting(globals, &args.recipes, args.offline, args.mirror.clone(), term)?;
    if args.recipes.is_empty() {
        return each(&setting, false, async |recipe, options| devrun_store::locate(recipe, options).await);
    }
    each(&setting, false, async |recipe, options| devrun_store::fetch(recipe, options).await)
}

/// `devrun lock`.
///
/// # Errors
/// `Integrity` when the lock cannot be read.
pub fn lock(globals: &Globals, args: &LockArgs, term: Term) -> Result<i32, Failure> {
    if args.update {
        let setting = setting(globals, &args.recipes, false, None, term)?;
        return each(&setting, args.json, async |recipe, options| devrun_store::lock_update(recipe, options).await);
    }
    let project = load::project(globals)?;
    let file = project.root.join("devrun.lock");
    let lock = LockFile::read(&file)?;
    if args.json {
        return readonly::json(&lock.entries());
    }
    if lock.entries().is_empty() {
        say(format!("{} pins nothing yet; the first fetch adds what it brings", file.display()));
        return Ok(exit::DONE);
    }
    let rows: Vec<Vec<String>> = lock
        .entries()
        .iter()
        .map(|entry| {
            let size = devrun_model::ByteSize(entry.size).to_string();
            vec![
                entry.name.clone(),
                entry.version.clone(),
                entry.platform.clone(),
                size,
                entry.sha256.clone(),
                entry.source.clone(),
            ]
        })
        .collect();
    Ok(readonly::text(&table::render(&["RECIPE", "VERSION", "PLATFORM", "SIZE", "SHA256", "SOURCE"], &rows)))
}

#[derive(Serialize)]
struct RecipeRow {
    recipe: String,
    summary: String,
    port: Option<u16>,
    versions: Vec<devrun_store::CatalogLine>,
}

/// `devrun catalog`.
///
/// # Errors
/// `Internal` when the compiled-in catalogue cannot be read.
pub fn catalog(globals: &Globals, args: &CatalogArgs, _term: Term) -> Result<i32, Failure> {
    let env = load::environment();
    let root = load::project(globals).map(|project| project.root).or_else(|_| {
        std::env::current_dir()
            .map_err(|error| Failure::new(FailureKind::Config, format!("the working directory cannot be read: {error}")))
    })?;
    let lines = devrun_store::catalog(&devrun_store::store_folder(&root, &env, nix::unistd::geteuid().is_root()))?;
    let book = RecipeRegistry::new();
    let recipes: Vec<RecipeRow> = book
        .names()
        .into_iter()
        .filter_map(|name| {
            let recipe = book.find(name)?;
            Some(RecipeRow {
                recipe: name.to_owned(),
                summary: recipe.summary.clone(),
                port: recipe.port,
                versions: lines.iter().filter(|line| line.recipe == name).cloned().collect(),
            })
        })
        .collect();
    if args.json {
        return readonly::json(&recipes);
    }
    let rows: Vec<Vec<String>> = recipes
        .iter()
        .map(|recipe| {
            let here = recipe.versions.iter().filter(|line| !line.sources.is_empty());
            let versions: Vec<String> =
                here.map(|line| if line.stored { format!("{}*", line.version) } else { line.version.clone() }).collect();
            let versions = if versions.is_empty() { "system only".to_owned() } else { versions.join(" ") };
            let port = recipe.port.map(|port| port.to_string()).unwrap_or_default();
            vec![recipe.recipe.clone(), versions, port, recipe.summary.clone()]
        })
        .collect();
    readonly::text(&table::render(&["RECIPE", "VERSIONS", "PORT", "WHAT IT IS"], &rows));
    if recipes.iter().any(|recipe| recipe.versions.iter().any(|line| line.stored)) {
        say("* lies in the store");
    }
    Ok(exit::DONE)
}
