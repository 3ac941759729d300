//! One request to start services, and what keeps it open.

use super::tick::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use devrun_model::{Failure, Kind, ServiceId};

use super::service::{Outstanding, Phase, Service};
use super::stop_reason::StopReason;

/// A request that waits for its answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StartRequest {
    pub targets: BTreeSet<ServiceId>,
    /// Those that were ready since it was asked for: several that crash and come back are never all up at one moment.
    pub ready: BTreeSet<ServiceId>,
    /// Those that are neither ready nor have ended for good.
    pub pending: BTreeSet<ServiceId>,
    /// Those that exit within moments again and again; nothing waits for the end of that.
    pub crash_loops: BTreeMap<ServiceId, Failure>,
    /// Names that mean nothing.
    pub unknown: Vec<ServiceId>,
    pub rollback: bool,
    /// As the plan that it came with has it: a later request has a limit of its own. Zero: none.
    pub timeout: Duration,
    /// Time that counted so far, and since when the clock runs.
    pub elapsed: Duration,
    pub running_since: Option<Tick>,
    /// Its time has run out; the rest has failed and is being stopped.
    pub is_timed_out: bool,
}

impl StartRequest {
    pub(crate) fn deadline(&self) -> Option<Tick> {
        let since = self.running_since.filter(|_| !self.timeout.is_zero())?;
        Some(since + self.timeout.saturating_sub(self.elapsed))
    }
}

/// Whether a service that does not run keeps the supervisor: it was stopped manually after it ran, so that `start` finds it, or
/// the next change of a file starts it again.
pub(super) fn keeps_supervisor_alive(service: &Service) -> bool {
    match service.phase {
        Phase::Stopped { reason: Some(StopReason::Requested(_)) } => service.generation > 0,
        Phase::Failed { .. } | Phase::Completed { .. } => waits_for_change(service),
        _ => false,
    }
}

/// Whether a changed file starts a service that has ended.
fn waits_for_change(service: &Service) -> bool {
    service.wanted && service.spec.kind == Kind::Service && !service.spec.watch.is_empty()
}

/// Whether nothing of a service is awaited any more. What was given up on stays open, and is in the outcome.
pub(super) fn is_service_finished(service: &Service) -> bool {
    service.previous.is_none()
        && service.is_final()
        && (service.outstanding == Outstanding::Nothing || matches!(service.phase, Phase::Failed { .. }))
}
