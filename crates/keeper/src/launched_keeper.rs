//! A keeper process before its handshake.

use std::os::fd::OwnedFd;

use super::drivers::launch::KeptMemory;
use super::keeper_spawn::KeeperSpawn;

/// A keeper that waits for its first frame. Dropped, it sees the end of its socket and ends.
#[derive(Debug)]
pub struct LaunchedKeeper {
    /// The process, our child.
    pub(super) pid: i32,
    /// Our end of the socketpair.
    pub(super) socket: OwnedFd,
    /// Where a failed exec is reported: the end of this pipe says that it worked.
    pub(super) errors: OwnedFd,
    /// What it uses of our memory until its exec.
    pub(super) kept: KeptMemory<KeeperSpawn>,
}
