//! `update`: how `restart` and `up` replace what runs, and which services can run twice for a moment.

use super::declared_service::DeclaredService;
use super::interpolate::Resolved;
use super::listen;
use super::reader::Reader;
use super::routes::is_gateway;
use devrun_model::policy::{UpdateOrder, UpdateSpec};

/// `update`. Services that are passed their socket start first, unless something else keeps two of them from running.
pub(crate) fn lower(service: &DeclaredService, keys: &Reader<'_, '_, '_>) -> Resolved<UpdateSpec> {
    let obstacle = obstacle(service);
    let mut update = UpdateSpec::default();
    if listen::is_set(service) && obstacle.is_none() {
        update.order = UpdateOrder::StartFirst;
    }
    let Some(inner) = keys.inner("update") else { return Ok(update) };
    update.pause = inner.duration("pause")?.unwrap_or(update.pause);
    update.parallel = inner.integer("parallel", 1)?.unwrap_or(update.parallel);
    let words = [("stop-first", UpdateOrder::StopFirst), ("start-first", UpdateOrder::StartFirst)];
    let Some(order) = inner.choice("order", &words)? else { return Ok(update) };
    update.order = order;
    if let (UpdateOrder::StartFirst, Some(obstacle), Some(node)) = (order, obstacle, inner.node("order")) {
        let message = format!("`update.order` cannot be \"start-first\" for {}: {}", service.label(), obstacle.reason);
        return Err(inner.bad(node, message, obstacle.help));
    }
    Ok(update)
}

struct Obstacle {
    reason: &'static str,
    help: &'static str,
}

/// Why two processes of a service cannot run at the same time.
fn obstacle(service: &DeclaredService) -> Option<Obstacle> {
    let stop_first = |reason| Some(Obstacle { reason, help: "order = \"stop-first\"" });
    if service.get("external").is_some() {
        return stop_first("devrun does not start it");
    }
    if service.recipe.is_some() && !is_gateway(service) {
        return stop_first("two servers of a recipe cannot share its port and its data");
    }
    if service.data().is_some() {
        return stop_first("two processes cannot share its data");
    }
    if service.get("ports").is_some() {
        return stop_first("two processes cannot bind its `ports`");
    }
    if service.get("port").is_some() && !listen::is_set(service) {
        return Some(Obstacle {
            reason: "two processes cannot bind its port",
            help: "listen = true, for a server that can listen on descriptor 3",
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::UpdateOrder::{self, StartFirst, StopFirst};
    use crate::Options;
    use crate::tests::{facts, lower, try_lower};

    fn order(keys: &str) -> UpdateOrder {
        let plan = lower(&format!("[services.api]\n{keys}\n"));
        let found = plan.services.values().find(|spec| spec.service.as_str() == "api").map(|spec| spec.update.order);
        found.expect("the service")
    }

    #[test]
    fn what_is_passed_its_socket_starts_first_unless_two_cannot_run() {
        for (keys, expected) in [
            ("run = \"a\"", StopFirst),
            ("run = \"a\"\nport = 8000", StopFirst),
            ("run = \"a\"\nport = 8000\nlisten = true", StartFirst),
            ("run = \"a\"\nport = 8000\nlisten = true\nreplicas = 2", StartFirst),
            ("run = \"a\"\nport = 8000\nlisten = true\nupdate = { order = \"stop-first\" }", StopFirst),
            ("run = \"a\"\nport = 8000\nlisten = true\nports = { admin = 8001 }", StopFirst),
            ("run = \"a\"\nupdate = { order = \"start-first\" }", StartFirst),
        ] {
            assert_eq!(order(keys), expected, "{keys}");
        }
    }

    #[test]
    fn what_cannot_run_twice_is_refused() {
        for (keys, expected) in [
            ("run = \"a\"\nport = 8000", "two processes cannot bind its port"),
            ("run = \"a\"\nport = 8000\nlisten = true\nports = { admin = 8001 }", "two processes cannot bind its `ports`"),
            ("external = \"tcp://127.0.0.1:1\"", "devrun does not start it"),
        ] {
            let text = format!("[services.api]\n{keys}\nupdate = {{ order = \"start-first\" }}\n");
            let errors = try_lower(&text, &Options::default(), &facts()).expect_err(keys);
            assert!(errors.contains(expected), "{keys}: {errors}");
        }
    }
}
