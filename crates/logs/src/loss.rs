//! Output that a log file does not take: counted by the file, or here while there is none, and told to the engine.

use devrun_model::{ServiceId, service::LogSpec};

use super::rotating_log_file::LogLoss;

/// News of output that a log file could not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossReport {
    /// Whose.
    pub id: ServiceId,
    /// How much, since it began.
    pub loss: LogLoss,
    /// Writing works again.
    pub over: bool,
}

/// A log that cannot be opened.
pub(super) struct UnopenedLog {
    pub spec: LogSpec,
    /// When it was last tried.
    pub tried: i64,
    pub loss: LogLoss,
}
