//! What can be seen of the project: all that `ps`, `inspect`, the live lines and the dashboards need, in ticks. The engine
//! turns ticks into stamps; nothing here knows a wall clock.

use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, Health, Kind, ServiceId, State};

use super::edges::Missing;
use super::event::Generation;
use super::service::{Phase, Service, Step};
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
    /// Where it stands.
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
    /// Who blocks it, at the root.
    pub root: Option<ServiceId>,
    /// Counts its starts.
    pub generation: Generation,
    /// Somebody asked for it.
    pub wanted: bool,
    /// Stopped by hand, here or in an earlier life.
    pub by_hand: bool,
    /// What it waits for.
    pub waiting_on: Vec<Missing>,
    /// How far its stop is, while its tree is on its way out.
    pub leaving: Option<Leaving>,
}

/// A tree that was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// When it was asked.
    pub asked_at: Tick,
    /// When something stronger follows.
    pub due: Tick,
    /// It was killed already.
    pub killed: bool,
}

impl Service {
    /// The leader while it lives.
    pub(super) fn pid(&self) -> Option<i32> {
        match &self.phase {
            Phase::Live(live) => live.pid,
            Phase::Ending(ending) if !ending.leader_gone => ending.was.as_ref().and_then(|live| live.pid),
            _ => None,
        }
    }
    /// A task that is done.
    pub(super) fn is_done_task(&self) -> bool {
        self.spec.kind == Kind::Task && matches!(self.phase, Phase::Completed { .. })
    }
}

impl Supervisor {
    /// Every service and task, in the order of their ids. One that left the procfile is in it until its tree is empty.
    #[must_use]
    pub fn view(&self) -> Vec<ServiceView> {
        let one = |(id, unit): (&ServiceId, &Service)| {
            let (state, health) = unit.show(self.units.is_held(id));
            let live = match &unit.phase {
                Phase::Live(live) => Some(live),
                Phase::Ending(ending) => ending.was.as_ref().filter(|_| !ending.leader_gone),
                _ => None,
            };
            ServiceView {
                id: id.clone(),
                service: unit.spec.service.as_str().to_owned(),
                replica: unit.spec.replica,
                kind: unit.spec.kind,
                tier: unit.spec.shown_tier(),
                state,
                health,
                pid: unit.pid(),
                exit: unit.exit.map(|(_, status)| status),
                restarts: unit.restarts,
                started_at: live.map(|live| live.spawned_at),
                ready_at: live.and_then(super::service::Live::ready_at).filter(|_| unit.spec.kind == Kind::Service),
                retry_at: match unit.phase {
                    Phase::BackingOff { until, .. } => Some(until),
                    _ => None,
                },
                reason: self.reason_of(id, unit),
                failure: match &unit.phase {
                    Phase::Failed { failure } => Some(failure.clone()),
                    _ => None,
                },
                root: match &unit.phase {
                    Phase::Blocked { root, .. } => Some(root.clone()),
                    _ => None,
                },
                generation: unit.generation,
                wanted: unit.wanted,
                by_hand: unit.by_hand,
                waiting_on: self.waiting_on(id),
                leaving: leaving(unit),
            }
        };
        self.units.iter().map(one).collect()
    }

    /// Whether anything was asked to end and has not ended.
    #[must_use]
    pub fn anybody_leaving(&self) -> bool {
        !self.units.asked().is_empty()
    }

    /// Those that were asked to end and have not ended, with how far they are.
    pub fn leaving(&self) -> impl Iterator<Item = (&ServiceId, Leaving)> {
        self.units.asked().iter().filter_map(|id| Some((id, leaving(self.units.get(id)?)?)))
    }

    /// Why a service is where it is.
    pub(super) fn reason_of(&self, id: &ServiceId, unit: &Service) -> Option<String> {
        if !matches!(unit.phase, Phase::Waiting) {
            return unit.reason();
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

fn leaving(unit: &Service) -> Option<Leaving> {
    match &unit.phase {
        Phase::Ending(ending) if ending.step != Step::Unborn => {
            Some(Leaving { asked_at: ending.asked_at, due: ending.due, killed: ending.step == Step::Killed })
        }
        _ => None,
    }
}
