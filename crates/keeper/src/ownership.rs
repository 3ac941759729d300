//! What ties a process to one that the keeper started: cgroup, session, inherited lock, or marks in its environment.
//!
//! No single one of them is enough. Postgres' children leave their session and overwrite their environment, Node and Python
//! close inherited descriptors, and cgroups need a right that is often missing; together they miss almost nobody. Owns the
//! lookup only; the tree asks about single strays, the sweep about everything that runs.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use devrun_model::keeper::{ProcessId, Role};

use super::cgroup;
use super::process_list::{self, Stat};
use crate::journal::JournalEntry;

/// Why a process counts as one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// It is the recorded leader itself, by identity.
    Leader,
    /// In the process's cgroup.
    Cgroup,
    /// In the leader's session or group.
    Session,
    /// Holds the inherited lock.
    Lock,
    /// Carries the run's marks.
    Marks,
    /// A descendant of one of those.
    Descent,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "recorded",
            Self::Cgroup => "cgroup",
            Self::Session => "session",
            Self::Lock => "lock",
            Self::Marks => "environment",
            Self::Descent => "descent",
        })
    }
}

/// The directory's name and the file's own: the part of a lock's path that is the same in every mount namespace. The directory
/// is called by the hash of the project's path.
fn tail(path: &Path) -> PathBuf {
    let names: Vec<_> = path.components().rev().take(2).collect();
    names.into_iter().rev().collect()
}

/// A process that the evidence ties to one of ours; `None`: to the run, but to none in particular.
pub type Attribution = (Option<ProcessId>, Evidence);

#[derive(Debug, Clone)]
struct OwnershipRecord {
    role: Role,
    marks: (String, String),
    lock: (u64, u64),
    session: Option<i32>,
    group: Option<String>,
}

/// What the descriptor of a lock says about the process that has it.
struct LockHolder<'a> {
    /// The one it belongs to, if that is accounted for here.
    process: Option<ProcessId>,
    /// The number that it was given; 0: unknown.
    number: ProcessId,
    /// Those that were given this lock.
    candidates: &'a [ProcessId],
}

/// All that is known of the processes that are accounted for.
#[derive(Debug, Clone, Default)]
pub struct OwnershipIndex {
    runs: Vec<String>,
    records: HashMap<ProcessId, OwnershipRecord>,
    sessions: HashMap<i32, ProcessId>,
    groups: HashMap<String, ProcessId>,
    locks: HashMap<(u64, u64), Vec<ProcessId>>,
    /// Under which names the locks were opened. A lock file that is gone leaves its number to whatever is made next, and
    /// that may be the lock of another project.
    names: HashMap<(u64, u64), Vec<PathBuf>>,
    marks: HashMap<(String, String), Vec<ProcessId>>,
}

impl OwnershipIndex {
    /// Adds a process. `session`: the leader's number stands for its session, because the leader lives or a parent of the
    /// tree has not seen its end yet.
    pub fn add(&mut self, entry: &JournalEntry, session: bool) {
        self.add_run(&entry.run);
        let record = OwnershipRecord {
            role: entry.role,
            marks: entry.marks.clone(),
            lock: entry.lock_file,
            session: (session && entry.identity.pid > 1).then_some(entry.identity.pid),
            group: entry.cgroup.as_deref().and_then(cgroup::key),
        };
        if let Some(pid) = record.session {
            self.sessions.insert(pid, entry.process);
        }
        if let Some(group) = &record.group {
            self.groups.insert(group.clone(), entry.process);
        }
        self.add_lock(record.lock, &entry.lock);
        self.locks.entry(record.lock).or_default().push(entry.process);
        self.marks.entry(record.marks.clone()).or_default().push(entry.process);
        self.records.insert(entry.process, record);
    }
    /// Counts everything that carries this run's mark, whoever's it is.
    pub fn add_run(&mut self, run: &str) {
        if !run.is_empty() && !self.runs.iter().any(|known| known == run) {
            self.runs.push(run.to_owned());
        }
    }
    /// Counts the holders of a lock file that no entry speaks of.
    pub fn add_lock(&mut self, file: (u64, u64), path: &Path) {
        self.locks.entry(file).or_default();
        let (names, name) = (self.names.entry(file).or_default(), tail(path));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    /// Forgets a process whose tree is empty.
    pub fn remove(&mut self, process: ProcessId) {
        let Some(record) = self.records.remove(&process) else { return };
        if let Some(pid) = record.session
            && self.sessions.get(&pid) == Some(&process)
        {
            self.sessions.remove(&pid);
        }
        if let Some(group) = record.group {
            self.groups.remove(&group);
        }
        if let Some(list) = self.locks.get_mut(&record.lock) {
            list.retain(|other| *other != process);
            if list.is_empty() {
                self.locks.remove(&record.lock);
            }
        }
        if let Some(list) = self.marks.get_mut(&record.marks) {
            list.retain(|other| *other != process);
            if list.is_empty() {
                self.marks.remove(&record.marks);
            }
        }
    }
    /// Looks at one process, the cheap evidence first.
    #[must_use]
    pub fn of(&self, stat: &Stat) -> Option<Attribution> {
        if let Some(process) = self.sessions.get(&stat.session).or_else(|| self.sessions.get(&stat.pgrp)) {
            return Some((Some(*process), Evidence::Session));
        }
        if !self.groups.is_empty()
            && let Some(process) = process_list::cgroup(stat.pid).and_then(|group| self.groups.get(&group).copied())
        {
            return Some((Some(process), Evidence::Cgroup));
        }
        if let Some(marks) = process_list::marks(stat.pid)
            && self.runs.contains(&marks.run)
        {
            let among = self.marks.get(&(marks.service, marks.replica));
            // The marks are the service's: which of its processes it is, the lock may still tell. Another process of the same service may
            // belong to another keeper: that of a supervisor which has lost one.
            let process = among.and_then(|list| match self.by_lock(stat.pid) {
                None | Some(LockHolder { number: 0, .. }) => self.best(list),
                Some(holder) => holder.process,
            });
            return Some((process, Evidence::Marks));
        }
        // Also one that is executing at this moment, whose environment cannot be read yet.
        let holder = self.by_lock(stat.pid)?;
        let process = if holder.number == 0 { self.best(holder.candidates) } else { holder.process };
        Some((process, Evidence::Lock))
    }
    /// The holder of one of our locks. The keeper moves the offset of each inherited lock to the process's number, so the
    /// descriptor tells the exact process and not only the service.
    fn by_lock(&self, pid: i32) -> Option<LockHolder<'_>> {
        if self.locks.is_empty() {
            return None;
        }
        let (file, number) = process_list::holds_file(pid, |file, path| {
            self.locks.contains_key(&file) && self.names.get(&file).is_some_and(|names| names.contains(&tail(path)))
        })?;
        let candidates = self.locks.get(&file)?.as_slice();
        Some(LockHolder { process: candidates.contains(&number).then_some(number), number, candidates })
    }
    /// Of several processes of one service the main one: ending something too late is better than too early.
    fn best(&self, list: &[ProcessId]) -> Option<ProcessId> {
        let main = |process: &&ProcessId| self.records.get(process).is_some_and(|record| record.role == Role::Main);
        list.iter().rev().find(main).or_else(|| list.last()).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek, SeekFrom};
    use std::os::unix::fs::MetadataExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use devrun_model::keeper::{Identity, SpawnSpec, StopOrder};
    use devrun_model::{ServiceId, ServiceName};

    use super::*;
    use crate::identity;

    /// Two keepers for a moment: one was lost and left its process to the supervisor, and the service is restarted by the next one.
    #[test]
    fn another_process_of_the_same_service_is_known_by_the_number_of_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.alive");
        let file = || File::options().create(true).truncate(false).write(true).open(&path).unwrap();
        let meta = file().metadata().unwrap();
        let spec = SpawnSpec {
            env: [("DEVRUN_RUN_ID", "run"), ("DEVRUN_SERVICE", "api"), ("DEVRUN_REPLICA", "1")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            ..SpawnSpec::plain(
                7,
                ServiceId::single(&ServiceName::new("api").unwrap()),
                1,
                "/bin/true".into(),
                path.clone(),
                StopOrder::plain(0),
            )
        };
        // A leader that is long gone: no process has this start time.
        let gone = Identity { pid: 4_000_000, start: 1, boot: identity::boot_id().to_owned() };
        let mut ownership = OwnershipIndex::default();
        ownership.add(&JournalEntry::new(&spec, "run", gone, (meta.dev(), meta.ino()), None), false);
        let seen = [Some(7), Some(8), Some(0), None].map(|number| {
            let stdin = number.map_or_else(Stdio::null, |number| {
                let mut lock = file();
                lock.seek(SeekFrom::Start(number)).unwrap();
                lock.into()
            });
            let mut command = Command::new("sleep");
            command.arg("1000").stdin(stdin).envs(spec.env.iter().map(|(name, value)| (name, value)));
            let mut child = command.spawn().unwrap();
            let pid = child.id().cast_signed();
            // The environment is there a moment after the process has left ours.
            let until = Instant::now() + Duration::from_secs(10);
            while process_list::marks(pid).is_none() {
                assert!(Instant::now() < until, "no environment");
                std::thread::yield_now();
            }
            let found = ownership.of(&process_list::stat(pid).unwrap());
            child.kill().unwrap();
            child.wait().unwrap();
            found.map(|(process, _)| process)
        });
        assert_eq!(seen, [Some(Some(7)), Some(None), Some(Some(7)), Some(Some(7))]);
    }
}
