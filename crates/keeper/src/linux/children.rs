//! The kernel's lists of children.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::process_scan::children_by_scan;

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
