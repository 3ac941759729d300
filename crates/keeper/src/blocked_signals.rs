//! Signals that wait: no handler of ours in a child, and no end of this process at a moment when something would be left.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow};

/// All signals are blocked in this thread, and in the children that it makes, as long as this is there: a handler of ours
/// (tokio's in a supervisor) must never run in a child.
pub struct BlockedSignals(SigSet);

impl BlockedSignals {
    /// Blocks them.
    ///
    /// # Errors
    /// Those of the kernel, which has none for a set of signals.
    pub fn new() -> io::Result<Self> {
        Ok(Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?))
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // A mask that was ours before cannot be refused.
        let _set = self.0.thread_set_mask();
    }
}
