//! The plan of a stack that systemd runs: made by its first unit, read by all others. It holds secrets, so it lies in the runtime
//! directory with mode 0600, and goes when the stack is stopped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use devrun_model::gateway::FixedCopy;
use devrun_model::{
    Failure, FailureKind, GatewaySpec, Launch, Paths, Plan, ServiceId, ServiceName, ServiceSpec, VolumeSpec, exit,
};
use devrun_runtime::{init, runtime_dir};
use devrun_store::{Located, NoDownloadProgress, trusted_file};
use serde::{Deserialize, Serialize};

use crate::app::load::{self, Project, Purpose, Wanted};
use crate::app::{deletion, runtime};
use crate::globals::Globals;

/// The plan, and what was found for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct UnitPlan {
    /// The resolved project.
    pub plan: Plan,
    /// The value of `DEVRUN_RUN_ID`.
    pub run: String,
    /// The executables of recipes.
    pub located: BTreeMap<ServiceId, Located>,
    /// Directories.
    pub places: Paths,
}

fn file(places: &Paths) -> PathBuf {
    places.run.join("units.json")
}

impl UnitPlan {
    /// Reads what the stack's first unit has written.
    ///
    /// # Errors
    /// `Elsewhere` when there is none.
    pub fn read(globals: &Globals) -> Result<Self, Failure> {
        let project = load::project(globals)?;
        let path = file(&project.places);
        let missing = || {
            Failure::new(FailureKind::Elsewhere, format!("the stack's procfile has not been read: no {}", path.display()))
                .help("systemctl --user restart devrun-NAME.service reads it")
        };
        let text = trusted_file::read_trusted(&path)?.ok_or_else(missing)?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::new(FailureKind::Config, format!("invalid {}: {error}", path.display())))
    }

    /// One service or task.
    ///
    /// # Errors
    /// `Config` when the procfile does not have it any more.
    pub fn spec(&self, name: &str) -> Result<&ServiceSpec, Failure> {
        let found = self.plan.services.values().find(|spec| spec.id.as_str() == name);
        found.map(Arc::as_ref).ok_or_else(|| {
            Failure::new(FailureKind::Config, format!("the procfile has no service or task {name} now"))
                .help("write the units again: devrun export systemd -o DIRECTORY --yes")
        })
    }

    /// The main volume of a service.
    #[must_use]
    pub fn volume(&self, spec: &ServiceSpec) -> Option<&VolumeSpec> {
        self.plan.volumes.get(spec.data.as_ref()?)
    }

    /// The copies of a service with their ports, for whatever balances them.
    #[must_use]
    pub fn copies(&self, service: &ServiceName) -> Vec<FixedCopy> {
        copies(&self.plan, service)
    }
}

/// Reads the procfile for the units of one start.
///
/// # Errors
/// As a start: `Config`, `Binary`, `Integrity`; `Elsewhere` when a supervisor runs the stack.
pub fn write(globals: &Globals) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    if load::is_running(&project.places)? {
        return Err(Failure::new(FailureKind::Elsewhere, "devrun itself runs this stack now").help("devrun down"));
    }
    let wanted = Wanted { purpose: Purpose::Start, warn: true, ..Wanted::look() };
    let mut plan = Plan::clone(&load::read(globals, &project, &wanted)?.plan);
    runtime_dir::prepare(&project.places)?;
    deletion::scratch(&project.places, &plan.scratch())?;
    let located = locate(&project, &plan)?;
    let copies_of = plan.clone();
    for spec in plan.services.values_mut() {
        let spec = Arc::make_mut(spec);
        // A unit says who it runs as.
        spec.user_id = None;
        if let Launch::Recipe(recipe) = &mut spec.launch
            && let Some(gateway) = &mut recipe.gateway
        {
            fix_copies(gateway, &copies_of);
        }
    }
    let made = UnitPlan { plan, run: init::nonce()?, located, places: project.places.clone() };
    let text = serde_json::to_vec(&made)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("the plan cannot be written as JSON: {error}")))?;
    let path = file(&project.places);
    runtime_dir::write_private(&path, &text)
        .map_err(|error| Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display())))?;
    Ok(exit::DONE)
}

/// The stack has stopped: what was made for its run goes.
///
/// # Errors
/// `Config` when something cannot be removed.
pub fn forget(globals: &Globals) -> Result<i32, Failure> {
    let made = match UnitPlan::read(globals) {
        Err(failure) if failure.kind == FailureKind::Elsewhere => return Ok(exit::DONE),
        read => read?,
    };
    // A supervisor that somebody has started since has the directories now.
    if load::is_running(&made.places)? {
        return Ok(exit::DONE);
    }
    deletion::scratch(&made.places, &made.plan.scratch())?;
    runtime_dir::remove_run(&made.places)
        .map_err(|error| Failure::new(FailureKind::Config, format!("cannot remove {}: {error}", made.places.run.display())))?;
    Ok(exit::DONE)
}

/// Fetched here, for all units: each of them would fetch for itself.
fn locate(project: &Project, plan: &Plan) -> Result<BTreeMap<ServiceId, Located>, Failure> {
    let options = load::fetch_options(project, false, None, Arc::new(NoDownloadProgress));
    runtime::runtime()?.block_on(async {
        let mut located = BTreeMap::new();
        for spec in plan.services.values() {
            let Launch::Recipe(recipe) = &spec.launch else { continue };
            match devrun_store::locate(recipe, &options).await {
                Ok(found) => {
                    located.insert(spec.id.clone(), found);
                }
                // Its own unit fails, and holds nothing up.
                Err(failure) if spec.optional && failure.kind == FailureKind::Binary => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(located)
    })
}

fn fix_copies(gateway: &mut GatewaySpec, plan: &Plan) {
    gateway.copies = gateway.upstreams.keys().map(|service| (service.clone(), copies(plan, service))).collect();
}

fn copies(plan: &Plan, service: &ServiceName) -> Vec<FixedCopy> {
    let specs = plan.services.values().filter(|spec| spec.service == *service);
    specs.map(|spec| FixedCopy { name: spec.id.to_string(), ports: spec.ports.clone() }).collect()
}
