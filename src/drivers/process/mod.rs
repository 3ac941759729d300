//! Processes: the supervisor's end of the keeper's socketpair, and what both ends share (fork, identity, tree, sweep).

pub mod cgroup;
pub mod evidence;
pub mod fork;
pub mod identity;
pub mod link;
pub mod orderly;
pub mod orphans;
pub mod procfs;
pub mod runner;
pub mod signal;
pub mod sweep;
pub mod tree;
pub mod wire;

pub use link::{Keeper, KeeperOptions, LinkEvent, ProcessEvent};
pub use runner::{Child, Finished, OutputSink, Request, Runner, Stream};
