//! The event loop of the keeper: requests of the supervisor, exits of children, results of exec. It sleeps while nothing
//! happens.

mod stop;

use devrun_model::exit;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cgroup::RunCgroup;
use crate::default_limits::DefaultLimits;
use crate::drivers::readiness::Readiness;
use crate::fork::{self, Forker, InheritedLock, SpawnError};
use crate::journal::{self, Journal, JournalEntry, JournalRecord, JournalWriter};
use crate::lock;
use crate::process_trees::{ReapScope, Relation, TreeEvent, Trees};
use crate::wire::{Inbox, Outbox, ReadOutcome};
use crate::{heap, identity, identity_check};
use devrun_model::keeper::{FromKeeper, Identity, Inherited as InheritedProcess, KeeperHello, ProcessId, SpawnSpec, ToKeeper};

use super::log_pipes::LogPipes;
use super::shutdown_state::KeeperShutdown;

/// Starts are taken a few at a time, so that a burst of them does not hold exits and verdicts back.
const STARTS_AT_ONCE: usize = 8;
/// Other requests cost little: a hundred stops are one turn.
const REQUESTS_AT_ONCE: usize = 256;
/// After the last start has been quiet for this long, memory that only starts need is given back.
const IDLE_DELAY: Duration = Duration::from_secs(1);
const SOCKET: u64 = 0;
/// Other tokens are a process's number times four, plus 4, plus one of these.
const ERRORS: u64 = 3;

/// A released child whose exec has not been heard of.
pub(super) struct PendingExec {
    errors: OwnedFd,
    identity: Identity,
}

/// Everything the keeper holds.
pub(super) struct KeeperLoop {
    pub(super) readiness: Readiness,
    pub(super) socket: Option<OwnedFd>,
    inbox: Inbox,
    pub(super) outbox: Outbox,
    wants_write: bool,
    pub(super) trees: Trees,
    pub(super) specs: HashMap<ProcessId, SpawnSpec>,
    pub(super) logs: HashMap<ProcessId, LogPipes>,
    pending: HashMap<ProcessId, PendingExec>,
    deferred: HashMap<ProcessId, VecDeque<FromKeeper>>,
    forker: Forker,
    pub(super) groups: Option<RunCgroup>,
    pub(super) journal: Option<JournalWriter>,
    /// Its state directory, locked.
    folder: Option<std::fs::File>,
    run: String,
    pub(super) inherited: Vec<JournalEntry>,
    pub(super) shutdown: Option<KeeperShutdown>,
    release_at: Option<Instant>,
    /// So many processes there were at the last rest: what they need is known to be little.
    released_count: usize,
}

/// Runs until there is nothing to keep any more.
pub(super) fn run(socket: OwnedFd, default_limits: Option<DefaultLimits>, plain: bool) -> i32 {
    match KeeperLoop::begin(socket, default_limits, plain).and_then(|mut keeper| keeper.serve()) {
        Ok(code) => code,
        Err(_) => exit::INTERNAL,
    }
}

fn token(process: ProcessId, kind: u64) -> u64 {
    process * 4 + 4 + kind
}

impl KeeperLoop {
    fn begin(socket: OwnedFd, default_limits: Option<DefaultLimits>, plain: bool) -> std::io::Result<Self> {
        let readiness = Readiness::new()?;
        nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        readiness.add(&socket, SOCKET)?;
        Ok(Self {
            readiness,
            socket: Some(socket),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            wants_write: false,
            trees: Trees::new(ReapScope::All),
            specs: HashMap::new(),
            logs: HashMap::new(),
            pending: HashMap::new(),
            deferred: HashMap::new(),
            forker: Forker::new(default_limits, plain)?,
            groups: None,
            journal: None,
            folder: None,
            run: String::new(),
            inherited: Vec::new(),
            shutdown: None,
            release_at: None,
            released_count: 0,
        })
    }

    fn serve(&mut self) -> std::io::Result<i32> {
        let mut ready = Vec::new();
        let mut buffer = vec![0u8; 256 * 1024];
        loop {
            let now = Instant::now();
            let wakes = [self.trees.next_wake(), self.shutdown.as_ref().and_then(KeeperShutdown::next_wake), self.release_at];
            let wake = wakes.into_iter().flatten().min();
            let timeout = if self.inbox.has_frame() {
                Some(Duration::ZERO)
            } else {
                // Rounded up: a wake-up too early would only be followed by another.
                let rounded_up = |at: Instant| at.saturating_duration_since(now).as_micros().div_ceil(1000);
                wake.map(|at| Duration::from_millis(u64::try_from(rounded_up(at)).unwrap_or(60_000).min(60_000)))
            };
            self.readiness.wait(&mut ready, timeout)?;
            // Exits come first, whatever else there is to do: a child that is not reaped stays a zombie.
            self.trees.reap();
            for token in &ready {
                match *token {
                    SOCKET => self.read_requests(),
                    other => {
                        let (process, kind) = ((other - 4) / 4, (other - 4) % 4);
                        if kind == ERRORS {
                            self.read_exec_status(process);
                        } else {
                            self.drain(process, kind, &mut buffer);
                        }
                    }
                }
            }
            let mut starts = 0;
            for _ in 0..REQUESTS_AT_ONCE {
                match self.inbox.take::<ToKeeper>() {
                    Ok(Some((request, descriptors))) => {
                        starts += usize::from(matches!(request, ToKeeper::Spawn(_)));
                        self.handle_request(request, &descriptors);
                        if starts == STARTS_AT_ONCE {
                            break;
                        }
                    }
                    Ok(None) => break,
                    // Malformed bytes: the supervisor is broken or gone, which is treated the same.
                    Err(_) => {
                        self.handle_supervisor_loss();
                        break;
                    }
                }
            }
            let now = Instant::now();
            if self.release_at.is_some_and(|at| at <= now) {
                // Not during a stop, in the middle of a grace period.
                self.release_at = self.trees.next_wake().map(|_| now + IDLE_DELAY);
                if self.release_at.is_none() {
                    self.released_count = self.specs.len();
                    self.forker.free_stacks();
                    heap::trim();
                }
            }
            self.trees.tick(now);
            self.report_events();
            if let Some(code) = self.continue_shutdown() {
                return Ok(code);
            }
            self.report_events();
            self.flush();
        }
    }

    fn read_requests(&mut self) {
        loop {
            let Some(socket) = &self.socket else { return };
            match self.inbox.fill(socket.as_raw_fd()) {
                Ok(ReadOutcome::Data) => {}
                Ok(ReadOutcome::Nothing) => return,
                Ok(ReadOutcome::End) | Err(_) => {
                    // What it said before it died still counts, but nothing of it may start any more.
                    while let Ok(Some((request, _))) = self.inbox.take::<ToKeeper>() {
                        if !matches!(request, ToKeeper::Spawn(_)) {
                            self.handle_request(request, &[]);
                        }
                    }
                    self.handle_supervisor_loss();
                    return;
                }
            }
        }
    }

    fn handle_request(&mut self, request: ToKeeper, descriptors: &[OwnedFd]) {
        match request {
            ToKeeper::Hello(hello) => self.handshake(&hello),
            ToKeeper::Spawn(spec) => self.spawn(*spec, descriptors),
            ToKeeper::Stop { process, signal } => self.trees.stop(process, signal),
            ToKeeper::Signal { process, signal } => self.trees.signal(process, signal),
            ToKeeper::SignalTree { process, signal } => self.trees.signal_tree(process, signal),
            ToKeeper::Kill { process } => self.trees.kill(process),
            ToKeeper::Finish => {
                if self.shutdown.is_none() {
                    // The supervisor says that these are gone too; the result is written only when that is proved.
                    self.track_inherited();
                    self.shutdown = Some(KeeperShutdown::requested());
                }
            }
            ToKeeper::Ping => self.send(&FromKeeper::Pong, Vec::new()),
        }
    }

    fn handshake(&mut self, hello: &KeeperHello) {
        self.run.clone_from(&hello.run);
        // Some network file systems lock no directories; then the keeper is known by its services' locks.
        self.folder = hello.journal.parent().and_then(|folder| lock::lock_directory(folder).ok());
        let mut without = Vec::new();
        if hello.cgroup {
            match RunCgroup::make(&hello.run) {
                Ok(groups) => self.groups = Some(groups),
                Err(reason) => without.push(format!("cgroup: {reason}")),
            }
        } else {
            without.push("cgroup: turned off".to_owned());
        }
        let own = identity::own();
        let cgroup = self.groups.as_ref().map(|groups| groups.path().to_owned());
        let uid = nix::unistd::getuid().as_raw();
        let opened = journal::read(&hello.journal).and_then(|old| {
            if let Some(step) = surviving_run(hello, &old) {
                self.send(&FromKeeper::SpawnFailed { process: 0, step, errno: libc::EBUSY }, Vec::new());
                return Ok(None);
            }
            self.remember_inherited(&hello.inherited, &old);
            JournalWriter::open(hello, old, &own, uid, cgroup).map(Some)
        });
        match opened {
            Ok(Some(writer)) => {
                self.journal = Some(writer);
                self.send(&FromKeeper::Ready { identity: own, without }, Vec::new());
            }
            Ok(None) => {}
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                let step = format!("journal {}: {error}", hello.journal.display());
                self.send(&FromKeeper::SpawnFailed { process: 0, step, errno }, Vec::new());
            }
        }
    }

    /// The processes of an earlier keeper. They are not our children, so they are only remembered, for the case that we are
    /// the last. The journal knows all of them, those too of which the supervisor had not heard yet; the supervisor knows how
    /// to stop them, and knows them without a journal.
    fn remember_inherited(&mut self, list: &[InheritedProcess], old: &Journal) {
        let ours = old.header.as_ref().is_some_and(|header| header.run == self.run);
        let mut entries: BTreeMap<ProcessId, JournalEntry> = if ours { old.live.clone() } else { BTreeMap::new() };
        for InheritedProcess { spec, identity } in list {
            entries.entry(spec.process).or_insert_with(|| {
                let lock = std::fs::metadata(&spec.lock).map(|meta| {
                    use std::os::unix::fs::MetadataExt;
                    (meta.dev(), meta.ino())
                });
                let group = self.groups.as_ref().map(|groups| groups.recorded(spec));
                JournalEntry::new(spec, &self.run, identity.clone(), lock.unwrap_or((0, 0)), group)
            });
            self.specs.insert(spec.process, spec.clone());
        }
        self.inherited = entries.into_values().collect();
    }

    /// From here on these are ours to stop, or to prove gone.
    pub(super) fn track_inherited(&mut self) {
        for entry in std::mem::take(&mut self.inherited) {
            let gone = !identity::holds(&entry.identity);
            self.trees.add(entry, Relation::Foreign, None, gone);
        }
    }

    pub(super) fn spawn(&mut self, spec: SpawnSpec, sockets: &[OwnedFd]) {
        let process = spec.process;
        if let Err(failed) = self.try_spawn(spec, sockets) {
            self.write(&[JournalRecord::Empty { process }]);
            self.send(&FromKeeper::SpawnFailed { process, step: failed.step, errno: failed.errno }, Vec::new());
        }
    }

    fn try_spawn(&mut self, spec: SpawnSpec, sockets: &[OwnedFd]) -> Result<(), SpawnError> {
        let process = spec.process;
        let journal_failed =
            |error: std::io::Error| SpawnError { step: "journal".to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) };
        let intent = JournalRecord::Intent { process, service: spec.service.clone(), generation: spec.generation };
        let Some(journal) = self.journal.as_mut() else {
            return Err(SpawnError { step: "journal".to_owned(), errno: libc::ENOTCONN });
        };
        journal.append(&intent).map_err(journal_failed)?;
        let lock = InheritedLock::open(&spec)?;
        // No group for this one: it is followed by its tree alone.
        let group = self.groups.as_ref().and_then(|groups| groups.group(&spec).ok());
        let forked = match self.forker.fork(&spec, &lock, group.as_ref().map(|(_, file)| file), sockets) {
            Ok(forked) => forked,
            Err(failed) => {
                if let Some((group, _)) = group {
                    group.remove();
                }
                return Err(failed);
            }
        };
        let identity =
            identity::of(forked.pid).unwrap_or(Identity { pid: forked.pid, start: 0, boot: identity::boot_id().to_owned() });
        let path = group.map(|(group, _)| group.path().to_owned());
        let entry = JournalEntry::new(&spec, &self.run, identity.clone(), lock.key, path);
        let written = journal.append(&JournalRecord::Started(Box::new(entry.clone())));
        if let Err(error) = written {
            // Not recorded, not released: dropping the pipe ends the child, which is reaped as a stray.
            return Err(journal_failed(error));
        }
        let started = forked
            .release()
            .map_err(|error| SpawnError { step: "release".to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) })?;
        let _ = self.readiness.add(&started.errors, token(process, ERRORS));
        self.trees.add(entry, Relation::Parent, started.pidfd, false);
        self.logs.insert(process, LogPipes::new(started.stdout, started.stderr));
        self.pending.insert(process, PendingExec { errors: started.errors, identity });
        self.specs.insert(process, spec.of_running());
        // A restart alone is no reason: the next one would only be slower.
        if self.specs.len() > self.released_count {
            self.release_at = Some(Instant::now() + IDLE_DELAY);
        }
        Ok(())
    }

    /// The error pipe is readable: a failed step, or closed at exec.
    fn read_exec_status(&mut self, process: ProcessId) {
        let Some(pending) = self.pending.get(&process) else { return };
        let Some(exec_status) = fork::exec_status(&pending.errors) else { return };
        let Some(pending) = self.pending.remove(&process) else { return };
        self.readiness.remove(&pending.errors);
        // The child has left our memory. A socket that it was passed would stay open here after its service has closed it.
        self.forker.reap_in_flight();
        match exec_status {
            Ok(()) => {
                let duplicates = self.logs.get(&process).map(LogPipes::duplicates);
                match duplicates {
                    Some(Ok(duplicates)) => {
                        let spawned = FromKeeper::Spawned { process, identity: pending.identity };
                        self.send(&spawned, duplicates);
                    }
                    // Without its output it is of no use.
                    Some(Err(error)) => self.abort_spawn(process, "pipe", error.raw_os_error().unwrap_or(libc::EMFILE)),
                    None => self.abort_spawn(process, "pipe", libc::EBADF),
                }
            }
            Err(failed) => self.abort_spawn(process, &failed.step, failed.errno),
        }
    }

    /// The spawn failed: what exists of it is killed and then forgotten.
    fn abort_spawn(&mut self, process: ProcessId, step: &str, errno: i32) {
        self.trees.kill(process);
        let failed = FromKeeper::SpawnFailed { process, step: step.to_owned(), errno };
        self.deferred.entry(process).or_default().push_back(failed);
    }

    /// Reports the events of the trees, after they were recorded in the journal.
    fn report_events(&mut self) {
        let events = self.trees.take_events();
        let records: Vec<JournalRecord> = events
            .iter()
            .filter_map(|event| match event {
                TreeEvent::Exited(process, status, _) => Some(JournalRecord::Exited { process: *process, status: *status }),
                TreeEvent::Empty(process) => Some(JournalRecord::Empty { process: *process }),
                TreeEvent::Survivors(..) => None,
            })
            .collect();
        self.write(&records);
        for event in events {
            match event {
                TreeEvent::Exited(process, status, left) => {
                    // It has ended, so its error pipe is complete; that comes first.
                    self.read_exec_status(process);
                    if !self.deferred.contains_key(&process) {
                        self.send(&FromKeeper::Exited { process, status, left }, Vec::new());
                    }
                }
                TreeEvent::Empty(process) => {
                    self.close_logs(process);
                    self.specs.remove(&process);
                    match self.deferred.remove(&process) {
                        Some(last) => last.iter().for_each(|message| self.send(message, Vec::new())),
                        None => self.send(&FromKeeper::TreeEmpty { process }, Vec::new()),
                    }
                }
                TreeEvent::Survivors(process, pids) => self.send(&FromKeeper::Survivors { process, pids }, Vec::new()),
            }
        }
    }

    fn drain(&mut self, process: ProcessId, kind: u64, buffer: &mut [u8]) {
        let index = usize::try_from(kind).unwrap_or(0);
        if let Some(end) = self.logs.get_mut(&process).and_then(|logs| logs.drain(index, buffer)) {
            self.readiness.remove(&end);
        }
    }

    fn close_logs(&mut self, process: ProcessId) {
        let Some(mut logs) = self.logs.remove(&process) else { return };
        if logs.is_draining() {
            let mut buffer = vec![0u8; 64 * 1024];
            for index in 0..2 {
                // The last words; more than a pipe holds cannot be left.
                for _ in 0..5 {
                    if let Some(end) = logs.drain(index, &mut buffer) {
                        self.readiness.remove(&end);
                        break;
                    }
                }
            }
            logs.ends().for_each(|(_, end)| self.readiness.remove(end));
        }
    }

    /// From here on the output is ours to read.
    pub(super) fn drain_logs(&mut self) {
        for (process, logs) in &mut self.logs {
            if !logs.drain_into(self.specs.get(process).and_then(|spec| spec.log.as_deref())) {
                continue;
            }
            for (index, end) in logs.ends() {
                let token = token(*process, index as u64);
                // Refused, it is read at its end only, and may block; that needs a machine out of memory.
                let _ = self.readiness.add(end, token);
            }
        }
    }

    /// A journal that cannot be written must not keep anybody from being stopped; it is only fatal to a new start.
    pub(super) fn write(&mut self, records: &[JournalRecord]) {
        if let Some(journal) = self.journal.as_mut().filter(|_| !records.is_empty()) {
            let _ = journal.append_all(records);
        }
    }

    pub(super) fn send(&mut self, message: &FromKeeper, descriptors: Vec<OwnedFd>) {
        if self.socket.is_some() {
            // Only a message beyond every limit is refused, and none of ours is.
            let _ = self.outbox.push(message, descriptors);
        }
    }

    pub(super) fn flush(&mut self) {
        let Some(socket) = &self.socket else { return };
        match self.outbox.flush(socket.as_raw_fd()) {
            Ok(done) => {
                if done == self.wants_write {
                    self.wants_write = !done;
                    let _ = self.readiness.wait_for_writes(socket.as_fd(), SOCKET, !done);
                }
            }
            // The end of the socket comes as an event of its own.
            Err(_) => self.outbox = Outbox::default(),
        }
    }
}

/// The journal of an earlier run whose processes live: beginning a new one would lose them.
fn surviving_run(hello: &KeeperHello, old: &Journal) -> Option<String> {
    old.header.as_ref().filter(|header| header.run != hello.run)?;
    let lives = old.live.values().find(|entry| identity_check::is_recorded_leader(entry))?;
    Some(format!("{} of an earlier run is still running (pid {})", lives.service, lives.identity.pid))
}

/// Finds a program the way a shell would, in the environment and directory of the process that it is for: an empty or
/// relative element of PATH is meant from there. `None`: no executable of that name.
pub(super) fn find_program(word: &str, env: &[(String, String)], dir: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    if word.contains('/') {
        return Some(PathBuf::from(word));
    }
    let path = env.iter().find(|(name, _)| name == "PATH").map_or("/usr/local/bin:/usr/bin:/bin", |(_, value)| value);
    let executable =
        |file: &PathBuf| std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    path.split(':').map(|folder| dir.join(folder).join(word)).find(executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_up_from_the_services_directory() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        std::fs::create_dir(dir.join("tools")).unwrap();
        for (name, mode) in [("here", 0o755), ("tools/there", 0o755), ("data", 0o644)] {
            std::fs::write(dir.join(name), "").unwrap();
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        for (path, word, found) in [
            ("/usr/bin::/bin", "here", Some(dir.join("here"))),
            ("/usr/bin:", "here", Some(dir.join("here"))),
            ("tools:/bin", "there", Some(dir.join("tools/there"))),
            // Not in PATH, though it lies in the directory that the command would be executed in.
            ("/usr/bin:/bin", "here", None),
            (":", "data", None),
            ("/bin", "sh", Some(PathBuf::from("/bin/sh"))),
            ("/bin", "./x", Some(PathBuf::from("./x"))),
        ] {
            assert_eq!(find_program(word, &[("PATH".to_owned(), path.to_owned())], dir), found, "{path} {word}");
        }
    }
}
