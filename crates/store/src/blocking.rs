//! Blocking work off the event loop.

use devrun_model::{Failure, FailureKind};

/// Runs blocking work off the event loop.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, format!("work on a binary did not end: {error}")))
}
