//! The supervisor's handle of the keeper: requests go out in the order they are made and none waits for another; what
//! comes back is routed to whoever asked for that process.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::model::keeper::{ExitStatus, Identity, KeeperHello, ProcessId, SpawnSpec};
use crate::model::{Failure, Signal};

/// What a keeper is started with.
#[derive(Debug, Clone)]
pub struct KeeperOptions {
    /// The binary to run as `__keeper`; ours (`/proc/self/exe`) outside tests.
    pub program: PathBuf,
    /// Its first frame; `supervisor` is filled in by `start`.
    pub hello: KeeperHello,
}

/// One process's news.
#[derive(Debug)]
pub enum ProcessEvent {
    /// It runs. Read ends of its output; with a terminal only `stdout`, the terminal's other side.
    Spawned { process: ProcessId, identity: Identity, stdout: OwnedFd, stderr: Option<OwnedFd> },
    /// None came of it.
    SpawnFailed { process: ProcessId, step: String, errno: i32 },
    /// The leader ended.
    Exited { process: ProcessId, status: ExitStatus },
    /// Nothing is left of its tree; the last word.
    TreeEmpty { process: ProcessId },
    /// What stays after SIGKILL.
    Survivors { process: ProcessId, pids: Vec<(i32, String)> },
}

/// The keeper's own news.
#[derive(Debug)]
pub enum LinkEvent {
    /// Up; what of the containment is not in effect here.
    Ready { identity: Identity, without: Vec<String> },
    /// It died; a new one is being started. Processes live on, and their events go on.
    Lost,
    /// No new one could be started; the supervisor must stop everything.
    Gone(Failure),
}

/// A handle; clones speak to the same keeper.
#[derive(Debug, Clone)]
pub struct Keeper {}

impl Keeper {
    /// Starts a keeper and waits for its `Ready`.
    ///
    /// # Errors
    /// When it cannot be started or does not answer within 5 s.
    pub async fn start(_options: KeeperOptions) -> Result<(Self, mpsc::UnboundedReceiver<LinkEvent>), Failure> {
        unimplemented!()
    }
    /// A number for a process that is about to be spawned.
    #[must_use]
    pub fn next_process(&self) -> ProcessId {
        unimplemented!()
    }
    /// Asks for a process. Its news go to `sink`, the last being `SpawnFailed` or `TreeEmpty`.
    pub fn spawn(&self, _spec: SpawnSpec, _sink: mpsc::UnboundedSender<ProcessEvent>) {
        unimplemented!()
    }
    /// The orderly stop of one process.
    pub fn stop(&self, _process: ProcessId, _signal: Option<Signal>) {
        unimplemented!()
    }
    /// One signal to the leader.
    pub fn signal(&self, _process: ProcessId, _signal: Signal) {
        unimplemented!()
    }
    /// SIGKILL to the whole tree.
    pub fn kill(&self, _process: ProcessId) {
        unimplemented!()
    }
    /// Tells the keeper that everything is stopped; returns what it could not end.
    pub async fn finish(&self) -> Vec<(i32, String)> {
        unimplemented!()
    }
}
