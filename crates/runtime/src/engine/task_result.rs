//! What tasks that the engine started report when they are done, or on the way.

use std::sync::Arc;

use devrun_core::event::Generation;
use devrun_model::feed::FeedItem;
use devrun_model::keeper::ExitStatus;
use devrun_model::{Failure, ServiceId, ServiceName};
use devrun_store::Located;

/// News from tasks that the engine started.
pub(super) enum TaskResult {
    Fetched(ServiceId, Generation, Result<Arc<Located>, Failure>),
    Init(ServiceId, Generation, Result<Vec<String>, Failure>),
    Work(ServiceId, Generation, Result<(), Failure>),
    TaskCommitted(ServiceId, Generation, ExitStatus, Result<(), Failure>),
    StopCommandDone(ServiceId, Generation),
    ExitHeld(ServiceId, Generation),
    Built(ServiceId),
    ListensElsewhere(ServiceId, Generation, Option<String>),
    Said(ServiceId, String),
    Publish(FeedItem),
    FileChanged(ServiceId, String),
    BalancerDue(ServiceName),
    Demanded(ServiceId, Generation),
    LastUse(ServiceId, Generation, Option<std::time::Duration>),
    Rest,
}
