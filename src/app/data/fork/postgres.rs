//! The frozen template of a database, and its copies.
//!
//! The template is made the first time a fork is asked for, from what the database holds then: after init files, migrations and
//! seed tasks, whatever tool ran them. Its name carries a hash of those files, so that a changed migration makes the next fork
//! freeze another one. It is a copy that no one can connect to, so that it can be copied at any time: `CREATE DATABASE` needs a
//! source without connections, and an application is connected to the database itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use devrun_data::BackupFormat;
use devrun_model::{Failure, FailureKind, Launch, Plan, ServiceSpec};
use devrun_runtime::{init, recipes};

use super::registry::ForkRegistry;
use crate::app::data::interruptible_work::DataWork;
use crate::app::data::postgres_dump::{Dump, Load, check_may_create, create, elsewhere, literal, quoted};
use crate::app::load::Project;
use crate::ui::term::Term;

/// How many copies are made at once: each takes a connection, and the server has a hundred.
const AT_ONCE: u32 = 8;
/// The name of a fork begins with this.
pub const FORK: &str = "devrun_fork_";
const TEMPLATE: &str = "devrun_template_";

/// What a fork is made of.
pub struct ForkContext<'a> {
    /// Where.
    pub project: &'a Project,
    /// As the procfile says now.
    pub plan: &'a Plan,
    /// The server.
    pub spec: &'a ServiceSpec,
    /// The template that was made sure of.
    pub template: String,
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

/// Whether the template is there and frozen.
async fn is_frozen(spec: &ServiceSpec, name: &str) -> Result<Option<bool>, Failure> {
    let found = ask(spec, &format!("SELECT datistemplate::text FROM pg_database WHERE datname = {}", literal(name))).await?;
    Ok(found.rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).map(|text| text == "true"))
}

/// Makes sure of the template, and returns its name.
///
/// # Errors
/// `Elsewhere` when the server does not run; as it says.
pub fn freeze(project: &Project, plan: &Plan, spec: &ServiceSpec, work: &DataWork, term: Term) -> Result<String, Failure> {
    let name = template_name(plan, spec);
    let version = work.runtime.block_on(crate::app::data::postgres_dump::server_version(spec))?;
    if work.runtime.block_on(is_frozen(spec, &name))? == Some(true) {
        return Ok(name);
    }
    work.runtime.block_on(check_may_create(spec, "a fork"))?;
    let registry = ForkRegistry::new(&project.places);
    let _one = registry.lock("freeze")?;
    match work.runtime.block_on(is_frozen(spec, &name))? {
        Some(true) => return Ok(name),
        // A freeze that was killed.
        Some(false) => work.runtime.block_on(drop_database(spec, &name))?,
        None => {}
    }
    let (own, template) = (quoted(&database(spec)), quoted(&name));
    match work.runtime.block_on(ask(spec, &format!("CREATE DATABASE {template} TEMPLATE {own}"))) {
        Ok(_) => {}
        // Somebody is connected to it.
        Err(error) if error.is_in_use() => {
            let file = tempfile::Builder::new().prefix("devrun-template-").tempfile_in(&project.places.state);
            let file = file.map_err(|error| Failure::new(FailureKind::Task, format!("cannot write the dump: {error}")))?;
            let others = |failure: Failure| match failure.kind {
                FailureKind::Binary => failure.help(format!(
                    "stop what is connected to the database {}: then it is copied without that program",
                    database(spec)
                )),
                _ => failure,
            };
            let dump = Dump::find(project, spec, &version, work, term).map_err(others)?;
            let mut target =
                file.reopen().map_err(|error| Failure::new(FailureKind::Task, format!("cannot write the dump: {error}")))?;
            dump.write(false, &mut target, file.path(), work, &|_| ())?;
            let made = (file.path(), BackupFormat::PostgresCustom, dump.version());
            let load = Load::find(project, spec, made, &version, work, term).map_err(others)?;
            let ask_now = |sql: String| work.runtime.block_on(ask(spec, &sql)).map_err(Failure::from);
            ask_now(create(&database(spec), &name, &ask_now)?)?;
            load.run(&name, true, work)?;
        }
        Err(error) => return Err(error.into()),
    }
    // One statement: a template is whole where it is marked as one.
    work.runtime.block_on(ask(spec, &format!("ALTER DATABASE {template} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true")))?;
    work.runtime.block_on(drop_other_templates(spec, &name))?;
    Ok(name)
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

/// Gives the templates up, so that the next fork freezes what the database holds then.
///
/// # Errors
/// As the server says.
pub async fn thaw(spec: &ServiceSpec) -> Result<(), Failure> {
    drop_other_templates(spec, "").await
}

/// A copy of the template under a name.
///
/// # Errors
/// As the server says.
pub async fn copy(context: &ForkContext<'_>, name: &str) -> Result<(), Failure> {
    let registry = ForkRegistry::new(&context.project.places);
    // Each takes a connection, and applications need some too.
    let slot = format!("copy-{}", std::process::id() % AT_ONCE);
    let _turn = tokio::task::block_in_place(|| registry.lock(&slot))?;
    let begun = tokio::time::Instant::now();
    loop {
        let statement = format!("CREATE DATABASE {} TEMPLATE {}", quoted(name), quoted(&context.template));
        match ask(context.spec, &statement).await {
            Ok(_) => return Ok(()),
            // Too many connections, or another copy holds the template for an instant.
            Err(error) if (error.is_server_full() || error.is_in_use()) && begun.elapsed() < Duration::from_secs(60) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Drops a database, whoever is connected to it.
///
/// # Errors
/// As the server says.
pub async fn drop_database(spec: &ServiceSpec, name: &str) -> Result<(), Failure> {
    ask(spec, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))).await?;
    Ok(())
}

/// Forks of an earlier run of the stack, which no one has any more.
///
/// # Errors
/// As the server says.
pub async fn drop_forgotten(spec: &ServiceSpec, registry: &ForkRegistry) -> Result<(), Failure> {
    let query = format!("SELECT datname FROM pg_database WHERE starts_with(datname, {})", literal(FORK));
    let found = ask(spec, &query).await?;
    // Registered before it is made: whatever is in none of the files now was there before.
    let known: Vec<String> = registry.list().into_iter().map(|fork| fork.database).collect();
    for name in found.rows.into_iter().flatten().flatten() {
        if !known.contains(&name) {
            drop_database(spec, &name).await?;
        }
    }
    Ok(())
}
