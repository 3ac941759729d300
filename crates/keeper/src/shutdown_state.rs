//! The end: asked for by `Finish`, or because the supervisor is gone. Then the keeper stops the stack by itself, and in both
//! cases it ends what fits no service, proves that nothing is left, writes the result and goes.

use std::time::Instant;

use crate::tree_shutdown::TreeShutdown;
use devrun_model::keeper::ProcessId;

/// How far it is.
pub(super) struct KeeperShutdown {
    pub(super) trees: Option<TreeShutdown>,
    pub(super) strays_since: Option<Instant>,
    pub(super) warned: Vec<(i32, u64)>,
    pub(super) next: Option<Instant>,
    pub(super) killing_since: Option<Instant>,
    pub(super) commands: ProcessId,
}

impl KeeperShutdown {
    /// By `Finish`: everything is stopped already.
    pub(super) fn requested() -> Self {
        Self {
            trees: None,
            strays_since: None,
            warned: Vec::new(),
            next: Some(Instant::now()),
            killing_since: None,
            // Numbers of our own, far above the supervisor's.
            commands: 1 << 40,
        }
    }
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.next
    }
}
