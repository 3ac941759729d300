//! One service or task of the resolved project: nothing in it needs looking up any more.

use super::command_line::CommandLine;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bytes::ByteSize;
use super::copies::SharedAddress;
use super::name::{ServiceId, ServiceName, VolumeName};
use super::policy::{Backoff, RestartPolicy, StopSpec, UpdateSpec};
use super::ready::{Check, ReadySpec};
use super::recipe::{RecipeUse, ServerDump};
use super::task::TaskSpec;

/// Service or task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Stays up.
    Service,
    /// Runs to its end.
    Task,
}

/// What is behind a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Launch {
    /// A command of the user's.
    Run(CommandLine),
    /// A recipe: binary, first boot and argv come from it.
    Recipe(Box<RecipeUse>),
    /// Somebody else's server: probed, never spawned.
    External {
        /// Its address.
        url: String,
    },
    /// A task whose work we do ourselves (`sql`, `buckets`, …); see [`TaskSpec::work`].
    Work,
}

/// What must hold of a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It was spawned.
    Started,
    /// Its probe passed.
    Healthy,
    /// The task is done.
    Completed,
}

impl Condition {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Healthy => "healthy",
            Self::Completed => "completed",
        }
    }
}

/// One edge of the graph, replica by replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// On whom.
    pub on: ServiceId,
    /// What must hold.
    pub condition: Condition,
    /// False: a dependency that cannot meet its condition does not hold us up.
    pub required: bool,
    /// Restart us when it is restarted.
    pub restart: bool,
}

/// Where a service's log goes to and how it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// `true`: an envelope per line; else the raw bytes.
    pub json: bool,
    /// A live file of this size is rotated.
    pub max_size: ByteSize,
    /// Files kept, the live one included.
    pub max_files: u32,
    /// Files of the service's own that are followed too.
    pub files: Vec<PathBuf>,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { json: false, max_size: ByteSize(10 * 1024 * 1024), max_files: 3, files: Vec::new() }
    }
}

/// What a service may use, and what it wants set aside.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Cores.
    pub cpu: Option<f64>,
    /// Memory.
    pub memory: Option<ByteSize>,
    /// Open files.
    pub nofile: Option<u64>,
    /// Processes and threads of the whole tree, 1 or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

impl Limits {
    /// The limits that a cgroup keeps, by the name of the key, which is that of the kernel's controller too, and whether each is set.
    #[must_use]
    pub fn of_cgroup(&self) -> [(&'static str, bool); 3] {
        [("cpu", self.cpu.is_some()), ("memory", self.memory.is_some()), ("pids", self.pids.is_some())]
    }
}

/// What to do when a running service turns unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    /// Show it.
    #[default]
    Ignore,
    /// Through the restart policy, as if it had crashed.
    Restart,
    /// Stop it.
    Stop,
}

/// A server that can be asked whether a stop would cut something short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Postgres.
    Postgres,
    /// Redis or Valkey.
    Redis,
}

/// One copy of a service, or a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// `api`, `worker.2`.
    pub id: ServiceId,
    /// The procfile's name.
    pub service: ServiceName,
    /// From 1.
    pub replica: u32,
    /// How many copies there are.
    pub replicas: u32,
    /// Service or task.
    pub kind: Kind,
    /// The tier the procfile numbers: a barrier. Absent: edges alone decide.
    pub tier: Option<u32>,
    /// Depth in the graph from 1, for the view.
    pub depth: u32,
    /// What is behind it.
    pub launch: Launch,
    /// The working directory, absolute.
    pub dir: PathBuf,
    /// The whole environment of the child but for our evidence marks, which `exec` and `shell` must not hand out.
    pub env: BTreeMap<String, String>,
    /// The names in `env` that only came along from the caller's shell. A second `up` from another terminal finds other
    /// values there; that is no change of the service.
    #[serde(default)]
    pub inherited: BTreeSet<String>,
    /// Run before every start, in the same environment.
    pub pre_start: Option<CommandLine>,
    /// `devrun build`, `up --build`.
    pub build: Option<CommandLine>,
    /// The address it listens on.
    pub bind: String,
    /// `main` and the named ones, in the procfile's order.
    pub ports: BTreeMap<String, u16>,
    /// It does not bind its main port: it gets the listening socket as its descriptor 3 (sd_listen_fds(3)), all copies the same.
    #[serde(default)]
    pub listen: bool,
    /// It is started by its first connection, and stopped after this time without one; zero: it is not stopped.
    #[serde(default)]
    pub on_demand: Option<Duration>,
    /// The address that it shares with the other copies; its own main port is another one then.
    #[serde(default)]
    pub shared: Option<SharedAddress>,
    /// What `${service.X}` gives: host port addr url user password database data ports.NAME.
    pub attributes: BTreeMap<String, String>,
    /// Edges, replica by replica.
    pub depends_on: Vec<Dependency>,
    /// Readiness; absent: started is enough.
    pub ready: Option<ReadySpec>,
    /// Liveness.
    pub alive: Option<ReadySpec>,
    /// On turning unhealthy.
    pub on_unhealthy: OnUnhealthy,
    /// Restart policy.
    pub restart: RestartPolicy,
    /// The wait between quick crashes.
    pub backoff: Backoff,
    /// How it is stopped.
    pub stop: StopSpec,
    /// How several copies are restarted.
    #[serde(default)]
    pub update: UpdateSpec,
    /// Its main volume.
    pub data: Option<VolumeName>,
    /// Further volumes.
    pub volumes: Vec<VolumeName>,
    /// Where its further volumes lie, absolute. Its main one is the attribute `data`.
    #[serde(default)]
    pub volume_paths: BTreeMap<VolumeName, PathBuf>,
    /// Limits.
    pub limits: Limits,
    /// Reservations.
    pub reserve: Limits,
    /// An absent binary or a failed start does not hold dependents up.
    pub optional: bool,
    /// Another OS user to run as.
    pub user_id: Option<String>,
    /// A terminal of its own.
    pub tty: bool,
    /// Log.
    pub log: LogSpec,
    /// Globs; a change restarts it.
    pub watch: Vec<String>,
    /// Rendered files: text already filled in, by path relative to the service's runtime folder.
    pub render: BTreeMap<String, String>,
    /// For the URL table.
    pub description: Option<String>,
    /// For the URL table: label and path or URL.
    pub links: BTreeMap<String, String>,
    /// A task's own keys.
    pub task: Option<TaskSpec>,
    /// Variables that hold the marker of a missing key; non-empty: blocked.
    pub missing: Vec<String>,
}

impl ServiceSpec {
    /// An attribute; one that is empty is none.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.attributes.get(name).filter(|value| !value.is_empty()).cloned()
    }
    /// A bare service that runs `argv`; the defaults of the contract for all else. For tests and for throw-away stacks.
    #[must_use]
    pub fn bare(name: ServiceName, dir: PathBuf, argv: Vec<String>) -> Self {
        Self {
            id: ServiceId::single(&name),
            service: name,
            replica: 1,
            replicas: 1,
            kind: Kind::Service,
            tier: None,
            depth: 1,
            launch: Launch::Run(CommandLine { argv, env: BTreeMap::new() }),
            dir,
            env: BTreeMap::new(),
            inherited: BTreeSet::new(),
            pre_start: None,
            build: None,
            bind: "127.0.0.1".to_owned(),
            ports: BTreeMap::new(),
            listen: false,
            on_demand: None,
            shared: None,
            attributes: BTreeMap::new(),
            depends_on: Vec::new(),
            ready: None,
            alive: None,
            on_unhealthy: OnUnhealthy::Ignore,
            restart: RestartPolicy::No,
            backoff: Backoff::default(),
            stop: StopSpec::default(),
            update: UpdateSpec::default(),
            data: None,
            volumes: Vec::new(),
            volume_paths: BTreeMap::new(),
            limits: Limits::default(),
            reserve: Limits::default(),
            optional: false,
            user_id: None,
            tty: false,
            log: LogSpec::default(),
            watch: Vec::new(),
            render: BTreeMap::new(),
            description: None,
            links: BTreeMap::new(),
            task: None,
            missing: Vec::new(),
        }
    }
    /// Whether one run of the `build` in their directory does for both: copies of a service, or the same command as the same user in
    /// the same environment, apart from what devrun itself sets for each service.
    #[must_use]
    pub fn has_same_build(&self, other: &Self) -> bool {
        let is_of_service = |name: &str| {
            let start = ["PORT_", "DEVRUN_", "OTEL_"].iter().any(|start| name.starts_with(start));
            start || name == "PORT"
        };
        let env = |spec: &Self| -> BTreeMap<String, String> {
            spec.env.iter().filter(|(name, _)| !is_of_service(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let is_copy = self.service == other.service;
        is_copy || self.build == other.build && self.user_id == other.user_id && env(self) == env(other)
    }
    /// The tier that `ps` and the progress lines show.
    #[must_use]
    pub fn shown_tier(&self) -> u32 {
        self.tier.unwrap_or(self.depth)
    }
    /// Whom `stop.check` asks: a server known by its recipe, or by the kind of its probe.
    #[must_use]
    pub fn stop_asks(&self) -> Option<Server> {
        if let Launch::Recipe(recipe) = &self.launch {
            match recipe.recipe.name.as_str() {
                "postgres" => return Some(Server::Postgres),
                "redis" | "valkey" => return Some(Server::Redis),
                _ => {}
            }
        }
        let checks = self.ready.as_ref().map(|ready| ready.checks.as_slice()).unwrap_or_default();
        checks.iter().find_map(|check| match check {
            Check::Pg { .. } | Check::Sql { .. } => Some(Server::Postgres),
            Check::Redis { .. } => Some(Server::Redis),
            _ => None,
        })
    }
    /// The logical dump that `backup` takes of it, as its recipe says.
    #[must_use]
    pub fn dump(&self) -> Option<ServerDump> {
        match &self.launch {
            Launch::Recipe(recipe) => recipe.recipe.dump,
            _ => None,
        }
    }
    /// The main port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.ports.get("main").copied()
    }
    /// How long a task may run; services have no such limit.
    #[must_use]
    pub fn task_timeout(&self) -> Option<Duration> {
        self.task.as_ref().map(|task| task.timeout)
    }
}
