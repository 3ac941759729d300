//! Children by every process's parent: slower than a list of children, exact while another thread reaps too, and possible on
//! every system.

use std::collections::{HashMap, HashSet};

use super::process_reader::{pids, stat};
use super::process_stat::Stat;

/// The children of a process, zombies included.
#[must_use]
pub fn children_by_scan(pid: i32) -> Vec<i32> {
    pids().into_iter().filter_map(stat).filter(|stat| stat.ppid == pid).map(|stat| stat.pid).collect()
}

/// Everything below these processes, of those that one look has found. They themselves are not included unless one is below another.
#[must_use]
pub(super) fn descendants_among(all: &[Stat], roots: &[i32]) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for stat in all {
        children.entry(stat.ppid).or_default().push(stat.pid);
    }
    let mut found = Vec::new();
    let mut todo = roots.to_vec();
    let mut known: HashSet<i32> = roots.iter().copied().collect();
    while let Some(pid) = todo.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            if known.insert(child) {
                found.push(child);
                todo.push(child);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_is_followed_to_the_end_and_no_root_is_below_itself() {
        let one = stat(std::process::id().cast_signed()).unwrap();
        let all: Vec<Stat> =
            [(2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (7, 7)].map(|(pid, ppid)| Stat { pid, ppid, ..one.clone() }).into();
        let below = |roots: &[i32]| {
            let mut found = descendants_among(&all, roots);
            found.sort_unstable();
            found
        };
        assert_eq!(below(&[2]), [3, 4]);
        assert_eq!(below(&[2, 5]), [3, 4, 6]);
        assert_eq!(below(&[2, 3]), [4], "3 is a root");
        assert_eq!(below(&[7, 8]), Vec::<i32>::new());
    }
}
