//! The thread of a watcher: events in, changes out, each once things are quiet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use globset::GlobSet;
use notify::EventKind;
use notify::event::{AccessKind, AccessMode, MetadataKind, ModifyKind};

use super::folders::{POLL_EVERY, WatchStamp, WatchedFolders, is_of_an_editor};
use super::report::{WatchMessage, WatchReport};
use crate::file_glob::files_in;
use devrun_model::ServiceId;

/// So long nothing may change before a change is reported: an editor writes in several steps, a checkout in thousands.
pub(super) const SETTLE_FOR: Duration = Duration::from_millis(150);
/// A change is reported after this long even where it never gets quiet.
const MAX_SETTLE: Duration = Duration::from_secs(2);

/// The thread that hears of changes and tells of them once things are quiet.
pub(super) struct WatchThread {
    pub(super) root: PathBuf,
    pub(super) sets: Vec<(ServiceId, GlobSet)>,
    pub(super) folders: WatchedFolders,
    /// Of the last look, where files are polled.
    pub(super) stamps: Option<BTreeMap<PathBuf, WatchStamp>>,
}

struct PendingChange {
    first: Instant,
    last: Instant,
    path: PathBuf,
}

impl WatchThread {
    pub(super) fn run(mut self, news: &mpsc::Receiver<WatchMessage>, report: impl Fn(WatchReport)) {
        let mut pending: BTreeMap<ServiceId, PendingChange> = BTreeMap::new();
        // Once things are quiet after a directory went: the watch that was put on its successor may have gone with it.
        let mut look_again: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let due = |one: &PendingChange| (one.last + SETTLE_FOR).min(one.first + MAX_SETTLE);
            let poll = self.folders.watcher.is_none().then(|| now + POLL_EVERY);
            let next = pending.values().map(due).chain(look_again).chain(poll).min();
            let got = match next {
                Some(at) => news.recv_timeout(at.saturating_duration_since(now)),
                None => news.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match got {
                Ok(WatchMessage::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(WatchMessage::Event(Ok(event))) => {
                    if self.hear(&event, &mut pending) {
                        look_again = Some(Instant::now() + SETTLE_FOR);
                    }
                }
                // What is lost is found by looking.
                Ok(WatchMessage::Event(Err(_))) => look_again = Some(Instant::now() + SETTLE_FOR),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if look_again.is_some_and(|at| at <= Instant::now()) {
                look_again = None;
                self.look_again(&mut pending);
            }
            if self.folders.watcher.is_none() {
                self.poll(&mut pending);
            }
            let now = Instant::now();
            if let Some(reason) = self.folders.polls_because.take()
                && let Some((id, _)) = self.sets.first()
            {
                report(WatchReport::Note(id.clone(), reason));
            }
            let ripe: Vec<ServiceId> = pending.iter().filter(|(_, one)| due(one) <= now).map(|(id, _)| id.clone()).collect();
            for id in ripe {
                if let Some(one) = pending.remove(&id) {
                    let path = one.path.strip_prefix(&self.root).unwrap_or(&one.path);
                    report(WatchReport::Changed(id, path.display().to_string()));
                }
            }
        }
    }

    /// Takes an event in. True where directories went, so that it must be looked again.
    fn hear(&mut self, event: &notify::Event, pending: &mut BTreeMap<ServiceId, PendingChange>) -> bool {
        if event.need_rescan() {
            return true;
        }
        let counts = match event.kind {
            EventKind::Create(_) | EventKind::Remove(_) => true,
            EventKind::Modify(ModifyKind::Metadata(MetadataKind::WriteTime)) => true,
            EventKind::Modify(ModifyKind::Metadata(_)) => false,
            EventKind::Modify(_) => true,
            // `touch` shows as nothing else.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) | EventKind::Any | EventKind::Other => false,
        };
        if !counts {
            return false;
        }
        let may_be_gone = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
        let mut folder_went = false;
        for path in &event.paths {
            if self.folders.is_own(path) || is_of_an_editor(path) {
                continue;
            }
            if may_be_gone && self.folders.seen.contains_key(path) {
                self.folders.forget(path);
                folder_went = true;
            }
            let mut new = Vec::new();
            if self.folders.leads_to_base(path) {
                new = self.folders.look();
            } else if self.folders.is_below_base(path) && path.is_dir() {
                self.folders.add(path, false, &mut new);
            }
            self.note_files(&new, pending);
            // Of a directory its files count, unless it is what a glob means.
            if !path.is_dir() || self.folders.bases.contains(path) && !new.is_empty() {
                self.note(path, pending);
            }
        }
        folder_went
    }

    /// Looks for what the globs mean, as not all of it may still be watched: asking again for a watch that is there changes
    /// nothing.
    fn look_again(&mut self, pending: &mut BTreeMap<ServiceId, PendingChange>) {
        let known = std::mem::take(&mut self.folders.seen);
        let mut new = self.folders.look();
        new.retain(|folder| known.get(folder) != self.folders.seen.get(folder));
        self.note_files(&new, pending);
    }

    /// Looks at all files, where the system does not tell of them.
    fn poll(&mut self, pending: &mut BTreeMap<ServiceId, PendingChange>) {
        let stamps = self.folders.stamps();
        // The first look after watches ran out has nothing to compare with.
        if let Some(known) = &self.stamps {
            let changed = stamps.iter().filter(|(file, stamp)| known.get(*file) != Some(*stamp)).map(|(file, _)| file);
            let gone = known.keys().filter(|file| !stamps.contains_key(*file));
            changed.chain(gone).for_each(|file| self.note(file, pending));
        }
        self.stamps = Some(stamps);
    }

    /// The files of directories that are new: they may have come before their directory was watched.
    fn note_files(&self, folders: &[PathBuf], pending: &mut BTreeMap<ServiceId, PendingChange>) {
        folders.iter().flat_map(|folder| files_in(folder)).for_each(|file| self.note(&file, pending));
    }

    fn note(&self, path: &Path, pending: &mut BTreeMap<ServiceId, PendingChange>) {
        let now = Instant::now();
        for (id, set) in &self.sets {
            if set.is_match(path) {
                pending.entry(id.clone()).and_modify(|one| one.last = now).or_insert_with(|| PendingChange {
                    first: now,
                    last: now,
                    path: path.to_path_buf(),
                });
            }
        }
    }
}
