//! The wish to end a long copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use devrun_model::Failure;

/// Set by whoever hears a signal, looked at between files and blocks.
#[derive(Debug, Clone, Default)]
pub struct CopyCancel(Arc<AtomicBool>);

impl CopyCancel {
    /// Ends the work that looks at it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    /// Fails once it was cancelled.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
    }
}
