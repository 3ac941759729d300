//! Descent by looks at all processes.

use std::collections::{HashMap, HashSet};

use crate::process_reader::{pids, stat};
pub use crate::process_scan::children_by_scan as children;

/// The children of this process. Nothing is kept from one look to the next.
#[derive(Debug, Default)]
pub struct OwnChildren(());

impl OwnChildren {
    /// Who they are now.
    pub fn read(&mut self) -> Vec<i32> {
        children(std::process::id().cast_signed())
    }
}

/// Everything below these processes, by one look at all processes. They themselves are not included unless one is below another.
#[must_use]
pub fn descendants(roots: &[i32]) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for stat in pids().into_iter().filter_map(stat) {
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
