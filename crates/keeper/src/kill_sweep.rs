//! SIGKILL to everything of a run until three scans in a row find nothing, as the last step of every sweep.
//!
//! While the keeper or the supervisor lives, descent from it is evidence that no process can take off: both are subreapers, so
//! whatever a service lets go of becomes their child. So both are stopped (SIGSTOP) first, which also keeps them from starting
//! and from reaping anything, what is below them is ended, and only then are they killed, the keeper first, as what it may
//! leave falls to the supervisor.
//!
//! A process that forks and exits every few milliseconds is gone before a full scan of `/proc` reaches it. Therefore each
//! process is stopped the moment it is recognised, the newest first, and killed only when scans find nothing new.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::journal::Journal;
use devrun_model::keeper::{Identity, ProcessId};

use super::cgroup::ProcessCgroup;
use super::drivers::own_process::INHERITS_ORPHANS;
use super::ownership::{Evidence, OwnershipIndex};
use super::process_list::{self, Stat};
use super::scan::{self, FoundProcess, SignalPermission, SweepScope};
use super::{identity, signal};

/// After this long without a new process what is left is named: it cannot be killed.
const STUCK: Duration = Duration::from_secs(5);
/// After this long it is named whatever happens: it starts processes faster than they can be killed here.
const LONGEST: Duration = Duration::from_secs(30);
/// So many scans in a row must find nothing.
const QUIET: u32 = 3;
/// Scans that only stop what is new, before the first kill and between kills.
const STOPS: u32 = 30;
/// Repeated listings within one scan.
const LISTINGS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(3);
/// One tree after the other, so that what lives a few milliseconds is met; where each question for what is below a process is a look at
/// all processes, it is asked once for all of them.
const ROOTS_AT_ONCE: usize = if INHERITS_ORPHANS { 1 } else { usize::MAX };

/// Why a process is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// It outlives SIGKILL, or others like it are started faster than they can be killed.
    Kill,
    /// It belongs to another user.
    User(u32),
    /// It is the process that sweeps, or one that this runs in.
    Own,
}

/// The keeper or the supervisor, stopped.
struct Parent {
    who: Identity,
    /// Whether processes in its own session belong to the run.
    session: bool,
    /// Whether processes of other sessions below it do.
    rest: bool,
}

/// What was found.
#[derive(Default)]
pub(super) struct SweepOutcome {
    /// Everything that was recognised, by number and start time.
    pub(super) seen: BTreeMap<(i32, u64), (FoundProcess, Obstacle)>,
    /// Those of the last scan, where no three scans in a row found nothing.
    pub(super) unproved: BTreeSet<(i32, u64)>,
}

pub(super) struct KillSweep<'a> {
    journal: &'a Journal,
    ownership: OwnershipIndex,
    scope: &'a SweepScope,
    parents: Vec<Parent>,
    outcome: SweepOutcome,
    /// Those that the present scan has seen alive.
    present: BTreeSet<(i32, u64)>,
}

impl<'a> KillSweep<'a> {
    pub(super) fn new(journal: &'a Journal, ownership: OwnershipIndex, scope: &'a SweepScope) -> Self {
        Self { journal, ownership, scope, parents: Vec::new(), outcome: SweepOutcome::default(), present: BTreeSet::new() }
    }

    /// Stops the keeper; what is below it belongs to the run.
    pub(super) fn hold_keeper(&mut self, who: &Identity) {
        self.hold(Parent { who: who.clone(), session: true, rest: true });
    }

    /// Stops the supervisor. Below one that has its terminal's session there may be a command of the user's own (`devrun run`),
    /// and as long as its first keeper lives it has no process of a service.
    pub(super) fn hold_supervisor(&mut self, who: &Identity, lost_a_keeper: bool) {
        let detached = process_list::stat(who.pid).is_some_and(|stat| stat.session == who.pid);
        self.hold(Parent { who: who.clone(), session: detached, rest: detached || lost_a_keeper });
    }

    fn hold(&mut self, parent: Parent) {
        let Identity { pid, start, .. } = parent.who;
        if !signal::send_checked(pid, start, libc::SIGSTOP) {
            return;
        }
        let until = Instant::now() + Duration::from_millis(500);
        while process_list::stat(pid)
            .is_some_and(|stat| stat.start == start && stat.lives() && !matches!(stat.state, b'T' | b't'))
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_micros(200));
        }
        self.parents.push(parent);
    }

    /// Ends everything; at the end the parents that were held, too.
    pub(super) fn run(mut self) -> SweepOutcome {
        let began = Instant::now();
        let mut last_new = began;
        let (mut quiet, mut stops) = (0, 0);
        loop {
            let late = last_new.elapsed() >= STUCK || began.elapsed() >= LONGEST;
            let new = self.look();
            if new > 0 {
                last_new = Instant::now();
            }
            if new > 0 && stops < STOPS && !late {
                stops += 1;
                quiet = 0;
                continue;
            }
            stops = 0;
            if self.kill() || new > 0 {
                quiet = 0;
            } else {
                quiet += 1;
            }
            if quiet == QUIET {
                if self.parents.is_empty() {
                    return self.outcome;
                }
                self.end_parents();
                quiet = 0;
            } else if late && quiet == 0 {
                self.outcome.unproved = std::mem::take(&mut self.present);
                self.end_parents();
                self.kill();
                return self.outcome;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The keeper first: what it might still leave becomes the supervisor's, which is looked at once more.
    fn end_parents(&mut self) {
        while !self.parents.is_empty() {
            let parent = self.parents.remove(0);
            let _gone = signal::send_checked(parent.who.pid, parent.who.start, libc::SIGKILL);
            let until = Instant::now() + Duration::from_secs(2);
            while identity::holds(&parent.who) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !self.parents.is_empty() && self.look_below() > 0 {
                self.kill();
            }
        }
    }

    /// Looks for all that belongs to the run and stops what was not known yet. Returns how many those were.
    fn look(&mut self) -> usize {
        self.present.clear();
        let mut new = self.look_below();
        let mut all: HashMap<i32, Stat> = HashMap::new();
        let mut listed: HashSet<i32> = HashSet::new();
        for _ in 0..LISTINGS {
            let mut fresh: Vec<i32> = process_list::pids().into_iter().filter(|pid| *pid > 1 && listed.insert(*pid)).collect();
            if fresh.is_empty() {
                break;
            }
            // What was started last is what ends first.
            fresh.sort_unstable_by_key(|pid| std::cmp::Reverse(*pid));
            for stat in fresh.into_iter().filter_map(process_list::stat).filter(|stat| !stat.kernel && stat.lives()) {
                let attribution = self.ownership.of(&stat);
                new += usize::from(self.meet(&stat, attribution));
                all.insert(stat.pid, stat);
            }
        }
        // Closed under "child of": as often as it still adds one.
        let mut members: HashMap<i32, Option<ProcessId>> = self.members(&all);
        loop {
            let below: Vec<&Stat> =
                all.values().filter(|stat| !members.contains_key(&stat.pid) && members.contains_key(&stat.ppid)).collect();
            if below.is_empty() {
                return new;
            }
            for stat in below {
                let process = members.get(&stat.ppid).copied().flatten();
                new += usize::from(self.meet(stat, Some((process, Evidence::Descent))));
                members.insert(stat.pid, process);
            }
        }
    }

    /// Those of these processes that are known to belong to the run, and the keeper with what is below it.
    fn members(&self, all: &HashMap<i32, Stat>) -> HashMap<i32, Option<ProcessId>> {
        let seen = |stat: &&Stat| self.outcome.seen.contains_key(&(stat.pid, stat.start));
        let mut members: HashMap<i32, Option<ProcessId>> = all
            .values()
            .filter(seen)
            .filter(|stat| !self.scope.is_own(stat.pid))
            .filter_map(|stat| Some((stat.pid, self.outcome.seen.get(&(stat.pid, stat.start))?.0.process)))
            .collect();
        for parent in &self.parents {
            if parent.session && parent.rest {
                members.insert(parent.who.pid, None);
            }
        }
        members
    }

    /// What is below keeper and supervisor, by the kernel's lists of children: quick enough for what lives a few milliseconds.
    fn look_below(&mut self) -> usize {
        let mut new = 0;
        for _ in 0..LISTINGS {
            let mut found = 0;
            for index in 0..self.parents.len() {
                for roots in self.parents[index].children().chunks(ROOTS_AT_ONCE) {
                    found += self.meet_trees(roots);
                }
            }
            if found == 0 {
                break;
            }
            new += found;
        }
        new
    }

    fn meet_trees(&mut self, roots: &[Stat]) -> usize {
        let pids: Vec<i32> = roots.iter().map(|root| root.pid).collect();
        let mut new = roots.iter().filter(|root| self.meet(root, Some((None, Evidence::Descent)))).count();
        for stat in process_list::descendants(&pids).into_iter().filter_map(process_list::stat).filter(Stat::lives) {
            new += usize::from(self.meet(&stat, Some((None, Evidence::Descent))));
        }
        new
    }

    /// Takes up one process; true: it is new, and was stopped.
    fn meet(&mut self, stat: &Stat, attribution: Option<(Option<ProcessId>, Evidence)>) -> bool {
        let Some((process, evidence)) = attribution else { return false };
        let key = (stat.pid, stat.start);
        if self.parents.iter().any(|parent| parent.who.pid == stat.pid) || stat.pid == std::process::id().cast_signed() {
            return false;
        }
        if let Some((_, obstacle)) = self.outcome.seen.get(&key) {
            if *obstacle == Obstacle::Kill {
                self.present.insert(key);
            }
            return false;
        }
        let mut found = FoundProcess { stat: stat.clone(), process, evidence };
        if evidence == Evidence::Descent && process.is_none() && self.journal.spared.contains(&stat.comm) {
            // Whether it may live depends on whose it is.
            found.process = self.ownership.of(stat).and_then(|(process, _)| process);
        }
        if scan::is_spared(&found, self.journal) {
            return false;
        }
        let obstacle = match self.scope.permission(stat, evidence) {
            SignalPermission::Ours => Obstacle::Kill,
            SignalPermission::OtherUser(uid) => Obstacle::User(uid),
            // Below a service's process we are there because somebody typed the command there; that alone leaves nothing running.
            SignalPermission::Own if evidence == Evidence::Descent => return false,
            SignalPermission::Own => Obstacle::Own,
            SignalPermission::Gone => return false,
        };
        if obstacle == Obstacle::Kill {
            self.stop(&found);
            self.present.insert(key);
            // For the list, now that it stands still.
            if evidence == Evidence::Descent
                && found.process.is_none()
                && let Some((process, evidence)) = self.ownership.of(stat)
            {
                (found.process, found.evidence) = (process, evidence);
            }
        }
        self.outcome.seen.insert(key, (found, obstacle));
        obstacle == Obstacle::Kill
    }

    /// Opens it, looks at the evidence again, stops what was opened.
    fn stop(&self, found: &FoundProcess) {
        let (pid, start) = (found.stat.pid, found.stat.start);
        let opened = signal::open(pid);
        let Some(stat) = process_list::stat(pid).filter(|stat| stat.start == start && stat.lives()) else { return };
        // Being a descendant cannot be lost again, and number and start time are those of the scan.
        if found.evidence != Evidence::Descent && self.ownership.of(&stat).is_none() {
            return;
        }
        // ESRCH: it went by itself.
        match opened {
            Some(pidfd) => drop(signal::send(&pidfd, libc::SIGSTOP)),
            None => drop(signal::send_checked(pid, start, libc::SIGSTOP)),
        }
    }

    /// SIGKILL to everything that was recognised. True: something of it lived.
    fn kill(&self) -> bool {
        let living: Vec<(i32, u64)> = self
            .outcome
            .seen
            .iter()
            .filter(|((pid, start), (_, obstacle))| *obstacle == Obstacle::Kill && scan::is_alive(*pid, *start))
            .map(|(key, _)| *key)
            .collect();
        if living.is_empty() {
            return false;
        }
        for entry in scan::current_entries(self.journal).filter(|entry| entry.spare.is_empty()) {
            let group = entry.cgroup.as_deref().and_then(ProcessCgroup::recorded);
            // A refused group kill is made good by the members, one by one.
            if let Some(group) = group.filter(|group| !group.members().into_iter().any(|pid| self.scope.is_own(pid))) {
                let _ = group.kill();
            }
        }
        for (pid, start) in living {
            let _sent = signal::send_checked(pid, start, libc::SIGKILL);
        }
        true
    }
}

impl Parent {
    /// Its children that belong to the run.
    fn children(&self) -> Vec<Stat> {
        let children = process_list::children(self.who.pid).into_iter().filter_map(process_list::stat);
        children
            .filter(|stat| stat.ppid == self.who.pid && stat.lives())
            .filter(|stat| if stat.session == self.session_number() { self.session } else { self.rest })
            .collect()
    }
    fn session_number(&self) -> i32 {
        process_list::stat(self.who.pid).map_or(0, |stat| stat.session)
    }
}
