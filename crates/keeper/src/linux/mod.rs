//! The drivers that use what Linux has and other systems lack: pidfds, subreapers, clone3, epoll and signalfd, lists of children and
//! of locks. `portable` has the same files with the same functions; `lib.rs` chooses.

pub(crate) mod child_calls;
pub(crate) mod children;
mod in_flight;
pub(crate) mod launch;
pub mod lock_holders;
pub(crate) mod own_process;
pub mod parent_death;
pub(crate) mod pidfd;
pub(crate) mod pipes;
pub(crate) mod readiness;
pub(crate) mod sockets;
mod syscall;
