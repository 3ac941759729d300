//! What can be seen of the project: all that `ps`, `inspect`, the live lines and the dashboards need, in ticks. The engine
//! turns ticks into stamps; nothing here knows a wall clock.

use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, Health, Kind, ServiceId, State};

use super::event::Generation;
use super::service::{Phase, Service, StopStage};
use super::start_eligibility::UnmetDependency;
use super::supervisor::Supervisor;
use super::tick::Tick;

/// One service at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceView {
    /// `api`, `worker.2`.
    pub id: ServiceId,
    /// The procfile's name.
    pub service: String,
    /// From 1.
    pub replica: u32,
    /// Service or task.
    pub kind: Kind,
    /// The declared tier, else the depth.
    pub tier: u32,
    /// Its state.
    pub state: State,
    /// What the probe says.
    pub health: Health,
    /// The leader while it lives.
    pub pid: Option<i32>,
    /// How it last ended, in this generation or an earlier one.
    pub exit: Option<ExitStatus>,
    /// Restarts by policy since it was last asked to start.
    pub restarts: u32,
    /// When the present process was spawned.
    pub started_at: Option<Tick>,
    /// When it became ready: the first pass, or the spawn where there is no probe.
    pub ready_at: Option<Tick>,
    /// When it restarts, while it is backing off.
    pub retry_at: Option<Tick>,
    /// Why it is where it is.
    pub reason: Option<String>,
    /// The failure, once it is given up.
    pub failure: Option<Failure>,
    /// The root cause, if it is blocked.
    pub root: Option<ServiceId>,
    /// Counts its starts.
    pub generation: Generation,
    /// Whether it is wanted.
    pub wanted: bool,
    /// Stopped by hand, here or in an earlier life.
    pub is_stopped_manually: bool,
    /// What it waits for.
    pub waiting_on: Vec<UnmetDependency>,
    /// The progress of its stop, while its process tree is stopping.
    pub stop_progress: Option<StopProgress>,
}

/// The stop of a process tree that was signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopProgress {
    /// When it was asked.
    pub requested_at: Tick,
    /// When it is escalated.
    pub deadline: Tick,
    /// It was killed already.
    pub is_killed: bool,
}

impl Service {
    /// The leader while it lives.
    pub(super) fn pid(&self) -> Option<i32> {
        if let Some(previous) = self.serving_previous() {
            return previous.process.pid;
        }
        match &self.phase {
            Phase::Live(live) => live.pid,
            Phase::Stopping(stop) if !stop.leader_gone => stop.process.as_ref().and_then(|live| live.pid),
            _ => None,
        }
    }
    /// A task that is done.
    pub(super) fn is_done_task(&self) -> bool {
        self.spec.kind == Kind::Task && matches!(self.phase, Phase::Completed { .. })
    }
}

impl Supervisor {
    /// Whether a copy that is being stopped is started again by itself.
    #[must_use]
    pub fn comes_back(&self, service: &str, replica: u32) -> bool {
        // One of several is called by its number too.
        let names = [service.to_owned(), format!("{service}.{replica}")];
        let mut copies = names.iter().filter_map(|name| self.services.get(&ServiceId::parse(name).ok()?));
        copies.find(|one| one.spec.replica == replica).is_some_and(|one| match &one.phase {
            Phase::Stopping(stop) => stop.next_state.comes_back(),
            Phase::Cancelling { next_state, .. } => next_state.comes_back(),
            _ => false,
        })
    }

    /// Every service and task, in the order of their ids. One that left the procfile is in it until its tree is empty.
    #[must_use]
    pub fn service_views(&self) -> Vec<ServiceView> {
        let one = |(id, service): (&ServiceId, &Service)| {
            let (state, health) = service.displayed_state(self.services.is_awaiting_fetch(id));
            let live = match &service.phase {
                _ if service.serving_previous().is_some() => service.serving_previous().map(|previous| &previous.process),
                Phase::Live(live) => Some(live),
                Phase::Stopping(stop) => stop.process.as_ref().filter(|_| !stop.leader_gone),
                _ => None,
            };
            ServiceView {
                id: id.clone(),
                service: service.spec.service.as_str().to_owned(),
                replica: service.spec.replica,
                kind: service.spec.kind,
                tier: service.spec.shown_tier(),
                state,
                health,
                pid: service.pid(),
                // While its process runs, the end of an earlier one is the past.
                exit: service.exit.map(|(_, status)| status).filter(|_| live.is_none()),
                restarts: service.restarts,
                started_at: live.map(|live| live.spawned_at),
                ready_at: live.and_then(super::service::LiveProcess::ready_at).filter(|_| service.spec.kind == Kind::Service),
                retry_at: match service.phase {
                    Phase::BackingOff { until, .. } => Some(until),
                    _ => None,
                },
                reason: self.reason_of(id, service),
                failure: match &service.phase {
                    Phase::Failed { failure } => Some(failure.clone()),
                    _ => None,
                },
                root: match &service.phase {
                    Phase::Blocked { root, .. } => Some(root.clone()),
                    _ => None,
                },
                generation: service.generation,
                wanted: service.wanted,
                is_stopped_manually: service.stopped_manually,
                waiting_on: self.waiting_on(id),
                stop_progress: stop_progress(service),
            }
        };
        self.services.iter().map(one).collect()
    }

    /// Whether a signalled service has not ended yet.
    #[must_use]
    pub fn has_stop_in_progress(&self) -> bool {
        !self.services.signalled().is_empty()
    }

    /// The signalled services that have not ended yet, with their progress.
    pub fn stops_in_progress(&self) -> impl Iterator<Item = (&ServiceId, StopProgress)> {
        self.services.signalled().iter().filter_map(|id| Some((id, stop_progress(self.services.get(id)?)?)))
    }

    /// Why a service is where it is.
    pub(super) fn reason_of(&self, id: &ServiceId, service: &Service) -> Option<String> {
        if !matches!(service.phase, Phase::Waiting) {
            return service.reason();
        }
        let missing: Vec<String> = self
            .waiting_on(id)
            .iter()
            .map(|one| match one.condition {
                Some(condition) => format!("{} ({})", one.on, condition.as_str()),
                None => format!("{} (lower tier)", one.on),
            })
            .collect();
        (!missing.is_empty()).then(|| format!("waiting for {}", missing.join(", ")))
    }
}

fn stop_progress(service: &Service) -> Option<StopProgress> {
    match &service.phase {
        Phase::Stopping(stop) if stop.stage != StopStage::Queued => Some(StopProgress {
            requested_at: stop.requested_at,
            deadline: stop.due,
            is_killed: stop.stage == StopStage::Killing,
        }),
        _ => None,
    }
}
