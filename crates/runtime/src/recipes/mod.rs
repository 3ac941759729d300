//! What a container image's entrypoint knew: argv, first boot, stop, and the work against a running server.
//!
//! A recipe is data (`data/*.toml`, see `model::RecipeData`); `generic` turns it into words, variables and files. Code
//! stands beside it only where data is not enough: `redis` writes its configuration with the settings of `set`,
//! `postgres` and `mariadb` make a cluster and its first database in a stage, `neo4j` builds the line of Java. `sql`,
//! `cypher`, `s3`, `json_api` and `ollama` do the work of tasks against servers that run. Owns no policy: when anything here is called, and what a failure leads to, is the engine's business.

mod adopt;
mod bolt;
mod code;
mod cypher;
mod gateway;
mod generic;
mod json_api;
mod mariadb;
mod migrate;
mod neo4j;
mod ollama;
mod postgres;
mod rabbitmq;
mod recipe;
mod redis;
mod registry;
mod run_as;
mod s3;
mod secret_check;
#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "without a driver no script is run"))]
mod sql;
pub mod sql_split;
mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::init::{self, PendingPassword, Sentinel};
use crate::{probe, secrets};
use devrun_keeper::Runner;
use devrun_model::keeper::RunAs;
use devrun_model::ready::Endpoint;
use devrun_model::service::Server;
use devrun_model::{Failure, FailureKind, Launch, Paths, RecipeUse, ServiceSpec, VolumeSpec, Work};
use devrun_store::Located;

pub use adopt::adopt;
pub use cypher::{CypherRows, ask as ask_cypher};
pub use migrate::Migration;
pub use postgres::socket_folder as postgres_socket_folder;
pub use registry::RecipeRegistry;
pub use secret_check::check_secrets;
pub use sql::{SqlTable, ask as ask_sql, migrate, migrations};
pub use template::{TemplateValues, fill_template};

/// All that a recipe's code may look at.
pub struct RecipeContext<'a> {
    /// The service.
    pub spec: &'a ServiceSpec,
    /// How it uses the recipe.
    pub recipe: &'a RecipeUse,
    /// Its executables.
    pub located: &'a Located,
    /// Folders.
    pub places: &'a Paths,
    /// Its main volume, where it keeps data.
    pub volume: Option<&'a VolumeSpec>,
    /// Runs init steps in its name.
    pub runner: &'a Runner,
}

/// Hears how far a task's own work is.
pub type ProgressReporter<'a> = dyn Fn(String) + Send + Sync + 'a;

/// What to exec.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The executable.
    pub program: PathBuf,
    /// Its words.
    pub argv: Vec<String>,
    /// Over the service's environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub dir: PathBuf,
    /// OS identity.
    pub run_as: RunAs,
    /// Files to write, 0600, before the spawn; those of the service's own `render` are among them.
    pub files: Vec<(PathBuf, String)>,
}

/// What came of a first boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstBoot {
    /// Whether anything was made.
    pub outcome: FirstBootOutcome,
    /// What the user should hear of, one line each.
    pub warnings: Vec<String>,
}

/// Whether a first boot made anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstBootOutcome {
    /// The service keeps no data.
    NotNeeded,
    /// It was done before, at this time (RFC 3339).
    Done {
        /// When.
        at: String,
    },
    /// It was done now.
    Made {
        /// All of it.
        took: Duration,
        /// Its steps in order.
        steps: Vec<(&'static str, Duration)>,
    },
}

/// How a server whose data was made with a password comes to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordRotation {
    /// Whoever has its data may set one.
    Anew,
    /// It takes one only from who knows the old one.
    FromOld,
    /// Not by us.
    Never,
}

/// How this recipe's server does, where it keeps its password in its data.
#[must_use]
pub fn password_rotation(recipe: &str) -> PasswordRotation {
    code::of(recipe).password_rotation()
}

/// Settings of a copy of this recipe's server whose data need not survive a loss of power.
#[must_use]
pub fn temporary_settings(recipe: &str) -> &'static [(&'static str, &'static str)] {
    code::of(recipe).temporary_settings()
}

/// The mark of a volume whose password is to be set to the one that this definition has. One that was resolved before the
/// secret was renewed leaves the mark to the next.
fn pending_rotation(volume: &VolumeSpec, password: Option<&str>) -> Result<Option<PendingPassword>, Failure> {
    let Some(due) = init::pending_password(&volume.path) else { return Ok(None) };
    let (Some(folder), Some(name)) = (due.secret.parent(), due.secret.file_name().and_then(|name| name.to_str())) else {
        return Ok(None);
    };
    let secret = secrets::read(folder, name)?;
    let fits = password.zip(secret).is_some_and(|(password, secret)| password.contains(&secret));
    Ok(fits.then_some(due))
}

/// A server that runs by one definition and is to have the password of another.
#[derive(Clone, Copy)]
struct RotationRequest<'a> {
    old: &'a ServiceSpec,
    new: &'a ServiceSpec,
    places: &'a Paths,
    volume: Option<&'a VolumeSpec>,
}

/// Gives the running server `old` the password of `new`, which differs from it in nothing else. `false`: this server takes
/// a password at its start only.
///
/// # Errors
/// When it does not take it; it has the old one then.
pub async fn renew(old: &ServiceSpec, new: &ServiceSpec, places: &Paths, volume: Option<&VolumeSpec>) -> Result<bool, Failure> {
    let Launch::Recipe(recipe) = &new.launch else { return Ok(false) };
    code::of(&recipe.recipe.name).rotate_password(RotationRequest { old, new, places, volume }).await
}

/// The engine's own folder in a volume: the sentinel lies beside it, as some engines demand an empty folder and others
/// take every folder at their root for content.
#[must_use]
pub fn engine_dir(volume: &VolumeSpec, recipe: &str) -> PathBuf {
    volume.path.join(recipe).join("data")
}

/// What to exec for this service.
///
/// # Errors
/// `Config` or `Binary` when it cannot run here.
pub fn prepare(context: &RecipeContext<'_>) -> Result<Invocation, Failure> {
    code::of(&context.recipe.recipe.name).prepare(context)
}

/// The whole first boot, staged and renamed; nothing to do when the data is there.
///
/// # Errors
/// `Task` when a step failed or the folder is foreign, `Binary` when another major version made the data.
pub async fn first_boot(context: &RecipeContext<'_>) -> Result<FirstBoot, Failure> {
    let name = &context.recipe.recipe.name;
    let recipe = code::of(name);
    for (key, given) in
        [("migrations", context.recipe.migrations.is_some()), ("extensions", !context.recipe.extensions.is_empty())]
    {
        if given && !recipe.takes_migrations() {
            return Err(Failure::new(FailureKind::Config, format!("{name} has no `{key}`")).help(format!("take `{key}` out")));
        }
    }
    recipe.first_boot(context).await
}

/// A task's work against the running server `on`. What takes long says how far it is.
///
/// # Errors
/// `Task`, or `Credentials`.
pub async fn work(work: &Work, on: &ServiceSpec, say: &ProgressReporter<'_>) -> Result<(), Failure> {
    match work {
        Work::Sql { files, text } => sql::work(on, files, text.as_deref()).await,
        Work::Buckets { buckets } => s3::work(on, buckets).await,
        Work::Cypher { files } => cypher::work(on, files).await,
        Work::Collections { collections } => json_api::collections(on, collections).await,
        Work::Models { models } => ollama::work(on, models, say).await,
        Work::Indexes { indexes } => json_api::indexes(on, indexes).await,
    }
}

/// Refuses data that a newer major version of the server made: such servers move data on, and never back.
fn refuse_newer_data(context: &RecipeContext<'_>, sentinel: &Sentinel, volume: &VolumeSpec) -> Result<(), Failure> {
    let number = |version: &str| version.split('.').next().and_then(|first| first.parse::<u32>().ok());
    let name = &context.recipe.recipe.name;
    let (made, ours) = (&sentinel.tool, &context.located.version);
    match (number(made), number(ours)) {
        (Some(then), Some(now)) if then > now => Err(Failure::new(
            FailureKind::Binary,
            format!("the data in {} was made by {name} {made}, and {name} {ours} cannot read it", volume.path.display()),
        )
        .help(format!("use = \"{name}@{then}\"; or start over without the data: devrun clean --only {}", volume.name))),
        _ => Ok(()),
    }
}

/// `stop.check`: what a stop would cut short now, in words; `None` when it is a good moment.
///
/// # Errors
/// `Task` when it cannot be asked, which is no reason to keep a broken server running.
pub async fn busy_with(spec: &ServiceSpec) -> Result<Option<String>, Failure> {
    match spec.stop_asks() {
        Some(Server::Postgres) => sql::busy(spec).await,
        Some(Server::Redis) => {
            let port = spec.port().ok_or_else(|| Failure::new(FailureKind::Task, "it has no port"))?;
            let at = Endpoint { host: spec.bind.clone(), port };
            let (user, password) = (spec.attribute("user"), spec.attribute("password"));
            let answer = probe::redis_busy(&at, user.as_deref(), password.as_deref()).await;
            answer.map_err(|miss| Failure::new(FailureKind::Task, miss.answer))
        }
        None => Ok(None),
    }
}

/// An executable of the recipe by name.
fn tool<'a>(context: &'a RecipeContext<'_>, name: &str) -> Result<&'a Path, Failure> {
    context.located.tools.get(name).map(PathBuf::as_path).ok_or_else(|| {
        let recipe = &context.recipe.recipe.name;
        let install = context.recipe.recipe.install.values().next().cloned();
        let failure = Failure::new(FailureKind::Binary, format!("{recipe} {}: cannot find {name}", context.located.version));
        match install {
            Some(install) => failure.help(install),
            None => failure,
        }
    })
}
