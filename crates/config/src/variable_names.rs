//! Names of variables: those that give a port, those that give away a secret.

use devrun_model::secret_name::is_secret;

use std::collections::BTreeSet;

use super::template::Name;

/// Whether a placeholder stands for a secret.
pub(crate) fn names_secret(name: &Name, derived: &BTreeSet<String>) -> bool {
    match name {
        Name::Variable(name) => is_secret(name) || derived.contains(name),
        Name::Dotted(head, rest) => head == "secret" || rest == "password",
    }
}

/// `NAME` of `PORT_NAME`.
pub(crate) fn port_variable(port: &str) -> String {
    port.to_ascii_uppercase().replace(['-', '.'], "_")
}
