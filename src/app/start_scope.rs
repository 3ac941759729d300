//! Which services a start is about.

use std::collections::{BTreeMap, BTreeSet};
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

/// What is said where a port of a start is taken.
#[derive(Debug, Clone)]
pub struct PortAdvice {
    /// What to type.
    pub text: String,
    /// Where the ports stand, by service and name of the port.
    pub places: BTreeMap<(String, String), String>,
}

impl Default for PortAdvice {
    fn default() -> Self {
        Self { text: CHOOSE_FREE_PORTS.to_owned(), places: BTreeMap::new() }
    }
}

/// What a supervisor starts with: its plan, and what of it is started first.
pub struct PlannedStart {
    /// The whole plan.
    pub plan: Arc<Plan>,
    /// What is started.
    pub scope: BTreeSet<ServiceId>,
    /// What is said where a port of it is taken.
    pub port_advice: PortAdvice,
}

impl PlannedStart {
    /// The targets of a plan and what they need; everything where none is named.
    #[must_use]
    pub fn new(plan: &Arc<Plan>, targets: &[ServiceId], no_deps: bool) -> Self {
        Self { plan: Arc::clone(plan), scope: of(plan, targets, no_deps), port_advice: PortAdvice::default() }
    }

    /// With the advice of a command that was typed.
    #[must_use]
    pub fn advised(self, port_advice: PortAdvice) -> Self {
        Self { port_advice, ..self }
    }
}
