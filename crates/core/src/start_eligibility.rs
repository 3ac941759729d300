//! Whether a dependency is satisfied, can become so, or never will; and the barrier between numbered tiers. Reads phases and
//! changes none. The start order follows from this; the stop order is in `service_stop`.
//!
//! A dependency that will come back by itself (backing off, restarting) keeps its dependents waiting; one that has ended
//! for good resolves at once, and the root cause travels along the edges. Tiers hold up starts that were asked for, not
//! restarts by policy: a crash in tier 3 must not hang on what became of tier 1 since.
//!
//! An optional service blocks nothing, but a task that works on a server that is absent has nothing to do and is skipped.

use std::collections::BTreeSet;

use devrun_model::{Condition, Dependency, Kind, Launch, ServiceId, ServiceSpec, StopPurpose};

use super::dependency_status::{DependencyStatus, TierStatus, can_become_satisfied, is_dispensable, is_satisfied};
use super::service::{NextState, Phase, Service};
use super::stop_reason::StopReason;
use super::supervisor::Supervisor;
use super::tick::Tick;

/// A dependency that is not satisfied yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmetDependency {
    /// The service.
    pub on: ServiceId,
    /// The condition; `None`: it belongs to a lower tier.
    pub condition: Option<Condition>,
}

impl Supervisor {
    /// The status of one dependency of `service`.
    fn edge_status(&self, service: &Service, edge: &Dependency) -> DependencyStatus {
        let Some(target) = self.services.get(&edge.on) else {
            if !edge.required {
                return DependencyStatus::Satisfied;
            }
            return DependencyStatus::Unsatisfiable {
                root: edge.on.clone(),
                reason: format!("{} is not in the procfile", edge.on),
            };
        };
        if service.no_deps && !target.wanted {
            return DependencyStatus::Satisfied;
        }
        if is_satisfied(target, edge.condition) {
            return DependencyStatus::Satisfied;
        }
        if can_become_satisfied(target, edge.condition) {
            return DependencyStatus::Pending(None);
        }
        if !edge.required {
            return DependencyStatus::Satisfied;
        }
        let (root, reason) = self.root_cause(&edge.on, target, edge.condition.as_str());
        match is_dispensable(target) {
            true if is_useless_without(&service.spec, &edge.on) => DependencyStatus::Skipped { because: reason },
            true => DependencyStatus::Satisfied,
            false => DependencyStatus::Unsatisfiable { root, reason },
        }
    }

    /// The root of what `target` cannot give any more, and the sentence about it.
    pub(super) fn root_cause(&self, id: &ServiceId, target: &Service, wanted: &str) -> (ServiceId, String) {
        let stop = match &target.phase {
            Phase::Stopping(stop) => Some(&stop.next_state),
            Phase::Cancelling { next_state, .. } => Some(next_state),
            Phase::Live(_) => target.pending_stop.as_ref(),
            _ => None,
        };
        let reason = match (&target.phase, stop) {
            (Phase::Blocked { root, reason }, _) if root != id => return (root.clone(), reason.clone()),
            (_, Some(NextState::Blocked { root, reason })) if root != id => return (root.clone(), reason.clone()),
            (Phase::Blocked { reason, .. }, _) | (_, Some(NextState::Blocked { reason, .. })) => format!("{id} failed: {reason}"),
            (Phase::Failed { failure }, _) | (_, Some(NextState::Failed(failure))) => format!("{id} failed: {}", failure.reason),
            (Phase::Skipped { because }, _) => format!("{id} is left out: {because}"),
            (Phase::Completed { .. }, _) | (_, Some(NextState::Completed { .. })) => format!("{id} ended before it was {wanted}"),
            (_, Some(NextState::Removed(_))) => format!("{id} is no longer in the procfile"),
            (Phase::Stopped { reason: Some(StopReason::Requested(purpose)) }, _)
            | (_, Some(NextState::Stopped { reason: Some(StopReason::Requested(purpose)) })) => match purpose {
                StopPurpose::Manual => format!("{id} is stopped by hand"),
                purpose => format!("{id} is stopped for `devrun {purpose}`"),
            },
            (Phase::Stopped { .. }, _) => format!("{id} is not started"),
            _ => format!("{id} is being stopped"),
        };
        (id.clone(), reason)
    }

    /// The combined status of the dependencies of a service and of the barrier of its tier.
    pub(super) fn dependency_status(&self, service: &Service) -> DependencyStatus {
        let mut waits = false;
        let mut is_skipped = None;
        let mut opens_at: Option<Tick> = None;
        for edge in &service.spec.depends_on {
            match self.edge_status(service, edge) {
                DependencyStatus::Satisfied => {}
                DependencyStatus::Pending(_) => waits = true,
                unsatisfiable @ DependencyStatus::Unsatisfiable { .. } => return unsatisfiable,
                skipped @ DependencyStatus::Skipped { .. } => is_skipped = is_skipped.or(Some(skipped)),
            }
        }
        if let Some(skipped) = is_skipped {
            return skipped;
        }
        if let Some(number) = service.spec.tier.filter(|_| service.waits_for_tiers && !service.no_deps) {
            for tier in self.services.tiers_below(number) {
                match tier {
                    TierStatus::Ready(at) => opens_at = opens_at.max(Some(*at + self.plan.tier_pause)),
                    TierStatus::Pending => waits = true,
                    TierStatus::Unsatisfiable { root, reason } => {
                        return DependencyStatus::Unsatisfiable { root: root.clone(), reason: reason.clone() };
                    }
                }
            }
        }
        match opens_at {
            _ if waits => DependencyStatus::Pending(None),
            Some(at) if at > self.now => DependencyStatus::Pending(Some(at)),
            _ => DependencyStatus::Satisfied,
        }
    }

    /// What a waiting service waits for; empty when it waits for nothing but its fetch or a pause between tiers.
    #[must_use]
    pub fn waiting_on(&self, id: &ServiceId) -> Vec<UnmetDependency> {
        let Some(service) = self.services.get(id).filter(|service| matches!(service.phase, Phase::Waiting)) else {
            return Vec::new();
        };
        let mut missing: Vec<UnmetDependency> = service
            .spec
            .depends_on
            .iter()
            .filter(|edge| self.edge_status(service, edge) != DependencyStatus::Satisfied)
            .map(|edge| UnmetDependency { on: edge.on.clone(), condition: Some(edge.condition) })
            .collect();
        if let Some(number) = service.spec.tier.filter(|_| service.waits_for_tiers && !service.no_deps) {
            for (other, lower) in self.services.iter() {
                let below = lower.spec.tier.is_some_and(|tier| tier < number);
                if below && lower.wanted && lower.ready_since().is_none() && !missing.iter().any(|one| one.on == *other) {
                    missing.push(UnmetDependency { on: other.clone(), condition: None });
                }
            }
        }
        missing
    }

    /// As [`command_may_be_installed`], by the definitions that the services start with.
    #[must_use]
    pub fn command_may_be_installed(&self, id: &ServiceId, word: &str, to_build: &BTreeSet<ServiceId>) -> bool {
        let all = || self.services.iter().map(|(id, service)| (id, service.spec.as_ref()));
        command_may_be_installed(id, word, to_build, |id| self.spec(id).map(AsRef::as_ref), all)
    }
}

/// Whether something that the start of a service waits for may install the command whose first word is `word`: a task, a
/// `pre_start` or a build that this start runs (`to_build`), of its own or of what it waits for, by any chain of edges and of
/// numbered tiers. A file of the project may also be written by a service, such as a compiler that watches.
#[must_use]
pub fn command_may_be_installed<'a, All: Iterator<Item = (&'a ServiceId, &'a ServiceSpec)>>(
    id: &'a ServiceId,
    word: &str,
    to_build: &BTreeSet<ServiceId>,
    spec_of: impl Fn(&ServiceId) -> Option<&'a ServiceSpec>,
    all: impl Fn() -> All,
) -> bool {
    waited_for(id, spec_of, all).into_iter().any(|(next, spec)| {
        let is_file_of_another = next != id && word.contains('/');
        let is_task = next != id && spec.kind == Kind::Task;
        is_file_of_another || is_task || spec.pre_start.is_some() || to_build.contains(next)
    })
}

/// Whether something that the start of a service waits for may write a file of the project that the start reads: a command of
/// another task or service, its `pre_start`, or a build that this start runs (`to_build`), its own among them. Its own `pre_start`
/// comes after the first boot; servers of recipes and work on a server write no such file.
#[must_use]
pub fn file_may_be_written<'a, All: Iterator<Item = (&'a ServiceId, &'a ServiceSpec)>>(
    id: &'a ServiceId,
    to_build: &BTreeSet<ServiceId>,
    spec_of: impl Fn(&ServiceId) -> Option<&'a ServiceSpec>,
    all: impl Fn() -> All,
) -> bool {
    waited_for(id, spec_of, all).into_iter().any(|(next, spec)| {
        let runs_command = matches!(spec.launch, Launch::Run(_)) || spec.pre_start.is_some();
        next != id && runs_command || to_build.contains(next)
    })
}

/// A service, and everything that its start waits for, by any chain of edges and of numbered tiers.
fn waited_for<'a, All: Iterator<Item = (&'a ServiceId, &'a ServiceSpec)>>(
    id: &'a ServiceId,
    spec_of: impl Fn(&ServiceId) -> Option<&'a ServiceSpec>,
    all: impl Fn() -> All,
) -> Vec<(&'a ServiceId, &'a ServiceSpec)> {
    let mut seen = BTreeSet::from([id]);
    let mut todo = vec![id];
    let mut found = Vec::new();
    while let Some(next) = todo.pop() {
        let Some(spec) = spec_of(next) else { continue };
        found.push((next, spec));
        let edges = spec.depends_on.iter().map(|edge| &edge.on);
        let is_lower = |other: &ServiceSpec| other.tier.is_some_and(|tier| spec.tier.is_some_and(|own| tier < own));
        // Without a number there is none below; to look at all for each would cost the square of their number.
        let lower =
            spec.tier.is_some().then(&all).into_iter().flatten().filter(|(_, other)| is_lower(other)).map(|(other, _)| other);
        todo.extend(edges.chain(lower).filter(|other| seen.insert(other)));
    }
    found
}

/// Whether a task is of no use without this dependency, where that is optional and absent: it works on that server, or nothing
/// rests on the task either. A service starts without what is optional.
#[must_use]
pub fn is_useless_without(spec: &ServiceSpec, on: &ServiceId) -> bool {
    let works_on = || spec.task.as_ref().is_some_and(|task| task.on.as_ref() == Some(on));
    spec.kind == Kind::Task && (spec.optional || works_on())
}
