//! `listen`: which services take over the listening socket of their main port instead of binding it.

use super::declared_service::DeclaredService;
use super::diagnostic::Diagnostic;
use super::routes::is_gateway;
use super::toml_node::TomlValue;

/// Whether a service gets its socket passed; the gateway always does.
pub(crate) fn is_set(service: &DeclaredService) -> bool {
    is_gateway(service) || service.get("listen").is_some_and(|node| matches!(node.value, TomlValue::Bool(true)))
}

/// Which services cannot.
pub(crate) fn check(service: &DeclaredService, out: &mut Vec<Diagnostic>) {
    let Some(node) = service.get("listen") else { return };
    match &node.value {
        TomlValue::Bool(true) => {}
        // Which ports there are must be known before any value is.
        TomlValue::Text(text) if text.contains('$') => {
            out.push(Diagnostic::error(node.span, "`listen` takes no placeholder").help("listen = true"));
            return;
        }
        _ => return,
    }
    if is_gateway(service) {
        return;
    }
    if service.get("external").is_some() {
        out.push(
            Diagnostic::error(node.span, format!("`listen` is not supported for {}: devrun does not start it", service.label()))
                .help("remove `listen`"),
        );
        return;
    }
    if let Some(used) = &service.recipe {
        let knows = used.data.service.get("listen").and_then(toml::Value::as_bool) == Some(true);
        if !knows {
            out.push(
                Diagnostic::error(
                    node.span,
                    format!("`listen` is not supported for recipe {}: its server opens the port itself", used.data.name),
                )
                .help("remove `listen`; a server that can listen on descriptor 3 is started by `run`"),
            );
        }
        return;
    }
    if service.get("port").is_none() {
        out.push(
            Diagnostic::error(node.span, format!("`listen` needs a port, and {} has none", service.label())).help("port = 8000"),
        );
    }
}
