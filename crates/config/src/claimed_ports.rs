//! Which service has which port, so that two on one port are found.

use std::collections::BTreeMap;

use super::attributes::PortSpec;
use super::declared_service::DeclaredService;
use super::diagnostic::Diagnostic;
use super::interpolate::Resolver;
use super::listen;
use super::source_map::Span;

/// The ports of all services so far: the address, the number, whose it is, and where that is written.
#[derive(Debug, Default)]
pub(crate) struct ClaimedPorts(Vec<(String, u16, String, Span)>);

impl ClaimedPorts {
    /// Adds those of one copy, and reports those that are another's.
    pub(crate) fn add(
        &mut self,
        resolver: &Resolver<'_>,
        service: &DeclaredService,
        replica: u32,
        ports: &BTreeMap<String, u16>,
    ) {
        if service.get("external").is_some() {
            return;
        }
        let Ok(listens) = resolver.bind(service) else { return };
        if replica == 1
            && let Some(port) = resolver.shared_address(service).map(|shared| shared.port).filter(|port| *port != 0)
        {
            self.claim(resolver, service, ("main", port), &listens, service.name.clone());
        }
        for (name, port) in ports {
            if replica > 1 && name == "main" && listen::is_set(service) {
                // All copies listen on one socket.
                continue;
            }
            let fixed = matches!(resolver.copy_port_spec(service, name, replica), Ok(Some(PortSpec::Fixed(_))));
            if *port == 0 || !(fixed || resolver.facts.ports.contains_key(&resolver.port_key(service, name, replica))) {
                continue;
            }
            let id = resolver.copy_id(service, replica).map_or_else(|| service.name.clone(), |id| id.to_string());
            let label = if name == "main" { id } else { format!("{id} ({name})") };
            self.claim(resolver, service, (name, *port), &listens, label);
        }
    }

    fn claim(
        &mut self,
        resolver: &Resolver<'_>,
        service: &DeclaredService,
        (name, port): (&str, u16),
        listens: &str,
        label: String,
    ) {
        let any = |bind: &str| matches!(bind, "0.0.0.0" | "::" | "[::]" | "*" | "");
        let span = resolver.port_node(service, name).map_or(service.key, |node| node.span);
        let clash = self.0.iter().find(|(bind, number, _, _)| *number == port && (bind == listens || any(bind) || any(listens)));
        if let Some((_, _, other, other_span)) = clash {
            resolver.report(
                Diagnostic::error(span, format!("port {port} is given to `{label}` and to `{other}`"))
                    .note(*other_span, format!("`{other}` has it"))
                    .help("change one of them, or write port = \"auto\" for a free one"),
            );
        }
        self.0.push((listens.to_owned(), port, label, span));
    }
}
