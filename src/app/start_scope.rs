//! Which services a start is about.

use std::collections::BTreeSet;
use std::sync::Arc;

use devrun_model::{Plan, ServiceId};
use devrun_runtime::ports::CHOOSE_FREE_PORTS;

/// The targets and what they need; everything where none is named.
#[must_use]
pub fn of(plan: &Plan, targets: &[ServiceId], no_deps: bool) -> BTreeSet<ServiceId> {
    if targets.is_empty() {
        return plan.services.keys().cloned().collect();
    }
    let mut found = BTreeSet::new();
    let mut todo: Vec<&ServiceId> = targets.iter().collect();
    while let Some(id) = todo.pop() {
        if found.insert(id.clone()) && !no_deps {
            todo.extend(plan.services.get(id).into_iter().flat_map(|spec| spec.depends_on.iter().map(|edge| &edge.on)));
        }
    }
    found
}

/// What a supervisor starts with: its plan, and what of it is started first.
pub struct PlannedStart {
    /// The whole plan.
    pub plan: Arc<Plan>,
    /// What is started.
    pub scope: BTreeSet<ServiceId>,
    /// What to type where a port of it is taken.
    pub port_advice: String,
}

impl PlannedStart {
    /// The targets of a plan and what they need; everything where none is named.
    #[must_use]
    pub fn new(plan: &Arc<Plan>, targets: &[ServiceId], no_deps: bool) -> Self {
        Self { plan: Arc::clone(plan), scope: of(plan, targets, no_deps), port_advice: CHOOSE_FREE_PORTS.to_owned() }
    }

    /// With the advice of a command that was typed.
    #[must_use]
    pub fn advised(self, port_advice: String) -> Self {
        Self { port_advice, ..self }
    }
}
