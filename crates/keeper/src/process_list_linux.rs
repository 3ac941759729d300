//! Reads `/proc`. Owns parsing only; `process_list.rs` says what the answers are worth.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::process_stat::{Activity, Marks, Stat, Usage, variable_among};

/// Parses a stat line. The name may hold blanks and parentheses, so fields are counted after the last `)`.
#[must_use]
fn parse_stat(text: &[u8]) -> Option<Stat> {
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

/// What a process of one thread does.
#[must_use]
pub fn activity(pid: i32) -> Option<Activity> {
    Some(Activity { state: stat(pid)?.state, switches: switches(pid).unwrap_or_default() })
}

/// How often a process of one thread has left a processor, of its own will or not.
fn switches(pid: i32) -> Option<u64> {
    let text = read_text(&format!("/proc/{pid}/status"))?;
    let counts = text.lines().filter(|line| line.contains("ctxt_switches:"));
    counts.map(|line| line.rsplit(char::is_whitespace).next()?.parse::<u64>().ok()).sum()
}

/// The boot's id; empty where it cannot be read.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
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

/// The marks of a process, where its environment can be read and holds a run.
#[must_use]
pub fn marks(pid: i32) -> Option<Marks> {
    let bytes = read(&format!("/proc/{pid}/environ"))?;
    Marks::of(bytes.split(|byte| *byte == 0))
}

/// One variable of the environment that a process was started with.
#[must_use]
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let bytes = read(&format!("/proc/{pid}/environ"))?;
    variable_among(bytes.split(|byte| *byte == 0), name)
}

/// Where a process listens (TCP), where its descriptors can be read. For the portable drivers; the Linux ones ask the kernel.
#[must_use]
pub fn listening_sockets(pid: i32) -> Vec<SocketAddr> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let number = |entry: fs::DirEntry| {
        fs::read_link(entry.path()).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
    };
    let held: HashSet<u64> = entries.flatten().filter_map(number).collect();
    if held.is_empty() {
        return Vec::new();
    }
    let tables = ["tcp", "tcp6"].into_iter().filter_map(|table| read_text(&format!("/proc/{pid}/net/{table}")));
    let listeners: Vec<(SocketAddr, u64)> =
        tables.flat_map(|text| text.lines().filter_map(listener).collect::<Vec<_>>()).collect();
    listeners.into_iter().filter(|(_, inode)| held.contains(inode)).map(|(at, _)| at).collect()
}

/// The address and the inode of a listener in a line of `/proc/net/tcp` (proc_net(5)): the address in words of the machine's order.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    if *fields.get(3)? != "0A" {
        return None;
    }
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (index, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(8 * index)?);
            }
            IpAddr::from(bytes)
        }
        _ => return None,
    };
    Some((SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?), fields.get(9)?.parse().ok()?))
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

/// Whether a process has this file or directory open.
#[must_use]
#[cfg(feature = "portable")]
pub(super) fn has_open(pid: i32, wanted: (u64, u64)) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| fs::metadata(entry.path()).is_ok_and(|meta| (meta.dev(), meta.ino()) == wanted))
}

/// The highest open descriptor of this process.
#[must_use]
#[cfg(feature = "portable")]
pub(super) fn last_descriptor() -> std::os::fd::RawFd {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return 1024 };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max().unwrap_or(0)
}

/// The real uid.
#[must_use]
pub fn uid(pid: i32) -> Option<u32> {
    let text = read_text(&format!("/proc/{pid}/status"))?;
    text.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The arguments of a process, the first being its name; empty where they cannot be read.
#[must_use]
pub fn arguments(pid: i32) -> Vec<Vec<u8>> {
    let bytes = read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.strip_suffix(b"\0").unwrap_or(&bytes).split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// Whether the environment of a process may not be read: programs with capabilities or a set-uid bit.
#[must_use]
pub fn environment_is_closed(pid: i32) -> bool {
    fs::File::open(format!("/proc/{pid}/environ")).is_err()
}

/// The working directory of a process.
#[must_use]
pub fn working_directory(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// The command name, for people.
#[must_use]
pub fn command(pid: i32) -> String {
    let bytes = read(&format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// The memory of this machine in bytes, where it can be known.
#[must_use]
pub fn memory_total() -> Option<u64> {
    memory("MemTotal:")
}

/// The memory that programs could still have without swapping, in bytes, where it can be known.
#[must_use]
pub fn memory_available() -> Option<u64> {
    memory("MemAvailable:")
}

fn memory(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What a process has used; `None` for one that has ended.
#[must_use]
pub fn usage(pid: i32) -> Option<Usage> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let hertz = sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap_or(100);
    let page = sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap_or(4096);
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let share = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok().and_then(|text| field(&text, "Pss"));
    Some(Usage {
        cpu_ms: (number(11) + number(12)) * 1000 / hertz,
        memory: share.map_or(number(21) * page, |kilobytes| kilobytes * 1024),
        read: field(&io, "read_bytes").unwrap_or(0),
        written: field(&io, "write_bytes").unwrap_or(0),
    })
}

fn sysconf(what: nix::unistd::SysconfVar) -> Option<u64> {
    nix::unistd::sysconf(what).ok().flatten().and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_cut_off_name_no_listener() {
        let line =
            "   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 20811 1 0 100 0 0 10 0";
        assert_eq!(listener(line), Some(("127.0.0.1:5432".parse().unwrap(), 20_811)));
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None);
        for bad in ["", "0: 0100007F", "0: 01:1538 0 0A 0 0 0 0 0 1", "0: zzzzzzzz:1538 0 0A 0 0 0 0 0 1", "0: 0100007F:1 0 0A"] {
            assert_eq!(listener(bad), None, "{bad}");
        }
    }

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
}
