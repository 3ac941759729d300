//! What happened. Past tense; every event of a service carries the generation that it belongs to, and one of an old
//! generation is dropped, so late exits and probe answers of a previous incarnation cannot do harm.

use std::time::Duration;

use devrun_model::keeper::ExitStatus;
use devrun_model::{Command, Failure, ServiceId};

/// Counts the starts of one service, from 1.
pub type Generation = u64;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A request.
    Command(Command),
    /// INT, TERM or HUP: the first stops in order, the second kills, as from a person.
    Interrupted,
    /// The moment that `next_deadline` named, or any other: deadlines are checked against `now`.
    Timer,
    /// The binary is there (a `run`: its command was found).
    Fetched(ServiceId, Generation),
    /// It is not.
    FetchFailed(ServiceId, Generation, Failure),
    /// First boot and `pre_start` are done, or were not needed.
    InitDone(ServiceId, Generation),
    /// The task's sentinel vouches for it: nothing to run. The text says when it was done.
    AlreadyDone(ServiceId, Generation, String),
    /// They failed. Whatever they ran is gone already.
    InitFailed(ServiceId, Generation, Failure),
    /// A process lives (no pid: work of ours, or an external service).
    Spawned(ServiceId, Generation, Option<i32>),
    /// The process could not be started (port taken, exec failed, out of processes).
    SpawnFailed(ServiceId, Generation, Failure),
    /// The leader ended with success and left processes: what that means is known when `Exited` follows.
    ExitHeld(ServiceId, Generation),
    /// The leader ended. Its tree may live on until `TreeEmpty`. A failure says more than the status where one is known
    /// (work of ours that failed, memory limit).
    Exited(ServiceId, Generation, ExitStatus, Option<Failure>),
    /// Nothing is left of the tree of this generation.
    TreeEmpty(ServiceId, Generation),
    /// These cannot be ended (uninterruptible sleep): pid and command.
    Survived(ServiceId, Generation, Vec<(i32, String)>),
    /// The readiness checks passed; the text is a note worth showing.
    ProbePassed(ServiceId, Generation, Option<String>),
    /// They did not; the text is the last answer. `fatal` carries a failure that waiting cannot fix (wrong password).
    ProbeFailed(ServiceId, Generation, String, Option<Failure>),
    /// The liveness checks passed.
    LivenessPassed(ServiceId, Generation),
    /// They did not.
    LivenessFailed(ServiceId, Generation, String),
    /// A connection waits for a service that is asleep.
    Demanded(ServiceId, Generation),
    /// The socket of a service that starts on demand cannot be opened.
    ListenFailed(ServiceId, Generation, Failure),
    /// So long ago a service had a connection; `None`: longer than can be known.
    LastUse(ServiceId, Generation, Option<Duration>),
    /// Files that it watches changed.
    FileChanged(ServiceId, String),
}
