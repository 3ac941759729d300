//! The number that names stand for, the same on every machine and in every version, which the standard library's hashers do
//! not promise.

use devrun_model::fnv::fnv1a;

/// FNV-1a over the parts.
pub(super) fn hash(parts: &[&str]) -> u64 {
    // The byte between the parts cannot stand in any of them.
    let state = fnv1a(parts.iter().flat_map(|part| part.bytes().chain([0])));
    // Its low bits alone differ little for names that differ in the last letter.
    state ^ (state >> 32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn checkouts_services_and_ports_get_different_numbers() {
        let all: BTreeSet<u64> =
            [("a", "x", "main"), ("b", "x", "main"), ("a", "y", "main"), ("a", "x", "metrics"), ("ax", "x", "main")]
                .into_iter()
                .map(|(seed, service, name)| hash(&[seed, service, name]) % 12_000)
                .collect();
        assert_eq!(all.len(), 5);
    }
}
