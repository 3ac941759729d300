//! What belongs to the tracked processes on a system where orphans go to init: found by looks at all processes, and remembered.
//!
//! Where the keeper inherits orphans, the kernel's list of its children is the proof. Elsewhere a process belongs to a tree when
//! evidence ties it (`ownership`), when it is below a leader or another member, or when an earlier look found it so: what leaves its
//! session, closes its descriptors and clears its environment *after* a look has met it stays known. What does all of that between two
//! looks is lost, so looks are frequent after each start and rare while nothing changes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use devrun_model::keeper::ProcessId;

use super::ownership::OwnershipIndex;
use super::process_list::{self, Stat};
use super::process_scan::descendants_among;
use super::scan::SweepScope;

/// Between a start and the first look.
const SHORTEST: Duration = Duration::from_millis(20);
/// Between two looks while nothing changes.
const LONGEST: Duration = Duration::from_secs(1);
/// For so long after its end a look serves all that ask, so that a hundred stops are not a hundred looks.
const SHARED: Duration = Duration::from_millis(5);
/// A stranger is asked for evidence until it has been known for this long: a process that is about to exec shows no environment.
const SETTLED: Duration = Duration::from_secs(1);

/// A process that belongs to the run.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) stat: Stat,
    /// Which tracked one it belongs to; `None`: only the run is known.
    pub(super) process: Option<ProcessId>,
}

/// What the looks have found.
#[derive(Debug)]
pub(super) struct DescentMemory {
    /// By number and start time.
    known: HashMap<(i32, u64), Option<ProcessId>>,
    /// Nothing ties them to the run, since a first look at them: in the end they are not asked again for what a process has from
    /// its start.
    strangers: HashMap<(i32, u64), Instant>,
    /// The living processes of the last look.
    all: Vec<Stat>,
    /// The number of the last look, and its end where it may be used again.
    number: u64,
    taken: Option<Instant>,
    next: Option<Instant>,
    pause: Duration,
}

impl Default for DescentMemory {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            strangers: HashMap::new(),
            all: Vec::new(),
            number: 0,
            taken: None,
            next: None,
            pause: SHORTEST,
        }
    }
}

impl DescentMemory {
    /// Something is tracked from now on: a stranger may belong to it.
    pub(super) fn restart(&mut self, now: Instant) {
        self.strangers.clear();
        self.hasten(now);
    }

    /// Something has changed: looks are frequent again.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.expire();
        self.pause = SHORTEST;
        self.next = Some(now + SHORTEST);
    }

    /// The last look is not used again.
    pub(super) fn expire(&mut self) {
        self.taken = None;
    }

    /// Whether the last look tells what is now.
    pub(super) fn is_current(&self, now: Instant) -> bool {
        self.taken.is_some_and(|taken| now.saturating_duration_since(taken) < SHARED)
    }

    /// The number of the last look.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Those of the last look that are one of these or below one, as they are now.
    pub(super) fn living_tree(&self, roots: &[i32]) -> Vec<Stat> {
        let mut pids: HashSet<i32> = descendants_among(&self.all, roots).into_iter().collect();
        pids.extend(roots);
        let members = self.all.iter().filter(|stat| pids.contains(&stat.pid));
        // Its number may be another's since.
        let now = |stat: &Stat| process_list::stat(stat.pid).filter(|now| now.start == stat.start && now.lives());
        members.filter_map(now).collect()
    }

    /// Nothing is tracked any more.
    pub(super) fn stop(&mut self) {
        self.next = None;
    }

    /// When to look at the latest.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.next
    }

    /// Plans the next look.
    pub(super) fn looked(&mut self, now: Instant) {
        self.pause = (self.pause * 2).min(LONGEST);
        self.next = Some(now + self.pause);
    }

    /// Looks at all processes. Returns those of the run that live: leaders, and everything that belongs to one of them.
    pub(super) fn look(
        &mut self,
        ownership: &OwnershipIndex,
        leaders: &HashMap<i32, ProcessId>,
        scope: &SweepScope,
    ) -> Vec<Member> {
        let own = std::process::id().cast_signed();
        let began = Instant::now();
        let all: Vec<Stat> = process_list::pids()
            .into_iter()
            .filter(|pid| *pid > 1 && !scope.is_own(*pid))
            .filter_map(process_list::stat)
            .filter(|stat| !stat.kernel && stat.lives())
            .collect();
        let mut members: HashMap<i32, Option<ProcessId>> = HashMap::new();
        for stat in &all {
            let known = self.known.get(&(stat.pid, stat.start)).copied();
            let by_evidence = || {
                let met = self.strangers.get(&(stat.pid, stat.start));
                let asked = met.is_none_or(|met| began.saturating_duration_since(*met) < SETTLED);
                let found = asked.then(|| ownership.of(stat)).flatten();
                found.filter(|(_, evidence)| scope.allows(stat, *evidence)).map(|(process, _)| process)
            };
            let process = match leaders.get(&stat.pid) {
                Some(process) => Some(Some(*process)),
                None => known.filter(Option::is_some).or_else(by_evidence).or(known),
            };
            if let Some(process) = process.or((stat.ppid == own).then_some(None)) {
                members.insert(stat.pid, process);
            }
        }
        // Closed under "child of": as often as it still adds one.
        loop {
            let below = all.iter().filter(|stat| !members.contains_key(&stat.pid));
            let more: Vec<(i32, Option<ProcessId>)> =
                below.filter_map(|stat| Some((stat.pid, *members.get(&stat.ppid)?))).collect();
            if more.is_empty() {
                break;
            }
            members.extend(more);
        }
        let key = |stat: &Stat| (stat.pid, stat.start);
        self.known = all.iter().filter_map(|stat| Some((key(stat), *members.get(&stat.pid)?))).collect();
        let strangers = all.iter().filter(|stat| !members.contains_key(&stat.pid)).map(key);
        self.strangers = strangers.map(|key| (key, self.strangers.get(&key).copied().unwrap_or(began))).collect();
        let member = |stat: &Stat| Some(Member { process: *members.get(&stat.pid)?, stat: stat.clone() });
        let found = all.iter().filter_map(member).collect();
        (self.all, self.number, self.taken) = (all, self.number + 1, Some(Instant::now()));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::journal::JournalEntry;

    #[test]
    fn a_look_serves_for_a_moment_and_not_after_a_change() {
        let (ownership, scope) = (OwnershipIndex::default(), SweepScope::own(std::iter::empty::<&JournalEntry>()));
        let mut memory = DescentMemory::default();
        assert!(!memory.is_current(Instant::now()), "none was taken");
        let changes: [fn(&mut DescentMemory); 3] =
            [DescentMemory::expire, |memory| memory.hasten(Instant::now()), |memory| memory.restart(Instant::now())];
        for change in changes {
            let number = memory.number();
            memory.look(&ownership, &HashMap::new(), &scope);
            let taken = memory.taken.unwrap();
            assert_eq!(memory.number(), number + 1);
            assert!(memory.is_current(taken) && memory.is_current(taken + SHARED / 2) && !memory.is_current(taken + SHARED));
            change(&mut memory);
            assert!(!memory.is_current(taken));
        }
    }

    #[test]
    fn a_number_that_is_anothers_since_the_look_is_no_member() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id().cast_signed();
        let stat = process_list::stat(pid).unwrap();
        let earlier = Stat { start: stat.start - 1, ..stat.clone() };
        let tree = |stat: &Stat| DescentMemory { all: vec![stat.clone()], ..DescentMemory::default() }.living_tree(&[pid]);
        let seen = (tree(&stat).len(), tree(&earlier).len());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((seen, tree(&stat).len()), ((1, 0), 0));
    }

    #[test]
    fn what_was_once_below_a_leader_stays_known() {
        let script = "sleep 1000 >/dev/null & echo $!; read word";
        let mut leader = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(leader.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (pid, below): (i32, i32) = (leader.id().cast_signed(), line.trim().parse().unwrap());
        let start = process_list::stat(below).unwrap().start;
        let (ownership, scope) = (OwnershipIndex::default(), SweepScope::own(std::iter::empty::<&JournalEntry>()));
        let look = |memory: &mut DescentMemory, leaders: HashMap<i32, ProcessId>| -> Vec<i32> {
            let found = memory.look(&ownership, &leaders, &scope);
            found.into_iter().filter(|member| member.process == Some(7)).map(|member| member.stat.pid).collect()
        };
        let mut memory = DescentMemory::default();
        let before = look(&mut memory, HashMap::from([(pid, 7)]));
        drop(leader.stdin.take());
        leader.wait().unwrap();
        let after = look(&mut memory, HashMap::new());
        let without_memory = look(&mut DescentMemory::default(), HashMap::new());
        assert!(crate::signal::send_checked(below, start, libc::SIGKILL));
        assert!(before.contains(&pid) && before.contains(&below), "{before:?}");
        assert_eq!(after, [below]);
        assert!(without_memory.is_empty(), "{without_memory:?}");
    }
}
