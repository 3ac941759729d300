//! Variables whose name says where a service listens. Imports and exports ask the same question.

/// Whether a variable of this name holds an address to listen on, rather than one that is allowed, trusted or asked.
pub(crate) fn names_bind_address(variable: &str) -> bool {
    let upper = variable.to_ascii_uppercase();
    let parts: Vec<&str> = upper.split(['_', '.', '-']).collect();
    let refers = ["ALLOW", "ALLOWED", "ORIGIN", "ORIGINS", "CORS", "TRUSTED", "PROXY", "PROXIES", "WHITELIST", "DENY", "IGNORE"];
    !parts.iter().any(|part| refers.contains(part))
        && parts.iter().any(|part| {
            matches!(
                *part,
                "HOST" | "HOSTNAME" | "BIND" | "BINDING" | "ADDR" | "ADDRESS" | "LISTEN" | "LISTENER" | "INTERFACE" | "IP"
            )
        })
}
