//! How often an unhealthy service is probed. While others wait for it to be healthy, each `interval` would hold up their start for
//! up to that long after it has recovered; so it is probed as often as a service that starts.

use std::collections::BTreeSet;

use devrun_model::{Condition, Health, ServiceId};

use super::action::Action;
use super::service::Phase;
use super::supervisor::Supervisor;

impl Supervisor {
    /// Changes the pace of those among the changed services and what they depend on for which it is another one now.
    pub(super) fn update_probe_paces(&mut self, changed: &BTreeSet<ServiceId>, out: &mut Vec<Action>) {
        let mut concerned: BTreeSet<&ServiceId> = BTreeSet::new();
        for id in changed {
            let on = self.services.get(id).into_iter().flat_map(|service| service.spec.depends_on.iter().map(|edge| &edge.on));
            concerned.extend(on.chain([id]));
        }
        let paces: Vec<(ServiceId, bool)> = concerned
            .into_iter()
            .filter_map(|id| {
                let live = self.services.get(id)?.live()?;
                let is_often = live.health() == Health::Unhealthy && self.is_waited_for(id);
                (is_often != live.is_probed_often).then(|| (id.clone(), is_often))
            })
            .collect();
        for (id, is_often) in paces {
            let Some(service) = self.services.get_mut(&id) else { continue };
            if let Phase::Live(live) = &mut service.phase {
                live.is_probed_often = is_often;
                out.push(Action::SetProbePace(id, service.generation, is_often));
            }
        }
    }

    /// Whether another service waits for this one to be healthy.
    fn is_waited_for(&self, id: &ServiceId) -> bool {
        self.services.dependents(id).any(|dependent| {
            self.services.get(dependent).is_some_and(|service| {
                let needs_health = |edge: &devrun_model::Dependency| edge.on == *id && edge.condition == Condition::Healthy;
                matches!(service.phase, Phase::Waiting) && service.spec.depends_on.iter().any(needs_health)
            })
        })
    }
}
