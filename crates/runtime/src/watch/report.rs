//! What is reported about files, by the system and to the engine.

use devrun_model::ServiceId;

/// What a watcher has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchReport {
    /// A file of a service changed.
    Changed(ServiceId, String),
    /// Something is worth knowing about how files are watched.
    Note(ServiceId, String),
}

/// What the thread of a watcher hears.
pub(super) enum WatchMessage {
    Event(notify::Result<notify::Event>),
    End,
}
