//! The variables by which a program with an OpenTelemetry SDK finds the receiver of the stack: a service with `use = "telemetry"`.

use super::declared_service::{DeclaredService, TELEMETRY};
use super::interpolate::{Resolved, Resolver};
use super::toml_node::{TomlNode, get};
use devrun_model::percent;

/// Where a program sends, which a caller may have set as well.
pub(crate) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Milliseconds that an SDK gathers spans and log records before it sends them.
const DELIVERY_MS: u32 = 300;

/// Whether a service is the receiver.
pub(crate) fn is_receiver(service: &DeclaredService) -> bool {
    service.recipe.as_ref().is_some_and(|used| used.data.name == TELEMETRY)
}

/// The variables of one copy; none without a receiver, for a server of a recipe, and where `telemetry = false`.
pub(crate) fn variables(
    resolver: &Resolver<'_>,
    service: &DeclaredService,
    replica: u32,
) -> Resolved<Vec<(&'static str, String)>> {
    let document = resolver.document;
    let project = get(&document.tree, "project").and_then(TomlNode::table);
    let is_off = |node: Option<&TomlNode>| node.is_some_and(TomlNode::is_false);
    let is_on = !is_off(service.tree.get("telemetry")) && !is_off(project.and_then(|table| table.get("telemetry")));
    if service.get("run").is_none() || !is_on {
        return Ok(Vec::new());
    }
    let Some(receiver) = resolver.services.values().find(|other| other.active && is_receiver(other)) else {
        return Ok(Vec::new());
    };
    let at = receiver.key;
    let Some(port) = resolver.port(receiver, 1, "main", at)? else { return Ok(Vec::new()) };
    let host = resolver.host(receiver, at)?;
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    let copy = if resolver.replicas(service) > 1 { format!("{}.{replica}", service.name) } else { service.name.clone() };
    // The values are percent-encoded (the specification of the OTLP exporter).
    let mut resource = vec![("service.namespace", document.project.to_string()), ("service.instance.id", copy)];
    if !document.options.instance.is_empty() {
        resource.push(("devrun.instance", document.options.instance.clone()));
    }
    let resource: Vec<String> = resource.iter().map(|(name, value)| format!("{name}={}", percent::encode(value))).collect();
    // The default of the SDKs, up to five seconds between two deliveries, is for production.
    let delays = ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BLRP_SCHEDULE_DELAY"].map(|name| (name, DELIVERY_MS.to_string()));
    let mut found = vec![
        (ENDPOINT, format!("http://{host}:{port}")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        ("OTEL_SERVICE_NAME", service.name.clone()),
        ("OTEL_RESOURCE_ATTRIBUTES", resource.join(",")),
    ];
    found.extend(delays);
    Ok(found)
}
