//! Reads `/proc`: one process's state, its children, and the marks that it carries.
//!
//! Owns parsing only. Everything here may name a process that is gone a moment later, so every answer is an `Option` and
//! whoever signals checks once more (`signal.rs`).

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The variable by which a process shows whose run it belongs to.
pub const RUN_MARK: &str = "DEVRUN_RUN_ID";
/// The variable that names its service.
pub const SERVICE_MARK: &str = "DEVRUN_SERVICE";
/// The variable that numbers its copy.
pub const REPLICA_MARK: &str = "DEVRUN_REPLICA";

/// What `/proc/PID/stat` says, as far as it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The number.
    pub pid: i32,
    /// The command name, at most 15 bytes.
    pub comm: String,
    /// `R S D T Z X …`.
    pub state: u8,
    /// The parent.
    pub ppid: i32,
    /// The process group.
    pub pgrp: i32,
    /// The session.
    pub session: i32,
    /// Whether it is a thread of the kernel's.
    pub kernel: bool,
    /// How many threads it has.
    pub threads: u32,
    /// Start time in ticks since boot.
    pub start: u64,
}

impl Stat {
    /// Neither a zombie nor gone. A process whose first thread has ended looks like a zombie while its other threads run.
    #[must_use]
    pub fn lives(&self) -> bool {
        match self.state {
            b'Z' => self.threads > 1,
            state => !matches!(state, b'X' | b'x'),
        }
    }
}

/// This process and all above it, the nearest first.
#[must_use]
pub fn ancestors(pid: i32) -> Vec<i32> {
    let mut chain = Vec::new();
    let mut next = pid;
    while next > 0 && !chain.contains(&next) {
        chain.push(next);
        next = stat(next).map_or(0, |stat| stat.ppid);
    }
    chain
}

/// Parses a stat line. The name may hold blanks and parentheses, so fields are counted after the last `)`.
#[must_use]
pub fn parse_stat(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(text.get(..open)?).ok()?.trim().parse().ok()?;
    let comm = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(20).collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<i64>().ok());
    // PF_KTHREAD.
    let kernel = number(6)? & 0x0020_0000 != 0;
    Some(Stat {
        pid,
        comm,
        state: *fields.first()?.as_bytes().first()?,
        ppid: i32::try_from(number(1)?).ok()?,
        pgrp: i32::try_from(number(2)?).ok()?,
        session: i32::try_from(number(3)?).ok()?,
        kernel,
        threads: u32::try_from(number(17)?).unwrap_or(0),
        start: fields.get(19)?.parse().ok()?,
    })
}

/// One process.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    if pid <= 0 {
        return None;
    }
    parse_stat(&read(&format!("/proc/{pid}/stat"))?)
}

/// Whether a process of ours has ended, waited for or not. One that this user cannot look at counts as alive.
#[must_use]
pub fn has_ended(pid: i32) -> bool {
    match stat(pid) {
        Some(stat) => !stat.lives(),
        None => nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid))) == Err(nix::errno::Errno::ESRCH),
    }
}

/// How often a process of one thread has left a processor, of its own will or not.
#[must_use]
pub fn switches(pid: i32) -> Option<u64> {
    let text = read_text(&format!("/proc/{pid}/status"))?;
    let counts = text.lines().filter(|line| line.contains("ctxt_switches:"));
    counts.map(|line| line.rsplit(char::is_whitespace).next()?.parse::<u64>().ok()).sum()
}

/// A whole file of `/proc`. They all say that they are empty, so the standard library begins with reads of 32 bytes and
/// doubles them; with a page of room nearly every one of them is a single read.
fn read(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4096);
    fs::File::open(path).ok()?.take(u64::MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn read_text(path: &str) -> Option<String> {
    String::from_utf8(read(path)?).ok()
}

/// Every process of the system.
#[must_use]
pub fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process, zombies included: of all its threads where the kernel lists them, else by a scan.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut listed = false;
    if let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) {
        for task in tasks.flatten() {
            if let Ok(text) = fs::read_to_string(task.path().join("children")) {
                listed = true;
                found.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()));
            }
        }
        if !listed && fs::exists("/proc/self/stat").unwrap_or(false) && !has_children_files() {
            return children_by_scan(pid);
        }
    }
    found
}

/// The children of this process, which must have one thread: the kernel's list, opened once and read again and again.
#[derive(Debug, Default)]
pub struct OwnChildren {
    file: Option<fs::File>,
    text: Vec<u8>,
}

impl OwnChildren {
    /// Who they are now.
    pub fn read(&mut self) -> Vec<i32> {
        let own = std::process::id();
        if self.file.is_none() {
            self.file = fs::File::open(format!("/proc/self/task/{own}/children")).ok();
        }
        self.list().unwrap_or_else(|| children(own.cast_signed()))
    }
    /// `None`: this kernel keeps no such list.
    fn list(&mut self) -> Option<Vec<i32>> {
        let file = self.file.as_ref()?;
        self.text.resize(self.text.len().max(4096), 0);
        let mut filled = 0;
        loop {
            if filled == self.text.len() {
                self.text.resize(2 * filled, 0);
            }
            match file.read_at(&mut self.text[filled..], filled as u64).ok()? {
                0 => break,
                count => filled += count,
            }
        }
        let words = std::str::from_utf8(&self.text[..filled]).ok()?.split_ascii_whitespace();
        Some(words.filter_map(|word| word.parse().ok()).collect())
    }
}

fn has_children_files() -> bool {
    let pid = std::process::id();
    fs::exists(format!("/proc/self/task/{pid}/children")).unwrap_or(false)
}

/// The children of a process by every process's parent. Slower, and exact while somebody else reaps beside us.
#[must_use]
pub fn children_by_scan(pid: i32) -> Vec<i32> {
    pids().into_iter().filter_map(stat).filter(|stat| stat.ppid == pid).map(|stat| stat.pid).collect()
}

/// Everything below these processes, themselves not included unless one is below another.
#[must_use]
pub fn descendants(roots: &[i32]) -> Vec<i32> {
    let mut found = Vec::new();
    let mut todo = roots.to_vec();
    let mut known: std::collections::HashSet<i32> = roots.iter().copied().collect();
    while let Some(pid) = todo.pop() {
        for child in children(pid) {
            if known.insert(child) {
                found.push(child);
                todo.push(child);
            }
        }
    }
    found
}

/// Our variables in a process's environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// `DEVRUN_RUN_ID`.
    pub run: String,
    /// `DEVRUN_SERVICE`.
    pub service: String,
    /// `DEVRUN_REPLICA`.
    pub replica: String,
}

/// The marks of a process, where its environment can be read and holds a run.
#[must_use]
pub fn marks(pid: i32) -> Option<Marks> {
    let bytes = read(&format!("/proc/{pid}/environ"))?;
    let mut marks = Marks::default();
    for entry in bytes.split(|byte| *byte == 0) {
        if !entry.starts_with(b"DEVRUN_") {
            continue;
        }
        let Ok(entry) = std::str::from_utf8(entry) else { continue };
        match entry.split_once('=') {
            Some((RUN_MARK, value)) => value.clone_into(&mut marks.run),
            Some((SERVICE_MARK, value)) => value.clone_into(&mut marks.service),
            Some((REPLICA_MARK, value)) => value.clone_into(&mut marks.replica),
            _ => {}
        }
    }
    (!marks.run.is_empty()).then_some(marks)
}

/// Our cgroup's two last directories (`devrun-RUN/LEAF`) where the process is in one.
#[must_use]
pub fn cgroup(pid: i32) -> Option<String> {
    let text = read_text(&format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let from = path.find("/devrun-")?;
    let mut parts = path[from + 1..].split('/');
    Some(format!("{}/{}", parts.next()?, parts.next()?))
}

/// The first descriptor that is open on one of these files (device, inode, and the name it was opened by), with its offset.
#[must_use]
pub fn holds_file(pid: i32, wanted: impl Fn((u64, u64), &Path) -> bool) -> Option<((u64, u64), u64)> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let Ok(meta) = fs::metadata(entry.path()) else { continue };
        let key = (meta.dev(), meta.ino());
        let name = || {
            let link = fs::read_link(entry.path()).unwrap_or_default().into_os_string().into_vec();
            PathBuf::from(OsString::from_vec(link.strip_suffix(b" (deleted)").unwrap_or(&link).to_vec()))
        };
        if meta.is_file() && wanted(key, &name()) {
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_string_lossy()));
            let offset = info.ok().and_then(|text| text.lines().next()?.strip_prefix("pos:")?.trim().parse().ok());
            return Some((key, offset.unwrap_or(0)));
        }
    }
    None
}

/// The real uid.
#[must_use]
pub fn uid(pid: i32) -> Option<u32> {
    let text = read_text(&format!("/proc/{pid}/status"))?;
    text.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The command line for people; the name where there is none.
#[must_use]
pub fn command(pid: i32) -> String {
    let bytes = read(&format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let line = b"42 (a) S (b 1 2) S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 145228 1 2 3";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.ppid, stat.pgrp, stat.session, stat.start), (42, 7, 8, 9, 145_228));
        assert_eq!(stat.comm, "a) S (b 1 2");
        for bad in [&b""[..], b"1", b"1 (a", b"1 (a) S", b"x (a) S 1 2 3", b")("] {
            assert!(parse_stat(bad).is_none());
        }
    }

    #[test]
    fn we_are_among_the_processes() {
        let own = std::process::id().cast_signed();
        assert!(pids().contains(&own));
        assert!(stat(own).unwrap().lives());
        assert!(stat(0).is_none() && stat(-1).is_none());
    }
}
