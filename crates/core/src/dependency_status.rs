//! Whether a dependency is satisfied, can still be, or never will be; what one service gives to those that depend on it.

use devrun_model::{Condition, Kind, ServiceId};

use super::service::{NextState, Phase, Service};
use super::tick::Tick;

/// The status of one dependency, or of all dependencies of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DependencyStatus {
    /// Satisfied now.
    Satisfied,
    /// May become satisfied; at this time if only a pause between tiers is missing.
    Pending(Option<Tick>),
    /// Can never be satisfied, with the root cause.
    Unsatisfiable { root: ServiceId, reason: String },
    /// The server that the task works on is optional and absent, so there is nothing to do.
    Skipped { because: String },
}

/// The status of a numbered tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TierStatus {
    Ready(Tick),
    Pending,
    Unsatisfiable { root: ServiceId, reason: String },
}

/// Whether dependents proceed without it: it is optional, or was skipped itself.
pub(super) fn is_dispensable(target: &Service) -> bool {
    target.spec.optional || matches!(target.phase, Phase::Skipped { .. })
}

/// Whether the condition holds now. A service that is to be stopped satisfies nothing.
pub(super) fn is_satisfied(target: &Service, condition: Condition) -> bool {
    if let Some(previous) = target.serving_previous().filter(|_| condition != Condition::Completed) {
        return target.wanted && previous.process.health() != devrun_model::Health::Unhealthy;
    }
    match (&target.phase, condition) {
        (Phase::Live(_), Condition::Started) => target.pending_stop.is_none(),
        // Without a probe nothing can be asked for beyond the spawn.
        (Phase::Live(live), Condition::Healthy) => {
            target.pending_stop.is_none()
                && matches!(live.health(), devrun_model::Health::Healthy | devrun_model::Health::None)
                && target.spec.kind == Kind::Service
        }
        (Phase::Completed { .. }, Condition::Started | Condition::Completed) => true,
        // Its address takes connections, and they are answered.
        (Phase::Asleep { .. }, Condition::Started | Condition::Healthy) => true,
        _ => false,
    }
}

/// Whether the condition may come to hold without anybody asking for anything.
pub(super) fn can_become_satisfied(target: &Service, condition: Condition) -> bool {
    let comes_back = |next_state: &NextState| match next_state {
        NextState::StartRequested { .. } | NextState::BackingOff { .. } => true,
        NextState::Asleep => condition != Condition::Completed,
        NextState::Completed { .. } => condition != Condition::Healthy,
        NextState::Stopped { .. } | NextState::Removed(_) | NextState::Failed(_) | NextState::Blocked { .. } => false,
    };
    match &target.phase {
        Phase::Waiting | Phase::Initialising | Phase::Spawning | Phase::BackingOff { .. } => true,
        Phase::Asleep { .. } => condition != Condition::Completed,
        Phase::Live(_) => target.pending_stop.as_ref().is_none_or(comes_back),
        Phase::Cancelling { next_state: then, .. } => comes_back(then),
        Phase::Stopping(stop) => comes_back(&stop.next_state),
        Phase::Stopped { .. }
        | Phase::Completed { .. }
        | Phase::Failed { .. }
        | Phase::Blocked { .. }
        | Phase::Skipped { .. } => false,
    }
}
