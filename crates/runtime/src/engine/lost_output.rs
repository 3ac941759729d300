//! What of a service's output log files could not take (a full disk).

use devrun_logs::LogLoss;

/// What of a service's output was lost.
#[derive(Debug, Default)]
pub(super) struct LostOutput {
    /// It is still being lost.
    pub(super) now: Option<LogLoss>,
    /// Ended losses together.
    pub(super) before: Option<LogLoss>,
}

impl LostOutput {
    /// A fragment for `ps`.
    pub(super) fn reason(&self) -> Option<String> {
        match (&self.now, &self.before) {
            (Some(now), _) => Some(format!("{now}; output is not kept")),
            (None, before) => before.as_ref().map(ToString::to_string),
        }
    }
}
