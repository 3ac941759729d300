//! What processes use: CPU time, memory and I/O, summed over a service's tree.
//!
//! Owns reading `/proc` for numbers, nothing else. A process that ends between two looks takes its numbers with it, so a
//! sum may shrink; differences are taken per process, which keeps a rate from ever being negative. Where `/proc` is not
//! to be had, sums are empty.

use std::collections::BTreeMap;
use std::fs;

use devrun_keeper::procfs;

/// What one process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Milliseconds on a CPU since it began.
    pub cpu_ms: u64,
    /// Bytes in memory; its share of what it shares with others, where the kernel says that.
    pub memory: u64,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes written to disks.
    pub written: u64,
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

/// The processes of one service with their numbers.
pub type UsageSample = BTreeMap<i32, Usage>;

/// Looks at a leader and everything below it.
#[must_use]
pub fn tree(leader: i32) -> UsageSample {
    std::iter::once(leader).chain(procfs::descendants(&[leader])).filter_map(|pid| Some((pid, process(pid)?))).collect()
}

/// One process of a service's tree, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeProcess {
    /// The process.
    pub pid: i32,
    /// How far below the leader it is; 0 is the leader.
    pub depth: usize,
    /// Its name.
    pub command: String,
}

/// A leader and everything below it, each process after its parent, siblings by pid.
#[must_use]
pub fn processes(leader: i32) -> Vec<TreeProcess> {
    fn walk(pid: i32, depth: usize, out: &mut Vec<TreeProcess>) {
        // A cycle cannot be, but a pid may be given again while we look.
        if out.iter().any(|known| known.pid == pid) {
            return;
        }
        out.push(TreeProcess { pid, depth, command: procfs::command(pid) });
        let mut below = procfs::children(pid);
        below.sort_unstable();
        below.into_iter().for_each(|child| walk(child, depth + 1, out));
    }
    let mut found = Vec::new();
    if leader > 0 {
        walk(leader, 0, &mut found);
    }
    found
}

/// Adds up; CPU is what was used since `before`, by those that were there or began since.
#[must_use]
pub fn total(before: &UsageSample, now: &UsageSample) -> (Usage, u64) {
    let mut sum = Usage::default();
    let mut spent = 0;
    for (pid, used) in now {
        sum.cpu_ms += used.cpu_ms;
        sum.memory += used.memory;
        sum.read += used.read;
        sum.written += used.written;
        spent += used.cpu_ms.saturating_sub(before.get(pid).map_or(0, |before| before.cpu_ms));
    }
    (sum, spent)
}

fn process(pid: i32) -> Option<Usage> {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn we_use_memory_and_a_rate_is_never_negative() {
        let own = std::process::id().cast_signed();
        let now = tree(own);
        assert!(now[&own].memory > 100_000);
        let before = UsageSample::from([(own, Usage { cpu_ms: u64::MAX, ..Usage::default() })]);
        let (sum, spent) = total(&before, &now);
        assert!(sum.memory >= now[&own].memory);
        assert!(spent < 1_000_000);
        assert!(tree(-1).is_empty());
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let processes = processes(own);
        let below = processes.iter().find(|process| process.pid == child.id().cast_signed()).unwrap();
        assert_eq!((processes[0].pid, below.depth), (own, 1));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
