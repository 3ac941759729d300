//! Processes: the supervisor's end of the keeper's socketpair, and what both ends share (fork, identity, tree, sweep).
//!
//! - `launch`, `link`, `routing`, `orphans`, `runner`: the supervisor's side
//! - `fork` and `in_flight` (the parent), `newborn` and `raw` (the child), `tree`, `wire`: shared with the keeper; `priority`: its place in the queue for a processor
//! - `identity`, `procfs`, `evidence`, `signal`, `cgroup`: what a process is, whose it is, how it is reached
//! - `rest`: what both give back when nothing happens
//! - `orderly`, `sweep`: the stop of everything when nobody can be asked
//!
//! Linux only so far. Elsewhere this compiles, no identity ever holds, and `Keeper::start` says why it does not.

pub mod cgroup;
pub mod detach;
pub mod evidence;
#[cfg(target_os = "linux")]
pub mod fork;
pub mod identity;
#[cfg(target_os = "linux")]
pub mod in_flight;
#[cfg(target_os = "linux")]
mod launch;
pub mod link;
#[cfg(target_os = "linux")]
mod newborn;
pub mod orderly;
pub mod orphans;
#[cfg(target_os = "linux")]
pub mod priority;
pub mod procfs;
#[cfg(target_os = "linux")]
mod raw;
pub mod reactor;
pub mod rest;
#[cfg(target_os = "linux")]
mod routing;
pub mod runner;
pub mod signal;
pub mod sweep;
pub mod terminal;
pub mod tree;
#[cfg(target_os = "linux")]
pub mod wire;

pub use link::{Keeper, KeeperOptions, Launched, LinkEvent, ProcessEvent};
pub use runner::{Child, Finished, OutputSink, Request, Runner, Stream};
