//! A long piece of work that a signal ends in an orderly way: what was stopped is started again, and no half copy stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use devrun_data::CopyCancel;
use devrun_model::{Failure, FailureKind};

use crate::app::session::Signals;

/// The runtime of such work, and the signal that ended it.
pub struct DataWork {
    /// For everything that waits.
    pub runtime: tokio::runtime::Runtime,
    /// Looked at by copies.
    pub cancel: CopyCancel,
    code: Arc<AtomicI32>,
}

impl DataWork {
    /// From here on INT, TERM and HUP cancel; a second one ends the process at once.
    ///
    /// # Errors
    /// `Internal` when signals or threads cannot be had.
    pub fn begin() -> Result<Self, Failure> {
        let runtime = crate::app::runtime::runtime()?;
        let (cancel, code) = (CopyCancel::default(), Arc::new(AtomicI32::new(0)));
        let mut signals = {
            let _entered = runtime.enter();
            Signals::take()?
        };
        let (watched, seen) = (cancel.clone(), Arc::clone(&code));
        runtime.spawn(async move {
            seen.store(signals.next().await, Ordering::Relaxed);
            watched.cancel();
            std::process::exit(signals.next().await);
        });
        Ok(Self { runtime, cancel, code })
    }

    /// The code of a signal, where that has ended the work; else the failure.
    ///
    /// # Errors
    /// The failure.
    pub fn ended_by(&self, failure: Failure) -> Result<i32, Failure> {
        match self.interrupted() {
            Some(code) if failure.kind == FailureKind::Cancelled => Ok(code),
            _ => Err(failure),
        }
    }

    /// The exit code of the signal that came, if one did.
    #[must_use]
    pub fn interrupted(&self) -> Option<i32> {
        Some(self.code.load(Ordering::Relaxed)).filter(|code| *code != 0)
    }
}
