//! What supervisor and keeper say to each other over their socketpair. Both ends are one binary, so there are no
//! versions on this wire; frames are length-prefixed JSON, descriptors travel beside the frame they belong to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::name::ServiceId;
use super::policy::{Signal, StopTo};

/// Identifies one process that the keeper started, for the life of the supervisor.
pub type ProcessId = u64;

/// What a process is for; part of the journal, and how the keeper orders its own stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The service or the task's command itself.
    Main,
    /// First boot and other init steps.
    Init,
    /// `pre_start`.
    PreStart,
    /// `stop.command`.
    StopCommand,
    /// A `cmd` probe.
    Probe,
    /// A build.
    Build,
}

/// Under which OS identity a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunAs {
    /// Ours.
    #[default]
    Same,
    /// A user namespace in which our uid appears as this ordinary one; files stay ours.
    Namespace {
        /// Uid inside.
        uid: u32,
        /// Gid inside.
        gid: u32,
    },
    /// Another user (root only).
    User {
        /// Uid.
        uid: u32,
        /// Gid.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
}

/// Everything the keeper needs to start one process and to stop it alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpawnSpec {
    /// Chosen by the supervisor, never used twice.
    pub process: ProcessId,
    /// Whose process.
    pub service: ServiceId,
    /// Which generation of the service.
    pub generation: u64,
    /// What it is for.
    pub role: Role,
    /// The executable, absolute.
    pub program: PathBuf,
    /// The words, the first being the name the program sees.
    pub argv: Vec<String>,
    /// The whole environment, marks included.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub dir: PathBuf,
    /// OS identity.
    pub run_as: RunAs,
    /// RLIMIT_NOFILE, soft and hard as far as allowed.
    pub nofile: Option<u64>,
    /// Cores for the whole tree, where its cgroup can limit them.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// Bytes of memory for the whole tree, where its cgroup can limit it.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Processes and threads of the whole tree, where its cgroup can limit them.
    #[serde(default)]
    pub pids: Option<u64>,
    /// Umask; absent: inherited.
    pub umask: Option<u32>,
    /// A terminal of its own in the place of the log pipes.
    pub tty: bool,
    /// Standard input stays open and never holds anything; else it is `/dev/null`. A terminal has its own.
    #[serde(default)]
    pub open_stdin: bool,
    /// The names of its listening sockets, which come along with the frame: they are its descriptors from 3 on
    /// (`LISTEN_FDNAMES`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<String>,
    /// The alive lock of this generation; its shared lock is inherited by the process.
    pub lock: PathBuf,
    /// Where the keeper appends output while no supervisor reads it.
    pub log: Option<PathBuf>,
    /// Command names that may outlive it.
    pub spare: Vec<String>,
    /// How the keeper stops it when the supervisor is gone.
    pub stop: StopOrder,
}

impl SpawnSpec {
    /// A main process without words, environment, limits, terminal, sockets and log, in the root directory, as the caller's user.
    #[must_use]
    pub fn plain(
        process: ProcessId,
        service: ServiceId,
        generation: u64,
        program: PathBuf,
        lock: PathBuf,
        stop: StopOrder,
    ) -> Self {
        Self {
            process,
            service,
            generation,
            role: Role::Main,
            program,
            argv: Vec::new(),
            env: Vec::new(),
            dir: PathBuf::from("/"),
            run_as: RunAs::Same,
            nofile: None,
            cpu: None,
            memory: None,
            pids: None,
            umask: None,
            tty: false,
            open_stdin: false,
            sockets: Vec::new(),
            lock,
            log: None,
            spare: Vec::new(),
            stop,
        }
    }
    /// What is needed of it once it runs. Words and environment are the process's own by then, and there is one for each
    /// process; only a stop command still asks for the environment, and the marks tell whose it is.
    #[must_use]
    pub fn of_running(mut self) -> Self {
        self.keep_what_running_needs();
        self
    }
    /// The same, where it is.
    pub fn keep_what_running_needs(&mut self) {
        if self.stop.command.is_none() {
            self.argv = Vec::new();
            self.env.retain(|(name, _)| name.starts_with("DEVRUN_"));
            self.env.shrink_to_fit();
        }
    }
}

/// The stop of one process, and its place in the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StopOrder {
    /// The first signal.
    pub signal: Signal,
    /// Who gets it first.
    pub to: StopTo,
    /// From the first signal to SIGKILL.
    pub grace_ms: u64,
    /// A stronger signal at the end of the grace, 2 s before SIGKILL.
    pub then: Option<Signal>,
    /// A command to run before the signal: program, argv. It gets the process's environment and directory.
    pub command: Option<Vec<String>>,
    /// Services that this one depends on: they are stopped only after it.
    pub before: Vec<ServiceId>,
    /// The numbered tier of the service: higher ones are stopped first.
    #[serde(default)]
    pub tier: Option<u32>,
}

impl StopOrder {
    /// TERM to the leader, after nobody else. `grace_ms`: milliseconds from there to SIGKILL.
    #[must_use]
    pub fn plain(grace_ms: u64) -> Self {
        Self { signal: Signal::TERM, to: StopTo::Leader, grace_ms, then: None, command: None, before: Vec::new(), tier: None }
    }
}

/// Supervisor to keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToKeeper {
    /// The first frame.
    Hello(KeeperHello),
    /// Start a process. Never waits for an earlier one.
    Spawn(Box<SpawnSpec>),
    /// Begin the orderly stop: signal by `stop.to`, and the same signal to what is left when the leader is gone.
    Stop {
        /// Which one.
        process: ProcessId,
        /// In the place of the recorded signal.
        signal: Option<Signal>,
    },
    /// One signal to the leader, nothing more.
    Signal {
        /// Which one.
        process: ProcessId,
        /// Which signal.
        signal: Signal,
    },
    /// One signal to the whole tree at once: `stop.then`.
    SignalTree {
        /// Which one.
        process: ProcessId,
        /// Which signal.
        signal: Signal,
    },
    /// SIGKILL to the whole tree until it is empty.
    Kill {
        /// Which one.
        process: ProcessId,
    },
    /// Everything is stopped: end strays that fit no service, prove that nothing is left, write the result, exit.
    Finish,
    /// Answered with `Pong` once everything before it has been obeyed.
    Ping,
}

/// A process started by an earlier keeper of the same supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inherited {
    /// Its spec, for stop signal, grace and order.
    pub spec: SpawnSpec,
    /// Its leader.
    pub identity: Identity,
}

/// The keeper's first frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeeperHello {
    /// 128 random bits in hex: the value of `DEVRUN_RUN_ID`.
    pub run: String,
    /// Project, for the journal.
    pub project: String,
    /// The procfile's folder.
    pub root: PathBuf,
    /// The journal; the keeper alone writes it.
    pub journal: PathBuf,
    /// Whether cgroups may be used.
    pub cgroup: bool,
    /// The supervisor.
    pub supervisor: Identity,
    /// What an earlier keeper of the same run has left to the supervisor; empty for the first keeper. It is part of the first
    /// frame so that no keeper is ever ready without it.
    pub inherited: Vec<Inherited>,
}

/// A process beyond its number: pid, start time in clock ticks since boot, and the boot's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The number, never evidence by itself.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat` (proc(5)); on macOS microseconds.
    pub start: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// By exit, with this code.
    Code(i32),
    /// By this signal.
    Signal(Signal),
    /// Not known: it was not our child when it ended.
    Unknown,
}

impl ExitStatus {
    /// Exit 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
    /// The shell's number: the code, or 128 + signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal.0,
            Self::Unknown => 125,
        }
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => write!(f, "killed by {signal}"),
            Self::Unknown => f.write_str("ended, how is not known"),
        }
    }
}

/// Keeper to supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromKeeper {
    /// Up, subreaper, journal open. The answer to `Hello`.
    Ready {
        /// The keeper.
        identity: Identity,
        /// What of the containment is not in effect here, one fragment each (`cgroup: read-only file system`).
        without: Vec<String>,
    },
    /// The child was released after its journal line. Two descriptors come along: read ends of stdout and stderr; with
    /// `tty` one: the terminal's other side.
    Spawned {
        /// Which one.
        process: ProcessId,
        /// The leader.
        identity: Identity,
    },
    /// No process came of it.
    SpawnFailed {
        /// Which one.
        process: ProcessId,
        /// The step: `fork`, `chdir`, `exec`, …
        step: String,
        /// errno.
        errno: i32,
    },
    /// The leader ended. Its tree may live on.
    Exited {
        /// Which one.
        process: ProcessId,
        /// How.
        status: ExitStatus,
        /// What of its tree lived on at that moment: pid and command.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<(i32, String)>,
    },
    /// Nothing is left of the process's tree; the last word about it.
    TreeEmpty {
        /// Which one.
        process: ProcessId,
    },
    /// Pids of a tree that stay after SIGKILL (uninterruptible sleep), with their command names.
    Survivors {
        /// Which one.
        process: ProcessId,
        /// Pid and command.
        pids: Vec<(i32, String)>,
    },
    /// The answer to `Ping`.
    Pong,
    /// The answer to `Finish`, before the keeper exits: what could not be ended, or nothing.
    Finished {
        /// Pid and command.
        survivors: Vec<(i32, String)>,
    },
}
