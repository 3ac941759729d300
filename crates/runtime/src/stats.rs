//! What processes use: CPU time, memory and I/O, summed over a service's tree.
//!
//! Owns the sums; the numbers of single processes are read by `process_list`. A process that ends between two looks takes its numbers with it, so a
//! sum may shrink; differences are taken per process, which keeps a rate from ever being negative. Where the system
//! tells nothing, sums are empty.

use std::collections::BTreeMap;

use devrun_keeper::process_list;
pub use devrun_keeper::process_list::Usage;

/// The memory of this machine in bytes, where it can be known.
#[must_use]
pub fn memory_total() -> Option<u64> {
    process_list::memory_total()
}

/// The memory that programs could still have without swapping, in bytes, where it can be known.
#[must_use]
pub fn memory_available() -> Option<u64> {
    process_list::memory_available()
}

/// The processes of one service with their numbers.
pub type UsageSample = BTreeMap<i32, Usage>;

/// Looks at a leader and everything below it.
#[must_use]
pub fn tree(leader: i32) -> UsageSample {
    std::iter::once(leader)
        .chain(process_list::descendants(&[leader]))
        .filter_map(|pid| Some((pid, process_list::usage(pid)?)))
        .collect()
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
        out.push(TreeProcess { pid, depth, command: process_list::command(pid) });
        let mut below = process_list::children(pid);
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
