//! The process that drops forks: one for each stack, started by the first fork. It ends when there is nothing left to wait
//! for, and with the stack: the files of the registry go with the runtime directory, and databases that outlive it are dropped
//! by the next fork.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use devrun_model::service::Server;
use devrun_model::{Failure, Plan};

use super::registry::{Fork, ForkRegistry};
use super::{postgres, target};
use crate::app::load::{self, Project, Wanted};
use crate::app::own_command;
use crate::globals::Globals;

/// How often it looks.
const STEP: Duration = Duration::from_millis(250);
/// How long it stays without a fork: the next one need not start it again.
const IDLE: Duration = Duration::from_secs(5);
const LOCK: &str = "reaper";

/// Starts one unless one is there. Forks are registered before this is called.
///
/// # Errors
/// `Internal` when it cannot be started.
pub fn ensure(globals: &Globals, project: &Project) -> Result<(), Failure> {
    match ForkRegistry::new(&project.places).try_lock(LOCK)? {
        // It takes the lock itself; two that start at once are one a moment later.
        Some(free) => {
            drop(free);
            own_command::spawn(globals, &["__forks".into()])
        }
        None => Ok(()),
    }
}

/// Is the reaper.
///
/// # Errors
/// As the file system says.
pub fn run(globals: &Globals, project: &Project) -> Result<(), Failure> {
    let registry = ForkRegistry::new(&project.places);
    let runtime = crate::app::runtime::waiting_runtime()?;
    // A fork is registered before it looks for a reaper, so one that came while this one let go of the lock is seen here.
    while let Some(lock) = registry.try_lock(LOCK)? {
        until_idle(globals, project, &registry, &runtime)?;
        drop(lock);
        if registry.list().is_empty() || !load::is_running(&project.places)? {
            break;
        }
    }
    Ok(())
}

fn until_idle(
    globals: &Globals,
    project: &Project,
    registry: &ForkRegistry,
    runtime: &tokio::runtime::Runtime,
) -> Result<(), Failure> {
    let mut idle = Instant::now();
    let mut cleared = BTreeSet::new();
    while load::is_running(&project.places)? && project.places.run.exists() {
        let forks = registry.list();
        if !forks.is_empty() {
            idle = Instant::now();
        } else if idle.elapsed() > IDLE {
            break;
        }
        // A server that does not answer now may later: a fork stays registered until it is gone, so an error is no reason to end.
        for service in forks.iter().map(|fork| &fork.service) {
            if !cleared.contains(service) {
                match runtime.block_on(clear(globals, project, service, registry)) {
                    Ok(()) => drop(cleared.insert(service.clone())),
                    Err(failure) => {
                        tracing::warn!(%service, reason = %failure.reason, "forks of earlier runs are not dropped yet")
                    }
                }
            }
        }
        let now = jiff::Timestamp::now().as_millisecond();
        let mut over: BTreeMap<String, Vec<Fork>> = BTreeMap::new();
        for fork in registry.over(now) {
            over.entry(fork.service.clone()).or_default().push(fork);
        }
        for (service, forks) in over {
            match runtime.block_on(remove(globals, project, &service, &forks)) {
                Ok(()) => forks.iter().try_for_each(|fork| registry.remove(fork))?,
                Err(failure) => tracing::warn!(%service, reason = %failure.reason, "forks are not dropped yet"),
            }
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}

/// The plan that has this service.
fn plan(globals: &Globals, project: &Project, service: &str) -> Result<Arc<Plan>, Failure> {
    load::plan(globals, project, &Wanted { named: vec![service.to_owned()], ..Wanted::look() })
}

/// Drops what an earlier run of the stack has left in the data of this server.
async fn clear(globals: &Globals, project: &Project, service: &str, registry: &ForkRegistry) -> Result<(), Failure> {
    let plan = plan(globals, project, service)?;
    let spec = crate::app::readonly::one(&plan, service)?;
    if spec.stop_asks() == Some(Server::Postgres) { postgres::drop_forgotten(spec, registry).await } else { Ok(()) }
}

async fn remove(globals: &Globals, project: &Project, service: &str, forks: &[Fork]) -> Result<(), Failure> {
    let plan = plan(globals, project, service)?;
    let spec = crate::app::readonly::one(&plan, service)?;
    let names: Vec<String> = forks.iter().map(|fork| fork.database.clone()).collect();
    if spec.stop_asks() == Some(Server::Postgres) && forks.iter().any(|fork| fork.maker.is_some()) {
        postgres::end_creation(spec, &names).await?;
    }
    target::remove(spec, &names).await
}
