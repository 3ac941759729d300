//! The drivers without a primitive of one system: fork, poll(2), a handler of SIGCHLD, looks at all processes. macOS runs on them, and
//! Linux with the feature `portable`, by which they are tested. `linux` has the same files with the same functions; `lib.rs` chooses.

pub(crate) mod child_calls;
pub(crate) mod children;
pub(crate) mod launch;
pub mod lock_holders;
pub(crate) mod own_process;
pub mod parent_death;
pub(crate) mod pidfd;
pub(crate) mod pipes;
pub(crate) mod readiness;
pub(crate) mod sockets;
