//! The resolved project.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{ProjectName, ServiceId, ServiceName, VolumeName};
use super::service::ServiceSpec;

/// What survives which verb (`design/procfile.md`, "State on disk").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeClass {
    /// Gone with `down --volumes` and `clean`.
    #[default]
    Persistent,
    /// The same, and `clean --only cache`.
    Cache,
    /// Used in place, never deleted.
    Source,
    /// Gone with each `down`.
    Scratch,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its name.
    pub name: VolumeName,
    /// What survives what.
    pub class: VolumeClass,
    /// Its folder, absolute. It may be a mount point.
    pub path: PathBuf,
    /// Whether the procfile gave the path, so that only `clean --only NAME` may delete it.
    pub placed: bool,
}

/// The resolved project: every placeholder filled in, every name looked up, every default applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Project name.
    pub project: ProjectName,
    /// The procfile's folder, absolute.
    pub root: PathBuf,
    /// Instance name; empty for the usual one.
    pub instance: String,
    /// Mode in force.
    pub mode: Option<String>,
    /// For the whole start.
    pub timeout: Duration,
    /// Opt-in pause between numbered tiers.
    pub tier_pause: Duration,
    /// Labels of tiers.
    pub tiers: BTreeMap<u32, String>,
    /// Services and tasks of the active profiles.
    pub services: BTreeMap<ServiceId, Arc<ServiceSpec>>,
    /// Names that exist in inactive profiles, with the profiles that would bring them.
    pub inactive: BTreeMap<ServiceName, Vec<String>>,
    /// Volumes.
    pub volumes: BTreeMap<VolumeName, VolumeSpec>,
    /// Named queries.
    pub queries: BTreeMap<String, String>,
    /// Values that are masked in everything we print.
    pub masks: BTreeSet<String>,
    /// Variables that are made from secrets, whatever their names say.
    #[serde(default)]
    pub derived: BTreeSet<String>,
    /// Feeds the jitter of back-off; any number.
    pub seed: u64,
}

impl Plan {
    /// The ids of all copies of a service or task, in order.
    pub fn ids_of<'a>(&'a self, name: &'a ServiceName) -> impl Iterator<Item = &'a ServiceId> {
        self.services.values().filter(move |spec| spec.service == *name).map(|spec| &spec.id)
    }
    /// The folders of the scratch volumes that are ours to empty: one that the procfile has placed is not.
    #[must_use]
    pub fn scratch(&self) -> Vec<PathBuf> {
        let scratch = self.volumes.values().filter(|volume| volume.class == VolumeClass::Scratch && !volume.placed);
        scratch.map(|volume| volume.path.clone()).collect()
    }
    /// Resolves what a person typed: a service's name, or the id of one copy.
    #[must_use]
    pub fn lookup(&self, text: &str) -> Vec<ServiceId> {
        self.services
            .values()
            .filter(|spec| spec.id.as_str() == text || spec.service.as_str() == text)
            .map(|spec| spec.id.clone())
            .collect()
    }
}
