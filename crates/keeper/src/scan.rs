//! Looks through all processes for what belongs to a run.

use std::collections::{BTreeSet, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use devrun_model::keeper::ProcessId;

use crate::journal::{Journal, JournalEntry};

use super::identity;
use super::ownership::{Evidence, OwnershipIndex};
use super::process_list::{self, Stat};

/// A found process.
#[derive(Debug, Clone)]
pub(crate) struct FoundProcess {
    /// The process.
    pub stat: Stat,
    /// Which tracked one it belongs to.
    pub process: Option<ProcessId>,
    /// Why.
    pub evidence: Evidence,
}

/// What a scan must not touch.
#[derive(Debug, Clone)]
pub(crate) struct SweepScope {
    own: BTreeSet<i32>,
    uid: u32,
    users: BTreeSet<u32>,
}

/// Whether a process may be signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalPermission {
    /// It may.
    Ours,
    /// Another user's.
    OtherUser(u32),
    /// We ourselves, or an ancestor of ours.
    Own,
    /// There is none any more.
    Gone,
}

impl SweepScope {
    /// Ourselves, our ancestors, and what other users run.
    pub(crate) fn own<'a>(entries: impl Iterator<Item = &'a JournalEntry>) -> Self {
        Self::with(process_list::ancestors(std::process::id().cast_signed()).into_iter().collect(), entries)
    }
    /// Ourselves alone, for a sweep from inside the run: its ancestors are a service, the keeper and the supervisor. What is
    /// above the supervisor is touched by no evidence.
    pub(super) fn inside<'a>(entries: impl Iterator<Item = &'a JournalEntry>) -> Self {
        Self::with(BTreeSet::from([std::process::id().cast_signed()]), entries)
    }
    fn with<'a>(own: BTreeSet<i32>, entries: impl Iterator<Item = &'a JournalEntry>) -> Self {
        let uid = nix::unistd::getuid().as_raw();
        let users = if uid == 0 { entries.filter_map(|entry| entry.user).collect() } else { BTreeSet::new() };
        Self { own, uid, users }
    }
    /// Whether this is us or an ancestor of ours.
    pub(super) fn is_own(&self, pid: i32) -> bool {
        self.own.contains(&pid)
    }
    /// Root ends what has dropped its rights since root started it. Session, cgroup and descent cannot be forged, and a mark
    /// can be worn by the process alone; a lock can be handed to a process that knows nothing of it.
    pub(super) fn permission(&self, stat: &Stat, evidence: Evidence) -> SignalPermission {
        if stat.pid <= 1 || self.own.contains(&stat.pid) {
            return SignalPermission::Own;
        }
        let Some(uid) = process_list::uid(stat.pid) else { return SignalPermission::Gone };
        let allowed = uid == self.uid || self.users.contains(&uid) || (self.uid == 0 && evidence != Evidence::Lock);
        if allowed { SignalPermission::Ours } else { SignalPermission::OtherUser(uid) }
    }
    pub(super) fn allows(&self, stat: &Stat, evidence: Evidence) -> bool {
        self.permission(stat, evidence) == SignalPermission::Ours
    }
}

/// Looks through all processes once.
#[must_use]
pub(crate) fn scan(ownership: &OwnershipIndex, scope: &SweepScope) -> Vec<FoundProcess> {
    let all: Vec<Stat> = process_list::pids()
        .into_iter()
        .filter(|pid| *pid > 1 && !scope.own.contains(pid))
        .filter_map(process_list::stat)
        .filter(|stat| !stat.kernel && stat.lives())
        .collect();
    let mut found: HashMap<i32, (Option<ProcessId>, Evidence)> = HashMap::new();
    for stat in &all {
        if let Some((process, evidence)) = ownership.of(stat)
            && scope.allows(stat, evidence)
        {
            found.insert(stat.pid, (process, evidence));
        }
    }
    // Closed under "child of": as often as it still adds somebody.
    loop {
        let mut more = Vec::new();
        for stat in &all {
            if !found.contains_key(&stat.pid)
                && let Some((process, _)) = found.get(&stat.ppid)
                && scope.allows(stat, Evidence::Descent)
            {
                more.push((stat.pid, (*process, Evidence::Descent)));
            }
        }
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    all.into_iter()
        .filter_map(|stat| found.get(&stat.pid).map(|(process, evidence)| (*process, *evidence)).map(|at| (stat, at)))
        .map(|(stat, (process, evidence))| FoundProcess { stat, process, evidence })
        .collect()
}

/// The entries of this boot. A lock file that is gone says nothing any more: file systems give its number to the next file,
/// and whoever holds that one is a stranger.
pub(super) fn current_entries(journal: &Journal) -> impl Iterator<Item = JournalEntry> {
    let run = journal.header.as_ref().map(|header| header.run.as_str());
    let ours = journal.live.values().filter(move |entry| {
        entry.identity.boot == identity::boot_id() && entry.identity.pid > 1 && run.is_none_or(|run| entry.run == run)
    });
    ours.cloned().map(|mut entry| {
        let named = entry.lock.extension().is_some_and(|extension| extension == "alive");
        let now = std::fs::symlink_metadata(&entry.lock).ok().filter(|meta| named && is_lock(meta));
        if now.is_none_or(|meta| (meta.dev(), meta.ino()) != entry.lock_file) {
            entry.lock_file = (0, 0);
        }
        entry
    })
}

/// Whether it may outlive its service (`stop.spare`). One whose service has ended is known by the name alone.
pub(super) fn is_spared(found: &FoundProcess, journal: &Journal) -> bool {
    match found.process.and_then(|process| journal.live.get(&process)) {
        Some(entry) => entry.spare.contains(&found.stat.comm),
        None => journal.spared.contains(&found.stat.comm),
    }
}

pub(super) fn is_alive(pid: i32, start: u64) -> bool {
    process_list::stat(pid).is_some_and(|stat| stat.start == start && stat.lives())
}

/// A lock file that only this user can have made.
pub(super) fn is_lock(meta: &Metadata) -> bool {
    meta.is_file() && meta.uid() == nix::unistd::geteuid().as_raw()
}
