//! A stack as containers: what `export compose` and `export kubernetes` have in common, before either writes it down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use devrun_model::service::Limits;
use devrun_model::{Condition, RestartPolicy, Signal};

use super::losses::Losses;
use super::template::ExportText;

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    pub project: String,
    pub workloads: Vec<Workload>,
    /// Volumes by name.
    pub volumes: BTreeSet<String>,
    /// Secrets that are used, and their files.
    pub secrets: BTreeMap<String, PathBuf>,
    pub losses: Losses,
}

/// Where a container's file system comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    ContainerImage(ExportText),
    /// A directory, relative to the project's.
    Build(String),
}

/// One service or task.
#[derive(Debug)]
pub(crate) struct Workload {
    pub name: String,
    pub is_task: bool,
    pub is_gateway: bool,
    /// A server of a recipe with an image that is known.
    pub is_recipe: bool,
    /// What its image starts, where that is known and not `command` alone.
    pub program: &'static [&'static str],
    pub origin: Origin,
    /// In the place of the image's entry point.
    pub entrypoint: Vec<ExportText>,
    /// Arguments, in the place of the image's own.
    pub command: Vec<ExportText>,
    pub env: Vec<(String, ExportText)>,
    /// `NAME` → `NAME_FILE` where the value is a secret.
    pub reads_files: Vec<String>,
    /// Variables that hold the path of a secret; the value here is the secret.
    pub secret_paths: Vec<String>,
    /// Paths relative to the project, and whether one must be there.
    pub env_files: Vec<(String, bool)>,
    pub mounts: Vec<ContainerMount>,
    /// Files with their content.
    pub files: Vec<(String, ExportText)>,
    pub ports: Vec<Port>,
    pub ready: Option<Health>,
    pub alive: Option<Health>,
    /// Liveness failures restart it.
    pub restarts_unhealthy: bool,
    pub edges: Vec<ContainerEdge>,
    pub restart: RestartPolicy,
    /// The procfile says so.
    pub asks_restart: bool,
    pub signal: Option<Signal>,
    pub grace: Option<Duration>,
    pub replicas: u32,
    pub limits: Limits,
    pub reserve: Limits,
    pub profiles: Vec<String>,
    pub log: Option<(u64, u32)>,
    pub user: Option<String>,
    pub tty: bool,
    pub start_first: Option<bool>,
    pub description: Option<String>,
    /// Labels and paths for the table of addresses.
    pub links: BTreeMap<String, String>,
    /// The sentinel of a task: its volume and the file in it.
    pub once: Option<(String, String)>,
    /// Of a task.
    pub timeout: Option<Duration>,
    /// Names on the host that it must reach.
    pub reaches_host: bool,
    /// Of a gateway: what it routes, for an Ingress.
    pub routes: Vec<(String, bool)>,
}

/// What a container sees of the project or of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerMount {
    pub source: MountSource,
    pub target: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountSource {
    Volume(String),
    /// Relative to the project.
    Path(String),
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Port {
    pub name: String,
    pub inside: ExportText,
    pub publish: Publish,
}

/// Whether and where a port can be reached from outside the stack.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Publish {
    No,
    /// A port that is free.
    Any {
        host: String,
    },
    At {
        host: String,
        port: ExportText,
    },
}

/// A probe with its timings.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub probes: Vec<Probe>,
    pub any: bool,
    pub interval: Duration,
    pub timeout: Duration,
    pub retries: u32,
    pub start_period: Duration,
    pub start_interval: Duration,
    pub within: Duration,
}

/// What is asked, inside the container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Probe {
    Http {
        port: ExportText,
        tls: bool,
        path: String,
        headers: BTreeMap<String, String>,
        command: Option<ExportText>,
    },
    Tcp {
        port: ExportText,
        command: Option<ExportText>,
    },
    Grpc {
        port: ExportText,
        service: String,
    },
    /// A line for a shell.
    Shell(ExportText),
    Exec(Vec<ExportText>),
}

/// What must hold of another one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerEdge {
    pub on: String,
    pub condition: Condition,
    pub required: bool,
    pub restart: bool,
}
