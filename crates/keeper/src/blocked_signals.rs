//! No signal handler of ours in a child.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow};

/// All signals are blocked in this thread, and in the children that it makes, as long as this is there: a handler of ours
/// (tokio's in a supervisor) must never run in a child.
pub(super) struct BlockedSignals(SigSet);

impl BlockedSignals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?))
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // A mask that was ours before cannot be refused.
        let _set = self.0.thread_set_mask();
    }
}
