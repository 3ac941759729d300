//! What a dead keeper has left to the supervisor: the same trees, waited for one by one. Where orphans go to init, they are watched
//! instead, and how they end is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::journal::JournalEntry;
use devrun_model::keeper::{ExitStatus, Inherited, ProcessId, SpawnSpec};

use super::drivers::own_process::INHERITS_ORPHANS;
use super::process_trees::{ReapScope, Relation, Trees};
use super::strays::Strays;
use super::{identity, process_list, signal};

/// To what a keeper has left: its reaper, where the system makes us that.
const RELATION: Relation = if INHERITS_ORPHANS { Relation::Parent } else { Relation::Foreign };

/// Processes without their keeper.
#[derive(Debug)]
pub(crate) struct Orphans {
    /// The trees.
    pub trees: Trees,
    /// Processes whose start was never announced to the supervisor; they are killed and reported as never started.
    pub unannounced: BTreeSet<ProcessId>,
    /// The keeper's answer to `Finish`.
    pub finished: Option<Vec<(i32, String)>>,
    specs: BTreeMap<ProcessId, SpawnSpec>,
    strays: Strays,
}

impl Default for Orphans {
    fn default() -> Self {
        Self {
            trees: Trees::new(ReapScope::Known),
            unannounced: BTreeSet::new(),
            finished: None,
            specs: BTreeMap::new(),
            strays: Strays::new(),
        }
    }
}

impl Orphans {
    /// Takes one over. `ended`: its exit was reported already; `exit`: how its leader ended, where the dead keeper wrote it.
    pub(crate) fn add(&mut self, spec: &SpawnSpec, entry: JournalEntry, ended: bool, exit: Option<ExitStatus>) {
        // A leader that ended a moment ago may still wait to be reaped by us; one whose number is a stranger's by now was
        // reaped by the dead keeper, which had no time to say so.
        let same = identity::of(entry.identity.pid).is_some_and(|now| now == entry.identity);
        let pidfd = if same { signal::open(entry.identity.pid) } else { None };
        self.specs.insert(entry.process, spec.clone());
        let process = entry.process;
        self.trees.add(entry, RELATION, pidfd, ended || !same);
        if !ended && !same {
            self.trees.report_exit(process, exit.unwrap_or(ExitStatus::Unknown));
        }
    }
    /// Whether this one is among them.
    #[must_use]
    pub(crate) fn has(&self, process: ProcessId) -> bool {
        self.trees.has(process)
    }
    /// Whether there are none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }
    /// See [`Trees::next_wake`].
    #[must_use]
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        if self.is_empty() { None } else { self.trees.next_wake() }
    }
    /// See [`Trees::reap`].
    pub(crate) fn reap(&mut self) {
        if !self.is_empty() {
            self.trees.reap();
        }
    }
    /// See [`Trees::tick`].
    pub(crate) fn tick(&mut self, now: Instant) {
        self.trees.tick(now);
    }
    /// For the new keeper.
    #[must_use]
    pub(crate) fn inherited(&self) -> Vec<Inherited> {
        self.trees
            .entries()
            .filter(|entry| !self.unannounced.contains(&entry.process))
            .filter_map(|entry| {
                Some(Inherited { spec: self.specs.get(&entry.process)?.clone(), identity: entry.identity.clone() })
            })
            .collect()
    }
    /// A keeper has ended, and its children are ours. `owns_children`: see `KeeperOptions`.
    pub(crate) fn keeper_lost(&mut self, owns_children: bool) {
        if owns_children {
            self.strays.keeper_lost();
        }
    }
    /// What still lives at the end, for people. What no tree has and came from a lost keeper is killed first.
    pub(crate) async fn remaining(&self) -> Vec<(i32, String)> {
        let mut left = self.strays.end().await;
        left.extend(self.trees.entries().map(|entry| (entry.identity.pid, process_list::command(entry.identity.pid))));
        left
    }
}
