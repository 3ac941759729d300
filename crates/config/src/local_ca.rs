//! Which gateways serve HTTPS, and the variables by which the other processes of the stack trust the authority that signs
//! their certificates.

use std::collections::BTreeMap;

use super::declared_service::DeclaredService;
use super::interpolate::{Resolved, Resolver, Scope};
use super::reader::Reader;
use super::routes::is_gateway;

/// Whether a service is a gateway that serves HTTPS.
pub(crate) fn serves_tls(resolver: &Resolver<'_>, service: &DeclaredService) -> Resolved<bool> {
    if !is_gateway(service) {
        return Ok(false);
    }
    Reader { resolver, table: &service.tree, scope: Scope::of(&service.name, 1) }.flag("tls", false)
}

/// The variables of a service; none where no gateway serves HTTPS, for a server of a recipe, and for one that runs as another
/// user, who cannot read the files.
pub(crate) fn variables(resolver: &Resolver<'_>, service: &DeclaredService) -> Resolved<BTreeMap<String, String>> {
    if service.get("run").is_none() || service.get("user_id").is_some() {
        return Ok(BTreeMap::new());
    }
    for other in resolver.services.values().filter(|other| other.active) {
        if serves_tls(resolver, other)? {
            return Ok(resolver.facts.local_ca.as_ref().map(|files| files.variables.clone()).unwrap_or_default());
        }
    }
    Ok(BTreeMap::new())
}
