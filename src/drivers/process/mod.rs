//! Processes: the supervisor's end of the keeper's socketpair, and what both ends share (fork, identity, tree, sweep).

pub mod link;
pub mod runner;

pub use link::{Keeper, KeeperOptions, LinkEvent, ProcessEvent};
pub use runner::{Child, Finished, OutputSink, Request, Runner, Stream};
