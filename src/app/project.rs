//! Where a project is: known without a valid procfile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use devrun_model::Paths;
use devrun_runtime::ports::PortReservations;

/// Where the project is; known without a valid procfile.
#[derive(Debug, Clone)]
pub struct Project {
    /// Procfiles in order.
    pub files: Vec<PathBuf>,
    /// The first one's folder.
    pub root: PathBuf,
    /// Its folders.
    pub places: Paths,
    /// Instance name, empty for the usual one.
    pub instance: String,
    /// Our environment.
    pub env: BTreeMap<String, String>,
    /// The ports that were chosen for it by this process, set aside as long as it lives.
    pub reserved: Arc<OnceLock<PortReservations>>,
}
