//! Descent by looks at all processes.

use crate::process_reader::{pids, stat};
pub use crate::process_scan::children_by_scan as children;
use crate::process_scan::descendants_among;
use crate::process_stat::Stat;

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
    let all: Vec<Stat> = pids().into_iter().filter_map(stat).collect();
    descendants_among(&all, roots)
}
