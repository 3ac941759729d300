//! One-time work on disk: the stage of a first boot, sentinels of tasks, intent records.

use crate::model::{Failure, Once, VolumeSpec};

/// What the volume says of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Never done.
    Fresh,
    /// Done at this time (RFC 3339), with these inputs.
    Done {
        /// When.
        at: String,
    },
    /// Done, with other inputs.
    Changed {
        /// When.
        at: String,
    },
    /// Begun, never ended: what it did is not known.
    Indeterminate {
        /// When it began.
        since: String,
    },
}

/// Reads sentinel and intent record.
///
/// # Errors
/// When they cannot be read.
pub fn standing(_volume: &VolumeSpec, _once: &Once, _hash: &str) -> Result<Standing, Failure> {
    unimplemented!()
}
/// Writes the intent record, durably.
///
/// # Errors
/// When it cannot be written.
pub fn begin(_volume: &VolumeSpec, _once: &Once, _hash: &str) -> Result<(), Failure> {
    unimplemented!()
}
/// Takes the intent record back after a failure that was seen to its end.
///
/// # Errors
/// When it cannot be removed.
pub fn abandon(_volume: &VolumeSpec, _once: &Once) -> Result<(), Failure> {
    unimplemented!()
}
/// Writes the sentinel, durably, and removes the intent record.
///
/// # Errors
/// When it cannot be written.
pub fn seal(_volume: &VolumeSpec, _once: &Once, _hash: &str, _took: std::time::Duration) -> Result<(), Failure> {
    unimplemented!()
}
