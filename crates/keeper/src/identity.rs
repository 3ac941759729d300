//! Who a process is beyond its number: pid, start time and boot.
//!
//! Owns the comparison that every signal to a remembered process goes through. A number alone is never evidence: numbers
//! come round again within milliseconds on a busy machine, while number, start time and boot together do not.

use std::sync::OnceLock;

use devrun_model::keeper::Identity;

use super::{process_list, process_reader};

/// The boot's id; empty where the system has none, so that nothing recorded under another boot ever holds.
#[must_use]
pub fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(process_reader::boot_id)
}

/// The identity of a process that exists now (a zombie still does).
#[must_use]
pub fn of(pid: i32) -> Option<Identity> {
    let stat = process_list::stat(pid)?;
    Some(Identity { pid, start: stat.start, boot: boot_id().to_owned() })
}

/// Our own identity.
#[must_use]
pub fn own() -> Identity {
    let pid = std::process::id().cast_signed();
    of(pid).unwrap_or(Identity { pid, start: 0, boot: boot_id().to_owned() })
}

/// Whether the very process still lives. A zombie does not.
#[must_use]
pub fn holds(identity: &Identity) -> bool {
    identity.pid > 1
        && identity.boot == boot_id()
        && process_list::stat(identity.pid).is_some_and(|stat| stat.start == identity.start && stat.lives())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_identity_holds_and_a_changed_one_does_not() {
        let own = own();
        assert!(holds(&own));
        for other in [
            Identity { start: own.start + 1, ..own.clone() },
            Identity { boot: "another".to_owned(), ..own.clone() },
            Identity { pid: 0, ..own.clone() },
            Identity { pid: -1, ..own.clone() },
            Identity { pid: 1, ..own.clone() },
            Identity { pid: i32::MAX, ..own.clone() },
        ] {
            assert!(!holds(&other), "{other:?}");
        }
    }
}
