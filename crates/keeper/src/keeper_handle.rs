//! The supervisor's handle of the keeper: requests go out in the order they are made and none waits for another; what comes
//! back is routed to the requester of that process.
//!
//! Owns the handle and its vocabulary; `keeper_connection.rs` holds the task behind it.

use super::keeper_connection;
use super::keeper_events::{HandleRequest, KeeperEvent, KeeperOptions, ProcessEvent};
use super::launched_keeper::LaunchedKeeper;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use devrun_model::keeper::{ProcessId, SpawnSpec};
use devrun_model::{Failure, Signal};

/// Where requests are traced. The environment of a process never is; who writes a trace masks secrets in the rest.
const TRACE_TARGET: &str = "devrun::keeper";

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
        keeper_connection::launch(program)
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
        let heard = keeper_connection::begin(options, launched, asked).await?;
        Ok((Self { requests, next: Arc::new(AtomicU64::new(1)) }, heard))
    }
    /// A handle whose requests the caller answers: how a test plays the keeper.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<HandleRequest>) {
        let (requests, receiver) = mpsc::unbounded_channel();
        (Self { requests, next: Arc::new(AtomicU64::new(1)) }, receiver)
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
        self.spawn_with_sockets(spec, Vec::new(), sink);
    }
    /// As [`KeeperHandle::spawn`], for a process that listens on sockets of devrun: as many as `spec.sockets` names.
    pub fn spawn_with_sockets(&self, spec: SpawnSpec, sockets: Vec<Arc<OwnedFd>>, sink: mpsc::UnboundedSender<ProcessEvent>) {
        let process = spec.process;
        tracing::debug!(
            target: TRACE_TARGET, service = %spec.service, process, role = ?spec.role, argv = %spec.argv.join(" "),
            dir = %spec.dir.display(), "spawn"
        );
        if let Err(refused) = self.requests.send(HandleRequest::Spawn(Box::new(spec), sockets, sink))
            && let HandleRequest::Spawn(_, _, sink) = refused.0
        {
            // Nobody may be listening any more, which is as well.
            let _ = sink.send(ProcessEvent::SpawnFailed { process, step: "keeper".to_owned(), errno: libc::EPIPE });
        }
    }
    /// The orderly stop of one process. Again with the same signal (or none) it changes nothing; with another signal that
    /// one is sent, to the leader or to what is left.
    pub fn stop(&self, process: ProcessId, signal: Option<Signal>) {
        tracing::debug!(target: TRACE_TARGET, process, signal = signal.map(tracing::field::display), "stop");
        self.request(HandleRequest::Stop(process, signal));
    }
    /// One signal to the leader.
    pub fn signal(&self, process: ProcessId, signal: Signal) {
        tracing::debug!(target: TRACE_TARGET, process, %signal, "signal the leader");
        self.request(HandleRequest::Signal(process, signal));
    }
    /// One signal to the whole tree at once: `stop.then`. What is orphaned later gets it too.
    pub fn signal_tree(&self, process: ProcessId, signal: Signal) {
        tracing::debug!(target: TRACE_TARGET, process, %signal, "signal the tree");
        self.request(HandleRequest::SignalTree(process, signal));
    }
    /// SIGKILL to the whole tree.
    pub fn kill(&self, process: ProcessId) {
        tracing::debug!(target: TRACE_TARGET, process, "kill the tree");
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
