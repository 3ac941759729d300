//! Where a recipe's executables are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a recipe's executables are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The recipe.
    pub recipe: String,
    /// The version the server itself reports.
    pub version: String,
    /// Absolute paths by name (`postgres`, `initdb`, `psql`).
    pub tools: BTreeMap<String, PathBuf>,
    /// Variables the tools need (`LD_LIBRARY_PATH` of an unpacked archive).
    pub env: BTreeMap<String, String>,
    /// `system`, `store`, `path`.
    pub origin: String,
    /// One line for `which`: why this one.
    pub why: String,
}
