//! Ends what an earlier run left behind, when neither its supervisor nor its keeper can: `down --emergency`, and the next
//! `up`. One function, two ways: at once, or as the stack would have been stopped.
//!
//! Evidence decides, never a number: cgroup members, sessions and groups of recorded leaders whose identity holds, holders
//! of the inherited locks, carriers of the run's marks, and everything below one of those. Each is opened, looked at again,
//! and only then signalled. Never pid 1 or less, never ourselves or our ancestors, never another user's process (unless
//! we are root, and it was started as that user or has dropped root's rights since). The last step is in `kill_sweep`.

use super::scan::{FoundProcess, SweepScope, current_entries, is_alive, is_lock, is_spared, scan};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::journal::{Journal, JournalEntry};
use devrun_model::keeper::Identity;
use devrun_model::{Paths, ServiceId};

use super::caller::{self, Caller};
use super::cgroup::{self, ProcessCgroup};
use super::identity;
use super::identity_check;
use super::kill_sweep::KillSweep;
pub use super::kill_sweep::Obstacle;
use super::ownership::OwnershipIndex;
use super::process_list;
use super::process_trees::{ReapScope, Relation, Trees};
use super::tree_shutdown::{self, TreeShutdown};

const POLL: Duration = Duration::from_millis(20);
/// What a keeper may need after its services are stopped: for processes that fit none of them, and for its last words.
const KEEPER_ENDS: Duration = Duration::from_secs(10);
/// A keeper that is stopped (SIGSTOP) this long is not waited for.
const STOPPED: Duration = Duration::from_secs(2);

/// How to end what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepMode {
    /// Supervisor, keeper and everything else by SIGKILL, now.
    Emergency,
    /// Recorded signals in reverse order, then SIGKILL. A keeper that is still stopping is waited for first. The caller
    /// holds the instance lock.
    Graceful,
}

/// One process that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweptProcess {
    /// Its number.
    pub pid: i32,
    /// Whose it was; `None` where only the run is known.
    pub service: Option<ServiceId>,
    /// Its command name.
    pub command: String,
    /// Why it counted as ours, in a word.
    pub evidence: String,
    /// Why it is still there; `None`: it is gone.
    pub obstacle: Option<Obstacle>,
}

impl SweptProcess {
    /// What can be done about one that is still there.
    #[must_use]
    pub fn advice(&self) -> String {
        match self.obstacle {
            Some(Obstacle::User(uid)) => format!("end it as user {uid} or as root: kill {}", self.pid),
            Some(Obstacle::Own) => "this command runs inside the stack: run it from a shell outside".to_owned(),
            Some(Obstacle::Kill) | None if cfg!(target_os = "macos") => {
                format!("look at what pid {} is stuck in: sample {}", self.pid, self.pid)
            }
            Some(Obstacle::Kill) | None => format!("look at what pid {} is stuck in: cat /proc/{}/stack", self.pid, self.pid),
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct SweepReport {
    /// Ended, supervisor and keeper included.
    pub killed: Vec<SweptProcess>,
    /// Still there.
    pub survivors: Vec<SweptProcess>,
    /// The process that swept, where it runs inside the run: the last of it, as soon as it exits.
    pub caller: Option<Caller>,
}

/// What the journal and the lock files let us claim. Entries of another boot are nobody's.
fn ownership_index(journal: &Journal, places: &Paths) -> OwnershipIndex {
    let mut ownership = OwnershipIndex::default();
    for entry in current_entries(journal) {
        ownership.add(&entry, identity_check::is_recorded_leader(&entry));
    }
    if let Some(header) = &journal.header
        && header.boot == identity::boot_id()
    {
        ownership.add_run(&header.run);
    }
    // Locks tell even when the journal is lost.
    for (path, meta) in locks(places) {
        ownership.add_lock((meta.dev(), meta.ino()), &path);
    }
    ownership
}

/// The lock files that processes of a run inherit.
fn locks(places: &Paths) -> Vec<(PathBuf, Metadata)> {
    let metas = identity_check::inherited_locks(&places.run)
        .into_iter()
        .filter_map(|path| std::fs::symlink_metadata(&path).ok().map(|meta| (path, meta)));
    metas.filter(|(_, meta)| is_lock(meta)).collect()
}

/// Whether there was an earlier run at all: without a journal and without a lock there is nothing by which a process could
/// be known as ours, so none needs to be looked at.
#[must_use]
pub fn has_earlier_run(journal: &Journal, places: &Paths) -> bool {
    journal.header.is_some() || journal.damaged > 0 || !journal.live.is_empty() || !locks(places).is_empty()
}

/// Everything of an earlier run that lives, without touching it. Empty: a new run may begin its own journal.
#[must_use]
pub fn leftovers(journal: &Journal, places: &Paths) -> Vec<SweptProcess> {
    let scope = SweepScope::own(journal.live.values());
    let found = scan(&ownership_index(journal, places), &scope);
    found.iter().filter(|found| !is_spared(found, journal)).map(|found| describe(found, journal)).collect()
}

fn describe(found: &FoundProcess, journal: &Journal) -> SweptProcess {
    SweptProcess {
        pid: found.stat.pid,
        service: found.process.and_then(|process| journal.live.get(&process)).map(|entry| entry.service.clone()),
        command: found.stat.comm.clone(),
        evidence: found.evidence.to_string(),
        obstacle: None,
    }
}

/// Ends everything of an earlier run. Blocks.
#[must_use]
pub fn sweep(journal: &Journal, places: &Paths, mode: SweepMode) -> SweepReport {
    sweep_until(journal, places, mode, &AtomicBool::new(false))
}

/// The longest time that ending everything gently takes.
#[must_use]
pub fn max_duration(journal: &Journal) -> Duration {
    let live: Vec<JournalEntry> = current_entries(journal).collect();
    tree_shutdown::max_duration(live.iter())
}

/// As [`sweep`]. Once `interrupted` is set, all graces are over and what is left is killed.
#[must_use]
pub fn sweep_until(journal: &Journal, places: &Paths, mode: SweepMode, interrupted: &AtomicBool) -> SweepReport {
    let caller = caller::inside(journal).filter(|_| mode == SweepMode::Emergency);
    let live = journal.live.values();
    let scope = if caller.is_some() { SweepScope::inside(live) } else { SweepScope::own(live) };
    let supervisor_and_keeper = identity_check::supervisor_and_keeper(journal, places);
    let proved = |wanted: &str| {
        supervisor_and_keeper.iter().find(|(name, who)| *name == wanted && !scope.is_own(who.pid)).map(|(_, who)| who)
    };
    let supervisor = proved("supervisor").filter(|_| mode == SweepMode::Emergency);
    if mode == SweepMode::Graceful
        && let Some(keeper) = proved("keeper")
    {
        wait_for_keeper(keeper, journal, interrupted);
    }
    let keeper = proved("keeper").filter(|who| identity::holds(who));
    let mut seen: BTreeMap<(i32, u64), SweptProcess> = BTreeMap::new();
    // Until everything below them is gone they stand still: who interrupts us now would leave them so.
    let interrupts = hold_signals();
    let mut kills = KillSweep::new(journal, ownership_index(journal, places), &scope);
    // The supervisor first: a new keeper is what it would start.
    if let Some(who) = supervisor {
        kills.hold_supervisor(who, journal.replaced || keeper.is_none());
    }
    if let Some(who) = keeper {
        kills.hold_keeper(who);
    }
    for (name, who) in [("supervisor", supervisor), ("keeper", keeper)] {
        if let Some(who) = who {
            let (command, evidence) = (process_list::command(who.pid), name.to_owned());
            seen.insert((who.pid, who.start), SweptProcess { pid: who.pid, service: None, command, evidence, obstacle: None });
        }
    }
    if let Some(header) =
        journal.header.as_ref().filter(|header| mode == SweepMode::Emergency && scope.is_own(header.supervisor.pid))
        && header.supervisor.pid != std::process::id().cast_signed()
        && identity::holds(&header.supervisor)
    {
        let (pid, start) = (header.supervisor.pid, header.supervisor.start);
        let (command, evidence, obstacle) = (process_list::command(pid), "supervisor".to_owned(), Some(Obstacle::Own));
        seen.insert((pid, start), SweptProcess { pid, service: None, command, evidence, obstacle });
    }
    if mode == SweepMode::Graceful {
        stop_gracefully(journal, places, &scope, interrupted, &mut seen);
    }
    let outcome = kills.run();
    // A process group without a parent and with stopped members gets SIGHUP (setpgid(2)), and ours may be one now.
    if caller.is_none() {
        release_signals(interrupts);
    }
    let mut report = SweepReport { caller, ..SweepReport::default() };
    for (key, (found, obstacle)) in outcome.seen {
        let obstacle = (is_alive(key.0, key.1) || outcome.unproved.contains(&key)).then_some(obstacle);
        seen.insert(key, SweptProcess { obstacle, ..describe(&found, journal) });
    }
    for ((pid, start), mut swept) in seen {
        if swept.obstacle.is_none() && is_alive(pid, start) {
            swept.obstacle = Some(Obstacle::Kill);
        }
        if swept.obstacle.is_some() { report.survivors.push(swept) } else { report.killed.push(swept) }
    }
    for entry in current_entries(journal) {
        if let Some(group) = entry.cgroup.as_deref().and_then(ProcessCgroup::recorded) {
            group.remove();
        }
    }
    if let Some(base) = journal.header.as_ref().and_then(|header| header.cgroup.as_deref()) {
        cgroup::remove_run(base);
    }
    // Those of runs whose journal is lost are known to nobody else.
    cgroup::remove_abandoned(None);
    report
}

/// INT, TERM and HUP wait until the sweep is over.
fn hold_signals() -> Option<SigSet> {
    let mut held = SigSet::empty();
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGHUP] {
        held.add(signal);
    }
    // Without it an interrupt would end us at once, and the next call does the rest.
    held.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok()
}

fn release_signals(before: Option<SigSet>) {
    if let Some(before) = before {
        // Refused only for an invalid argument.
        let _ = before.thread_set_mask();
    }
}

/// A keeper whose supervisor is gone is stopping the stack: it is given the time that this may take.
fn wait_for_keeper(keeper: &Identity, journal: &Journal, interrupted: &AtomicBool) {
    let until = tree_shutdown::after(Instant::now(), max_duration(journal).saturating_add(KEEPER_ENDS));
    let mut stopped = None;
    while identity::holds(keeper) && Instant::now() < until && !interrupted.load(Ordering::Relaxed) {
        // One that was stopped does nothing until it is continued, and nothing says that it ever is.
        if process_list::stat(keeper.pid).is_some_and(|stat| stat.state == b'T') {
            if stopped.get_or_insert_with(Instant::now).elapsed() > STOPPED {
                return;
            }
        } else {
            stopped = None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn stop_gracefully(
    journal: &Journal,
    places: &Paths,
    scope: &SweepScope,
    interrupted: &AtomicBool,
    seen: &mut BTreeMap<(i32, u64), SweptProcess>,
) {
    let mut trees = Trees::new(ReapScope::Known);
    for entry in current_entries(journal) {
        let lives = identity_check::is_recorded_leader(&entry);
        trees.add(entry, Relation::Foreign, None, !lives);
    }
    let mut found = scan(&ownership_index(journal, places), scope);
    found.retain(|member| !is_spared(member, journal));
    if found.is_empty() {
        return;
    }
    for member in &found {
        seen.insert((member.stat.pid, member.stat.start), describe(member, journal));
    }
    let mut shutdown = TreeShutdown::new(Instant::now());
    loop {
        let now = Instant::now();
        trees.tick(now);
        drop(trees.take_events());
        // Nothing here can be asked for a stop command: the journal keeps no words and no environment.
        let step = shutdown.step(&mut trees, now, |_| false);
        if trees.is_empty() || shutdown.is_over() || interrupted.load(Ordering::Relaxed) {
            return;
        }
        let wake = [step.wake, trees.next_wake()].into_iter().flatten().min().unwrap_or(now + POLL);
        std::thread::sleep(wake.saturating_duration_since(now).clamp(Duration::from_millis(1), POLL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;
    use devrun_model::keeper::{SpawnSpec, StopOrder};
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    /// Two projects in one `/tmp`: the first one's lock is long deleted, and its number is that of a file of the other's.
    #[test]
    fn a_deleted_locks_number_is_no_evidence() {
        #[cfg(target_os = "linux")]
        crate::own_descriptors::unshare_descriptors();
        let dir = tempfile::tempdir().unwrap();
        let (lock, other) = (dir.path().join("api.alive"), dir.path().join("stranger"));
        let file = std::fs::File::create(&other).unwrap();
        let number = (file.metadata().unwrap().dev(), file.metadata().unwrap().ino());
        let held = Stdio::from(file.as_fd().try_clone_to_owned().unwrap());
        let mut stranger = Command::new("sleep").arg("1000").stdin(held).spawn().unwrap();
        let service = ServiceId::single(&ServiceName::new("api").unwrap());
        let spec = SpawnSpec::plain(1, service, 1, "/bin/true".into(), lock.clone(), StopOrder::plain(0));
        // A leader that is long gone: no process has this start time.
        let gone = Identity { pid: 4_000_000, start: 1, boot: identity::boot_id().to_owned() };
        let mut journal = Journal::default();
        journal.live.insert(1, JournalEntry::new(&spec, "run", gone, number, None));
        let places = Paths { root: dir.path().into(), state: dir.path().join("s"), run: dir.path().join("r") };
        let claimed = leftovers(&journal, &places);
        std::fs::hard_link(&other, &lock).unwrap();
        let held = Stdio::from(std::fs::File::open(&lock).unwrap());
        let mut ours = Command::new("sleep").arg("1000").stdin(held).spawn().unwrap();
        let with_its_lock = leftovers(&journal, &places);
        for child in [&mut stranger, &mut ours] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(claimed, Vec::new());
        assert_eq!(with_its_lock.len(), 1, "the lock that is there is evidence");
    }
}
