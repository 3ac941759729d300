//! How the copies of a service are called, and which port each has: `api` alone, `api.1`, `api.2` … of several, with the port of
//! the procfile as the address that they share.
//!
//! A run keeps the names that it has begun with: a copy that was started alone stays `api` next to `api.2`, and `api.1` stays
//! `api.1` when it is the last one. The shared address is there from the start of a run with several copies, and of a service whose
//! `replicas` says 1: its number is meant to change.

use super::attributes::PortSpec;
use super::declared_service::DeclaredService;
use super::interpolate::{Resolved, Resolver};
use super::listen;
use super::routes;
use super::toml_node::{TomlNode, get};
use super::{PortChoice, PortPreference, RequiredValues};
use devrun_model::{FirstCopy, ServiceId, ServiceName, SharedAddress};

impl Resolver<'_> {
    /// How the copies of a service are called in this run.
    pub(crate) fn first_copy(&self, service: &DeclaredService) -> FirstCopy {
        let known = self.document.options.first_copies.get(&service.name).copied();
        known.unwrap_or(if self.replicas(service) > 1 { FirstCopy::Numbered } else { FirstCopy::Alone })
    }

    /// Whether a copy has a number in its name.
    pub(crate) fn is_numbered(&self, service: &DeclaredService, replica: u32) -> bool {
        replica > 1 || self.first_copy(service) == FirstCopy::Numbered
    }

    /// The id of a copy.
    pub(crate) fn copy_id(&self, service: &DeclaredService, replica: u32) -> Option<ServiceId> {
        let name = ServiceName::new(service.name.clone()).ok()?;
        // Any number beyond one gives it a number.
        Some(ServiceId::replica(&name, replica, if self.is_numbered(service, replica) { 2 } else { 1 }))
    }

    /// Whether all copies are reached by one address that none of them has itself.
    pub(crate) fn has_shared_address(&self, service: &DeclaredService) -> bool {
        !service.task
            && service.get("external").is_none()
            && !listen::is_set(service)
            && (self.first_copy(service) == FirstCopy::Numbered || service.get("replicas").is_some())
            && self.port_names(service).iter().any(|name| name == "main")
    }

    /// Whether a copy has another port than the procfile's.
    pub(crate) fn has_own_port(&self, service: &DeclaredService, port: &str, replica: u32) -> bool {
        let is_main = port == "main";
        let is_moved = is_main && self.has_shared_address(service);
        (self.is_numbered(service, replica) || is_moved) && !(is_main && listen::is_set(service))
    }

    /// Whether requests are balanced, and not whole connections: what speaks HTTP for certain.
    pub(crate) fn is_balanced_by_requests(&self, service: &DeclaredService) -> bool {
        let probes_http = ["ready", "alive"].iter().any(|key| {
            let table = service.get(key).and_then(TomlNode::table);
            table.is_some_and(|table| get(table, "http").or_else(|| get(table, "grpc")).is_some())
        });
        probes_http || routes::is_routed(&self.services, &service.name)
    }

    /// The port of the procfile, where it is the shared one.
    pub(crate) fn shared_port(&self, service: &DeclaredService) -> Option<u16> {
        match self.port_spec(service, "main") {
            Ok(Some(PortSpec::Fixed(number))) => Some(number),
            Ok(Some(PortSpec::Preference(preference))) => {
                let chosen = self.facts.ports.get(&(service.name.clone(), "main".to_owned())).copied();
                Some(chosen.unwrap_or(match preference {
                    PortPreference::Usual(number) => number,
                    PortPreference::Auto | PortPreference::Private => 0,
                }))
            }
            Ok(None) | Err(_) => None,
        }
    }

    /// The address that all copies share.
    pub(crate) fn shared_address(&self, service: &DeclaredService) -> Option<SharedAddress> {
        let port = self.shared_port(service).filter(|_| self.has_shared_address(service))?;
        Some(SharedAddress { port, is_http: self.is_balanced_by_requests(service) })
    }
}

impl RequiredValues {
    /// Adds the ports of a service: those of its copies, and the one that they share.
    pub(crate) fn add_ports(&mut self, resolver: &Resolver<'_>, service: &DeclaredService) {
        if resolver.has_shared_address(service) {
            self.add_port(resolver.port_spec(service, "main"), (service.name.clone(), "main".to_owned()));
        }
        for port in resolver.port_names(service) {
            for replica in 1..=resolver.replicas(service) {
                self.add_port(resolver.copy_port_spec(service, &port, replica), resolver.port_key(service, &port, replica));
            }
        }
    }

    fn add_port(&mut self, spec: Resolved<Option<PortSpec>>, (service, name): (String, String)) {
        match spec {
            Ok(Some(PortSpec::Fixed(number))) => {
                self.fixed.insert(number);
            }
            Ok(Some(PortSpec::Preference(preference))) => {
                let want = PortChoice { service, name, preference };
                if !self.ports.contains(&want) {
                    self.ports.push(want);
                }
            }
            // What is wrong with it is reported where it is lowered.
            Ok(None) | Err(_) => {}
        }
    }
}
