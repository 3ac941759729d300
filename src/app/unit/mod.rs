//! What the units of `export systemd` call (`devrun __unit`): systemd supervises, and what it cannot know is done here.
//!
//! - `unit_plan`: the procfile, read once for a start of the stack and kept in the runtime directory; all else works from that
//! - `process`: the service itself, in the place of this process; stop commands; the process behind a shared address
//! - `left_out`: optional servers that are not on this machine, and work on them
//! - `prepare`: first boot and `pre_start`, under a keeper of its own that ends with it
//! - `readiness`: the service's probes until the first pass
//! - `task`: one-time work with its sentinel
//! - `unit_advice`: what errors of several of them have in common
//!
//! No supervisor runs and no control socket exists, so `ps` and `logs` do not see such a stack; `systemctl` and `journalctl` do.

pub mod left_out;
pub mod prepare;
pub mod process;
pub mod readiness;
mod short_keeper;
pub mod task;
mod unit_advice;
pub mod unit_plan;
