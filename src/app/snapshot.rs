//! The state of a stack as far as it can be known: from its supervisor, else as the last one left it, else from the procfile.

use std::time::Duration;

use devrun_keeper::leftover_sweep;
use devrun_model::why::SUPERVISOR_ENDED;
use devrun_model::{Failure, Health, Paths, ServiceStatus, Snapshot, State};
use devrun_runtime::engine::state_files;

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
            reason: None,
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

/// How many processes live that an earlier run has left, or that its keeper is stopping. A journal that cannot be believed is
/// reported by the commands that need it.
pub fn leftovers(places: &Paths, snapshot: &Snapshot) -> usize {
    if snapshot.supervisor_pid.is_some() {
        return 0;
    }
    devrun_keeper::project_journal::of_project(places).map_or(0, |journal| leftover_sweep::leftovers(&journal, places).len())
}
