//! In what two definitions of a service differ, and what a new plan would do. Names keys, never values: an environment is
//! full of passwords. Ports alone are shown as numbers, as they are what people look for.
//!
//! Edges, descriptions, links and the place in the view are taken over without a restart, as compose does: they change
//! nothing for the process that runs.

use super::definition_diff;
use super::service::Service;
use super::stop_reason::StopReason;
use std::collections::{BTreeMap, BTreeSet};

use devrun_model::{Dependency, Kind, Plan, ServiceId, ServiceSpec};

use super::action::PlanChange;
use super::supervisor::Supervisor;

impl Supervisor {
    /// What `up` with this plan would do to each service.
    #[must_use]
    pub fn changes(&self, new: &Plan) -> BTreeMap<ServiceId, PlanChange> {
        let mut changes = BTreeMap::new();
        for (id, spec) in &new.services {
            let change = match self.services.get(id) {
                Some(service) if service.is_done_task() => PlanChange::Keep,
                Some(service) if !service.is_final() => match definition_diff::differences(&service.spec, spec) {
                    text if text.is_empty() => PlanChange::Keep,
                    text => PlanChange::Restart(text),
                },
                _ => PlanChange::Start,
            };
            changes.insert(id.clone(), change);
        }
        // Those that are restarted with what they need, as when the plan is taken over.
        loop {
            let restarts = |id: &ServiceId| matches!(changes.get(id), Some(PlanChange::Restart(_)));
            let with = self.services.iter().find(|(id, service)| {
                let needs =
                    |edge: &Dependency| restarts(&edge.on) && restarts_with(&service.spec, service.wanted, &edge.on, false);
                matches!(changes.get(*id), Some(PlanChange::Keep)) && service.spec.depends_on.iter().any(needs)
            });
            let Some((id, _)) = with else { break };
            changes.insert(id.clone(), PlanChange::Restart("what it needs".to_owned()));
        }
        for (id, service) in self.services.iter().filter(|(id, _)| !new.services.contains_key(*id)) {
            let kept = is_kept(id, service, new);
            let change = if kept { PlanChange::Keep } else { PlanChange::Stop(why_gone(service, new)) };
            changes.insert(id.clone(), change);
        }
        changes
    }
}

impl Supervisor {
    /// What `restart` with this plan would do to each service: those that are restarted, also what is not up among them, and what
    /// is started as they need it. All others keep running, whatever the plan says of them.
    #[must_use]
    pub fn restart_changes(&self, new: &Plan, targets: &[ServiceId], with_dependents: bool) -> BTreeMap<ServiceId, PlanChange> {
        let mut set: BTreeSet<ServiceId> = if targets.is_empty() {
            self.services.iter().filter(|(_, service)| service.wanted).map(|(id, _)| id.clone()).collect()
        } else {
            targets.iter().filter(|id| self.services.contains_key(id) || new.services.contains_key(*id)).cloned().collect()
        };
        let mut next: Vec<ServiceId> = set.iter().cloned().collect();
        while let Some(on) = next.pop() {
            let edges = |id: &ServiceId, service: &Service| match new.services.get(id) {
                // As when the plan is taken over: what runs keeps its edges.
                Some(spec) if !service.holds_dependencies() => restarts_with(spec, service.wanted, &on, with_dependents),
                _ => restarts_with(&service.spec, service.wanted, &on, with_dependents),
            };
            let followers = self.services.iter().filter(|(id, service)| edges(id, service)).map(|(id, _)| id);
            let added: Vec<ServiceId> = followers.filter(|id| !set.contains(*id)).cloned().collect();
            set.extend(added.iter().cloned());
            next.extend(added);
        }
        let mut changes = BTreeMap::new();
        let mut needed: Vec<&ServiceId> = set.iter().collect();
        while let Some(id) = needed.pop() {
            let service = self.services.get(id);
            let is_restarted = set.contains(id);
            let change = match service {
                Some(service) if service.is_done_task() && !(is_restarted && targets.contains(id)) => PlanChange::Keep,
                Some(service) if !service.is_final() && is_restarted => PlanChange::Restart("restart".to_owned()),
                Some(service) if !service.is_final() => PlanChange::Keep,
                _ => PlanChange::Start,
            };
            if changes.insert(id.clone(), change).is_none() {
                let spec = new.services.get(id).or_else(|| service.map(Service::next_start_spec));
                needed.extend(spec.into_iter().flat_map(|spec| spec.depends_on.iter().map(|edge| &edge.on)));
            }
        }
        changes
    }
}

/// Whether a service restarts with one that it depends on: all that are wanted, or only those whose edge says `restart`.
pub(super) fn restarts_with(spec: &ServiceSpec, is_wanted: bool, on: &ServiceId, all: bool) -> bool {
    let edge = spec.depends_on.iter().any(|edge| edge.on == *on && (all || edge.restart));
    edge && is_wanted && spec.kind == Kind::Service
}

/// Why a service that a new plan does not keep is stopped.
pub(super) fn why_gone(service: &Service, plan: &Plan) -> StopReason {
    let has_copies = plan.ids_of(&service.spec.service).next().is_some();
    if has_copies { StopReason::ScaledDown } else { StopReason::Removed }
}

/// Whether a new plan leaves a service in the project: it names it, or the service is of a profile that this request did not
/// ask for while an earlier one did.
pub(super) fn is_kept(id: &ServiceId, service: &Service, plan: &Plan) -> bool {
    plan.services.contains_key(id) || (service.wanted && plan.inactive.contains_key(&service.spec.service))
}
