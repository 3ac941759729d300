//! What must hold of other services first: the edges of the plan, and the barrier between numbered tiers as edges.

use std::collections::BTreeMap;

use devrun_model::{Condition, Kind, Plan, ServiceSpec};

use super::stack::ContainerEdge;

/// Edges, and the barrier of numbered tiers.
pub(crate) fn edges(plan: &Plan, spec: &ServiceSpec) -> Vec<ContainerEdge> {
    let mut found: BTreeMap<String, ContainerEdge> = BTreeMap::new();
    for dependency in &spec.depends_on {
        let Some(on) = plan.services.get(&dependency.on) else { continue };
        let name = on.service.to_string();
        let required = dependency.required && !on.optional;
        found.entry(name.clone()).or_insert(ContainerEdge {
            on: name,
            condition: dependency.condition,
            required,
            restart: dependency.restart,
        });
    }
    if let Some(tier) = spec.tier {
        let below = plan.services.values().filter_map(|other| other.tier).filter(|other| *other < tier).max();
        for other in plan.services.values().filter(|other| below.is_some() && other.tier == below) {
            let condition = match (other.kind, &other.ready) {
                (Kind::Task, _) => Condition::Completed,
                (Kind::Service, Some(_)) => Condition::Healthy,
                (Kind::Service, None) => Condition::Started,
            };
            let name = other.service.to_string();
            found.entry(name.clone()).or_insert(ContainerEdge { on: name, condition, required: !other.optional, restart: false });
        }
    }
    found.into_values().collect()
}
