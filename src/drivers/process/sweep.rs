//! Ends what an earlier run left behind, when neither its supervisor nor its keeper can: `down --emergency`, and the next
//! `up`. One function, two ways: at once, or as the stack would have been stopped.
//!
//! Evidence decides, never a number: cgroup members, sessions and groups of recorded leaders whose identity holds, holders
//! of the inherited locks, carriers of the run's marks, and everything below one of those. Each is opened, looked at again,
//! and only then signalled. Never pid 1 or less, never ourselves or our ancestors, never another user's process (unless
//! we are root and the cgroup or the journal says that it was started as that user).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::drivers::journal::{Entry, Journal};
use crate::model::keeper::{Identity, ProcessId};
use crate::model::{Places, ServiceId};

use super::cgroup::{self, Group};
use super::evidence::{Claims, Evidence};
use super::orderly::Orderly;
use super::procfs::{self, Stat};
use super::tree::{Kin, Trees, Waits};
use super::{identity, proof, signal};

const LONGEST: Duration = Duration::from_secs(5);

/// How to end what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Supervisor, keeper and everything else by SIGKILL, now.
    Emergency,
    /// Recorded signals in reverse order, then SIGKILL. A keeper that is still stopping is waited for first. The caller
    /// holds the instance lock.
    Gentle,
}

/// One process that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Its number.
    pub pid: i32,
    /// Whose it was; `None` where only the run is known.
    pub service: Option<ServiceId>,
    /// Its command name.
    pub command: String,
    /// Why it counted as ours, in a word.
    pub evidence: String,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct SweepReport {
    /// Ended, supervisor and keeper included.
    pub killed: Vec<Swept>,
    /// Still there.
    pub survivors: Vec<Swept>,
}

/// A found process.
#[derive(Debug, Clone)]
pub struct Found {
    /// The process.
    pub stat: Stat,
    /// Which tracked one it belongs to.
    pub process: Option<ProcessId>,
    /// Why.
    pub evidence: Evidence,
}

/// What a scan must not touch.
#[derive(Debug, Clone)]
pub struct Limits {
    own: BTreeSet<i32>,
    uid: u32,
    users: BTreeSet<u32>,
}

impl Limits {
    /// Ourselves, our ancestors, and other users but those that we, as root, started something as.
    pub fn own<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut own = BTreeSet::new();
        let mut pid = std::process::id().cast_signed();
        while pid > 0 && own.insert(pid) {
            pid = procfs::stat(pid).map_or(0, |stat| stat.ppid);
        }
        let uid = nix::unistd::getuid().as_raw();
        let users = if uid == 0 { entries.filter_map(|entry| entry.user).collect() } else { BTreeSet::new() };
        Self { own, uid, users }
    }
    fn allows(&self, stat: &Stat, evidence: Evidence) -> bool {
        if stat.pid <= 1 || self.own.contains(&stat.pid) {
            return false;
        }
        match procfs::uid(stat.pid) {
            Some(uid) => uid == self.uid || self.users.contains(&uid) || (self.uid == 0 && evidence == Evidence::Cgroup),
            None => false,
        }
    }
}

/// Looks through all processes once.
#[must_use]
pub fn scan(claims: &Claims, limits: &Limits) -> Vec<Found> {
    let all: Vec<Stat> = procfs::pids()
        .into_iter()
        .filter(|pid| *pid > 1 && !limits.own.contains(pid))
        .filter_map(procfs::stat)
        .filter(|stat| !stat.kernel && stat.lives())
        .collect();
    let mut found: HashMap<i32, (Option<ProcessId>, Evidence)> = HashMap::new();
    for stat in &all {
        if let Some((process, evidence)) = claims.of(stat)
            && limits.allows(stat, evidence)
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
                && limits.allows(stat, Evidence::Descent)
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
        .map(|(stat, (process, evidence))| Found { stat, process, evidence })
        .collect()
}

/// What the journal and the lock files let us claim. Entries of another boot are nobody's.
fn claims(journal: &Journal, places: &Places) -> Claims {
    let mut claims = Claims::default();
    for entry in current(journal) {
        claims.add(&entry, proof::leads(&entry));
    }
    if let Some(header) = &journal.header
        && header.boot == identity::boot_id()
    {
        claims.add_run(&header.run);
    }
    // Locks tell even when the journal is lost.
    for (path, meta) in locks(places) {
        claims.add_lock((meta.dev(), meta.ino()), &path);
    }
    claims
}

/// The lock files that processes of a run inherit.
fn locks(places: &Places) -> Vec<(PathBuf, Metadata)> {
    let metas = proof::inherited_locks(&places.run)
        .into_iter()
        .filter_map(|path| std::fs::symlink_metadata(&path).ok().map(|meta| (path, meta)));
    metas.filter(|(_, meta)| is_lock(meta)).collect()
}

/// A lock file that only this user can have made.
fn is_lock(meta: &Metadata) -> bool {
    meta.is_file() && meta.uid() == nix::unistd::geteuid().as_raw()
}

/// Whether there was an earlier run at all: without a journal and without a lock there is nothing by which a process could
/// be known as ours, so none needs to be looked at.
#[must_use]
pub fn ever_ran(journal: &Journal, places: &Places) -> bool {
    journal.header.is_some() || journal.damaged > 0 || !journal.live.is_empty() || !locks(places).is_empty()
}

/// The entries of this boot. A lock file that is gone says nothing any more: file systems give its number to the next file,
/// and whoever holds that one is a stranger.
fn current(journal: &Journal) -> impl Iterator<Item = Entry> {
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

/// Everything of an earlier run that lives, without touching it. Empty: a new run may begin its own journal.
#[must_use]
pub fn leftovers(journal: &Journal, places: &Places) -> Vec<Swept> {
    let limits = Limits::own(journal.live.values());
    let found = scan(&claims(journal, places), &limits);
    found.iter().filter(|found| !is_spared(found, journal)).map(|found| describe(found, journal)).collect()
}

/// Whether it may outlive its service (`stop.spare`). One whose service has ended is known by the name alone.
fn is_spared(found: &Found, journal: &Journal) -> bool {
    match found.process.and_then(|process| journal.live.get(&process)) {
        Some(entry) => entry.spare.contains(&found.stat.comm),
        None => journal.spared.contains(&found.stat.comm),
    }
}

fn describe(found: &Found, journal: &Journal) -> Swept {
    Swept {
        pid: found.stat.pid,
        service: found.process.and_then(|process| journal.live.get(&process)).map(|entry| entry.service.clone()),
        command: found.stat.comm.clone(),
        evidence: found.evidence.to_string(),
    }
}

/// Ends everything of an earlier run. Blocks.
#[must_use]
pub fn sweep(journal: &Journal, places: &Places, how: How) -> SweepReport {
    let mut seen: BTreeMap<(i32, u64), Swept> = BTreeMap::new();
    let limits = Limits::own(journal.live.values());
    for (name, who) in proof::masters(journal, places) {
        let who = &who;
        if limits.own.contains(&who.pid) {
            continue;
        }
        if how == How::Gentle {
            if name == "keeper" {
                wait_for_keeper(who, journal);
            }
            if !identity::holds(who) || name == "supervisor" {
                continue;
            }
        }
        let command = procfs::command(who.pid);
        if signal::send_checked(who.pid, who.start, libc::SIGKILL) {
            wait_gone(who, Duration::from_secs(2));
            let evidence = name.to_owned();
            seen.insert((who.pid, who.start), Swept { pid: who.pid, service: None, command, evidence });
        }
    }
    if how == How::Gentle {
        gently(journal, places, &limits, &mut seen);
    }
    kill_all(journal, places, &limits, &mut seen);
    let mut report = SweepReport::default();
    for ((pid, start), swept) in seen {
        if lives(pid, start) { report.survivors.push(swept) } else { report.killed.push(swept) }
    }
    for entry in current(journal) {
        if let Some(group) = entry.cgroup.as_deref().and_then(Group::recorded) {
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

fn lives(pid: i32, start: u64) -> bool {
    procfs::stat(pid).is_some_and(|stat| stat.start == start && stat.lives())
}

fn wait_gone(who: &Identity, longest: Duration) {
    let until = Instant::now() + longest;
    while identity::holds(who) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A keeper whose supervisor is gone is stopping the stack; it is given the sum of what it may need.
fn wait_for_keeper(keeper: &Identity, journal: &Journal) {
    let graces: u64 = current(journal).map(|entry| entry.grace_ms + 2000).sum();
    wait_gone(keeper, Duration::from_millis(graces.min(300_000)) + Duration::from_secs(5));
}

fn gently(journal: &Journal, places: &Places, limits: &Limits, seen: &mut BTreeMap<(i32, u64), Swept>) {
    let mut trees = Trees::new(Waits::Known);
    for entry in current(journal) {
        let lives = proof::leads(&entry);
        trees.add(entry, Kin::Foreign, None, !lives);
    }
    let mut orderly = Orderly::default();
    let mut found = scan(&claims(journal, places), limits);
    found.retain(|member| !is_spared(member, journal));
    if found.is_empty() {
        return;
    }
    for member in &found {
        seen.insert((member.stat.pid, member.stat.start), describe(member, journal));
    }
    loop {
        let now = Instant::now();
        trees.tick(now);
        drop(trees.take_news());
        if trees.is_empty() {
            return;
        }
        let next = orderly.step(&mut trees, now, &mut |_, _| None);
        let wake = [next, trees.next_wake()].into_iter().flatten().min().unwrap_or(now + Duration::from_millis(20));
        std::thread::sleep(wake.saturating_duration_since(now).clamp(Duration::from_millis(1), Duration::from_millis(20)));
        if trees.take_news().iter().any(|news| matches!(news, super::tree::News::Survivors(..))) {
            return;
        }
    }
}

/// SIGKILL until three looks in a row find nobody.
fn kill_all(journal: &Journal, places: &Places, limits: &Limits, seen: &mut BTreeMap<(i32, u64), Swept>) {
    let claims = claims(journal, places);
    let until = Instant::now() + LONGEST;
    let mut quiet = 0;
    let mut first = true;
    while quiet < 3 && Instant::now() < until {
        let mut found = scan(&claims, limits);
        found.retain(|member| !is_spared(member, journal));
        if first {
            first = false;
            for member in &found {
                seen.entry((member.stat.pid, member.stat.start)).or_insert_with(|| describe(member, journal));
            }
            for entry in current(journal).filter(|entry| entry.spare.is_empty()) {
                // A refused group kill is made good by the members, one by one.
                if let Some(group) = entry.cgroup.as_deref().and_then(Group::recorded) {
                    let _ = group.kill();
                }
            }
        }
        // One that is ending has let go of its lock and its memory, by which it was known, before it is gone.
        if found.is_empty() && seen.keys().all(|(pid, start)| !lives(*pid, *start)) {
            quiet += 1;
        } else {
            quiet = 0;
        }
        for member in &found {
            seen.entry((member.stat.pid, member.stat.start)).or_insert_with(|| describe(member, journal));
            kill_proved(member, &claims, limits);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Opens, looks at the evidence again, kills what was opened.
fn kill_proved(member: &Found, claims: &Claims, limits: &Limits) {
    let (pid, start) = (member.stat.pid, member.stat.start);
    let opened = signal::open(pid);
    let Some(stat) = procfs::stat(pid).filter(|stat| stat.start == start && stat.lives()) else { return };
    let proved = match member.evidence {
        // Being a descendant cannot be lost again, and number and start time are those of the look.
        Evidence::Descent => true,
        _ => claims.of(&stat).is_some(),
    };
    if !proved || !limits.allows(&stat, member.evidence) {
        return;
    }
    // ESRCH: it went by itself.
    match opened {
        Some(pidfd) => drop(signal::send(&pidfd, libc::SIGKILL)),
        None => drop(signal::send_checked(pid, start, libc::SIGKILL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::keeper::{Role, RunAs, SpawnSpec, StopOrder};
    use crate::model::{ServiceName, Signal, StopTo};
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    /// Two projects in one `/tmp`: the first one's lock is long deleted, and its number is that of a file of the other's.
    #[test]
    fn a_deleted_locks_number_is_no_evidence() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, other) = (dir.path().join("api.alive"), dir.path().join("stranger"));
        let file = std::fs::File::create(&other).unwrap();
        let number = (file.metadata().unwrap().dev(), file.metadata().unwrap().ino());
        let held = Stdio::from(file.as_fd().try_clone_to_owned().unwrap());
        let mut stranger = Command::new("sleep").arg("1000").stdin(held).spawn().unwrap();
        let spec = SpawnSpec {
            process: 1,
            service: ServiceId::single(&ServiceName::new("api").unwrap()),
            generation: 1,
            role: Role::Main,
            program: "/bin/true".into(),
            argv: Vec::new(),
            env: Vec::new(),
            dir: "/".into(),
            run_as: RunAs::Same,
            nofile: None,
            cpu: None,
            memory: None,
            umask: None,
            tty: false,
            lock: lock.clone(),
            log: None,
            spare: Vec::new(),
            stop: StopOrder {
                signal: Signal::TERM,
                to: StopTo::Leader,
                grace_ms: 0,
                then: None,
                command: None,
                before: Vec::new(),
            },
        };
        // A leader that is long gone: no process has this start time.
        let gone = Identity { pid: 4_000_000, start: 1, boot: identity::boot_id().to_owned() };
        let mut journal = Journal::default();
        journal.live.insert(1, Entry::new(&spec, "run", gone, number, None));
        let places = Places { root: dir.path().into(), state: dir.path().join("s"), run: dir.path().join("r") };
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
