//! What is wrong with a foreign file that its own tool would refuse.

use super::report::At;

/// A fault of a foreign file, at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// Where it is.
    pub at: At,
    /// A lowercase fragment that names the service and the reason.
    pub message: String,
    /// What to change.
    pub help: String,
}
