//! Processes: the supervisor's end of the keeper's socketpair, and what both ends share (fork, identity, tree, sweep).
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
pub mod evidence;
pub mod file_size;
#[cfg(target_os = "linux")]
pub mod fork;
pub mod holders;
pub mod identity;
#[cfg(target_os = "linux")]
pub mod in_flight;
#[cfg(target_os = "linux")]
mod keeper_watch;
mod kill_sweep;
#[cfg(target_os = "linux")]
mod launch;
pub mod link;
#[cfg(target_os = "linux")]
mod newborn;
pub mod orphans;
#[cfg(target_os = "linux")]
pub mod priority;
pub mod procfs;
pub mod proof;
#[cfg(target_os = "linux")]
mod raw;
pub mod reactor;
pub mod rest;
#[cfg(target_os = "linux")]
mod routing;
pub mod runner;
pub mod shutdown;
pub mod signal;
pub mod sweep;
pub mod terminal;
pub mod tree;
#[cfg(target_os = "linux")]
pub mod wire;

pub use link::{Keeper, KeeperOptions, Launched, LinkEvent, ProcessEvent};
pub use runner::{Child, Finished, OutputSink, Request, Runner, Stream};
