//! Ports: is one free, who holds it, and a free one on request, set aside for the stack that asked.
//!
//! Owns the three questions a supervisor asks about TCP ports. It never scans `/proc/net`: the kernel is asked once, over
//! `sock_diag` (`diag`), and the answer's socket numbers are matched against the descriptors of the service's own tree
//! first (`owner`); the rest of `/proc` is looked at only on suspicion, to name a stranger. macOS has no such question: there
//! the sockets of all processes are looked at (`scanned_owner`). It does not decide what a taken port means; callers get who
//! holds it and a failure that says so.

#[cfg(target_os = "linux")]
mod diag;
mod free;
mod inspect;
mod last_use;
mod owner;
mod port_holder;
mod port_owner;
#[expect(unsafe_code, reason = "a question that neither std nor nix can ask")]
mod reserve;
mod scanned_owner;
#[cfg(target_os = "linux")]
mod socket_inodes;
mod stable_hash;
#[cfg(not(target_os = "linux"))]
mod unsupported_query;

#[cfg(target_os = "linux")]
pub use diag::ListenerQuery;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub use diag::fuzz;
pub use free::{CHOOSE_FREE_PORTS, PortConflict, check, check_free, first_unprivileged, free_port, way_out};
pub use last_use::{last_use, note_probe};
pub use owner::{Acceptor, acceptor, holder, led, listening, owner};
pub use port_holder::PortHolder;
pub use port_owner::PortOwner;
pub use reserve::PortReservations;
#[cfg(not(target_os = "linux"))]
pub use unsupported_query::UnsupportedListenerQuery as ListenerQuery;
