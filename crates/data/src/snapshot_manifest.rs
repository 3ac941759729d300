//! What a snapshot says of itself: `manifest.json` in its directory. It holds no secret value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::git_head::GitHead;

/// The layout of the file.
pub(crate) const LAYOUT: u32 = 1;

/// The server that made the data of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataEngine {
    /// The recipe: `postgres`.
    pub recipe: String,
    /// The version that made the data.
    pub version: String,
}

impl DataEngine {
    /// The first number of a version: servers read data of the same major version only.
    #[must_use]
    pub fn major(version: &str) -> &str {
        version.split(['.', '-', ' ']).next().unwrap_or(version)
    }
}

/// One volume of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotVolume {
    /// Its name in the procfile.
    pub name: String,
    /// `persistent` or `cache`.
    pub class: String,
    /// What made the data, where a recipe did.
    pub engine: Option<DataEngine>,
    /// Regular files.
    pub files: u64,
    /// Their lengths together.
    pub bytes: u64,
}

/// One service at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotService {
    /// Its name.
    pub name: String,
    /// Its recipe, if it has one.
    pub recipe: Option<String>,
    /// The version that ran, where that is known.
    pub version: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotManifest {
    /// The layout of this file.
    pub devrun: u32,
    /// The snapshot's name.
    pub name: String,
    /// RFC 3339, UTC.
    pub made_at: String,
    /// The version of devrun.
    pub by: String,
    /// Project name.
    pub project: String,
    /// Instance; empty for the usual one.
    pub instance: String,
    /// Mode.
    pub mode: Option<String>,
    /// The checkout's branch and commit, in a git repository.
    pub git: Option<GitHead>,
    /// Whether the stack was running.
    pub running: bool,
    /// How long services were stopped for it.
    pub pause_ms: Option<u64>,
    /// Whether its files share their blocks with the volumes.
    pub cloned: bool,
    /// Services.
    pub services: Vec<SnapshotService>,
    /// Volumes, by name.
    pub volumes: Vec<SnapshotVolume>,
    /// Names of the secrets that are kept with it.
    pub secrets: Vec<String>,
    /// Rows, keys or objects of each store, by service; only of servers that ran and could be asked.
    #[serde(default)]
    pub counts: BTreeMap<String, BTreeMap<String, u64>>,
}

impl SnapshotManifest {
    /// A manifest of the present layout and time, with nothing in it yet.
    #[must_use]
    pub fn new(name: &str, project: &str) -> Self {
        Self {
            devrun: LAYOUT,
            name: name.to_owned(),
            made_at: crate::durable::now(),
            by: env!("CARGO_PKG_VERSION").to_owned(),
            project: project.to_owned(),
            instance: String::new(),
            mode: None,
            git: None,
            running: false,
            pause_ms: None,
            cloned: false,
            services: Vec::new(),
            volumes: Vec::new(),
            secrets: Vec::new(),
            counts: BTreeMap::new(),
        }
    }
    /// The lengths of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors() {
        for (version, major) in [("16.4", "16"), ("7.2.5", "7"), ("16", "16"), ("5.26.0-x", "5"), ("RELEASE", "RELEASE")] {
            assert_eq!(DataEngine::major(version), major);
        }
    }
}
