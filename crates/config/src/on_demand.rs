//! `start = "on-demand"` and `idle`: which services are started by their first connection.

use std::time::Duration;

use super::declared_service::DeclaredService;
use super::interpolate::Resolved;
use super::listen;
use super::reader::Reader;
use super::routes::is_gateway;

/// The time without connections after which a service is stopped that starts on demand; zero: it is not. `None`: it starts with
/// the stack.
pub(crate) fn lower(service: &DeclaredService, keys: &Reader<'_, '_, '_>, copies: u32) -> Resolved<Option<Duration>> {
    let is_on_demand = keys.choice("start", &[("up", false), ("on-demand", true)])?.unwrap_or(false);
    let idle = keys.duration("idle")?;
    let Some(node) = service.get("start").filter(|_| is_on_demand) else {
        return match service.get("idle").filter(|_| idle.is_some()) {
            Some(node) => {
                let message = format!("`idle` has no effect for {}: it does not start on demand", service.label());
                Err(keys.bad(node, message, "start = \"on-demand\""))
            }
            None => Ok(None),
        };
    };
    if let Some(obstacle) = obstacle(service) {
        let message = format!("{} cannot start on demand: {}", service.label(), obstacle.reason);
        return Err(keys.bad(node, message, obstacle.help));
    }
    if copies > 1 {
        let message = format!("{} cannot start on demand: it has {copies} copies", service.label());
        return Err(keys.bad(node, message, "replicas = 1"));
    }
    Ok(Some(idle.unwrap_or_default()))
}

struct Obstacle {
    reason: String,
    help: &'static str,
}

/// Why no connection could start a service.
fn obstacle(service: &DeclaredService) -> Option<Obstacle> {
    let because = |reason: String, help| Some(Obstacle { reason, help });
    if is_gateway(service) {
        return because("services that it leads to may, and it must be there for them".to_owned(), "remove `start`");
    }
    if service.get("external").is_some() {
        return because("devrun does not start it".to_owned(), "remove `start`");
    }
    if listen::is_set(service) {
        return None;
    }
    match &service.recipe {
        Some(used) => because(
            format!("the server of recipe {} opens the port itself", used.data.name),
            "remove `start`; a server that can listen on descriptor 3 is started by `run` with `listen = true`",
        ),
        None if service.get("port").is_none() => {
            because("it has no port".to_owned(), "port = 8000 and listen = true, for a server that can listen on descriptor 3")
        }
        None => because("it opens its port itself".to_owned(), "listen = true, for a server that can listen on descriptor 3"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::Options;
    use crate::tests::{facts, lower, try_lower};

    #[test]
    fn a_service_that_is_passed_its_socket_can_start_on_demand() {
        for (keys, expected) in [
            ("", None),
            ("start = \"up\"", None),
            ("start = \"on-demand\"", Some(Duration::ZERO)),
            ("start = \"on-demand\"\nidle = \"10m\"", Some(Duration::from_secs(600))),
        ] {
            let plan = lower(&format!("[services.api]\nrun = \"a\"\nport = 8000\nlisten = true\n{keys}\n"));
            assert_eq!(plan.services.values().next().unwrap().on_demand, expected, "{keys}");
        }
    }

    #[test]
    fn what_no_connection_could_start_is_refused() {
        for (keys, expected) in [
            ("run = \"a\"", "it has no port"),
            ("run = \"a\"\nport = 8000", "it opens its port itself"),
            ("run = \"a\"\nport = 8000\nlisten = true\nreplicas = 2", "it has 2 copies"),
            ("external = \"tcp://127.0.0.1:1\"", "devrun does not start it"),
        ] {
            let text = format!("[services.api]\n{keys}\nstart = \"on-demand\"\n");
            let errors = try_lower(&text, &Options::default(), &facts()).expect_err(keys);
            assert!(errors.contains(&format!("cannot start on demand: {expected}")), "{keys}: {errors}");
        }
        let text = "[services.api]\nrun = \"a\"\nport = 8000\nlisten = true\nidle = \"1m\"\n";
        let errors = try_lower(text, &Options::default(), &facts()).expect_err("idle alone");
        assert!(errors.contains("`idle` has no effect"), "{errors}");
    }
}
