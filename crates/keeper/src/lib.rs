//! `devrun __keeper`: the parent of every process, which stops them in order when the supervisor is gone.
//!
//! One thread, epoll, no runtime, a few MiB: a fork costs it what a vfork costs, it has no race between fork and exec to
//! lose, and nothing that makes the supervisor grow or hang reaches it. It has its own session and ignores what a terminal
//! or a person sends; only the supervisor's word, or the end of the socket without the word `Finish`, moves it.
//!
//! - `serve`: the loop and the requests
//! - `logs`: the read ends of the log pipes, drained when nobody else reads them
//! - `ending`: the stop of everything, and the proof that nothing is left
//!
//! A `Spawned` is held back until exec has worked, so it is never followed by a `SpawnFailed`.
//!
//! Its parts, and those of the supervisor's end of the socketpair (feature `client`, which needs tokio):
//!
//! - `launch`, `link`, `routing`, `orphans`, `runner`: the supervisor's side
//! - `fork` and `in_flight` (the parent), `newborn` and `raw` (the child), `tree`, `wire`: shared with the keeper; `priority`: its place in the queue for a processor
//! - `identity`, `procfs`, `evidence`, `signal`, `cgroup`: what a process is, whose it is, how it is reached
//! - `holders`, `proof`: whether a process is what a journal says of it
//! - `rest`: what both give back when nothing happens
//! - `shutdown`: a shutdown carried out on process trees; `sweep`, `kill_sweep`: the end of what an earlier run left
//!
//! Linux only so far. Elsewhere this compiles, no identity ever holds, and `Keeper::start` says why it does not.

pub mod cgroup;
pub mod detach;
#[cfg(target_os = "linux")]
mod ending;
mod entry;
pub mod evidence;
pub mod file_size;
#[cfg(target_os = "linux")]
pub mod fork;
pub mod holders;
pub mod identity;
#[cfg(target_os = "linux")]
pub mod in_flight;
pub mod journal;
#[cfg(target_os = "linux")]
mod keeper_watch;
mod kill_sweep;
#[cfg(target_os = "linux")]
#[cfg(feature = "client")]
mod launch;
#[cfg(feature = "client")]
pub mod link;
pub mod location;
pub mod lock;
#[cfg(target_os = "linux")]
mod logs;
#[cfg(target_os = "linux")]
mod newborn;
pub mod orphans;
#[cfg(all(test, target_os = "linux"))]
mod own_descriptors;
#[cfg(target_os = "linux")]
pub mod priority;
pub mod procfs;
pub mod proof;
#[cfg(target_os = "linux")]
mod raw;
#[cfg(feature = "client")]
pub mod reactor;
pub mod rest;
#[cfg(target_os = "linux")]
#[cfg(feature = "client")]
mod routing;
#[cfg(feature = "client")]
pub mod runner;
#[cfg(target_os = "linux")]
mod serve;
pub mod shutdown;
pub mod signal;
pub mod sweep;
#[cfg(feature = "client")]
pub mod terminal;
pub mod tree;
#[cfg(target_os = "linux")]
pub mod wire;

pub use entry::main;
#[cfg(feature = "client")]
pub use link::{Keeper, KeeperOptions, Launched, LinkEvent, ProcessEvent};
#[cfg(feature = "client")]
pub use runner::{Child, Finished, OutputSink, Request, Runner, Stream};
