//! The frozen template of a database, and its copies.
//!
//! The template is made the first time a fork is asked for, from what the database holds then: after init files, migrations and
//! seed tasks, whatever tool ran them. Its name carries a hash of those files, so that a changed migration makes the next fork
//! freeze another one. It is a copy that no one can connect to, so that it can be copied at any time: `CREATE DATABASE` needs a
//! source without connections, and an application is connected to the database itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use devrun_data::BackupFormat;
use devrun_model::{Failure, FailureKind, Launch, Plan, ServiceSpec};
use devrun_runtime::init;
use devrun_runtime::recipes::{self, SqlConnection};
use futures_util::future::try_join_all;

use super::registry::ForkRegistry;
use crate::app::data::interruptible_work::DataWork;
use crate::app::data::postgres_dump::{
    Dump, Load, check_may_create, create, elsewhere, literal, not_running, quoted, server_version,
};
use crate::app::load::Project;
use crate::ui::term::Term;

/// How many commands make copies at once: each takes a connection, and the server has a hundred.
const AT_ONCE: u32 = 8;
/// For what holds the template for an instant.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);
/// The name of a fork begins with this.
pub const FORK: &str = "devrun_fork_";
const TEMPLATE: &str = "devrun_template_";

/// How many connections drop databases at once, where each waits for a checkpoint.
const DROPS_AT_ONCE: usize = 8;

/// A server's frozen template, and one login for all copies that a command makes.
pub struct TemplateCopies {
    template: String,
    strategy: &'static str,
    bytes: Option<u64>,
    connection: SqlConnection,
    /// Each command takes a connection, and applications need some too.
    _turn: File,
}

fn database(spec: &ServiceSpec) -> String {
    spec.attribute("database").or_else(|| spec.attribute("user")).unwrap_or_else(|| "postgres".to_owned())
}

/// The name of the template that belongs to the present init files, migrations and seeds.
#[must_use]
pub fn template_name(plan: &Plan, spec: &ServiceSpec) -> String {
    let mut words = vec![database(spec)];
    let mut files = Vec::new();
    if let Launch::Recipe(recipe) = &spec.launch {
        recipe.init.iter().chain(&recipe.migrations).for_each(|path| collect(path, &mut files));
        words.extend(recipe.extensions.iter().cloned());
    }
    let seeds = |task: &&std::sync::Arc<ServiceSpec>| {
        task.task.as_ref().is_some_and(|work| work.on.as_ref() == Some(&spec.id))
            || task.depends_on.iter().any(|edge| edge.on == spec.id)
    };
    for task in plan.services.values().filter(|spec| spec.task.is_some()).filter(seeds) {
        let Some(work) = &task.task else { continue };
        words.push(task.id.to_string());
        work.inputs.iter().for_each(|path| collect(path, &mut files));
        if let Some(devrun_model::Work::Sql { files: scripts, text }) = &work.work {
            scripts.iter().for_each(|path| collect(path, &mut files));
            words.extend(text.clone());
        }
    }
    let hash = init::hash_inputs(&words, &files);
    format!("{TEMPLATE}{}", hash.get(..16).unwrap_or(&hash))
}

/// The files below a path, in byte order.
fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(path) else {
        files.push(path.to_owned());
        return;
    };
    let mut below: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    below.sort();
    below.iter().for_each(|path| collect(path, files));
}

async fn ask(spec: &ServiceSpec, sql: &str) -> Result<recipes::SqlTable, recipes::SqlError> {
    recipes::ask_sql(&elsewhere(spec, &database(spec)), sql).await
}

/// The first row of a query of ours.
async fn first_row(connection: &SqlConnection, sql: &str) -> Result<Vec<Option<String>>, Failure> {
    Ok(connection.ask(sql).await?.rows.into_iter().next().unwrap_or_default())
}

/// Whether the template is there and frozen.
async fn is_frozen(connection: &SqlConnection, name: &str) -> Result<Option<bool>, Failure> {
    let query = format!("SELECT datistemplate::text FROM pg_database WHERE datname = {}", literal(name));
    Ok(first_row(connection, &query).await?.into_iter().next().flatten().map(|text| text == "true"))
}

/// How the server copies a database, and how large a copy of the template is.
///
/// Postgres 15 and later write every page of a copy to the WAL, which needs no checkpoint. A server that does not wait for the disk has a
/// cheap checkpoint, and copies the files instead: half the CPU time, and the cache of the catalogue (`pg_internal.init`), which the first
/// session of each copy has to make otherwise, comes along.
async fn strategy_and_size(connection: &SqlConnection, template: &str) -> Result<(&'static str, Option<u64>), Failure> {
    let query = format!(
        "SELECT (current_setting('fsync') = 'off' AND current_setting('server_version_num')::int >= 150000)::text, \
         pg_database_size({})::text",
        literal(template)
    );
    let mut row = first_row(connection, &query).await?.into_iter();
    let strategy = if row.next().flatten().as_deref() == Some("true") { " STRATEGY FILE_COPY" } else { "" };
    Ok((strategy, row.next().flatten().and_then(|size| size.parse().ok())))
}

impl TemplateCopies {
    /// Makes sure of the template.
    ///
    /// # Errors
    /// `Elsewhere` when the server does not run; as it says.
    pub fn open(project: &Project, plan: &Plan, spec: &ServiceSpec, work: &DataWork, term: Term) -> Result<Self, Failure> {
        let turn = ForkRegistry::new(&project.places).lock(&format!("copy-{}", std::process::id() % AT_ONCE))?;
        let server = elsewhere(spec, &database(spec));
        let connection = work.runtime.block_on(SqlConnection::open(&server)).map_err(|error| not_running(spec, error.into()))?;
        let template = freeze(project, plan, spec, &connection, work, term)?;
        let (strategy, bytes) = work.runtime.block_on(strategy_and_size(&connection, &template))?;
        Ok(Self { template, strategy, bytes, connection, _turn: turn })
    }

    /// Bytes on disk of a copy.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// A copy of the template under a name.
    ///
    /// # Errors
    /// As the server says.
    pub async fn copy(&self, name: &str) -> Result<(), Failure> {
        let statement = format!("CREATE DATABASE {} TEMPLATE {}{}", quoted(name), quoted(&self.template), self.strategy);
        let begun = tokio::time::Instant::now();
        loop {
            match self.connection.ask(&statement).await {
                Ok(_) => return Ok(()),
                // Another copy holds the template for an instant.
                Err(error) if error.is_in_use() && begun.elapsed() < PATIENCE => tokio::time::sleep(STEP).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Takes the frozen copy again from what the database holds now; its name.
///
/// # Errors
/// As [`TemplateCopies::open`].
pub fn refresh(project: &Project, plan: &Plan, spec: &ServiceSpec, work: &DataWork, term: Term) -> Result<String, Failure> {
    work.runtime.block_on(drop_other_templates(spec, ""))?;
    Ok(TemplateCopies::open(project, plan, spec, work, term)?.template)
}

/// Makes sure of the template, and returns its name.
fn freeze(
    project: &Project,
    plan: &Plan,
    spec: &ServiceSpec,
    connection: &SqlConnection,
    work: &DataWork,
    term: Term,
) -> Result<String, Failure> {
    let name = template_name(plan, spec);
    let run = |sql: &str| work.runtime.block_on(connection.ask(sql));
    if work.runtime.block_on(is_frozen(connection, &name))? == Some(true) {
        return Ok(name);
    }
    work.runtime.block_on(check_may_create(spec, "a fork"))?;
    let registry = ForkRegistry::new(&project.places);
    let _one = registry.lock("freeze")?;
    match work.runtime.block_on(is_frozen(connection, &name))? {
        Some(true) => return Ok(name),
        // A freeze that was killed.
        Some(false) => drop(run(&drop_statement(&name))?),
        None => {}
    }
    let (own, template) = (quoted(&database(spec)), quoted(&name));
    match run(&format!("CREATE DATABASE {template} TEMPLATE {own}")) {
        Ok(_) => {}
        // Somebody is connected to it.
        Err(error) if error.is_in_use() => dump_into_template(project, spec, &name, connection, work, term)?,
        Err(error) => return Err(error.into()),
    }
    // The first session in a database makes the cache of its catalogue, which copies of the files then have.
    let mut inside = spec.clone();
    inside.attributes.insert("database".to_owned(), name.clone());
    work.runtime.block_on(recipes::ask_sql(&inside, "SELECT 1"))?;
    // One statement: a template is whole where it is marked as one.
    run(&format!("ALTER DATABASE {template} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true"))?;
    work.runtime.block_on(drop_other_templates(spec, &name))?;
    Ok(name)
}

/// A template by dump and load, which needs nothing for itself.
fn dump_into_template(
    project: &Project,
    spec: &ServiceSpec,
    name: &str,
    connection: &SqlConnection,
    work: &DataWork,
    term: Term,
) -> Result<(), Failure> {
    let version = work.runtime.block_on(server_version(spec))?;
    let unwritable = |error: std::io::Error| Failure::new(FailureKind::Task, format!("cannot write the dump: {error}"));
    let file = tempfile::Builder::new().prefix("devrun-template-").tempfile_in(&project.places.state).map_err(unwritable)?;
    let others = |failure: Failure| match failure.kind {
        FailureKind::Binary => failure
            .help(format!("stop what is connected to the database {}: then it is copied without that program", database(spec))),
        _ => failure,
    };
    let dump = Dump::find(project, spec, &version, work, term).map_err(others)?;
    let mut target = file.reopen().map_err(unwritable)?;
    dump.write(false, &mut target, file.path(), work, &|_| ())?;
    let made = (file.path(), BackupFormat::PostgresCustom, dump.version());
    let load = Load::find(project, spec, made, &version, work, term).map_err(others)?;
    let ask_now = |sql: String| work.runtime.block_on(connection.ask(&sql)).map_err(Failure::from);
    ask_now(create(&database(spec), name, &ask_now)?)?;
    load.run(name, true, work)
}

async fn drop_other_templates(spec: &ServiceSpec, keep: &str) -> Result<(), Failure> {
    let query = format!(
        "SELECT datname FROM pg_database WHERE starts_with(datname, {}) AND datname <> {}",
        literal(TEMPLATE),
        literal(keep)
    );
    for name in ask(spec, &query).await?.rows.into_iter().flatten().flatten() {
        drop_template(spec, &name).await?;
    }
    Ok(())
}

async fn drop_template(spec: &ServiceSpec, name: &str) -> Result<(), Failure> {
    ask(spec, &format!("ALTER DATABASE {} WITH IS_TEMPLATE false", quoted(name))).await?;
    drop_database(spec, name).await
}

fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))
}

async fn drop_database(spec: &ServiceSpec, name: &str) -> Result<(), Failure> {
    ask(spec, &drop_statement(name)).await.map(drop).map_err(Failure::from)
}

/// Drops databases, also those with open connections.
///
/// Each drop ends with a checkpoint, which writes what no drop has discarded yet. On a server that waits for the disk, several connections
/// drop at once and share the checkpoint: 16 dropped one after the other took four times as long.
///
/// # Errors
/// As the server says.
pub async fn drop_databases(spec: &ServiceSpec, names: &[String]) -> Result<(), Failure> {
    if let [name] = names {
        return drop_database(spec, name).await;
    }
    let server = elsewhere(spec, &database(spec));
    let first = SqlConnection::open(&server).await?;
    let waits_for_disk = first_row(&first, "SHOW fsync").await?.into_iter().next().flatten().as_deref() != Some("off");
    let per_connection = if waits_for_disk { names.len().div_ceil(DROPS_AT_ONCE) } else { names.len() }.max(1);
    let drop_some = async |connection: SqlConnection, names: &[String]| {
        for name in names {
            connection.ask(&drop_statement(name)).await?;
        }
        connection.close().await;
        Ok::<(), Failure>(())
    };
    let mut parts = names.chunks(per_connection);
    let own = parts.next().unwrap_or_default();
    let others = parts.map(|names| async { drop_some(SqlConnection::open(&server).await?, names).await });
    tokio::try_join!(drop_some(first, own), try_join_all(others))?;
    Ok(())
}

/// Ends what still creates one of these databases for a command that was killed: the server continues a copy whose client is gone,
/// and a database that is dropped before it is complete appears afterwards.
///
/// # Errors
/// `Task` while it has not ended; as the server says.
pub async fn end_creation(spec: &ServiceSpec, names: &[String]) -> Result<(), Failure> {
    let of_one = |name: &String| format!("starts_with(query, {})", literal(&format!("CREATE DATABASE {}", quoted(name))));
    let of_any = names.iter().map(of_one).collect::<Vec<_>>().join(" OR ");
    let query = format!("SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE state = 'active' AND ({of_any})");
    match ask(spec, &query).await?.rows.len() {
        0 => Ok(()),
        count => Err(Failure::new(FailureKind::Task, format!("{count} interrupted copies are being ended"))),
    }
}

/// Forks of an earlier run of the stack, which no one has any more.
///
/// # Errors
/// As the server says.
pub async fn drop_forgotten(spec: &ServiceSpec, registry: &ForkRegistry) -> Result<(), Failure> {
    let query = format!("SELECT datname FROM pg_database WHERE starts_with(datname, {})", literal(FORK));
    let found = ask(spec, &query).await?;
    // Registered before it is made: whatever is in none of the files now was there before.
    let known = registry.databases();
    let forgotten: Vec<String> = found.rows.into_iter().flatten().flatten().filter(|name| !known.contains(name)).collect();
    drop_databases(spec, &forgotten).await
}
