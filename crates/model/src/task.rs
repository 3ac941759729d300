//! One-time work: what a task does, and the sentinel that says it was done.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{ServiceId, VolumeName};

/// What a task's sentinel does when the inputs have changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// Say so, do not run.
    #[default]
    Warn,
    /// Run again.
    Rerun,
    /// Fail the task.
    Fail,
}

/// The sentinel: it lies in the volume it vouches for, so wiping the volume re-arms the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// The volume.
    pub volume: VolumeName,
    /// The file's name in it, beside the engine's own folder.
    pub name: String,
}

/// Work that needs no process of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// SQL files or a statement, against a Postgres service.
    Sql {
        /// Files, in order.
        files: Vec<PathBuf>,
        /// Or the statement itself.
        text: Option<String>,
    },
    /// Cypher files over Neo4j.
    Cypher {
        /// Files, in order.
        files: Vec<PathBuf>,
    },
    /// Buckets of an S3 service.
    Buckets {
        /// Name and anonymous policy (`none`, `download`, `upload`, `public`).
        buckets: Vec<(String, String)>,
    },
    /// Collections of Qdrant: name and the JSON body.
    Collections {
        /// Name and body.
        collections: Vec<(String, String)>,
    },
    /// Models of Ollama.
    Models {
        /// Name, and the file that it is made from; without one it is pulled.
        models: Vec<(String, Option<PathBuf>)>,
    },
    /// Indexes of Meilisearch: uid and primary key.
    Indexes {
        /// uid and primary key.
        indexes: Vec<(String, Option<String>)>,
    },
}

/// A task's own keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The sentinel; absent: runs at every start.
    pub once: Option<Once>,
    /// An interrupted run may simply be run again.
    pub idempotent: bool,
    /// When the inputs changed.
    pub on_change: OnChange,
    /// How long it may run.
    pub timeout: Duration,
    /// Our own work; absent: the task runs its command.
    pub work: Option<Work>,
    /// The server that `work` speaks to.
    pub on: Option<ServiceId>,
    /// Files whose content belongs to the sentinel's hash.
    pub inputs: Vec<PathBuf>,
    /// Globs of further such files, relative to the project.
    pub input_globs: Vec<String>,
}
