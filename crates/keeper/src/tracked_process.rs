//! What is known of one tracked process and its tree; `process_trees` holds the table of them.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::journal::JournalEntry;
use devrun_model::Signal;
use devrun_model::keeper::{ExitStatus, ProcessId};

use super::cgroup::ProcessCgroup;

/// The relation of this process to a tracked one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Its parent, or the reaper that it came to.
    Parent,
    /// Unrelated: it is only watched.
    Foreign,
}

/// Which children are reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReapScope {
    /// All of them: the keeper.
    All,
    /// Only for those that are tracked or tied to a tracked one: the supervisor.
    Known,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum TreeEvent {
    /// A leader ended, and these of its tree lived on: pid and command.
    Exited(ProcessId, ExitStatus, Vec<(i32, String)>),
    /// Nothing is left of a tree.
    Empty(ProcessId),
    /// What stays after SIGKILL.
    Survivors(ProcessId, Vec<(i32, String)>),
}

#[derive(Debug)]
pub(super) struct SignalRound {
    pub(super) signal: Signal,
    pub(super) done: HashMap<i32, u64>,
    /// What was left when the leader had gone has been signalled.
    pub(super) has_signalled_rest: bool,
}

#[derive(Debug)]
pub(super) struct KillProgress {
    pub(super) since: Instant,
    pub(super) next: Instant,
    pub(super) wait: Duration,
    pub(super) is_reported: bool,
}

#[derive(Debug)]
pub(super) struct TrackedProcess {
    pub(super) entry: JournalEntry,
    pub(super) relation: Relation,
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) ended: bool,
    pub(super) group: Option<ProcessCgroup>,
    /// Members that were seen while descent could still be read.
    pub(super) seen: HashMap<i32, u64>,
    /// Looks in a row that found nothing of it, and the number of the last of them.
    pub(super) quiet: u32,
    pub(super) quiet_look: u64,
    pub(super) round: Option<SignalRound>,
    pub(super) killing: Option<KillProgress>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Stray {
    pub(super) start: u64,
    pub(super) owner: Option<ProcessId>,
    pub(super) spared: bool,
}
