//! What became of the copies of services: the last line of `devrun scale`, and a note of `scale` and `up` on copies that share no
//! address.

use std::collections::BTreeSet;

use devrun_model::{Launch, Plan, RouteTarget, ServiceName, Snapshot};

use super::start_times::StartTimes;
use super::summary::listed;

/// `started api.3 and api.4`, or that there was nothing to do; and which copies do not run, since `scale` starts new copies of what
/// runs only. `before`: what ran when it was asked for.
#[must_use]
pub fn scaled(plan: &Plan, services: &[ServiceName], before: &Snapshot, times: &StartTimes) -> String {
    let mut done: Vec<String> =
        [listed("started", times.started()), listed("stopped", times.stopped())].into_iter().flatten().collect();
    let runs = |id: &str| times.has(id) || before.services.iter().any(|one| one.name == id && !one.state.is_final());
    let mut already = Vec::new();
    for name in services {
        let (running, idle): (Vec<&str>, Vec<&str>) = plan.ids_of(name).map(|id| id.as_str()).partition(|id| runs(id));
        let count = match running.len() + idle.len() {
            1 => format!("{name} has 1 copy"),
            count => format!("{name} has {count} copies"),
        };
        match (running.is_empty(), idle.as_slice()) {
            (_, []) => already.push(count),
            (true, _) => done.push(format!("{count} and is not running (devrun start {name})")),
            (false, [one]) => done.push(format!("{one} is not running (devrun start {name})")),
            (false, several) => {
                done.extend(listed("not running:", several.iter().copied()).map(|list| format!("{list} (devrun start {name})")));
            }
        }
    }
    if done.is_empty() { format!("nothing to do: {}", already.join(", ")) } else { done.join("; ") }
}

/// For each service of which copies were started next to one that was started alone: that their ports are their own, and what gives
/// them one address. A gateway, or a socket that they share, balances between them anyway.
#[must_use]
pub fn without_shared_address(plan: &Plan, times: &StartTimes) -> Vec<String> {
    let started = |spec: &&std::sync::Arc<devrun_model::ServiceSpec>| {
        spec.replica > 1 && spec.shared.is_none() && !spec.listen && times.has(spec.id.as_str())
    };
    let copies = plan.services.values().filter(started).filter(|spec| !is_routed(plan, &spec.service));
    let copies: Vec<_> = copies.filter_map(|spec| Some((spec, spec.ports.get("main")?))).collect();
    let names: BTreeSet<&ServiceName> = copies.iter().map(|(spec, _)| &spec.service).collect();
    let note = |name: &ServiceName| {
        let of_it = copies.iter().filter(|(spec, _)| spec.service == *name);
        let own: Vec<String> = of_it.map(|(spec, port)| format!("{} (port {port})", spec.id)).collect();
        let own = listed("of", own.iter().map(String::as_str)).unwrap_or_default();
        format!(
            "note: nothing balances between {name} and the ports {own}; for one address of all copies set `replicas = 1` in [services.{name}], then `devrun up -d`"
        )
    };
    names.into_iter().map(note).collect()
}

/// Whether a gateway leads to a service.
fn is_routed(plan: &Plan, name: &ServiceName) -> bool {
    plan.services.values().any(|spec| {
        let Launch::Recipe(recipe) = &spec.launch else { return false };
        recipe.gateway.as_ref().is_some_and(|gateway| {
            let leads = |target: &RouteTarget| matches!(target, RouteTarget::Service { service, .. } if service == name);
            gateway.routes.iter().any(|route| leads(&route.target)) || gateway.names.values().any(|named| named == name)
        })
    })
}
