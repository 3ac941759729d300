//! How everybody else reaches the engine: requests over a channel, and answers to those that want one. An engine that has
//! ended answers nothing, which a handle tells from a refusal.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use devrun_model::{Command, Failure, Plan, PlannedChanges, RestartTargets, ServiceId};

use super::attachment::Attachment;
use devrun_model::feed::{FeedItem, Status};

/// What is asked of the engine.
pub(super) enum EngineRequest {
    Command {
        token: u64,
        command: Command,
    },
    Interrupt,
    /// Until further notice the run does not end, even when there is nothing left to do.
    Hold,
    Release,
    Status(oneshot::Sender<Status>),
    Subscribe(oneshot::Sender<(Status, mpsc::Receiver<Arc<FeedItem>>)>),
    Follow(oneshot::Sender<(Status, mpsc::Receiver<Arc<FeedItem>>)>),
    Inspect(ServiceId, oneshot::Sender<Option<serde_json::Value>>),
    Attach(ServiceId, oneshot::Sender<Result<Attachment, Failure>>),
    Changes(Arc<Plan>, Option<RestartTargets>, oneshot::Sender<PlannedChanges>),
    #[cfg(debug_assertions)]
    Do(Box<dyn FnOnce() + Send>),
}

/// Asks the engine from anywhere.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) requests: mpsc::UnboundedSender<EngineRequest>,
}

impl EngineHandle {
    /// A request; `FeedItem::Accepted` with this token precedes what comes of it.
    pub fn command(&self, token: u64, command: Command) {
        // An engine that has ended has nothing left to do for anybody; its feed has said so.
        let _ended = self.requests.send(EngineRequest::Command { token, command });
    }
    /// INT, TERM or HUP: the first stops, the second kills.
    pub fn interrupt(&self) {
        let _ended = self.requests.send(EngineRequest::Interrupt);
    }
    /// Keeps a seat for somebody who still has to come, until [`EngineHandle::release`]: the next to subscribe misses nothing
    /// that happens from now on, and the run does not end before. Nothing else waits for them.
    pub fn hold(&self) {
        let _ended = self.requests.send(EngineRequest::Hold);
    }
    /// Takes a hold back.
    pub fn release(&self) {
        let _ended = self.requests.send(EngineRequest::Release);
    }
    /// The present state; `None` when the engine has ended.
    pub async fn status(&self) -> Option<Status> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(EngineRequest::Status(sender)).ok()?;
        receiver.await.ok()
    }
    /// The present state and everything that follows it, without a gap.
    pub async fn subscribe(&self) -> Option<(Status, mpsc::Receiver<Arc<FeedItem>>)> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(EngineRequest::Subscribe(sender)).ok()?;
        receiver.await.ok()
    }
    /// As [`EngineHandle::subscribe`], for a service of the stack: the seat of a hold is left to whom it is kept for.
    pub async fn follow(&self) -> Option<(Status, mpsc::Receiver<Arc<FeedItem>>)> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(EngineRequest::Follow(sender)).ok()?;
        receiver.await.ok()
    }
    /// A seat at a service's terminal.
    ///
    /// # Errors
    /// `Config` when it has none, `Elsewhere` when it does not run.
    pub async fn attach(&self, id: ServiceId) -> Result<Attachment, Failure> {
        let ended = || Failure::new(devrun_model::FailureKind::Elsewhere, "the supervisor is ending").help("devrun up -d");
        let (sender, receiver) = oneshot::channel();
        self.requests.send(EngineRequest::Attach(id, sender)).map_err(|_| ended())?;
        receiver.await.map_err(|_| ended())?
    }
    /// What `up` with this plan, or a `restart`, would do to each service: a word (`start`, `restart`, `stop`, `keep`) and why.
    pub async fn changes(&self, plan: Arc<Plan>, restart: Option<RestartTargets>) -> Option<PlannedChanges> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(EngineRequest::Changes(plan, restart, sender)).ok()?;
        receiver.await.ok()
    }
    /// Does something in the engine's task, for the test of what is left when it panics. Not in a release.
    #[cfg(debug_assertions)]
    pub fn interfere(&self, work: impl FnOnce() + Send + 'static) {
        let _ended = self.requests.send(EngineRequest::Do(Box::new(work)));
    }
    /// What only the engine knows of a service, for `inspect`.
    pub async fn inspect(&self, id: ServiceId) -> Option<serde_json::Value> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(EngineRequest::Inspect(id, sender)).ok()?;
        receiver.await.ok().flatten()
    }
}
