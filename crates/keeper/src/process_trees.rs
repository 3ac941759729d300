//! The tracked processes, each with its tree: which members live, which were signalled, what is left.
//!
//! One piece of code for the three who must end trees: the keeper, as the parent of all; the supervisor, which inherits the
//! keeper's children when that dies; and the graceful sweep, which is the parent of none of them. A parent can rely on the
//! kernel: what leaves its tree becomes the parent's own child, so a tree is empty when its leader was reaped and no child is
//! left that belongs to it. A process that is no parent has to look at all processes (`Relation::Foreign`), and so has a parent to
//! which orphans do not come (`descent_memory`).
//!
//! Owns waiting, attribution, signals and the proof, in one file because each of them changes the one table. Decides nothing
//! about order and time but how often a kill is repeated.

mod foreign;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::journal::JournalEntry;
use devrun_core::shutdown::KILL_TO_SURVIVOR;
use devrun_model::keeper::{ExitStatus, ProcessId};
use devrun_model::{Signal, StopTo};

use super::cgroup::ProcessCgroup;
use super::child_wait::{has_ended_child, wait};
use super::descent_memory::DescentMemory;
use super::drivers::own_process::INHERITS_ORPHANS;
use super::ownership::OwnershipIndex;
use super::process_list::{self, OwnChildren, Stat};
use super::tracked_process::{KillProgress, SignalRound, Stray, TrackedProcess};
pub use super::tracked_process::{ReapScope, Relation, TreeEvent};
use super::{identity, scan, signal};

const FOREIGN_POLL: Duration = Duration::from_millis(20);
/// How soon the end of a leader is noticed whose parent is another process.
const FOREIGN_LEADER_POLL: Duration = Duration::from_millis(100);
/// So many looks in a row must find nothing before a tree counts as empty, where the kernel does not say that it is: one that forks
/// and ends between the list of processes and the look at each of them is seen in another.
const QUIET_LOOKS: u32 = if INHERITS_ORPHANS { 1 } else { 2 };

/// The tracked process trees.
#[derive(Debug)]
pub struct Trees {
    reap_scope: ReapScope,
    tracked: BTreeMap<ProcessId, TrackedProcess>,
    leaders: HashMap<i32, ProcessId>,
    strays: HashMap<i32, Stray>,
    ownership: OwnershipIndex,
    spare: HashSet<String>,
    events: Vec<TreeEvent>,
    next_look: Option<Instant>,
    children: OwnChildren,
    descent: DescentMemory,
}

impl Trees {
    /// An empty table.
    #[must_use]
    pub fn new(reap_scope: ReapScope) -> Self {
        Self {
            reap_scope,
            tracked: BTreeMap::new(),
            leaders: HashMap::new(),
            strays: HashMap::new(),
            ownership: OwnershipIndex::default(),
            spare: HashSet::new(),
            events: Vec::new(),
            next_look: None,
            children: OwnChildren::default(),
            descent: DescentMemory::default(),
        }
    }
    /// Takes a process over. `ended`: its leader is known to be gone.
    pub fn add(&mut self, entry: JournalEntry, relation: Relation, pidfd: Option<OwnedFd>, ended: bool) {
        // Of a foreign process whose leader is gone the session's number is no evidence: it may be a newcomer's.
        self.ownership.add(&entry, relation == Relation::Parent || !ended);
        self.spare.extend(entry.spare.iter().cloned());
        let pid = entry.identity.pid;
        let group = entry.cgroup.as_deref().and_then(ProcessCgroup::recorded);
        let process = entry.process;
        if relation == Relation::Parent && !ended {
            self.leaders.insert(pid, process);
        }
        if relation == Relation::Foreign || ended {
            self.next_look = Some(Instant::now());
        }
        if self.has_to_look() {
            self.descent.restart(Instant::now());
        }
        let tracked = TrackedProcess {
            entry,
            relation,
            pidfd,
            ended,
            group,
            seen: HashMap::new(),
            quiet: 0,
            quiet_look: 0,
            round: None,
            killing: None,
        };
        self.tracked.insert(process, tracked);
    }
    /// Reports the exit of a leader that another process reaped.
    pub fn report_exit(&mut self, process: ProcessId, status: ExitStatus) {
        self.events.push(TreeEvent::Exited(process, status, Vec::new()));
    }
    /// Whether nothing is tracked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracked.is_empty()
    }
    /// Whether this one is tracked.
    #[must_use]
    pub fn has(&self, process: ProcessId) -> bool {
        self.tracked.contains_key(&process)
    }
    /// What is tracked, in the order of the numbers.
    pub fn entries(&self) -> impl Iterator<Item = &JournalEntry> {
        self.tracked.values().map(|tracked| &tracked.entry)
    }
    /// Whether the leader has ended.
    #[must_use]
    pub fn leader_ended(&self, process: ProcessId) -> bool {
        self.tracked.get(&process).is_none_or(|tracked| tracked.ended)
    }
    /// Forgets a process of which nothing came.
    pub fn forget(&mut self, process: ProcessId) {
        if let Some(tracked) = self.tracked.remove(&process) {
            self.leaders.remove(&tracked.entry.identity.pid);
            self.ownership.remove(process);
            if let Some(group) = tracked.group {
                group.remove();
            }
        }
    }
    /// Takes what has happened since.
    pub fn take_events(&mut self) -> Vec<TreeEvent> {
        std::mem::take(&mut self.events)
    }
    /// When `tick` must be called at the latest; never while everything just runs.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let kills = self.tracked.values().filter_map(|tracked| tracked.killing.as_ref().map(|killing| killing.next));
        kills.chain(self.next_look).chain(self.descent.next_wake()).min()
    }
    /// Whether what belongs to a tree is found by looks at all processes.
    fn has_to_look(&self) -> bool {
        !INHERITS_ORPHANS && self.reap_scope == ReapScope::All
    }

    /// Begins the graceful stop. The same signal again changes nothing; another one starts over.
    pub fn stop(&mut self, process: ProcessId, chosen: Option<Signal>) {
        let Some(tracked) = self.tracked.get_mut(&process) else { return };
        let chosen = chosen.or(tracked.round.as_ref().map(|round| round.signal)).unwrap_or(tracked.entry.signal);
        if tracked.round.as_ref().is_some_and(|round| round.signal == chosen) {
            return;
        }
        tracked.round = Some(SignalRound { signal: chosen, done: HashMap::new(), has_signalled_rest: false });
        if tracked.relation == Relation::Foreign {
            self.next_look = Some(Instant::now());
        }
        self.remember_descent(process);
        if self.has_to_look() {
            self.find_strays();
        }
        let Some(tracked) = self.tracked.get_mut(&process) else { return };
        if tracked.ended {
            self.evaluate();
        } else if tracked.entry.to == StopTo::All {
            let members = self.members(process);
            self.signal_once(process, &members);
        } else {
            let (pid, start) = (tracked.entry.identity.pid, tracked.entry.identity.start);
            if let Some(round) = &mut tracked.round {
                round.done.insert(pid, start);
            }
            self.signal(process, chosen);
        }
    }
    /// The stronger signal, to the whole tree at once.
    pub fn signal_tree(&mut self, process: ProcessId, chosen: Signal) {
        if let Some(tracked) = self.tracked.get_mut(&process) {
            tracked.round = Some(SignalRound { signal: chosen, done: HashMap::new(), has_signalled_rest: true });
            let members = self.members(process);
            self.signal_once(process, &members);
        }
    }
    /// One signal to the leader.
    pub fn signal(&mut self, process: ProcessId, chosen: Signal) {
        let Some(tracked) = self.tracked.get(&process) else { return };
        let leader = &tracked.entry.identity;
        if tracked.ended || leader.pid <= 1 {
            return;
        }
        match tracked.relation {
            // ESRCH means that it has ended just now; its exit is on the way.
            Relation::Parent => drop(signal::send_to_child(leader.pid, tracked.pidfd.as_ref(), chosen.0)),
            Relation::Foreign => {
                if identity::holds(leader) {
                    let _sent = signal::send_checked(leader.pid, leader.start, chosen.0);
                }
            }
        }
    }
    /// SIGKILL to the whole tree, again and again until it is empty.
    pub fn kill(&mut self, process: ProcessId) {
        let now = Instant::now();
        let Some(tracked) = self.tracked.get_mut(&process) else { return };
        if tracked.killing.is_none() {
            let wait = Duration::from_millis(2);
            tracked.killing = Some(KillProgress { since: now, next: now, wait, is_reported: false });
            self.kill_members(process, now);
            self.evaluate();
        }
    }
    fn kill_members(&mut self, process: ProcessId, now: Instant) {
        let members = self.members(process);
        let Some(tracked) = self.tracked.get_mut(&process) else { return };
        let Some(killing) = &mut tracked.killing else { return };
        let spared = !tracked.entry.spare.is_empty();
        // A refused group kill is made good by the members, one by one.
        if let Some(group) = tracked.group.as_ref().filter(|_| !spared) {
            let _ = group.kill();
        }
        for stat in &members {
            let _sent = signal::send_checked(stat.pid, stat.start, libc::SIGKILL);
        }
        killing.next = now + killing.wait;
        killing.wait = (killing.wait * 2).min(Duration::from_millis(200));
        if !killing.is_reported && now.duration_since(killing.since) >= KILL_TO_SURVIVOR {
            killing.is_reported = true;
            let pids = members.into_iter().map(|stat| (stat.pid, stat.comm)).collect();
            self.events.push(TreeEvent::Survivors(process, pids));
        }
    }

    /// Waits for whatever has ended. Called at SIGCHLD.
    pub fn reap(&mut self) {
        let mut any = false;
        if self.has_to_look() && has_ended_child() {
            // As long as a leader is not waited for, its session's number is no newcomer's. What it has started since the last look
            // must be met now.
            self.descent.expire();
            self.find_strays();
        }
        match self.reap_scope {
            ReapScope::All => {
                while let Some((pid, status)) = wait(-1) {
                    any = true;
                    self.ended(pid, status);
                }
            }
            ReapScope::Known => {
                self.find_strays();
                let pids: Vec<i32> = self.leaders.keys().chain(self.strays.keys()).copied().collect();
                for pid in pids {
                    if let Some((pid, status)) = wait(pid) {
                        any = true;
                        self.ended(pid, status);
                    }
                }
            }
        }
        if any {
            self.evaluate();
        }
    }
    fn ended(&mut self, pid: i32, status: ExitStatus) {
        self.strays.remove(&pid);
        let has_to_look = self.has_to_look();
        if let Some(process) = self.leaders.remove(&pid)
            && let Some(tracked) = self.tracked.get_mut(&process)
        {
            tracked.ended = true;
            tracked.pidfd = None;
            self.events.push(TreeEvent::Exited(process, status, Vec::new()));
            if has_to_look {
                // What is left of its session was met by the look before, and the number is free now.
                let entry = tracked.entry.clone();
                self.ownership.remove(process);
                self.ownership.add(&entry, false);
                self.descent.hasten(Instant::now());
            }
        }
    }
    /// Does what is due: kills again, looks at foreign processes and at groups that were not empty yet.
    pub fn tick(&mut self, now: Instant) {
        let due: Vec<ProcessId> = self
            .tracked
            .iter()
            .filter(|(_, tracked)| tracked.killing.as_ref().is_some_and(|killing| killing.next <= now))
            .map(|(process, _)| *process)
            .collect();
        let again = [self.next_look, self.descent.next_wake()].into_iter().flatten().any(|at| at <= now);
        if again || !due.is_empty() {
            // One look for all that is due now.
            self.descent.expire();
        }
        for process in &due {
            self.kill_members(*process, now);
        }
        if again || !due.is_empty() {
            if again {
                self.next_look = None;
                self.plan_looks(now);
            }
            // A signal of a child may be lost where signalfd or SIGCHLD are not ours alone, so a look includes a wait.
            self.reap();
            self.evaluate();
        }
    }

    /// When all processes are looked at next, whatever happens before.
    fn plan_looks(&mut self, now: Instant) {
        if !self.has_to_look() {
            return;
        }
        if self.tracked.is_empty() {
            self.descent.stop();
        } else {
            self.descent.looked(now);
            self.find_strays();
        }
    }
    /// Finds out what belongs to whom by a look at all processes; strays are those whose parent does not belong to the run.
    fn find_strays_by_look(&mut self) {
        let scope = scan::SweepScope::own(self.tracked.values().map(|tracked| &tracked.entry));
        let members = self.descent.look(&self.ownership, &self.leaders, &scope);
        let pids: HashSet<i32> = members.iter().map(|member| member.stat.pid).collect();
        self.strays = members
            .into_iter()
            .filter(|member| !self.leaders.contains_key(&member.stat.pid) && !pids.contains(&member.stat.ppid))
            .map(|member| {
                let spared = self.is_spared(member.process, &member.stat);
                (member.stat.pid, Stray { start: member.stat.start, owner: member.process, spared })
            })
            .collect();
    }
    /// Finds out which of our children belong to whom. Cheap while nothing is new: one read, and a lookup for each child.
    fn find_strays(&mut self) {
        if self.has_to_look() {
            if !self.descent.is_current(Instant::now()) {
                self.find_strays_by_look();
            }
            return;
        }
        let children = match self.reap_scope {
            ReapScope::All => self.children.read(),
            // Others may reap beside us, under which the kernel's list is allowed to leave children out.
            ReapScope::Known => process_list::children_by_scan(std::process::id().cast_signed()),
        };
        if !self.strays.is_empty() {
            let present: HashSet<i32> = children.iter().copied().collect();
            self.strays.retain(|pid, _| present.contains(pid));
        }
        for pid in children {
            if self.leaders.contains_key(&pid) || self.strays.contains_key(&pid) {
                continue;
            }
            let Some(stat) = process_list::stat(pid) else { continue };
            let owner = self.owner(&stat);
            if owner.is_none() && self.reap_scope == ReapScope::Known {
                continue;
            }
            let spared = self.is_spared(owner, &stat);
            self.strays.insert(pid, Stray { start: stat.start, owner, spared });
        }
    }
    fn is_spared(&self, owner: Option<ProcessId>, stat: &Stat) -> bool {
        match owner.and_then(|process| self.tracked.get(&process)) {
            Some(tracked) => tracked.entry.spare.contains(&stat.comm),
            None => self.spare.contains(&stat.comm),
        }
    }
    fn owner(&self, stat: &Stat) -> Option<ProcessId> {
        if let Some((Some(process), _)) = self.ownership.of(stat) {
            return Some(process);
        }
        let seen = |tracked: &&TrackedProcess| tracked.seen.get(&stat.pid) == Some(&stat.start);
        self.tracked.values().find(seen).map(|tracked| tracked.entry.process)
    }
    fn remember_descent(&mut self, process: ProcessId) {
        let Some(tracked) = self.tracked.get_mut(&process) else { return };
        if INHERITS_ORPHANS && tracked.relation == Relation::Parent && !tracked.ended {
            for pid in process_list::descendants(&[tracked.entry.identity.pid]) {
                if let Some(stat) = process_list::stat(pid) {
                    tracked.seen.insert(pid, stat.start);
                }
            }
        }
    }
    /// The living members of a tree, leader included, what is spared not.
    fn members(&mut self, process: ProcessId) -> Vec<Stat> {
        let Some(tracked) = self.tracked.get(&process) else { return Vec::new() };
        if tracked.relation == Relation::Foreign {
            let spare = tracked.entry.spare.clone();
            let found = scan::scan(&self.ownership, &scan::SweepScope::own(self.entries()));
            return found
                .into_iter()
                .filter(|found| found.process == Some(process) && !spare.contains(&found.stat.comm))
                .map(|found| found.stat)
                .collect();
        }
        self.find_strays();
        let Some(tracked) = self.tracked.get(&process) else { return Vec::new() };
        let mut roots: Vec<i32> =
            self.strays.iter().filter(|(_, stray)| stray.owner == Some(process) && !stray.spared).map(|(pid, _)| *pid).collect();
        if !tracked.ended {
            roots.push(tracked.entry.identity.pid);
        }
        let mut found = self.living_tree(&roots);
        if let Some(group) = &tracked.group {
            let known: HashSet<i32> = found.iter().map(|stat| stat.pid).collect();
            let more = group.members().into_iter().filter(|pid| !known.contains(pid));
            found.extend(more.filter_map(process_list::stat).filter(Stat::lives));
        }
        let own = std::process::id().cast_signed();
        found.retain(|stat| stat.pid > 1 && stat.pid != own && !tracked.entry.spare.contains(&stat.comm));
        found.sort_unstable_by_key(|stat| stat.pid);
        found
    }
    /// These of our children, and what is below them.
    fn living_tree(&self, roots: &[i32]) -> Vec<Stat> {
        if self.has_to_look() {
            return self.descent.living_tree(roots);
        }
        let pids: HashSet<i32> = process_list::descendants(roots).into_iter().chain(roots.iter().copied()).collect();
        pids.into_iter().filter_map(process_list::stat).filter(Stat::lives).collect()
    }
    /// The round's signal to each of these that has not had it.
    fn signal_once(&mut self, process: ProcessId, members: &[Stat]) {
        let Some(round) = self.tracked.get_mut(&process).and_then(|tracked| tracked.round.as_mut()) else { return };
        for stat in members {
            if round.done.get(&stat.pid) != Some(&stat.start) {
                round.done.insert(stat.pid, stat.start);
                let _sent = signal::send_checked(stat.pid, stat.start, round.signal.0);
            }
        }
    }

    /// Looks at every tree whose leader has ended: empty, or what is left gets what is due to it.
    fn evaluate(&mut self) {
        if self.tracked.values().any(|tracked| tracked.relation == Relation::Foreign) {
            self.evaluate_foreign();
        }
        let open: Vec<ProcessId> = self
            .tracked
            .iter()
            .filter(|(_, tracked)| tracked.relation == Relation::Parent && tracked.ended)
            .map(|(process, _)| *process)
            .collect();
        if open.is_empty() {
            return;
        }
        self.find_strays();
        let mut left: HashMap<ProcessId, Vec<(i32, u64)>> = HashMap::new();
        for (pid, stray) in &self.strays {
            if let Some(owner) = stray.owner.filter(|_| !stray.spared) {
                left.entry(owner).or_default().push((*pid, stray.start));
            }
        }
        for process in open {
            match left.get(&process) {
                Some(rest) => {
                    if self.has_to_look() {
                        self.watch_remaining(process);
                    }
                    self.signal_remaining(process, rest);
                }
                None if self.is_group_empty(process) && self.is_quiet(process) => self.remove_empty_tree(process),
                None => {
                    self.look_within(Duration::from_millis(3));
                    self.signal_remaining(process, &[]);
                }
            }
        }
    }
    fn look_within(&mut self, time: Duration) {
        let soon = Instant::now() + time;
        self.next_look = Some(self.next_look.map_or(soon, |at| at.min(soon)));
    }
    /// What is left is not ours to wait for, so its end has to be looked for: often while it is being stopped.
    fn watch_remaining(&mut self, process: ProcessId) {
        let Some(tracked) = self.tracked.get_mut(&process) else { return };
        tracked.quiet = 0;
        if tracked.round.is_some() {
            self.look_within(FOREIGN_POLL);
        }
    }
    /// Counts a look that found nothing; one that served before counts once.
    fn is_quiet(&mut self, process: ProcessId) -> bool {
        let is_another = |tracked: &TrackedProcess| !self.has_to_look() || tracked.quiet_look != self.descent.number();
        let is_counted = self.tracked.get(&process).is_some_and(is_another);
        let Some(tracked) = self.tracked.get_mut(&process) else { return true };
        tracked.quiet += u32::from(is_counted);
        tracked.quiet_look = self.descent.number();
        tracked.quiet >= QUIET_LOOKS
    }
    /// Adds to an exit that is not reported yet what the leader has left.
    fn record_remaining(&mut self, process: ProcessId) {
        let of_process = |event: &TreeEvent| matches!(event, TreeEvent::Exited(of, ..) if *of == process);
        let Some(at) = self.events.iter().position(of_process) else { return };
        let members = self.members(process).into_iter().map(|stat| (stat.pid, stat.comm)).collect();
        if let Some(TreeEvent::Exited(_, _, left)) = self.events.get_mut(at) {
            *left = members;
        }
    }
    /// The leader is gone and something is left: what is left gets the stop's signal, or is killed on.
    fn signal_remaining(&mut self, process: ProcessId, rest: &[(i32, u64)]) {
        let Some(tracked) = self.tracked.get_mut(&process) else { return };
        if tracked.killing.is_some() {
            let members = self.members(process);
            for stat in &members {
                let _sent = signal::send_checked(stat.pid, stat.start, libc::SIGKILL);
            }
            return;
        }
        let Some(round) = &mut tracked.round else { return self.record_remaining(process) };
        // Once everything that is left; afterwards only what has lost its parent since, as the others are their parent's to
        // end, and a clean-up that a member runs must not be shot under its hands.
        let members = if round.has_signalled_rest {
            let now = |(pid, start): &(i32, u64)| process_list::stat(*pid).filter(|stat| stat.start == *start && stat.lives());
            rest.iter().filter_map(now).collect()
        } else {
            round.has_signalled_rest = true;
            self.members(process)
        };
        self.signal_once(process, &members);
    }
    fn is_group_empty(&mut self, process: ProcessId) -> bool {
        let Some(tracked) = self.tracked.get_mut(&process) else { return true };
        let Some(group) = &tracked.group else { return true };
        if group.remove_empty() {
            tracked.group = None;
            return true;
        }
        !group.populated() || {
            let lives = |stat: Stat| stat.lives() && !tracked.entry.spare.contains(&stat.comm);
            !group.members().into_iter().filter_map(process_list::stat).any(lives) && !tracked.entry.spare.is_empty()
        }
    }
    fn remove_empty_tree(&mut self, process: ProcessId) {
        if let Some(tracked) = self.tracked.remove(&process) {
            self.ownership.remove(process);
            if let Some(group) = tracked.group {
                group.remove();
            }
            self.events.push(TreeEvent::Empty(process));
        }
    }

    /// Children that fit no tracked process, spared ones left out. For the end of everything.
    #[must_use]
    pub fn unowned_children(&mut self) -> Vec<Stat> {
        // Nothing may be left: this is looked at again.
        self.descent.expire();
        self.find_strays();
        let roots: Vec<i32> = self
            .strays
            .iter()
            .filter(|(_, stray)| !stray.spared && stray.owner.is_none_or(|process| !self.tracked.contains_key(&process)))
            .map(|(pid, _)| *pid)
            .collect();
        self.living_tree(&roots)
            .into_iter()
            .filter(|stat| !self.spare.contains(&stat.comm))
            .filter(|stat| self.strays.get(&stat.pid).is_none_or(|stray| stray.start == stat.start))
            .collect()
    }
}
