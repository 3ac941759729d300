//! Which directories are watched, and the files in them where they are polled.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::report::WatchMessage;
use crate::file_glob::{files_in, walk};
use devrun_model::{Failure, FailureKind};

/// Between two looks at all files, where they are polled.
pub(super) const POLL_EVERY: Duration = Duration::from_secs(1);

/// A directory beyond its name.
pub(super) type FolderId = (u64, u64);

fn folder_id(folder: &Path) -> Option<FolderId> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(folder).ok().filter(std::fs::Metadata::is_dir)?;
    Some((meta.dev(), meta.ino()))
}

/// The directories that are watched, or polled.
pub(super) struct WatchedFolders {
    root: PathBuf,
    own: Vec<PathBuf>,
    /// What the globs mean, as far as it means itself.
    pub(super) bases: BTreeSet<PathBuf>,
    /// Absent: files are polled.
    pub(super) watcher: Option<RecommendedWatcher>,
    pub(super) seen: BTreeMap<PathBuf, FolderId>,
    /// Why files are polled, until it was reported.
    pub(super) polls_because: Option<String>,
}

impl WatchedFolders {
    pub(super) fn new(
        root: PathBuf,
        own: Vec<PathBuf>,
        bases: BTreeSet<PathBuf>,
        sender: &mpsc::Sender<WatchMessage>,
    ) -> Result<Self, Failure> {
        let mut folders = Self { root, own, bases, watcher: None, seen: BTreeMap::new(), polls_because: None };
        let sender = sender.clone();
        let made = notify::recommended_watcher(move |event| {
            let _ended = sender.send(WatchMessage::Event(event));
        });
        match made {
            Ok(watcher) => folders.watcher = Some(watcher),
            Err(error) if is_exhausted(&error) => folders.poll_from_now_on(&error),
            Err(error) => return Err(refused(&error)),
        }
        Ok(folders)
    }

    pub(super) fn poll_from_now_on(&mut self, error: &notify::Error) {
        let setting = match error.kind {
            notify::ErrorKind::MaxFilesWatch => "max_user_watches",
            _ => "max_user_instances",
        };
        self.watcher = None;
        self.seen.clear();
        self.polls_because = Some(format!(
            "watch: the system has no file watches left, so files are polled every {}; raise fs.inotify.{setting} with sysctl",
            devrun_model::duration::format(POLL_EVERY)
        ));
    }

    pub(super) fn is_own(&self, path: &Path) -> bool {
        self.own.iter().any(|own| path.starts_with(own))
    }

    /// Whether a path is one that a glob means or lies above such a one.
    pub(super) fn leads_to_base(&self, path: &Path) -> bool {
        self.bases.iter().any(|base| base.starts_with(path))
    }

    /// Whether a path lies below one that a glob means.
    pub(super) fn is_below_base(&self, path: &Path) -> bool {
        self.bases.iter().any(|base| path.starts_with(base))
    }

    /// Looks for what the globs mean and watches all of it that is not watched yet. Returns the directories that are new.
    pub(super) fn look(&mut self) -> Vec<PathBuf> {
        let mut new = Vec::new();
        for base in self.bases.clone() {
            // The directories above tell when it comes, goes and comes back. Outside of the project its parent has to do.
            for above in base.ancestors().skip(1) {
                self.watch(above, &mut new);
                if above == self.root || !above.starts_with(&self.root) && above.is_dir() {
                    break;
                }
            }
            self.add(&base, true, &mut new);
        }
        new
    }

    /// Watches a directory and those in it. `named`: a glob means this very directory, whatever it is called.
    pub(super) fn add(&mut self, folder: &Path, named: bool, new: &mut Vec<PathBuf>) {
        if self.watcher.is_some() {
            walk(folder, named, self.own.clone()).for_each(|folder| self.watch(&folder, new));
        }
    }

    /// Watches one directory, if it is one and is not watched. One that went meanwhile, or is not ours to look into, is passed over.
    fn watch(&mut self, folder: &Path, new: &mut Vec<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let Some(id) = folder_id(folder).filter(|id| self.seen.get(folder) != Some(id)) else { return };
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.seen.insert(folder.to_path_buf(), id);
                new.push(folder.to_path_buf());
            }
            Err(error) if is_exhausted(&error) => self.poll_from_now_on(&error),
            Err(_) => {}
        }
    }

    /// Forgets a directory that went, and those that were in it.
    pub(super) fn forget(&mut self, folder: &Path) {
        let gone: Vec<PathBuf> = self.seen.keys().filter(|seen| seen.starts_with(folder)).cloned().collect();
        for folder in gone {
            self.seen.remove(&folder);
            if let Some(watcher) = &mut self.watcher {
                // The system may have forgotten it already.
                let _gone = watcher.unwatch(&folder);
            }
        }
    }

    /// All files that the globs may mean, with what tells a change of one.
    pub(super) fn stamps(&self) -> BTreeMap<PathBuf, WatchStamp> {
        let folders = self.bases.iter().flat_map(|base| walk(base, true, self.own.clone()));
        let files = folders.flat_map(|folder| files_in(&folder)).chain(self.bases.iter().cloned());
        files.filter(|file| !is_of_an_editor(file)).filter_map(|file| Some((file.clone(), file_stamp(&file)?))).collect()
    }
}

/// Modification in seconds and nanoseconds, size and inode.
pub(super) type WatchStamp = (i64, i64, u64, u64);

fn file_stamp(file: &Path) -> Option<WatchStamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(file).ok().filter(|meta| !meta.is_dir())?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino()))
}

/// What editors and interpreters write next to a file.
pub(super) fn is_of_an_editor(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    name.ends_with('~')
        || name.starts_with(".#")
        || name == "4913"
        || [".swp", ".swx", ".swo", ".pyc"].iter().any(|ending| name.ends_with(ending))
        || path.components().any(|part| part.as_os_str() == "__pycache__")
}

fn refused(error: &notify::Error) -> Failure {
    Failure::new(FailureKind::Service, format!("files cannot be watched: {error}"))
        .help("check fs.inotify.max_user_watches and fs.inotify.max_user_instances")
}

/// Whether the system has no more watches to give.
fn is_exhausted(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => true,
        notify::ErrorKind::Io(error) => {
            matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::ENOMEM))
        }
        _ => false,
    }
}
