//! What an import is given besides its files, and what it gives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file_fault::FileFault;
use super::report::ConversionReport;

/// A procfile made from foreign files.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The procfile's text.
    pub text: String,
    /// What became of each key.
    pub report: ConversionReport,
    /// What the tool that the files are written for would refuse.
    pub faults: Vec<FileFault>,
    /// How many services and tasks came along.
    pub services: usize,
}

/// What foreign files are read with besides themselves.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The variables of the caller: they win over those of env files.
    pub shell: BTreeMap<String, String>,
    /// Env files that were named (`--env-file`); later ones win, and all win over `.env`.
    pub env_files: Vec<PathBuf>,
    /// Lists the files of a directory, for mounts of whole directories of configuration.
    pub list: Option<fn(&Path) -> Vec<PathBuf>>,
}
