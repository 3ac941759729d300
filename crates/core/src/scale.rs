//! Another number of copies while the stack runs: the new ones are started, the highest ones stopped, and those that stay are
//! left alone. Nothing else of the new plan acts before a service's next start.

use std::collections::BTreeSet;
use std::sync::Arc;

use devrun_model::{Plan, ServiceId, ServiceName};

use super::action::Action;
use super::service::NextState;
use super::stop_reason::StopReason;
use super::supervisor::Supervisor;

impl Supervisor {
    pub(super) fn scale(&mut self, plan: Arc<Plan>, services: &[ServiceName], out: &mut Vec<Action>) {
        let is_new = |id: &&ServiceId| !self.services.contains_key(id);
        let new: Vec<ServiceId> = services.iter().flat_map(|name| plan.ids_of(name)).filter(is_new).cloned().collect();
        // Those of a service that no one wants are started by its next start.
        let is_wanted = |name: &ServiceName| self.services.iter().any(|(_, one)| one.spec.service == *name && one.wanted);
        let wanted: Vec<ServiceName> = services.iter().filter(|name| is_wanted(name)).cloned().collect();
        self.apply_plan(Arc::clone(&plan), false, out);
        for id in self.surplus(&plan, services) {
            if let Some(service) = self.services.get_mut(&id) {
                service.wanted = false;
            }
            self.request_stop(&id, NextState::Removed(StopReason::ScaledDown), out);
        }
        let targets: Vec<ServiceId> = new
            .into_iter()
            .filter(|id| self.services.get(id).is_some_and(|service| wanted.contains(&service.spec.service)))
            .collect();
        let expected = self.start_copies(&targets, out);
        self.add_start_request(expected, &targets, false);
    }

    /// The copies of these services that a plan no longer has.
    fn surplus(&self, plan: &Plan, services: &[ServiceName]) -> BTreeSet<ServiceId> {
        self.services
            .iter()
            .filter(|(id, service)| services.contains(&service.spec.service) && !plan.services.contains_key(*id))
            .map(|(id, _)| id.clone())
            .collect()
    }
}
