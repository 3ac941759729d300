//! What a first boot gives.

use std::path::PathBuf;
use std::time::Duration;

use crate::init::{self, Sentinel};
use crate::local_time::local;
use devrun_model::VolumeSpec;

/// A line that devrun writes into a service's output before it runs an init script; the file follows.
pub(crate) const INIT_SCRIPT_BEGINS: &str = "devrun: first boot: running ";
/// And when the script has failed, before its server is stopped.
pub(crate) const INIT_SCRIPT_FAILED: &str = "devrun: first boot: the script failed";

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

/// A warning that names the init files that changed since the first boot.
pub(super) fn changed_scripts(sentinel: &Sentinel, scripts: &[PathBuf], volume: &VolumeSpec) -> Option<String> {
    let changed = sentinel.changed_files(&init::hash_files(scripts));
    let at = local(&sentinel.finished);
    (!changed.is_empty()).then(|| {
        format!(
            "init files changed since the first boot ({at}): {}; they act on an empty volume only: `devrun clean --only {}` empties it, with all data",
            changed.join(", "),
            volume.name
        )
    })
}
