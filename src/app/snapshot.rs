//! The state of a stack as far as it can be known: from its supervisor, else as the last one left it, else from the procfile.

use std::collections::BTreeMap;
use std::time::Duration;

use devrun_keeper::{identity_check, leftover_sweep};
use devrun_model::why::SUPERVISOR_ENDED;
use devrun_model::{Failure, Health, Paths, ServiceStatus, Snapshot, State, StateChange};
use devrun_runtime::engine::state_files;

use crate::app::growing_file::GrowingFile;
use crate::app::load::{self, Project, Wanted};
use crate::globals::Globals;

/// The supervisor's word, else the last one of the last supervisor, else the procfile's services as stopped.
pub async fn snapshot(globals: &Globals, project: &Project) -> Result<Snapshot, Failure> {
    let running = load::is_running(&project.places)?;
    let give_up = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(mut client) = crate::app::connect::supervisor(&project.places).await?
            && let Some(status) = client.status().await?
        {
            let mut snapshot = status.snapshot;
            snapshot.supervisor_version = Some(client.hello.version.clone());
            return Ok(snapshot);
        }
        // A supervisor that is just starting has no socket yet; one that is ending has none any more.
        if !running || !load::is_running(&project.places)? || tokio::time::Instant::now() > give_up {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if let Some(mut last) = state_files::last_snapshot(&project.places) {
        (last.supervisor_pid, last.supervisor_version) = (None, None);
        for service in &mut last.services {
            // A supervisor that was killed could not write its end down.
            if !service.state.is_final() {
                service.state = State::Stopped;
                service.health = Health::None;
                service.reason = Some(SUPERVISOR_ENDED.to_owned());
            }
            service.pid = None;
            service.uptime_ms = None;
        }
        return Ok(last);
    }
    if project.files.is_empty() {
        // Nothing was started here: the procfile is what is missing.
        load::project(globals)?;
    }
    let plan = load::plan(globals, project, &Wanted::look())?;
    // A supervisor that was killed before its start was over has left no word but its events.
    let last_states = last_states(&project.places);
    let reason = |name: &str| {
        let has_ended = last_states.get(name).is_none_or(|state| state.is_final());
        (!has_ended).then(|| SUPERVISOR_ENDED.to_owned())
    };
    let services = plan
        .services
        .values()
        .map(|spec| ServiceStatus {
            name: spec.id.to_string(),
            service: spec.service.to_string(),
            replica: spec.replica,
            kind: spec.kind,
            tier: spec.shown_tier(),
            state: State::Stopped,
            health: Health::None,
            pid: None,
            exit_code: None,
            signal: None,
            restarts: 0,
            started_at: None,
            ready_at: None,
            uptime_ms: None,
            ready_ms: None,
            ports: spec.ports.clone(),
            url: None,
            binary: None,
            version: None,
            reason: reason(spec.id.as_str()),
        })
        .collect();
    Ok(Snapshot {
        project: plan.project.to_string(),
        instance: plan.instance.clone(),
        mode: plan.mode.clone(),
        supervisor_pid: None,
        supervisor_version: None,
        services,
    })
}

/// The state that each service entered last.
fn last_states(places: &Paths) -> BTreeMap<String, State> {
    let lines = GrowingFile::new(&state_files::events_path(places)).lines();
    let changes = lines.iter().filter_map(|line| serde_json::from_str::<StateChange>(line).ok());
    changes.map(|change| (change.copy_name(), change.to)).collect()
}

/// Whether a stack has run here, as far as its state directory goes back.
pub fn has_run(places: &Paths) -> bool {
    state_files::last_snapshot(places).is_some() || state_files::events_path(places).exists()
}

/// Processes of an earlier run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leftovers {
    /// How many live.
    pub count: usize,
    /// The keeper of that run is stopping them.
    pub is_stopping: bool,
}

/// The processes that an earlier run has left. A journal that cannot be believed is reported by the commands that need it.
pub fn leftovers(places: &Paths, snapshot: &Snapshot) -> Leftovers {
    if snapshot.supervisor_pid.is_some() {
        return Leftovers::default();
    }
    let Ok(journal) = devrun_keeper::project_journal::of_project(places) else { return Leftovers::default() };
    let count = leftover_sweep::leftovers(&journal, places).len();
    let live = if count == 0 { Vec::new() } else { identity_check::supervisor_and_keeper(&journal, places) };
    Leftovers { count, is_stopping: live.iter().any(|(what, _)| *what == "keeper") }
}
