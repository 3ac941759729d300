//! The loop: requests of the supervisor, ends of children, verdicts of execs. It sleeps while nothing happens.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal as OsSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cgroup::Groups;
use crate::fork::{self, Failed, Forker, Given, Inherited};
use crate::journal::{self, Entry, Journal, Record, Writer};
use crate::lock;
use crate::tree::{Kin, News, Trees, Waits};
use crate::wire::{Inbox, Outbox, Read};
use crate::{heap, identity, proof};
use devrun_model::keeper::{FromKeeper, Identity, Inherited as InheritedProcess, KeeperHello, ProcessId, SpawnSpec, ToKeeper};

use super::ending::Ending;
use super::logs::Logs;

/// Requests are taken a few at a time, so that a burst of spawns does not hold exits and verdicts back.
const BATCH: usize = 8;
/// After the last start has been quiet for this long, memory that only starts need is given back.
const REST: Duration = Duration::from_secs(1);
const SOCKET: u64 = 0;
const CHILDREN: u64 = 1;
/// Other tokens are a process's number times four, plus 4, plus one of these.
const ERRORS: u64 = 3;

/// A released child whose exec has not been heard of.
pub(super) struct Pending {
    errors: OwnedFd,
    identity: Identity,
}

/// Everything the keeper holds.
pub(super) struct Keeper {
    pub(super) epoll: Epoll,
    pub(super) socket: Option<OwnedFd>,
    inbox: Inbox,
    pub(super) outbox: Outbox,
    writes: bool,
    pub(super) trees: Trees,
    pub(super) specs: HashMap<ProcessId, SpawnSpec>,
    pub(super) logs: HashMap<ProcessId, Logs>,
    pending: HashMap<ProcessId, Pending>,
    held: HashMap<ProcessId, VecDeque<FromKeeper>>,
    forker: Forker,
    pub(super) groups: Option<Groups>,
    pub(super) journal: Option<Writer>,
    /// Its state folder, locked.
    folder: Option<std::fs::File>,
    run: String,
    pub(super) inherited: Vec<Entry>,
    pub(super) ending: Option<Ending>,
    rest_at: Option<Instant>,
    /// So many processes there were at the last rest: what they need is known to be little.
    rested: usize,
}

/// Runs until there is nothing to keep any more.
pub(super) fn run(socket: OwnedFd, given: Option<Given>, plain: bool) -> i32 {
    match Keeper::begin(socket, given, plain).and_then(|(mut keeper, children)| keeper.serve(&children)) {
        Ok(code) => code,
        Err(_) => super::entry::BROKEN,
    }
}

fn token(process: ProcessId, kind: u64) -> u64 {
    process * 4 + 4 + kind
}

impl Keeper {
    fn begin(socket: OwnedFd, given: Option<Given>, plain: bool) -> std::io::Result<(Self, SignalFd)> {
        let mut mask = SigSet::empty();
        mask.add(OsSignal::SIGCHLD);
        mask.thread_block()?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, SOCKET))?;
        epoll.add(&children, EpollEvent::new(EpollFlags::EPOLLIN, CHILDREN))?;
        let keeper = Self {
            epoll,
            socket: Some(socket),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            writes: false,
            trees: Trees::new(Waits::All),
            specs: HashMap::new(),
            logs: HashMap::new(),
            pending: HashMap::new(),
            held: HashMap::new(),
            forker: Forker::new(given, plain)?,
            groups: None,
            journal: None,
            folder: None,
            run: String::new(),
            inherited: Vec::new(),
            ending: None,
            rest_at: None,
            rested: 0,
        };
        Ok((keeper, children))
    }

    fn serve(&mut self, children: &SignalFd) -> std::io::Result<i32> {
        let mut events = [EpollEvent::empty(); 64];
        let mut buffer = vec![0u8; 256 * 1024];
        loop {
            let now = Instant::now();
            let wakes = [self.trees.next_wake(), self.ending.as_ref().and_then(Ending::next_wake), self.rest_at];
            let wake = wakes.into_iter().flatten().min();
            let timeout = if self.inbox.has_frame() {
                EpollTimeout::ZERO
            } else {
                wake.map_or(EpollTimeout::NONE, |at| {
                    // Rounded up: a wake-up too early would only be followed by another.
                    let ms = at.saturating_duration_since(now).as_micros().div_ceil(1000);
                    EpollTimeout::try_from(Duration::from_millis(u64::try_from(ms).unwrap_or(60_000).min(60_000)))
                        .unwrap_or(EpollTimeout::ZERO)
                })
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            // Ends come first, whatever else there is to do: who is not waited for stays a zombie.
            while let Ok(Some(_)) = children.read_signal() {}
            self.trees.reap();
            for event in &events[..count] {
                match event.data() {
                    SOCKET => self.listen(),
                    // Its work is done by now.
                    CHILDREN => {}
                    other => {
                        let (process, kind) = ((other - 4) / 4, (other - 4) % 4);
                        if kind == ERRORS {
                            self.hear(process);
                        } else {
                            self.drain(process, kind, &mut buffer);
                        }
                    }
                }
            }
            for _ in 0..BATCH {
                match self.inbox.take::<ToKeeper>() {
                    Ok(Some((request, _))) => self.obey(request),
                    Ok(None) => break,
                    // Bytes that are none of ours: the supervisor is out of its mind or gone, which is the same.
                    Err(_) => {
                        self.orphaned();
                        break;
                    }
                }
            }
            let now = Instant::now();
            if self.rest_at.is_some_and(|at| at <= now) {
                // Not during a stop, in the middle of somebody's grace.
                self.rest_at = self.trees.next_wake().map(|_| now + REST);
                if self.rest_at.is_none() {
                    self.rested = self.specs.len();
                    self.forker.free_stacks();
                    heap::trim();
                }
            }
            self.trees.tick(now);
            self.tell();
            if let Some(code) = self.end() {
                return Ok(code);
            }
            self.tell();
            self.flush();
        }
    }

    fn listen(&mut self) {
        loop {
            let Some(socket) = &self.socket else { return };
            match self.inbox.fill(socket.as_raw_fd()) {
                Ok(Read::Some) => {}
                Ok(Read::Nothing) => return,
                Ok(Read::End) | Err(_) => {
                    // What it said before it died still counts, but nothing of it may start any more.
                    while let Ok(Some((request, _))) = self.inbox.take::<ToKeeper>() {
                        if !matches!(request, ToKeeper::Spawn(_)) {
                            self.obey(request);
                        }
                    }
                    self.orphaned();
                    return;
                }
            }
        }
    }

    fn obey(&mut self, request: ToKeeper) {
        match request {
            ToKeeper::Hello(hello) => self.greet(&hello),
            ToKeeper::Spawn(spec) => self.spawn(*spec),
            ToKeeper::Stop { process, signal } => self.trees.stop(process, signal),
            ToKeeper::Signal { process, signal } => self.trees.signal(process, signal),
            ToKeeper::SignalTree { process, signal } => self.trees.signal_tree(process, signal),
            ToKeeper::Kill { process } => self.trees.kill(process),
            ToKeeper::Finish => {
                if self.ending.is_none() {
                    // The supervisor says that these are gone too; the result is written only when that is proved.
                    self.track_inherited();
                    self.ending = Some(Ending::asked());
                }
            }
            ToKeeper::Ping => self.say(&FromKeeper::Pong, Vec::new()),
        }
    }

    fn greet(&mut self, hello: &KeeperHello) {
        self.run.clone_from(&hello.run);
        // Some network file systems lock no folders; then the keeper is known by its services' locks.
        self.folder = hello.journal.parent().and_then(|folder| lock::share_folder(folder).ok());
        let mut without = Vec::new();
        if hello.cgroup {
            match Groups::make(&hello.run) {
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
            if let Some(step) = occupied(hello, &old) {
                self.say(&FromKeeper::SpawnFailed { process: 0, step, errno: libc::EBUSY }, Vec::new());
                return Ok(None);
            }
            self.inherit(&hello.inherited, &old);
            Writer::open(hello, old, &own, uid, cgroup).map(Some)
        });
        match opened {
            Ok(Some(writer)) => {
                self.journal = Some(writer);
                self.say(&FromKeeper::Ready { identity: own, without }, Vec::new());
            }
            Ok(None) => {}
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                let step = format!("journal {}: {error}", hello.journal.display());
                self.say(&FromKeeper::SpawnFailed { process: 0, step, errno }, Vec::new());
            }
        }
    }

    /// The processes of an earlier keeper. They are not our children, so they are only remembered, for the case that we are
    /// the last. The journal knows all of them, those too of which the supervisor had not heard yet; the supervisor knows how
    /// to stop them, and knows them without a journal.
    fn inherit(&mut self, list: &[InheritedProcess], old: &Journal) {
        let ours = old.header.as_ref().is_some_and(|header| header.run == self.run);
        let mut entries: BTreeMap<ProcessId, Entry> = if ours { old.live.clone() } else { BTreeMap::new() };
        for InheritedProcess { spec, identity } in list {
            entries.entry(spec.process).or_insert_with(|| {
                let lock = std::fs::metadata(&spec.lock).map(|meta| {
                    use std::os::unix::fs::MetadataExt;
                    (meta.dev(), meta.ino())
                });
                let group = self.groups.as_ref().map(|groups| groups.recorded(spec));
                Entry::new(spec, &self.run, identity.clone(), lock.unwrap_or((0, 0)), group)
            });
            self.specs.insert(spec.process, spec.clone());
        }
        self.inherited = entries.into_values().collect();
    }

    /// From here on these are ours to stop, or to prove gone.
    pub(super) fn track_inherited(&mut self) {
        for entry in std::mem::take(&mut self.inherited) {
            let gone = !identity::holds(&entry.identity);
            self.trees.add(entry, Kin::Foreign, None, gone);
        }
    }

    pub(super) fn spawn(&mut self, spec: SpawnSpec) {
        let process = spec.process;
        if let Err(failed) = self.try_spawn(spec) {
            self.write(&[Record::Empty { process }]);
            self.say(&FromKeeper::SpawnFailed { process, step: failed.step, errno: failed.errno }, Vec::new());
        }
    }

    fn try_spawn(&mut self, spec: SpawnSpec) -> Result<(), Failed> {
        let process = spec.process;
        let journal_failed =
            |error: std::io::Error| Failed { step: "journal".to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) };
        let intent = Record::Intent { process, service: spec.service.clone(), generation: spec.generation };
        let Some(journal) = self.journal.as_mut() else {
            return Err(Failed { step: "journal".to_owned(), errno: libc::ENOTCONN });
        };
        journal.append(&intent).map_err(journal_failed)?;
        let lock = Inherited::open(&spec)?;
        // No group for this one: it is followed by its tree alone.
        let group = self.groups.as_ref().and_then(|groups| groups.group(&spec).ok());
        let forked = match self.forker.fork(&spec, &lock, group.as_ref().map(|(_, file)| file)) {
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
        let entry = Entry::new(&spec, &self.run, identity.clone(), lock.key, path);
        let written = journal.append(&Record::Started(Box::new(entry.clone())));
        if let Err(error) = written {
            // Not recorded, not released: dropping the pipe ends the child, which is reaped as a stray.
            return Err(journal_failed(error));
        }
        let started = forked
            .release()
            .map_err(|error| Failed { step: "release".to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) })?;
        let _ = self.epoll.add(&started.errors, EpollEvent::new(EpollFlags::EPOLLIN, token(process, ERRORS)));
        self.trees.add(entry, Kin::Parent, started.pidfd, false);
        self.logs.insert(process, Logs::new(started.stdout, started.stderr));
        self.pending.insert(process, Pending { errors: started.errors, identity });
        self.specs.insert(process, spec.of_running());
        // A restart alone is no reason: the next one would only be slower.
        if self.specs.len() > self.rested {
            self.rest_at = Some(Instant::now() + REST);
        }
        Ok(())
    }

    /// The error pipe has something to say, or has closed at exec.
    fn hear(&mut self, process: ProcessId) {
        let Some(pending) = self.pending.get(&process) else { return };
        let Some(verdict) = fork::verdict(&pending.errors) else { return };
        let Some(pending) = self.pending.remove(&process) else { return };
        let _ = self.epoll.delete(&pending.errors);
        match verdict {
            Ok(()) => {
                let duplicates = self.logs.get(&process).map(Logs::duplicates);
                match duplicates {
                    Some(Ok(duplicates)) => {
                        let spawned = FromKeeper::Spawned { process, identity: pending.identity };
                        self.say(&spawned, duplicates);
                    }
                    // Without its output nobody could use it.
                    Some(Err(error)) => self.unmake(process, "pipe", error.raw_os_error().unwrap_or(libc::EMFILE)),
                    None => self.unmake(process, "pipe", libc::EBADF),
                }
            }
            Err(failed) => self.unmake(process, &failed.step, failed.errno),
        }
    }

    /// Nothing came of it: whatever there is of it is killed and then forgotten.
    fn unmake(&mut self, process: ProcessId, step: &str, errno: i32) {
        self.trees.kill(process);
        let failed = FromKeeper::SpawnFailed { process, step: step.to_owned(), errno };
        self.held.entry(process).or_default().push_back(failed);
    }

    /// Passes on what the trees have to say, written down first.
    fn tell(&mut self) {
        let news = self.trees.take_news();
        let records: Vec<Record> = news
            .iter()
            .filter_map(|news| match news {
                News::Exited(process, status) => Some(Record::Exited { process: *process, status: *status }),
                News::Empty(process) => Some(Record::Empty { process: *process }),
                News::Survivors(..) => None,
            })
            .collect();
        self.write(&records);
        for news in news {
            match news {
                News::Exited(process, status) => {
                    // It has ended, so its error pipe has said its last word; that word comes first.
                    self.hear(process);
                    if !self.held.contains_key(&process) {
                        self.say(&FromKeeper::Exited { process, status }, Vec::new());
                    }
                }
                News::Empty(process) => {
                    self.close_logs(process);
                    self.specs.remove(&process);
                    match self.held.remove(&process) {
                        Some(last) => last.iter().for_each(|message| self.say(message, Vec::new())),
                        None => self.say(&FromKeeper::TreeEmpty { process }, Vec::new()),
                    }
                }
                News::Survivors(process, pids) => self.say(&FromKeeper::Survivors { process, pids }, Vec::new()),
            }
        }
    }

    fn drain(&mut self, process: ProcessId, kind: u64, buffer: &mut [u8]) {
        let index = usize::try_from(kind).unwrap_or(0);
        if let Some(end) = self.logs.get_mut(&process).and_then(|logs| logs.drain(index, buffer)) {
            self.unwatch(end.as_fd());
        }
    }

    /// Takes a descriptor out of epoll before it is closed: as long as somebody holds a duplicate, closing alone would not,
    /// and its events would come for ever.
    fn unwatch(&self, fd: BorrowedFd<'_>) {
        // Refused when it was never in.
        let _ = self.epoll.delete(fd);
    }

    fn close_logs(&mut self, process: ProcessId) {
        let Some(mut logs) = self.logs.remove(&process) else { return };
        if logs.draining() {
            let mut buffer = vec![0u8; 64 * 1024];
            for index in 0..2 {
                // The last words; more than a pipe holds cannot be left.
                for _ in 0..5 {
                    if let Some(end) = logs.drain(index, &mut buffer) {
                        self.unwatch(end.as_fd());
                        break;
                    }
                }
            }
            logs.ends().for_each(|(_, end)| self.unwatch(end));
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
                // Without a place in epoll it is read at its end only, and may block; that needs a machine out of memory.
                let _ = self.epoll.add(end, EpollEvent::new(EpollFlags::EPOLLIN, token));
            }
        }
    }

    /// A journal that cannot be written must not keep anybody from being stopped; it is only fatal to a new start.
    pub(super) fn write(&mut self, records: &[Record]) {
        if let Some(journal) = self.journal.as_mut().filter(|_| !records.is_empty()) {
            let _ = journal.append_all(records);
        }
    }

    pub(super) fn say(&mut self, message: &FromKeeper, descriptors: Vec<OwnedFd>) {
        if self.socket.is_some() {
            // Only a message beyond every limit is refused, and none of ours is.
            let _ = self.outbox.push(message, descriptors);
        }
    }

    pub(super) fn flush(&mut self) {
        let Some(socket) = &self.socket else { return };
        match self.outbox.flush(socket.as_raw_fd()) {
            Ok(done) => {
                if done == self.writes {
                    self.writes = !done;
                    let flags = if done { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT };
                    let _ = self.epoll.modify(socket.as_fd(), &mut EpollEvent::new(flags, SOCKET));
                }
            }
            // The end of the socket comes as an event of its own.
            Err(_) => self.outbox = Outbox::default(),
        }
    }
}

/// The journal of an earlier run whose processes live: beginning a new one would lose them.
fn occupied(hello: &KeeperHello, old: &Journal) -> Option<String> {
    old.header.as_ref().filter(|header| header.run != hello.run)?;
    let lives = old.live.values().find(|entry| proof::leads(entry))?;
    Some(format!("{} of an earlier run is still running (pid {})", lives.service, lives.identity.pid))
}

/// Finds a program the way a shell would, in the environment and directory of the process that it is for: an empty or
/// relative element of PATH is meant from there. `None`: no executable of that name.
pub(super) fn look_up(word: &str, env: &[(String, String)], dir: &Path) -> Option<PathBuf> {
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
            assert_eq!(look_up(word, &[("PATH".to_owned(), path.to_owned())], dir), found, "{path} {word}");
        }
    }
}
