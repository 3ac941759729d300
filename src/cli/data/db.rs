//! `devrun db`: databases for tests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::app::child_command;
use crate::app::data::fork::postgres::{self, FORK, TemplateCopies};
use crate::app::data::fork::registry::{Fork, ForkRegistry};
use crate::app::data::fork::{reaper, redis, target};
use crate::app::data::interruptible_work::DataWork;
use crate::app::load::{self, Project, Wanted};
use crate::app::readonly;
use crate::app::session::Signals;
use crate::globals::Globals;
use crate::ui::table;
use crate::ui::term::{Term, data, say};
use devrun_keeper::identity;
use devrun_model::keeper::Identity;
use devrun_model::service::Server;
use devrun_model::{Failure, FailureKind, Plan, ServiceSpec, duration, exit};

// `db`.
#[derive(Debug, Args)]
pub struct DbArgs {
    /// Action
    #[command(subcommand)]
    pub action: DbAction,
}

// What to do with databases of tests.
#[derive(Debug, Subcommand)]
pub enum DbAction {
    /// Create a fresh database for one test run, and print its URL
    #[command(
        after_help = "Postgres: a copy of the service's database, made by TEMPLATE from a frozen copy. That is taken when the first fork is made, and again when init files, migrations or seed tasks have changed; `devrun db refresh` takes it at once.\nRedis: an empty logical database; `set = { databases = \"64\" }` at the service makes more of them.\nIt is dropped when the calling process ends, when its time is up, or by `devrun db drop`.\n\nExamples:\n  export DATABASE_URL=$(devrun db fork)\n  devrun db fork postgres --ttl 1h\n  devrun db fork -- pytest -x"
    )]
    Fork(ForkArgs),
    /// List the databases that forks have made
    #[command(after_help = "Example:\n  devrun db list --json")]
    List {
        /// Output as JSON
        #[arg(long)]
        json: bool,
    },
    /// Drop forks by name
    #[command(after_help = "Example:\n  devrun db drop devrun_fork_0123456789abcdef")]
    Drop {
        /// Names of databases
        #[arg(value_name = "DATABASE", required = true)]
        names: Vec<String>,
    },
    /// Take the frozen copy again from what the database holds now
    #[command(after_help = "Example:\n  devrun db refresh")]
    Refresh {
        /// Postgres service; required if there are several
        #[arg(value_name = "SERVICE")]
        service: Option<String>,
    },
}

// `db fork`.
#[derive(Debug, Args)]
pub struct ForkArgs {
    /// Postgres or Redis service [default: the only Postgres]
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Drop it after this time, also while the caller lives
    #[arg(long, value_name = "T")]
    pub ttl: Option<String>,
    /// Process with which it goes [default: the caller]
    #[arg(long, value_name = "PID")]
    pub pid: Option<i32>,
    /// Make several at once, one URL a line
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
    /// Run a command with the database's variables, and drop it afterwards
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Serialize)]
struct Made {
    service: String,
    database: String,
    url: String,
    env: BTreeMap<String, String>,
    /// Of a copy; an empty logical database of a Redis has no size.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// `Elsewhere` when the stack does not run; as the server says.
pub fn run(globals: &Globals, args: &DbArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    match &args.action {
        DbAction::Fork(args) => make(globals, &project, args, term),
        DbAction::List { json } => list(&project, *json),
        DbAction::Drop { names } => drop_named(globals, &project, names),
        DbAction::Refresh { service } => refresh(globals, &project, service.as_deref(), term),
    }
}

/// The reaper's own process.
///
/// # Errors
/// As the file system says.
pub fn reap(globals: &Globals) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    reaper::run(globals, &project).map(|()| exit::DONE)
}

fn plan(globals: &Globals, project: &Project, named: Option<&str>) -> Result<std::sync::Arc<Plan>, Failure> {
    if !load::is_running(&project.places)? {
        return Err(Failure::new(FailureKind::Elsewhere, "nothing is running").help("devrun up -d; or: devrun run -- CMD"));
    }
    load::plan(globals, project, &Wanted { named: named.map(str::to_owned).into_iter().collect(), ..Wanted::act() })
}

fn make(globals: &Globals, project: &Project, args: &ForkArgs, term: Term) -> Result<i32, Failure> {
    let ttl = args.ttl.as_deref().map(duration::parse).transpose();
    let ttl =
        ttl.map_err(|error| Failure::new(FailureKind::Config, format!("--ttl: {error}")).help("devrun db fork --ttl 1h"))?;
    let plan = plan(globals, project, args.service.as_deref())?;
    let spec = target::server(&plan, args.service.as_deref())?;
    // With a command it is ours and goes when that has ended.
    let pid = match args.pid {
        _ if !args.command.is_empty() => i32::try_from(std::process::id()).unwrap_or(0),
        Some(pid) => pid,
        None => nix::unistd::getppid().as_raw(),
    };
    let owner = identity::of(pid).ok_or_else(|| {
        Failure::new(FailureKind::Config, format!("--pid {pid}: no such process")).help("devrun db fork --pid $$")
    })?;
    let until = |ttl: Duration| {
        jiff::Timestamp::now().as_millisecond().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
    };
    let work = DataWork::begin()?;
    let registry = ForkRegistry::new(&project.places);
    let copies = match spec.stop_asks() {
        Some(Server::Postgres) => Some(TemplateCopies::open(project, &plan, spec, &work, term)?),
        _ => None,
    };
    let mut forks = Vec::new();
    for _ in 0..args.count {
        let fork = registered(copies.as_ref(), spec, &registry, &owner, &work)?;
        // It starts before the first is made: whatever happens to this command, the reaper drops what is over.
        if forks.is_empty() {
            reaper::ensure(globals, project)?;
        }
        let made = work.runtime.block_on(async {
            match &copies {
                Some(copies) => copies.copy(&fork.database).await,
                None => redis::clear(spec, &fork.database).await,
            }
        });
        if let Err(failure) = made {
            return work.ended_by(failure);
        }
        let fork = Fork { maker: None, until_ms: ttl.map(until), ..fork };
        registry.replace(&fork)?;
        forks.push(fork);
    }
    let bytes = copies.as_ref().and_then(TemplateCopies::bytes);
    drop(copies);
    if !args.command.is_empty() {
        let first = forks.first().map(|fork| fork.database.clone()).unwrap_or_default();
        let mut env = load::environment();
        env.extend(target::variables(spec, &first));
        let code = work.runtime.block_on(async {
            let mut signals = Signals::take()?;
            let here = std::env::current_dir().unwrap_or_else(|_| project.root.clone());
            Ok::<i32, Failure>(child_command::run(&args.command, &env, &here, None, &mut signals).await?.code)
        });
        let names: Vec<String> = forks.iter().map(|fork| fork.database.clone()).collect();
        work.runtime.block_on(target::remove(spec, &names))?;
        forks.iter().try_for_each(|fork| registry.remove(fork))?;
        return code;
    }
    let made: Vec<Made> = forks
        .into_iter()
        .map(|fork| Made {
            url: target::url(spec, &fork.database),
            env: target::variables(spec, &fork.database),
            service: fork.service,
            database: fork.database,
            bytes,
        })
        .collect();
    if args.json {
        return if args.count == 1 { made.first().map_or(Ok(exit::DONE), readonly::json) } else { readonly::json(&made) };
    }
    for one in made {
        let _reader_gone = data(one.url);
    }
    Ok(exit::DONE)
}

/// Registers a fork under a name that is free: that of a copy, or without a template the number of a logical database of a Redis.
fn registered(
    copies: Option<&TemplateCopies>,
    spec: &ServiceSpec,
    registry: &ForkRegistry,
    owner: &Identity,
    work: &DataWork,
) -> Result<Fork, Failure> {
    let (service, owner, maker) = (spec.service.to_string(), Some(owner.clone()), Some(identity::own()));
    let mut fork = Fork { service, database: String::new(), owner, until_ms: None, maker };
    if copies.is_none() {
        let count = work.runtime.block_on(redis::count(spec))?;
        for number in 1..count {
            fork.database = number.to_string();
            if registry.add(&fork)? {
                return Ok(fork);
            }
        }
        let reason = format!("all {} logical databases of {} are in use", count.saturating_sub(1), spec.service);
        return Err(
            Failure::new(FailureKind::Task, reason).help(format!("[services.{}] set = {{ databases = \"256\" }}", spec.service))
        );
    }
    loop {
        fork.database = format!("{FORK}{}", devrun_data::nonce()?);
        if registry.add(&fork)? {
            return Ok(fork);
        }
    }
}

fn list(project: &Project, json: bool) -> Result<i32, Failure> {
    let forks = ForkRegistry::new(&project.places).list();
    if json {
        let rows: Vec<_> = forks
            .iter()
            .map(|fork| {
                let until = fork.until_ms.and_then(|until| jiff::Timestamp::from_millisecond(until).ok());
                serde_json::json!({
                    "service": fork.service,
                    "database": fork.database,
                    "pid": fork.owner.as_ref().map(|owner| owner.pid),
                    "until": until.map(|until| format!("{until:.6}")),
                })
            })
            .collect();
        return readonly::json(&rows);
    }
    if forks.is_empty() {
        say("no forks yet; devrun db fork makes one");
        return Ok(exit::DONE);
    }
    let dash = || "-".to_owned();
    let now = jiff::Timestamp::now().as_millisecond();
    let left = |until: i64| duration::human(Duration::from_millis(u64::try_from(until - now).unwrap_or(0)));
    let rows: Vec<Vec<String>> = forks
        .into_iter()
        .map(|fork| {
            let pid = fork.owner.map_or_else(dash, |owner| owner.pid.to_string());
            vec![fork.service, fork.database, pid, fork.until_ms.map_or_else(dash, left)]
        })
        .collect();
    Ok(readonly::text(&table::render(&["SERVICE", "DATABASE", "PID", "TIME LEFT"], &rows)))
}

fn drop_named(globals: &Globals, project: &Project, names: &[String]) -> Result<i32, Failure> {
    let registry = ForkRegistry::new(&project.places);
    let forks = registry.list();
    let mut chosen = Vec::new();
    for name in names {
        match forks.iter().find(|fork| fork.database == *name) {
            Some(fork) => chosen.push(fork),
            None => return Err(Failure::new(FailureKind::Config, format!("unknown fork `{name}`")).help("devrun db list")),
        }
    }
    let mut of_service: BTreeMap<&str, Vec<&Fork>> = BTreeMap::new();
    for fork in chosen {
        of_service.entry(&fork.service).or_default().push(fork);
    }
    let runtime = crate::app::runtime::runtime()?;
    for (service, forks) in of_service {
        let plan = plan(globals, project, Some(service))?;
        let names: Vec<String> = forks.iter().map(|fork| fork.database.clone()).collect();
        runtime.block_on(target::remove(readonly::one(&plan, service)?, &names))?;
        forks.iter().try_for_each(|fork| registry.remove(fork))?;
    }
    Ok(exit::DONE)
}

fn refresh(globals: &Globals, project: &Project, service: Option<&str>, term: Term) -> Result<i32, Failure> {
    let plan = plan(globals, project, service)?;
    let spec = target::server(&plan, service)?;
    if spec.stop_asks() != Some(Server::Postgres) {
        return Err(Failure::new(FailureKind::Config, format!("{} has no frozen copy: its forks are empty", spec.service))
            .help("devrun db refresh POSTGRES-SERVICE"));
    }
    let work = DataWork::begin()?;
    let name = postgres::refresh(project, &plan, spec, &work, term)?;
    say(format!("{}: the frozen copy was taken ({name})", spec.service));
    Ok(exit::DONE)
}
