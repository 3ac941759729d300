//! The keeper's journal: which processes were started, in a form that survives the death of supervisor and keeper.
//!
//! A line is JSON, a tab, a checksum and a newline. The keeper alone writes it, with plain `write`s and no fsync: the page
//! cache outlives every process, and after a reboot no process is left to account for. A torn last line is dropped, a line that
//! does not match its checksum is passed over, and nothing in the file can make a reader panic. What it says of a process is
//! never enough to signal it; the sweep proves each one again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file_id::{self, FileId};
use devrun_model::fnv::fnv1a;
use devrun_model::keeper::{ExitStatus, Identity, KeeperHello, ProcessId, Role, RunAs, SpawnSpec};
use devrun_model::{ServiceId, Signal, StopTo};

/// The format's number; a file of another one is not read.
pub const VERSION: u32 = 1;
/// A journal this long is rewritten when most of it is about processes that are gone.
const COMPACT: u64 = 1024 * 1024;
/// Nothing sound is longer; a longer file is read up to here.
const READ_LIMIT: u64 = 64 * 1024 * 1024;

/// The first record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalHeader {
    /// Format.
    pub version: u32,
    /// The boot.
    pub boot: String,
    /// The run: the value of `DEVRUN_RUN_ID`.
    pub run: String,
    /// Whose.
    pub uid: u32,
    /// The project.
    pub project: String,
    /// The procfile's directory.
    pub root: PathBuf,
    /// Device and inode of that directory.
    #[serde(default)]
    pub root_id: Option<FileId>,
    /// The supervisor.
    pub supervisor: Identity,
    /// The keeper.
    pub keeper: Identity,
    /// The directory of the run's cgroups, where there is one.
    pub cgroup: Option<PathBuf>,
}

/// One process as recorded before it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Its number in the run.
    pub process: ProcessId,
    /// Whose.
    pub service: ServiceId,
    /// Which generation.
    pub generation: u64,
    /// What for.
    pub role: Role,
    /// The run.
    pub run: String,
    /// The leader, which is its session and group too.
    pub identity: Identity,
    /// `DEVRUN_SERVICE` and `DEVRUN_REPLICA` in its environment.
    pub marks: (String, String),
    /// The executable.
    pub program: PathBuf,
    /// Its alive lock.
    pub lock: PathBuf,
    /// The lock's device and inode.
    pub lock_file: (u64, u64),
    /// Its cgroup.
    pub cgroup: Option<PathBuf>,
    /// Another OS user that it was started as.
    pub user: Option<u32>,
    /// Its stop signal.
    pub signal: Signal,
    /// Who gets it.
    pub to: StopTo,
    /// From the signal to SIGKILL.
    pub grace_ms: u64,
    /// The stronger signal at the end of the grace.
    pub then: Option<Signal>,
    /// Services that are stopped after it.
    pub before: Vec<ServiceId>,
    /// The numbered tier of its service; a journal of an earlier version has none.
    #[serde(default)]
    pub tier: Option<u32>,
    /// Command names that may outlive it.
    pub spare: Vec<String>,
}

impl JournalEntry {
    /// What is kept of a spec: nothing that could hold a secret, so neither words nor environment.
    #[must_use]
    pub fn new(spec: &SpawnSpec, run: &str, identity: Identity, lock_file: (u64, u64), cgroup: Option<PathBuf>) -> Self {
        let mark = |name: &str| spec.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default();
        Self {
            process: spec.process,
            service: spec.service.clone(),
            generation: spec.generation,
            role: spec.role,
            run: run.to_owned(),
            identity,
            marks: (mark("DEVRUN_SERVICE"), mark("DEVRUN_REPLICA")),
            program: spec.program.clone(),
            lock: spec.lock.clone(),
            lock_file,
            cgroup,
            user: match spec.run_as {
                RunAs::User { uid, .. } => Some(uid),
                RunAs::Same | RunAs::Namespace { .. } => None,
            },
            signal: spec.stop.signal,
            to: spec.stop.to,
            grace_ms: spec.stop.grace_ms,
            then: spec.stop.then,
            before: spec.stop.before.clone(),
            tier: spec.stop.tier,
            spare: spec.spare.clone(),
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalRecord {
    /// The first.
    Header(Box<JournalHeader>),
    /// A later keeper of the same run.
    Keeper(Identity),
    /// A fork is about to happen.
    Intent {
        /// Its number.
        process: ProcessId,
        /// Whose.
        service: ServiceId,
        /// Which generation.
        generation: u64,
    },
    /// It happened; the child waits for this line.
    Started(Box<JournalEntry>),
    /// The leader ended.
    Exited {
        /// Which one.
        process: ProcessId,
        /// How.
        status: ExitStatus,
    },
    /// Nothing is left of its tree, or nothing came of it.
    Empty {
        /// Which one.
        process: ProcessId,
    },
    /// The supervisor is gone; nothing of this run may be started again.
    Dead,
    /// The run is over; pids that could not be ended, with their command.
    Result {
        /// Pid and command.
        survivors: Vec<(i32, String)>,
    },
}

/// What a journal says.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// The header, where it is sound and of our version.
    pub header: Option<JournalHeader>,
    /// The latest keeper.
    pub keeper: Option<Identity>,
    /// It is not the first one of its run.
    pub replaced: bool,
    /// Processes whose trees were not proved empty, by number.
    pub live: BTreeMap<ProcessId, JournalEntry>,
    /// Command names that may outlive their service, of the ended ones too.
    pub spared: BTreeSet<String>,
    /// How leaders ended, as far as the file goes back.
    pub exits: BTreeMap<ProcessId, ExitStatus>,
    /// The keeper saw its supervisor die.
    pub dead: bool,
    /// How the run ended, if it came to its end.
    pub result: Option<Vec<(i32, String)>>,
    /// Lines that were no lines of ours.
    pub damaged: usize,
}

/// A record as it stands in the file.
///
/// # Errors
/// When it cannot be written as JSON, which none of ours does.
pub fn encode(record: &JournalRecord) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
    let sum = fnv1a(bytes.iter().copied());
    bytes.extend_from_slice(format!("\t{sum:016x}\n").as_bytes());
    Ok(bytes)
}

fn parse_line(line: &[u8]) -> Option<JournalRecord> {
    let tab = line.iter().rposition(|byte| *byte == b'\t')?;
    let json = &line[..tab];
    // As text: a number could be spelt in several ways.
    if line[tab + 1..] != *format!("{:016x}", fnv1a(json.iter().copied())).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Understands the bytes of a journal, whatever they are.
#[must_use]
pub fn parse(bytes: &[u8]) -> Journal {
    let mut journal = Journal::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else {
            journal.damaged += 1;
            break;
        };
        match parse_line(line) {
            None => journal.damaged += 1,
            Some(JournalRecord::Header(header)) if header.version == VERSION => {
                journal.keeper = Some(header.keeper.clone());
                journal.header = Some(*header);
            }
            Some(JournalRecord::Header(_)) => journal.damaged += 1,
            Some(JournalRecord::Keeper(identity)) => {
                journal.keeper = Some(identity);
                journal.replaced = true;
            }
            Some(JournalRecord::Started(entry)) => {
                journal.spared.extend(entry.spare.iter().cloned());
                journal.live.insert(entry.process, *entry);
            }
            Some(JournalRecord::Empty { process }) => {
                journal.live.remove(&process);
            }
            Some(JournalRecord::Dead) => journal.dead = true,
            Some(JournalRecord::Result { survivors }) => journal.result = Some(survivors),
            Some(JournalRecord::Exited { process, status }) => {
                journal.exits.insert(process, status);
            }
            Some(JournalRecord::Intent { .. }) => {}
        }
    }
    journal
}

/// Reads a journal; an absent one says nothing.
///
/// # Errors
/// When the file is there and cannot be read, or could have been written by another user.
pub fn read(path: &Path) -> io::Result<Journal> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Journal::default()),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(io::Error::other("it is a symbolic link")),
        Err(error) => return Err(error),
    };
    let (meta, us) = (file.metadata()?, nix::unistd::geteuid().as_raw());
    if !meta.is_file() {
        return Err(io::Error::other(if meta.is_dir() { "it is a directory" } else { "it is not a regular file" }));
    }
    if meta.uid() != us {
        return Err(io::Error::other(format!("it belongs to uid {}, not to uid {us}", meta.uid())));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!("others can write to it (mode {:04o})", meta.mode() & 0o7777)));
    }
    let mut bytes = Vec::new();
    file.take(READ_LIMIT).read_to_end(&mut bytes)?;
    let journal = parse(&bytes);
    let real = nix::unistd::getuid().as_raw();
    match journal.header.as_ref().filter(|header| header.uid != real) {
        Some(header) => Err(io::Error::other(format!("it is about processes of uid {}, not of uid {real}", header.uid))),
        None => Ok(journal),
    }
}

/// Writes the journal.
#[derive(Debug)]
pub struct JournalWriter {
    path: PathBuf,
    file: File,
    length: u64,
    /// Bytes about processes that live; the rest can go.
    live: BTreeMap<ProcessId, Vec<u8>>,
    head: Vec<u8>,
}

impl JournalWriter {
    /// Continues the journal of the same run, else begins a new one. `old`: what is there now. The supervisor has proved that
    /// the old run left nothing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(hello: &KeeperHello, old: Journal, keeper: &Identity, uid: u32, cgroup: Option<PathBuf>) -> io::Result<Self> {
        let header = JournalHeader {
            version: VERSION,
            boot: keeper.boot.clone(),
            run: hello.run.clone(),
            uid,
            project: hello.project.clone(),
            root: hello.root.clone(),
            root_id: file_id::file_id(&hello.root),
            supervisor: hello.supervisor.clone(),
            keeper: keeper.clone(),
            cgroup,
        };
        let mut head = encode(&JournalRecord::Header(Box::new(header)))?;
        let mut live = BTreeMap::new();
        if old.header.is_some_and(|header| header.run == hello.run) {
            for (process, entry) in old.live {
                live.insert(process, encode(&JournalRecord::Started(Box::new(entry)))?);
            }
            head.extend(encode(&JournalRecord::Keeper(keeper.clone()))?);
        }
        let file = rewrite(&hello.journal, &head, &live)?;
        let length = file.metadata()?.len();
        Ok(Self { path: hello.journal.clone(), file, length, live, head })
    }
    /// Appends one record.
    ///
    /// # Errors
    /// What the system says; then nothing must be released on the strength of this record.
    pub fn append(&mut self, record: &JournalRecord) -> io::Result<()> {
        self.append_all(std::slice::from_ref(record))
    }

    /// As [`JournalWriter::append`], all of them in one write.
    ///
    /// # Errors
    /// As there; some of them may have been written.
    pub fn append_all(&mut self, records: &[JournalRecord]) -> io::Result<()> {
        let mut all = Vec::new();
        let mut started = Vec::new();
        for record in records {
            let bytes = encode(record)?;
            match record {
                JournalRecord::Empty { process } => {
                    self.live.remove(process);
                }
                JournalRecord::Dead => self.head.extend(&bytes),
                _ => {}
            }
            all.extend_from_slice(&bytes);
            if let JournalRecord::Started(entry) = record {
                started.push((entry.process, bytes));
            }
        }
        self.file.write_all(&all)?;
        self.length += all.len() as u64;
        self.live.extend(started);
        if self.length > COMPACT {
            let needed = self.head.len() as u64 + self.live.values().map(|bytes| bytes.len() as u64).sum::<u64>();
            if needed < self.length / 4 {
                self.file = rewrite(&self.path, &self.head, &self.live)?;
                self.length = needed;
            }
        }
        Ok(())
    }
}

/// Writes a fresh file beside the old one and puts it in its place.
fn rewrite(path: &Path, head: &[u8], live: &BTreeMap<ProcessId, Vec<u8>>) -> io::Result<File> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&temporary)?;
    let mut bytes = head.to_vec();
    live.values().for_each(|line| bytes.extend(line));
    file.write_all(&bytes).and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        // The first error is the one to tell; a leftover temporary file is removed by the next attempt of this pid.
        let _ = fs::remove_file(&temporary);
    })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(hello: &KeeperHello, keeper: &Identity) -> io::Result<JournalWriter> {
        JournalWriter::open(hello, read(&hello.journal)?, keeper, nix::unistd::getuid().as_raw(), None)
    }
    use devrun_model::ServiceName;

    fn entry(process: ProcessId) -> JournalEntry {
        let name = ServiceName::new("api").unwrap();
        JournalEntry {
            process,
            service: ServiceId::single(&name),
            generation: 1,
            role: Role::Main,
            run: "r".repeat(32),
            identity: Identity { pid: 4242, start: process, boot: "b".to_owned() },
            marks: ("api".to_owned(), "1".to_owned()),
            program: PathBuf::from("/bin/true"),
            lock: PathBuf::from("/run/x.alive"),
            lock_file: (1, 2),
            cgroup: None,
            user: None,
            signal: Signal::TERM,
            to: StopTo::Leader,
            grace_ms: 10,
            then: None,
            before: Vec::new(),
            tier: None,
            spare: Vec::new(),
        }
    }

    fn hello(folder: &Path) -> KeeperHello {
        KeeperHello {
            run: "r".repeat(32),
            project: "p".to_owned(),
            root: folder.to_owned(),
            journal: folder.join("journal"),
            cgroup: false,
            supervisor: Identity { pid: 2, start: 3, boot: "b".to_owned() },
            inherited: Vec::new(),
        }
    }

    fn sample(folder: &Path) -> Vec<u8> {
        let keeper = Identity { pid: 5, start: 6, boot: "b".to_owned() };
        let mut writer = open(&hello(folder), &keeper).unwrap();
        for process in 1..6 {
            let service = entry(process).service;
            writer.append(&JournalRecord::Intent { process, service, generation: 1 }).unwrap();
            writer.append(&JournalRecord::Started(Box::new(entry(process)))).unwrap();
        }
        writer.append(&JournalRecord::Exited { process: 1, status: ExitStatus::Code(0) }).unwrap();
        writer.append(&JournalRecord::Empty { process: 1 }).unwrap();
        fs::read(folder.join("journal")).unwrap()
    }

    #[test]
    fn what_was_written_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let journal = parse(&sample(folder.path()));
        assert_eq!(journal.live.keys().copied().collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(journal.live[&3], entry(3));
        assert_eq!((journal.damaged, journal.dead), (0, false));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(folder.path().join("journal")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(read(&folder.path().join("absent")).unwrap().header.is_none());
    }

    #[test]
    fn an_entry_of_an_earlier_version_has_no_tier() {
        let text = String::from_utf8(encode(&JournalRecord::Started(Box::new(entry(7)))).unwrap()).unwrap();
        let json = text.split('\t').next().unwrap().replace(",\"tier\":null", "");
        assert!(!json.contains("tier"));
        let old = format!("{json}\t{:016x}\n", fnv1a(json.bytes()));
        assert_eq!(parse(old.as_bytes()).live[&7], entry(7));
    }

    #[test]
    fn cut_at_every_byte_it_says_no_more_than_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = sample(folder.path());
        for end in 0..bytes.len() {
            let journal = parse(&bytes[..end]);
            for (process, found) in journal.live {
                assert_eq!(found, entry(process), "cut at {end}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_costs_a_line_and_never_changes_one() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = sample(folder.path());
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..1000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let mut changed = bytes.clone();
            let index = (state as usize / 8) % changed.len();
            changed[index] ^= 1 << (state % 8);
            let journal = parse(&changed);
            assert!(journal.damaged > 0, "byte {index}");
            for (process, found) in journal.live {
                assert_eq!(found, entry(process), "byte {index}");
            }
        }
    }

    #[test]
    fn a_long_one_is_compacted_and_the_same_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Identity { pid: 5, start: 6, boot: "b".to_owned() };
        let mut writer = open(&hello(folder.path()), &keeper).unwrap();
        writer.append(&JournalRecord::Started(Box::new(entry(9_999_999)))).unwrap();
        for process in 0..6000 {
            writer.append(&JournalRecord::Started(Box::new(entry(process)))).unwrap();
            writer.append(&JournalRecord::Empty { process }).unwrap();
        }
        let path = folder.path().join("journal");
        assert!(fs::metadata(&path).unwrap().len() < 2 * COMPACT);
        let second = Identity { pid: 7, start: 8, boot: "b".to_owned() };
        drop(writer);
        let _writer = open(&hello(folder.path()), &second).unwrap();
        let journal = read(&path).unwrap();
        assert_eq!(journal.keeper, Some(second));
        assert_eq!(journal.live.keys().copied().collect::<Vec<_>>(), [9_999_999]);
        let other = KeeperHello { run: "other".to_owned(), ..hello(folder.path()) };
        let _writer = open(&other, &keeper).unwrap();
        assert!(read(&path).unwrap().live.is_empty());
    }
}
