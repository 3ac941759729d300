//! A restart of a service with several copies: one after the other, each ready before the next is stopped (`update`). A new
//! version that does not come up ends it, and the copies that were not replaced yet stay.

use devrun_model::{Failure, FailureKind, ServiceId};

use super::action::Action;
use super::service::{NextState, Phase, Service};
use super::supervisor::Supervisor;
use super::tick::Tick;

/// When a copy that is to be restarted may be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RollingTurn {
    /// At once.
    Now,
    /// When another one is ready.
    Wait,
    /// After the pause between two.
    At(Tick),
    /// Not at all: this one did not come up.
    Never(ServiceId),
}

/// Whether a copy runs a new version that has failed. One that crashes over and over has, whatever its policy.
fn has_failed(service: &Service) -> bool {
    let is_down = matches!(service.phase, Phase::Failed { .. } | Phase::Blocked { .. } | Phase::BackingOff { .. })
        || matches!(&service.phase, Phase::Stopping(stop) if matches!(stop.next_state, NextState::Failed(_) | NextState::BackingOff { .. }));
    service.kept_previous || service.was_rolled && is_down
}

impl Supervisor {
    /// Whether it is the turn of a copy that is queued to stop.
    pub(super) fn rolling_turn(&self, id: &ServiceId) -> RollingTurn {
        // The process before this one must be gone first.
        if self.services.get(id).is_some_and(|service| service.previous.as_ref().is_some_and(|one| one.stop.is_some())) {
            return RollingTurn::Wait;
        }
        let Some(service) = self.services.get(id).filter(|service| service.is_rolling) else { return RollingTurn::Now };
        let siblings = || self.services.iter().filter(|(other, one)| *other != id && one.spec.service == service.spec.service);
        // What failed in another restart is not a reason to leave this one out.
        let latest = self.starts.iter().rev().find(|one| one.targets.contains(id));
        let together = |other: &ServiceId| latest.is_some_and(|one| one.targets.contains(other));
        if let Some((failed, _)) = siblings().find(|(other, one)| has_failed(one) && together(other)) {
            return RollingTurn::Never(failed.clone());
        }
        let (mut starting, mut pauses) = (0, Vec::new());
        // One that waits for its own turn starts nothing: two of them would wait for each other.
        for (other, sibling) in siblings().filter(|(_, one)| !one.is_queued_to_stop() && !one.is_final() && !has_failed(one)) {
            match self.proven_at(other) {
                None => starting += 1,
                Some(at) => {
                    let pause = if sibling.was_rolled { sibling.spec.update.pause } else { std::time::Duration::ZERO };
                    pauses.extend(Some(at + pause).filter(|until| *until > self.now));
                }
            }
        }
        let most = service.spec.update.parallel.max(1) as usize;
        match pauses.iter().min() {
            _ if starting + pauses.len() < most => RollingTurn::Now,
            Some(at) if starting < most => RollingTurn::At(*at),
            _ => RollingTurn::Wait,
        }
    }

    /// Ends a rolling restart at a copy that runs: it stays, by the definition that it was started with.
    pub(super) fn keep_previous(&mut self, id: &ServiceId, failed: &ServiceId, out: &mut Vec<Action>) {
        let cause = self.failures.iter().find(|(one, _)| one == failed).map(|(_, failure)| failure.clone());
        let cause = cause.or_else(|| match self.services.get(failed).map(|service| &service.phase) {
            Some(Phase::BackingOff { why, .. }) => Some(Failure::new(FailureKind::Service, why.clone())),
            _ => None,
        });
        let Some(service) = self.services.get_mut(id) else { return };
        service.pending_stop = None;
        service.is_rolling = false;
        let (kind, why) = cause
            .map_or_else(|| (FailureKind::NotReady, "it did not come up".to_owned()), |failure| (failure.kind, failure.reason));
        let text = format!("kept the previous version of {id}: {failed}: {why}");
        out.push(Action::Message(id.clone(), text.clone()));
        self.record_failure(id, Failure::new(kind, text).help(format!("devrun logs {failed}")));
    }
}
