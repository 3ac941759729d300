//! What a keeper is started with, what it is asked, and what it reports.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use devrun_model::keeper::{ExitStatus, Identity, KeeperHello, ProcessId, SpawnSpec};
use devrun_model::{Failure, FailureKind, Signal};

/// What a keeper is started with.
#[derive(Debug, Clone)]
pub struct KeeperOptions {
    /// The binary to run as `__keeper`; ours (`/proc/self/exe`) outside tests.
    pub program: PathBuf,
    /// Its first frame; `supervisor` is filled in by `start`.
    pub hello: KeeperHello,
    /// This process is a supervisor and nothing else: it starts nothing in another session itself. So what is its child in one came
    /// from a keeper that was lost, and is ended with the run.
    pub owns_children: bool,
}

/// One process's news.
#[derive(Debug)]
pub enum ProcessEvent {
    /// It runs: exec worked. Read ends of its output; with a terminal only `stdout`, the terminal's other side.
    Spawned {
        /// Which one.
        process: ProcessId,
        /// The leader.
        identity: Identity,
        /// Standard output, non-blocking.
        stdout: OwnedFd,
        /// Standard error, non-blocking.
        stderr: Option<OwnedFd>,
    },
    /// The process could not be started. No other event came before and none follows.
    SpawnFailed {
        /// Which one.
        process: ProcessId,
        /// Where it failed; `keeper` when the keeper died over it.
        step: String,
        /// Why.
        errno: i32,
    },
    /// The leader ended.
    Exited {
        /// Which one.
        process: ProcessId,
        /// How.
        status: ExitStatus,
        /// What of its tree lived on at that moment: pid and command.
        left: Vec<(i32, String)>,
    },
    /// Nothing is left of its tree; the last word.
    TreeEmpty {
        /// Which one.
        process: ProcessId,
    },
    /// What stays after SIGKILL. Not the last word: `TreeEmpty` follows should it go after all.
    Survivors {
        /// Which one.
        process: ProcessId,
        /// Pid and command.
        pids: Vec<(i32, String)>,
    },
}

/// The keeper's own news.
#[derive(Debug)]
pub enum KeeperEvent {
    /// Up; what of the containment is not in effect here. Sent again for each new keeper.
    Ready {
        /// The keeper.
        identity: Identity,
        /// What is missing, a fragment each.
        without: Vec<String>,
    },
    /// It died; a new one is being started. Processes live on, and their events go on.
    Lost,
    /// No new one could be started; the supervisor must stop everything.
    Gone(Failure),
}

/// What a handle asks of the keeper.
#[derive(Debug)]
pub enum HandleRequest {
    /// A process, with the sockets it listens on; its news go to the sender.
    Spawn(Box<SpawnSpec>, Vec<Arc<OwnedFd>>, mpsc::UnboundedSender<ProcessEvent>),
    /// The orderly stop of a process, by another signal than its own where one is named.
    Stop(ProcessId, Option<Signal>),
    /// A signal to the leader.
    Signal(ProcessId, Signal),
    /// A signal to the whole tree.
    SignalTree(ProcessId, Signal),
    /// SIGKILL to the whole tree.
    Kill(ProcessId),
    /// An answer once everything before it is with the kernel.
    Flush(oneshot::Sender<()>),
    /// The end; the answer is what could not be ended.
    Finish(oneshot::Sender<Vec<(i32, String)>>),
}

pub(super) fn keeper_failure(reason: &str) -> Failure {
    Failure::new(FailureKind::Internal, format!("the keeper cannot be started: {reason}")).help("devrun doctor")
}

/// Registers a descriptor with the runtime.
pub(super) fn register_fd(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is the descriptor's only owner, names the same one for its whole life, and closes it only when
    // `AsyncFd` drops it.
    unsafe { AsyncFd::register(fd) }.map_err(std::io::Error::from)
}
