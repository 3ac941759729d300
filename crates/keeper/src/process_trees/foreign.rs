//! Trees whose processes are not ours to wait for: they are looked for among all processes.

use std::collections::HashMap;
use std::time::Instant;

use devrun_model::keeper::{ExitStatus, ProcessId};

use super::{FOREIGN_LEADER_POLL, FOREIGN_POLL, INHERITS_ORPHANS, Relation, TreeEvent, Trees};
use crate::process_list::{self, Stat};
use crate::{identity, scan};

impl Trees {
    /// Looks at every foreign tree: whether its leader lives, and what is left of it.
    pub(super) fn evaluate_foreign(&mut self) {
        let found = scan::scan(&self.ownership, &scan::SweepScope::own(self.entries()));
        let mut left: HashMap<ProcessId, Vec<Stat>> = HashMap::new();
        for member in found {
            if let Some(process) = member.process
                && self.tracked.get(&process).is_some_and(|tracked| !tracked.entry.spare.contains(&member.stat.comm))
            {
                left.entry(process).or_default().push(member.stat);
            }
        }
        let foreign: Vec<ProcessId> = self
            .tracked
            .iter()
            .filter(|(_, tracked)| tracked.relation == Relation::Foreign)
            .map(|(process, _)| *process)
            .collect();
        for process in foreign {
            let Some(tracked) = self.tracked.get_mut(&process) else { continue };
            if !tracked.ended && !identity::holds(&tracked.entry.identity) {
                tracked.ended = true;
                // Its number is free now; what is left of its session was seen in this scan for the last time by it.
                let entry = tracked.entry.clone();
                self.ownership.remove(process);
                self.ownership.add(&entry, false);
                self.events.push(TreeEvent::Exited(process, ExitStatus::Unknown, Vec::new()));
            }
            let rest = left.remove(&process).unwrap_or_default();
            let Some(tracked) = self.tracked.get_mut(&process) else { continue };
            for stat in &rest {
                tracked.seen.insert(stat.pid, stat.start);
            }
            let seen: Vec<Stat> = tracked
                .seen
                .iter()
                .filter_map(|(pid, start)| process_list::stat(*pid).filter(|stat| stat.start == *start && stat.lives()))
                .collect();
            if tracked.ended && seen.is_empty() {
                self.remove_empty_tree(process);
                continue;
            }
            if tracked.ended && tracked.round.is_some() {
                self.signal_once(process, &seen);
            }
        }
        if self
            .tracked
            .values()
            .any(|tracked| tracked.relation == Relation::Foreign && (tracked.round.is_some() || tracked.ended))
        {
            self.next_look = Some(Instant::now() + FOREIGN_POLL);
        } else if !INHERITS_ORPHANS && self.tracked.values().any(|tracked| tracked.relation == Relation::Foreign) {
            self.look_within(FOREIGN_LEADER_POLL);
        }
    }
}
