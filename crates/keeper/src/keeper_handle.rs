//! The supervisor's handle of the keeper: requests go out in the order they are made and none waits for another; what comes
//! back is routed to the requester of that process.
//!
//! Owns the handle and its vocabulary; `keeper_connection.rs` holds the task behind it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
}

/// A keeper that waits for its first frame. Dropped, it sees the end of its socket and ends.
#[derive(Debug)]
pub struct LaunchedKeeper {
    /// The process, our child.
    pub(super) pid: i32,
    /// Our end of the socketpair.
    pub(super) socket: OwnedFd,
    /// Where a failed exec is reported: the end of this pipe says that it worked.
    pub(super) errors: OwnedFd,
    /// What it uses of our memory until its exec.
    #[cfg(target_os = "linux")]
    pub(super) kept: super::keeper_launch::Kept,
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

/// What a handle asks of the task.
#[derive(Debug)]
pub(super) enum HandleRequest {
    Spawn(Box<SpawnSpec>, mpsc::UnboundedSender<ProcessEvent>),
    Stop(ProcessId, Option<Signal>),
    Signal(ProcessId, Signal),
    SignalTree(ProcessId, Signal),
    Kill(ProcessId),
    Flush(oneshot::Sender<()>),
    Finish(oneshot::Sender<Vec<(i32, String)>>),
}

/// A handle; clones speak to the same keeper. When the last one is dropped without `finish`, the keeper takes the
/// supervisor for dead and stops everything by itself.
#[derive(Debug, Clone)]
pub struct KeeperHandle {
    requests: mpsc::UnboundedSender<HandleRequest>,
    next: Arc<AtomicU64>,
}

impl KeeperHandle {
    /// Starts the process of a keeper and waits for nothing: [`KeeperHandle::handshake`] makes it one.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn launch(program: &std::path::Path) -> Result<LaunchedKeeper, Failure> {
        #[cfg(target_os = "linux")]
        return super::keeper_connection::launch(program);
        #[cfg(not(target_os = "linux"))]
        return Err(keeper_failure(&format!("{}: processes can be run on Linux only so far", program.display())));
    }
    /// Tells a keeper what it is for, and waits for its `Ready`.
    ///
    /// # Errors
    /// When it could not be executed or does not answer within 5 s.
    pub async fn handshake(
        options: KeeperOptions,
        launched: LaunchedKeeper,
    ) -> Result<(Self, mpsc::UnboundedReceiver<KeeperEvent>), Failure> {
        let (requests, asked) = mpsc::unbounded_channel();
        #[cfg(target_os = "linux")]
        let heard = super::keeper_connection::begin(options, launched, asked).await?;
        #[cfg(not(target_os = "linux"))]
        let heard = {
            drop((options, launched, asked));
            return Err(keeper_failure("processes can be run on Linux only so far"));
        };
        Ok((Self { requests, next: Arc::new(AtomicU64::new(1)) }, heard))
    }
    /// Both at once.
    ///
    /// # Errors
    /// As each.
    pub async fn start(options: KeeperOptions) -> Result<(Self, mpsc::UnboundedReceiver<KeeperEvent>), Failure> {
        let launched = Self::launch(&options.program)?;
        Self::handshake(options, launched).await
    }
    /// A number for a process that is about to be spawned.
    #[must_use]
    pub fn next_process(&self) -> ProcessId {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
    /// Asks for a process. Its news go to `sink`, the last being `SpawnFailed` or `TreeEmpty`.
    pub fn spawn(&self, spec: SpawnSpec, sink: mpsc::UnboundedSender<ProcessEvent>) {
        let process = spec.process;
        if let Err(refused) = self.requests.send(HandleRequest::Spawn(Box::new(spec), sink))
            && let HandleRequest::Spawn(_, sink) = refused.0
        {
            // Nobody may be listening any more, which is as well.
            let _ = sink.send(ProcessEvent::SpawnFailed { process, step: "keeper".to_owned(), errno: libc::EPIPE });
        }
    }
    /// The orderly stop of one process. Again with the same signal (or none) it changes nothing; with another signal that
    /// one is sent, to the leader or to what is left.
    pub fn stop(&self, process: ProcessId, signal: Option<Signal>) {
        self.request(HandleRequest::Stop(process, signal));
    }
    /// One signal to the leader.
    pub fn signal(&self, process: ProcessId, signal: Signal) {
        self.request(HandleRequest::Signal(process, signal));
    }
    /// One signal to the whole tree at once: `stop.then`. What is orphaned later gets it too.
    pub fn signal_tree(&self, process: ProcessId, signal: Signal) {
        self.request(HandleRequest::SignalTree(process, signal));
    }
    /// SIGKILL to the whole tree.
    pub fn kill(&self, process: ProcessId) {
        self.request(HandleRequest::Kill(process));
    }
    /// Waits until what was asked so far has been handed to the kernel, so that the keeper learns of it whatever becomes of us.
    pub async fn flush(&self) {
        let (answer, answered) = oneshot::channel();
        self.request(HandleRequest::Flush(answer));
        // No answer: there is no keeper to hand it to.
        let _ = answered.await;
    }
    /// Tells the keeper that everything is stopped; returns what it could not end.
    pub async fn finish(&self) -> Vec<(i32, String)> {
        let (answer, answered) = oneshot::channel();
        self.request(HandleRequest::Finish(answer));
        answered.await.unwrap_or_default()
    }
    fn request(&self, request: HandleRequest) {
        // The task ends only after `finish`, when there is nothing left to ask for.
        let _ = self.requests.send(request);
    }
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
