//! What a first boot gives.

use std::time::Duration;

/// What came of a first boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstBoot {
    /// Whether anything was made.
    pub outcome: FirstBootOutcome,
    /// What the user should hear of, one line each.
    pub warnings: Vec<String>,
}

/// Whether a first boot made anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstBootOutcome {
    /// The service keeps no data.
    NotNeeded,
    /// It was done before, at this time (RFC 3339).
    Done {
        /// When.
        at: String,
    },
    /// It was done now.
    Made {
        /// All of it.
        took: Duration,
        /// Its steps in order.
        steps: Vec<(&'static str, Duration)>,
    },
}
