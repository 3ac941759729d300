//! `devrun __keeper`: the parent of every process, which stops them in order when the supervisor is gone.
//!
//! One thread, epoll, no runtime, a few MiB: a fork costs it what a vfork costs, it has no race between fork and exec to lose,
//! and nothing that makes the supervisor grow or hang reaches it. It has its own session and ignores what a terminal or a
//! person sends; it acts only on requests of the supervisor, or on the end of the socket without a `Finish`.
//!
//! - `event_loop`: the loop and the requests
//! - `log_pipes`: the read ends of the log pipes, drained when no supervisor reads them
//! - `shutdown_state`: the stop of everything, and the proof that nothing is left
//!
//! A `Spawned` is held back until exec has worked, so it is never followed by a `SpawnFailed`.
//!
//! Its parts, and those of the supervisor's end of the socketpair (feature `client`, which needs tokio):
//!
//! - `keeper_launch`, `keeper_spawn`, `keeper_handle`, `keeper_connection`, `orphans`, `runner`: the supervisor's side
//! - `fork` and `in_flight` (the parent), `child` and `syscall` (the child), `process_trees`, `wire`: shared with the keeper
//! - `identity`, `procfs`, `ownership`, `signal`, `cgroup`: what a process is, whose it is, how it is reached
//! - `lock_holders`, `identity_check`: whether a process is the one that a journal names; `caller`: whether this one is in a service
//! - `heap`: the freed memory that both give back after a start
//! - `tree_shutdown`: a shutdown carried out on process trees; `leftover_sweep`, `kill_sweep`: the end of what an earlier run left
//!
//! Linux only so far. Elsewhere this compiles, no identity ever holds, and `KeeperHandle::start` says why it does not.

#[cfg(target_os = "linux")]
mod c_strings;
pub mod caller;
pub mod cgroup;
#[cfg(target_os = "linux")]
mod child;
pub mod daemonize;
pub mod default_limits;
#[cfg(target_os = "linux")]
mod event_loop;
pub mod file_id;
pub mod file_size_limit;
#[cfg(target_os = "linux")]
pub mod fork;
pub mod heap;
pub mod identity;
pub mod identity_check;
#[cfg(target_os = "linux")]
pub mod in_flight;
pub mod inherited_socket;
pub mod journal;
#[cfg(target_os = "linux")]
#[cfg(feature = "client")]
mod keeper_connection;
#[cfg(feature = "client")]
mod keeper_events;
#[cfg(feature = "client")]
pub mod keeper_handle;
#[cfg(target_os = "linux")]
#[cfg(feature = "client")]
mod keeper_launch;
mod keeper_main;
#[cfg(target_os = "linux")]
#[cfg(feature = "client")]
mod keeper_spawn;
#[cfg(target_os = "linux")]
#[cfg(feature = "client")]
mod keeper_watch;
mod kill_sweep;
#[cfg(feature = "client")]
mod launched_keeper;
pub mod leftover_sweep;
pub mod lock;
pub mod lock_holders;
#[cfg(target_os = "linux")]
mod log_pipes;
#[cfg(target_os = "linux")]
#[cfg(feature = "client")]
mod orphans;
#[cfg(all(test, target_os = "linux"))]
mod own_descriptors;
pub mod ownership;
pub mod parent_death;
#[cfg(target_os = "linux")]
mod passed_sockets;
#[cfg(target_os = "linux")]
mod pipes;
pub mod process_trees;
pub mod procfs;
pub mod project_journal;
#[cfg(feature = "client")]
pub mod reactor;
pub mod regular_file;
#[cfg(feature = "client")]
pub mod runner;
mod scan;
#[cfg(target_os = "linux")]
mod shutdown_state;
pub mod signal;
#[cfg(target_os = "linux")]
mod silent_stdin;
pub mod state_location;
#[cfg(target_os = "linux")]
#[cfg(feature = "client")]
mod strays;
#[cfg(target_os = "linux")]
mod syscall;
#[cfg(feature = "client")]
pub mod terminal;
pub mod tree_shutdown;
#[cfg(target_os = "linux")]
pub mod wire;

#[cfg(feature = "client")]
pub use keeper_events::{HandleRequest, KeeperEvent, KeeperOptions, ProcessEvent};
#[cfg(feature = "client")]
pub use keeper_handle::KeeperHandle;
pub use keeper_main::main;
#[cfg(feature = "client")]
pub use launched_keeper::LaunchedKeeper;
#[cfg(feature = "client")]
pub use runner::{
    CommandRequest, CommandResult, OutputSink, OutputStream, Runner, RunningCommand, list_processes, still_running,
};
