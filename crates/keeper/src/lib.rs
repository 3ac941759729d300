//! `devrun __keeper`: the parent of every process, which stops them in order when the supervisor is gone.
//!
//! One thread, no runtime, a few MiB: a fork costs it what a vfork costs, it has no race between fork and exec to lose,
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
//! - `fork` (the parent), `child` (the child), `process_trees`, `wire`: shared with the keeper
//! - `identity`, `process_list`, `ownership`, `signal`, `cgroup`: what a process is, whose it is, how it is reached
//! - `identity_check`: whether a process is the one that a journal names; `caller`: whether this one is in a service
//! - `adopted_children`: what a command in the foreground has left behind
//! - `heap`: the freed memory that both give back after a start
//! - `tree_shutdown`: a shutdown carried out on process trees; `leftover_sweep`, `kill_sweep`: the end of what an earlier run left
//!
//! What a system does in its own way lies below all of that: `process_list_linux` and `process_list_macos`, by the system, and the
//! drivers, `linux` or `portable`. The feature `portable` selects the latter on Linux as well, so that the tests can run on them.

pub mod adopted_children;
mod blocked_signals;
mod c_strings;
pub mod caller;
pub mod cgroup;
mod child;
mod child_wait;
pub mod daemonize;
pub mod default_limits;
mod descent_memory;
mod event_loop;
pub mod file_id;
pub mod file_size_limit;
pub mod fork;
pub mod heap;
pub mod identity;
pub mod identity_check;
pub mod inherited_socket;
pub mod journal;
#[cfg(feature = "client")]
mod keeper_connection;
#[cfg(feature = "client")]
mod keeper_events;
#[cfg(feature = "client")]
pub mod keeper_handle;
#[cfg(feature = "client")]
mod keeper_launch;
mod keeper_main;
#[cfg(feature = "client")]
mod keeper_spawn;
#[cfg(feature = "client")]
mod keeper_watch;
mod kill_sweep;
#[cfg(feature = "client")]
mod launched_keeper;
pub mod leftover_sweep;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod linux;
pub mod lock;
mod log_pipes;
#[cfg(feature = "client")]
mod orphans;
#[cfg(all(test, target_os = "linux"))]
mod own_descriptors;
pub mod own_program;
pub mod ownership;
mod passed_sockets;
mod pipes;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod portable;
#[cfg(any(target_os = "macos", test))]
mod process_arguments;
pub mod process_list;
#[cfg(target_os = "linux")]
mod process_list_linux;
#[cfg(target_os = "macos")]
mod process_list_macos;
mod process_scan;
mod process_stat;
pub mod process_trees;
pub mod project_journal;
#[cfg(feature = "client")]
pub mod reactor;
pub mod regular_file;
#[cfg(feature = "client")]
pub mod runner;
mod scan;
mod shutdown_state;
pub mod signal;
mod silent_stdin;
#[cfg(any(target_os = "macos", test))]
mod socket_info;
pub mod state_location;
#[cfg(feature = "client")]
mod strays;
pub mod system_limits;
#[cfg(feature = "client")]
pub mod terminal;
mod tracked_process;
pub mod tree_shutdown;
pub mod wire;

pub use blocked_signals::BlockedSignals;
pub use drivers::launch::is_clone3_refused;
pub use drivers::lock_holders;
pub use drivers::own_process::{HAS_FILE_NOTICES, HAS_USER_NAMESPACES, INHERITS_ORPHANS, TELLS_LISTENERS};
pub use drivers::parent_death;
#[cfg(feature = "client")]
pub use keeper_events::{HandleRequest, KeeperEvent, KeeperOptions, ProcessEvent};
#[cfg(feature = "client")]
pub use keeper_handle::KeeperHandle;
pub use keeper_main::main;
#[cfg(feature = "client")]
pub use launched_keeper::LaunchedKeeper;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) use linux as drivers;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub(crate) use portable as drivers;
#[cfg(target_os = "linux")]
pub(crate) use process_list_linux as process_reader;
#[cfg(target_os = "macos")]
pub(crate) use process_list_macos as process_reader;
#[cfg(feature = "client")]
pub use runner::{
    CommandRequest, CommandResult, OutputSink, OutputStream, Runner, RunningCommand, list_processes, still_running,
};
