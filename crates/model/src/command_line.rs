//! A command as it is executed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A command with every placeholder resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    /// One word each; the first is looked up in the service's own `PATH` and directory.
    /// Where a shell is used this is `["sh", "-c", SCRIPT]`.
    pub argv: Vec<String>,
    /// Variables by which values travel into a shell script, so that none is split or expanded a second time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}
