//! What outlives a supervisor: stops by hand, the last snapshot, and the event log.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::runtime_dir::append;
use devrun_keeper::regular_file;
use devrun_logs::lost_file::LogPlace;
use devrun_model::{Paths, ServiceId, Snapshot};
use devrun_store::atomic_file::replace;

/// Reads the stops by hand; a file that cannot be read is as good as none, as it only makes a service start.
#[must_use]
pub fn manual_stops(places: &Paths) -> BTreeSet<ServiceId> {
    regular_file::read(&places.intents()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Writes the stops by hand.
///
/// # Errors
/// As the file system says.
pub fn save_manual_stops(places: &Paths, stopped: &BTreeSet<ServiceId>) -> std::io::Result<()> {
    replace(&places.intents(), &serde_json::to_vec(stopped)?)
}

/// Writes the last snapshot, for `ps` when nothing runs.
///
/// # Errors
/// As the file system says.
pub fn save_snapshot(places: &Paths, snapshot: &Snapshot) -> std::io::Result<()> {
    replace(&places.last_state(), &serde_json::to_vec(snapshot)?)
}

/// Removes the last snapshot: it is that of a run before the one that begins.
pub fn forget_snapshot(places: &Paths) {
    let _absent = fs::remove_file(places.last_state());
}

/// Reads the last snapshot.
#[must_use]
pub fn last_snapshot(places: &Paths) -> Option<Snapshot> {
    serde_json::from_slice(&regular_file::read(&places.last_state()).ok()?).ok()
}

/// A log of JSON objects, one a line, rotated once at 8 MiB: the events, and the starts.
#[derive(Debug)]
pub struct JsonLog {
    path: PathBuf,
    place: LogPlace,
    file: Option<fs::File>,
    size: u64,
    /// Lines that a full disk did not take; they are tried again with the next one.
    waiting: Vec<u8>,
}

/// Where the event log lies.
#[must_use]
pub fn events_path(places: &Paths) -> PathBuf {
    places.logs().join("events.jsonl")
}

/// Where the log of starts lies.
#[must_use]
pub fn starts_path(places: &Paths) -> PathBuf {
    places.logs().join("starts.jsonl")
}

/// What the event of a first pass does not say, for `analyze`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PortOpened {
    /// The stamp of the event.
    pub ts: String,
    /// The procfile's name.
    pub service: String,
    /// From 1.
    pub replica: u32,
    /// From the spawn to the first connection that its port took.
    pub listening_us: u64,
}

const LOG_MAX: u64 = 8 * 1024 * 1024;
/// Bytes that wait for a full disk to be emptied.
const WAITING: usize = 1024 * 1024;

fn open(path: &Path) -> Option<fs::File> {
    append(path).ok()
}

impl JsonLog {
    /// Opens for appending; without it its lines are only live.
    #[must_use]
    pub fn open(path: PathBuf) -> Self {
        let place = LogPlace::of(path.parent().unwrap_or(&path));
        let file = place.clear(&path).ok().and_then(|()| open(&path));
        let size = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        Self { path, place, file, size, waiting: Vec::new() }
    }
    /// Appends one.
    pub fn append(&mut self, entry: &impl Serialize) {
        let Ok(mut line) = serde_json::to_vec(entry) else { return };
        line.push(b'\n');
        if self.size + line.len() as u64 > LOG_MAX && fs::rename(&self.path, self.path.with_extension("jsonl.1")).is_ok() {
            self.file = open(&self.path);
            self.size = 0;
        }
        if self.waiting.len() + line.len() <= WAITING {
            self.waiting.append(&mut line);
        }
        self.flush();
    }
    /// Writes what is still waiting.
    pub fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let is_there = self.file.as_ref().is_some_and(|file| self.place.keeps(&self.path, file).unwrap_or(true));
        if !is_there {
            // Deleted or replaced while it was open: what cannot be kept now waits for the next line.
            self.file = self.place.clear(&self.path).ok().and_then(|()| open(&self.path));
            self.size = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        }
        let Some(file) = &mut self.file else { return };
        if file.write_all(&self.waiting).is_ok() {
            self.size += self.waiting.len() as u64;
            self.waiting.clear();
        } else {
            // No half of a line stays; where that fails too, the next reader passes over it.
            let _torn = file.set_len(self.size);
        }
    }
}
