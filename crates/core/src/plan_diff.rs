//! In what two definitions of a service differ, and what a new plan would do. Names keys, never values: an environment is
//! full of passwords. Ports alone are shown as numbers, as they are what people look for.
//!
//! Edges, descriptions, links and the place in the view are taken over without a restart, as compose does: they change
//! nothing for the process that runs.

use super::definition_diff;
use super::service::Service;
use std::collections::BTreeMap;

use devrun_model::{Kind, Plan, ServiceId};

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
                matches!(changes.get(*id), Some(PlanChange::Keep))
                    && service.wanted
                    && service.spec.kind == Kind::Service
                    && service.spec.depends_on.iter().any(|edge| edge.restart && restarts(&edge.on))
            });
            let Some((id, _)) = with else { break };
            changes.insert(id.clone(), PlanChange::Restart("what it needs".to_owned()));
        }
        for (id, service) in self.services.iter().filter(|(id, _)| !new.services.contains_key(*id)) {
            changes.insert(id.clone(), if is_kept(id, service, new) { PlanChange::Keep } else { PlanChange::Stop });
        }
        changes
    }
}

/// Whether a new plan leaves a service in the project: it names it, or the service is of a profile that this request did not
/// ask for while an earlier one did.
pub(super) fn is_kept(id: &ServiceId, service: &Service, plan: &Plan) -> bool {
    plan.services.contains_key(id) || (service.wanted && plan.inactive.contains_key(&service.spec.service))
}
