//! How to look for a binary, and where to put it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::download_progress::DownloadProgress;

/// How to look and where to put.
#[derive(Clone)]
pub struct FetchOptions {
    /// The store (`NAME/VERSION-HASH/`).
    pub store: PathBuf,
    /// `devrun.lock`.
    pub lock_file: PathBuf,
    /// No network at all.
    pub offline: bool,
    /// A base URL or `file://` directory that stands in for every vendor host.
    pub mirror: Option<String>,
    /// The caller's environment: PATH, and what registry clients need.
    pub env: BTreeMap<String, String>,
    /// Who watches.
    pub progress: Arc<dyn DownloadProgress>,
}
