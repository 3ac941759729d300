//! What outlives a supervisor: stops by hand, the last snapshot, and the event log.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::drivers::runtime_dir::replace;
use crate::model::{Notice, Places, ServiceId, Snapshot};

/// Reads the stops by hand; a file that cannot be read is as good as none, as it only makes a service start.
#[must_use]
pub fn stopped_by_hand(places: &Places) -> BTreeSet<ServiceId> {
    fs::read(places.intents()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Writes the stops by hand.
///
/// # Errors
/// As the file system says.
pub fn remember(places: &Places, stopped: &BTreeSet<ServiceId>) -> std::io::Result<()> {
    replace(&places.intents(), &serde_json::to_vec(stopped)?)
}

/// Writes the last snapshot, for `ps` when nothing runs.
///
/// # Errors
/// As the file system says.
pub fn save_snapshot(places: &Places, snapshot: &Snapshot) -> std::io::Result<()> {
    replace(&places.last_state(), &serde_json::to_vec(snapshot)?)
}

/// Reads the last snapshot.
#[must_use]
pub fn last_snapshot(places: &Places) -> Option<Snapshot> {
    serde_json::from_slice(&fs::read(places.last_state()).ok()?).ok()
}

/// The event log: one notice a line, rotated once at 8 MiB.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: Option<fs::File>,
    size: u64,
}

/// Where the event log lies.
#[must_use]
pub fn events_path(places: &Places) -> PathBuf {
    places.logs().join("events.jsonl")
}

const EVENTS_MAX: u64 = 8 * 1024 * 1024;

fn open(path: &Path) -> Option<fs::File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).ok()
}

impl EventLog {
    /// Opens for appending; without it events are only live.
    #[must_use]
    pub fn open(places: &Places) -> Self {
        let path = events_path(places);
        let file = open(&path);
        let size = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        Self { path, file, size }
    }
    /// Appends one.
    pub fn append(&mut self, notice: &Notice) {
        let Ok(mut line) = serde_json::to_vec(notice) else { return };
        line.push(b'\n');
        if self.size + line.len() as u64 > EVENTS_MAX && fs::rename(&self.path, self.path.with_extension("jsonl.1")).is_ok() {
            self.file = open(&self.path);
            self.size = 0;
        }
        if let Some(file) = &mut self.file
            && file.write_all(&line).is_ok()
        {
            self.size += line.len() as u64;
        }
    }
}
