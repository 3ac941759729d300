//! Who waits for whom: does an edge hold, may it still, or never again; and the barrier of numbered tiers. Reads phases,
//! changes none. The order of a start comes from here; the order of a stop is in `stopping`.
//!
//! A dependency that will come back by itself (backing off, restarting) keeps its dependents waiting; one that has ended
//! for good resolves at once, and the root cause travels along the edges. Tiers hold up starts that were asked for, not
//! restarts by policy: a crash in tier 3 must not hang on what became of tier 1 since.
//!
//! What is optional holds nobody up, but work for a server that is not there has nothing to do: such a task is left out.

use devrun_model::{Condition, Dependency, Kind, ServiceId};

use super::service::{After, BY_HAND, Phase, Service};
use super::supervisor::Supervisor;
use super::tick::Tick;

/// Where one edge, or all of them, stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It holds.
    Holds,
    /// It may hold later; not before this moment where only a pause is missing.
    Waits(Option<Tick>),
    /// It can never hold, and this is why.
    Gone { root: ServiceId, reason: String },
    /// What it is for is optional and not there, so there is nothing to do.
    LeftOut { because: String },
}

/// Where one numbered tier stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tier {
    Ready(Tick),
    Waits,
    Gone { root: ServiceId, reason: String },
}

/// What a waiting service waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// On whom.
    pub on: ServiceId,
    /// What must hold; `None`: it belongs to a lower tier.
    pub condition: Option<Condition>,
}

impl Supervisor {
    /// Where one edge of `unit` stands.
    fn edge(&self, unit: &Service, edge: &Dependency) -> Standing {
        let Some(target) = self.units.get(&edge.on) else {
            if !edge.required {
                return Standing::Holds;
            }
            return Standing::Gone { root: edge.on.clone(), reason: format!("{} is not in the procfile", edge.on) };
        };
        if unit.no_deps && !target.wanted {
            return Standing::Holds;
        }
        if met(target, edge.condition) {
            return Standing::Holds;
        }
        if may_still(target, edge.condition) {
            return Standing::Waits(None);
        }
        if !edge.required {
            return Standing::Holds;
        }
        let (root, reason) = self.root_of(&edge.on, target, edge.condition.as_str());
        match dispensable(target) {
            true if is_for(unit, &edge.on) => Standing::LeftOut { because: reason },
            true => Standing::Holds,
            false => Standing::Gone { root, reason },
        }
    }

    /// The root of what `target` cannot give any more, and the sentence about it.
    pub(super) fn root_of(&self, id: &ServiceId, target: &Service, wanted: &str) -> (ServiceId, String) {
        let ending = match &target.phase {
            Phase::Ending(ending) => Some(&ending.after),
            Phase::Cancelling { after, .. } => Some(after),
            Phase::Live(_) => target.halt.as_ref(),
            _ => None,
        };
        let reason = match (&target.phase, ending) {
            (Phase::Blocked { root, reason }, _) if root != id => return (root.clone(), reason.clone()),
            (_, Some(After::Block { root, reason })) if root != id => return (root.clone(), reason.clone()),
            (Phase::Blocked { reason, .. }, _) | (_, Some(After::Block { reason, .. })) => format!("{id} failed: {reason}"),
            (Phase::Failed { failure }, _) | (_, Some(After::Fail(failure))) => format!("{id} failed: {}", failure.reason),
            (Phase::Skipped { because }, _) => format!("{id} is left out: {because}"),
            (Phase::Completed { .. }, _) | (_, Some(After::Complete { .. })) => format!("{id} ended before it was {wanted}"),
            (_, Some(After::Remove)) => format!("{id} is no longer in the procfile"),
            (Phase::Stopped { reason: Some(reason) }, _) | (_, Some(After::Stop { reason: Some(reason) }))
                if reason == BY_HAND =>
            {
                format!("{id} is stopped by hand")
            }
            (Phase::Stopped { .. }, _) => format!("{id} is not started"),
            _ => format!("{id} is being stopped"),
        };
        (id.clone(), reason)
    }

    /// Where all edges of a service and the barrier of its tier stand.
    pub(super) fn find_standing(&self, unit: &Service) -> Standing {
        let mut waits = false;
        let mut left_out = None;
        let mut opens: Option<Tick> = None;
        for edge in &unit.spec.depends_on {
            match self.edge(unit, edge) {
                Standing::Holds => {}
                Standing::Waits(_) => waits = true,
                gone @ Standing::Gone { .. } => return gone,
                out @ Standing::LeftOut { .. } => left_out = left_out.or(Some(out)),
            }
        }
        if let Some(out) = left_out {
            return out;
        }
        if let Some(number) = unit.spec.tier.filter(|_| unit.barrier && !unit.no_deps) {
            for tier in self.units.tiers_below(number) {
                match tier {
                    Tier::Ready(at) => opens = opens.max(Some(*at + self.plan.tier_pause)),
                    Tier::Waits => waits = true,
                    Tier::Gone { root, reason } => {
                        return Standing::Gone { root: root.clone(), reason: reason.clone() };
                    }
                }
            }
        }
        match opens {
            _ if waits => Standing::Waits(None),
            Some(at) if at > self.now => Standing::Waits(Some(at)),
            _ => Standing::Holds,
        }
    }

    /// What a waiting service waits for; empty when it waits for nothing but its fetch or a pause between tiers.
    #[must_use]
    pub fn waiting_on(&self, id: &ServiceId) -> Vec<Missing> {
        let Some(unit) = self.units.get(id).filter(|unit| matches!(unit.phase, Phase::Waiting)) else {
            return Vec::new();
        };
        let mut missing: Vec<Missing> = unit
            .spec
            .depends_on
            .iter()
            .filter(|edge| self.edge(unit, edge) != Standing::Holds)
            .map(|edge| Missing { on: edge.on.clone(), condition: Some(edge.condition) })
            .collect();
        if let Some(number) = unit.spec.tier.filter(|_| unit.barrier && !unit.no_deps) {
            for (other, lower) in self.units.iter() {
                let below = lower.spec.tier.is_some_and(|tier| tier < number);
                if below && lower.wanted && lower.ready_since().is_none() && !missing.iter().any(|one| one.on == *other) {
                    missing.push(Missing { on: other.clone(), condition: None });
                }
            }
        }
        missing
    }
}

/// Whether nobody may be held up by it once it cannot be had: it is optional, or it was left out itself.
pub(super) fn dispensable(target: &Service) -> bool {
    target.spec.optional || matches!(target.phase, Phase::Skipped { .. })
}

/// Whether a task is of no use without this dependency: it works on that server, or nothing rests on the task either. A
/// service goes on without what is optional.
fn is_for(unit: &Service, on: &ServiceId) -> bool {
    let works_on = || unit.spec.task.as_ref().is_some_and(|task| task.on.as_ref() == Some(on));
    unit.spec.kind == Kind::Task && (unit.spec.optional || works_on())
}

/// Whether the condition holds now. A service that is told to go gives nothing any more.
pub(super) fn met(target: &Service, condition: Condition) -> bool {
    match (&target.phase, condition) {
        (Phase::Live(_), Condition::Started) => target.halt.is_none(),
        // Without a probe nothing can be asked for beyond the spawn.
        (Phase::Live(live), Condition::Healthy) => {
            target.halt.is_none()
                && matches!(live.health(), devrun_model::Health::Healthy | devrun_model::Health::None)
                && target.spec.kind == Kind::Service
        }
        (Phase::Completed { .. }, Condition::Started | Condition::Completed) => true,
        _ => false,
    }
}

/// Whether the condition may come to hold without anybody asking for anything.
pub(super) fn may_still(target: &Service, condition: Condition) -> bool {
    let after = |after: &After| match after {
        After::Again { .. } | After::Restart { .. } => true,
        After::Complete { .. } => condition != Condition::Healthy,
        After::Stop { .. } | After::Remove | After::Fail(_) | After::Block { .. } => false,
    };
    match &target.phase {
        Phase::Waiting | Phase::Initialising | Phase::Spawning | Phase::BackingOff { .. } => true,
        Phase::Live(_) => target.halt.as_ref().is_none_or(after),
        Phase::Cancelling { after: then, .. } => after(then),
        Phase::Ending(ending) => after(&ending.after),
        Phase::Stopped { .. }
        | Phase::Completed { .. }
        | Phase::Failed { .. }
        | Phase::Blocked { .. }
        | Phase::Skipped { .. } => false,
    }
}
