//! Why a service is stopped.

use devrun_model::StopPurpose;

/// Why a service is stopped, where that is more than that it was not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// On request: it stays stopped until it is started.
    Requested(StopPurpose),
    /// The procfile no longer has it.
    Removed,
    /// There are to be fewer copies.
    ScaledDown,
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Requested(purpose) => purpose.fmt(out),
            Self::Removed => out.write_str("no longer in the procfile"),
            Self::ScaledDown => out.write_str("scaled down"),
        }
    }
}
