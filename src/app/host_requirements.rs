//! Whether this machine has what a procfile asks for: `[project].requires`, which forbids a start, and `reserve` and `limits`,
//! which are wishes: where they cannot be kept, that is said before anything is spawned.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use devrun_keeper::cgroup;
use devrun_model::service::Limits;
use devrun_model::{ByteSize, Failure, FailureKind, Paths, Plan, ServiceSpec};
use devrun_runtime::stats;

use crate::app::port_conflicts;

/// `[project].requires`.
pub fn meets(wants: &devrun_config::RequiredValues, places: &Paths) -> Result<(), Failure> {
    let size = |bytes: u64| ByteSize(bytes).to_string();
    if let (Some(wanted), Some(there)) = (wants.memory, stats::memory_total())
        && there < wanted
    {
        return Err(Failure::new(
            FailureKind::Config,
            format!("{} of memory are required, this machine has {}", size(wanted), size(there)),
        )
        .help("use a larger machine, or lower [project].requires.memory"));
    }
    // The state folder may not be there yet; what is above it lies on the same disk.
    let folder = places.state.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if let (Some(wanted), Ok(disk)) = (wants.disk, rustix::fs::statvfs(folder)) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < wanted {
            return Err(Failure::new(
                FailureKind::Config,
                format!("{} of free disk are required, {} has {}", size(wanted), folder.display(), size(free)),
            )
            .help("make room (devrun df shows what the volumes use), or lower [project].requires.disk"));
        }
    }
    Ok(())
}

/// What a plan asks of the machine: an error where a port may not be bound, and notes about what will not be kept.
///
/// # Errors
/// `PortTaken` when a port may be bound by root only.
pub fn of_plan(
    document: &devrun_config::Document,
    plan: &Plan,
    named: &[String],
    env: &BTreeMap<String, String>,
) -> Result<Vec<String>, Failure> {
    port_conflicts::permitted(document, plan, named)?;
    let mut notes = over_reserved(plan);
    notes.extend(unlimited(plan, env));
    Ok(notes)
}

/// What is set aside by `reserve`, all services together, against what the machine has left. A reservation is a preference, not
/// a limit, so more of it than there is is said and holds nothing up.
fn over_reserved(plan: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    let memory: u64 = plan.services.values().filter_map(|spec| spec.reserve.memory).map(|size| size.0).sum();
    if let Some(free) = stats::memory_available().filter(|free| *free < memory) {
        let size = |bytes: u64| ByteSize(bytes).to_string();
        notes.push(format!("reserve: the services set {} of memory aside, {} are free", size(memory), size(free)));
    }
    let cpu: f64 = plan.services.values().filter_map(|spec| spec.reserve.cpu).sum();
    if let Ok(cores) = std::thread::available_parallelism()
        && cpu > cores.get() as f64
    {
        notes.push(format!("reserve: the services set {cpu} cores aside, this machine has {cores}"));
    }
    notes
}

/// Why a limit of this controller (`cpu`, `memory`) is not kept here.
#[must_use]
pub fn not_enforced(controller: &str, env: &BTreeMap<String, String>) -> Option<String> {
    if env.contains_key("DEVRUN_NO_CGROUP") {
        return Some("DEVRUN_NO_CGROUP is set".to_owned());
    }
    cgroup::missing_controller(controller)
}

/// Limits that this kernel will not keep. An address-space limit is none of memory, and affinity none of cores: where there
/// is no controller, that is said instead.
fn unlimited(plan: &Plan, env: &BTreeMap<String, String>) -> Vec<String> {
    let mut notes = Vec::new();
    for (controller, _) in Limits::default().of_cgroup() {
        let limited = |spec: &ServiceSpec| spec.limits.of_cgroup().contains(&(controller, true));
        let who: BTreeSet<&str> = plan.services.values().filter(|spec| limited(spec)).map(|spec| spec.service.as_str()).collect();
        if who.is_empty() {
            continue;
        }
        if let Some(why) = not_enforced(controller, env) {
            let who: Vec<&str> = who.into_iter().collect();
            notes.push(format!("limits.{controller} of {} is not enforced here: {why}", who.join(", ")));
        }
    }
    notes
}
