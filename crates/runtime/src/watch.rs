//! `watch`: tells which service's files changed, once things are quiet again.
//!
//! Folders are watched one by one rather than recursively by the library, so that those which nobody means (`.git`,
//! `node_modules`, our own state) cost nothing and cannot trigger anything. Only writes, creations, renames and removals
//! count; reading a file or changing its mode does not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use notify::event::{AccessKind, AccessMode, MetadataKind, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use devrun_model::{Failure, FailureKind, ServiceId};

/// So long nothing may change before a change is told: an editor writes in several steps, a checkout in thousands.
const SETTLE_FOR: Duration = Duration::from_millis(150);
/// A change is told after this long even where it never gets quiet.
const MAX_SETTLE: Duration = Duration::from_secs(2);

/// Folders that hold what tools write, not what people do. A glob that names one outright sees it all the same.
const SKIPPED: &[&str] = &[".git", ".hg", ".svn", ".devrun", "node_modules", "__pycache__"];

/// One service and what it watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedFiles {
    /// Whom to restart.
    pub id: ServiceId,
    /// Globs, relative to the procfile's folder.
    pub globs: Vec<String>,
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct FileWatcher {
    subjects: Vec<WatchedFiles>,
    notes: Vec<(ServiceId, String)>,
    sender: mpsc::Sender<WatchMessage>,
}

enum WatchMessage {
    Event(notify::Result<notify::Event>),
    End,
}

impl Drop for FileWatcher {
    fn drop(&mut self) {
        // Its thread may be gone already.
        let _gone = self.sender.send(WatchMessage::End);
    }
}

impl FileWatcher {
    /// Begins. `own` are folders that never count; `changed` gets the service and one of the files, relative to `root`.
    ///
    /// # Errors
    /// `Config` when a glob is none, `Service` when the system gives no watches.
    pub fn start(
        root: &Path,
        subjects: Vec<WatchedFiles>,
        own: Vec<PathBuf>,
        changed: impl Fn(ServiceId, String) + Send + 'static,
    ) -> Result<Self, Failure> {
        let mut sets = Vec::new();
        let mut bases = BTreeMap::new();
        for subject in &subjects {
            let mut set = GlobSetBuilder::new();
            for glob in &subject.globs {
                let full = absolute(root, glob);
                // A folder stands for everything in it.
                for text in [full.clone(), format!("{}/**", full.trim_end_matches('/'))] {
                    set.add(GlobBuilder::new(&text).literal_separator(true).build().map_err(|error| bad(subject, glob, &error))?);
                }
                bases.entry(base(&full)).or_insert_with(|| (subject.id.clone(), glob.clone()));
            }
            let set = set.build().map_err(|error| bad(subject, &subject.globs.join(" "), &error))?;
            sets.push((subject.id.clone(), set));
        }
        let (sender, news) = mpsc::channel();
        let handler = sender.clone();
        let watcher = notify::recommended_watcher(move |event| {
            let _ended = handler.send(WatchMessage::Event(event));
        })
        .map_err(|error| refused(&error))?;
        let mut folders = WatchedFolders { watcher, own, seen: BTreeSet::new() };
        let mut notes = Vec::new();
        for (base, (id, glob)) in bases {
            // What is not there yet is noticed by the nearest folder that is.
            let there = base.ancestors().find(|folder| folder.is_dir()).unwrap_or(root).to_path_buf();
            if there != base && !base.exists() {
                notes.push((id, format!("watch: there is nothing yet that {glob:?} could mean")));
            }
            folders.add(&there, there == base)?;
        }
        let looker = WatchThread { root: root.to_path_buf(), sets, folders };
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || looker.run(&news, changed))
            .map_err(|error| Failure::new(FailureKind::Service, format!("no thread could be made: {error}")))?;
        Ok(Self { subjects, notes, sender })
    }

    /// What it was started with.
    #[must_use]
    pub fn subjects(&self) -> &[WatchedFiles] {
        &self.subjects
    }

    /// What is worth saying about the globs.
    #[must_use]
    pub fn notes(&self) -> &[(ServiceId, String)] {
        &self.notes
    }
}

fn bad(subject: &WatchedFiles, glob: &str, error: &globset::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("{glob:?} in services.{}.watch is no glob: {}", subject.id, error.kind()))
        .help("write for instance watch = [\"src/**/*.py\"]")
}

fn refused(error: &notify::Error) -> Failure {
    let failure = Failure::new(FailureKind::Service, format!("files cannot be watched: {error}"));
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => failure.help("raise fs.inotify.max_user_watches, or watch fewer folders"),
        _ => failure.help("check fs.inotify.max_user_instances"),
    }
}

/// The glob as an absolute one without `.` and `..`; characters of the root's own path mean themselves.
fn absolute(root: &Path, glob: &str) -> String {
    let escaped = |path: &Path| {
        path.to_string_lossy().chars().fold(String::new(), |mut text, c| {
            if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
                text.push('\\');
            }
            text.push(c);
            text
        })
    };
    if glob.starts_with('/') {
        return glob.to_owned();
    }
    let (mut base, mut rest) = (root.to_path_buf(), glob);
    loop {
        match rest.split_once('/') {
            Some((".", after)) => rest = after.trim_start_matches('/'),
            Some(("..", after)) => {
                base.pop();
                rest = after.trim_start_matches('/');
            }
            _ => break,
        }
    }
    let base = escaped(&base);
    if rest.is_empty() || rest == "." { base } else { format!("{}/{rest}", base.trim_end_matches('/')) }
}

/// The part of a glob that means itself.
fn base(glob: &str) -> PathBuf {
    let mut base = PathBuf::new();
    for part in Path::new(glob).components() {
        let text = part.as_os_str().to_string_lossy();
        let special = |c| matches!(c, '*' | '?' | '[' | '{');
        if matches!(part, Component::Normal(_))
            && text.replace("\\*", "").replace("\\?", "").replace("\\[", "").replace("\\{", "").contains(special)
        {
            break;
        }
        base.push(text.replace('\\', ""));
    }
    base
}

struct WatchedFolders {
    watcher: RecommendedWatcher,
    own: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
}

impl WatchedFolders {
    fn is_own(&self, path: &Path) -> bool {
        self.own.iter().any(|own| path.starts_with(own))
    }
    /// Watches a folder and those in it. `named`: a glob means this very folder, whatever it is called.
    fn add(&mut self, folder: &Path, named: bool) -> Result<(), Failure> {
        let top = folder;
        let mut left = vec![folder.to_path_buf()];
        while let Some(folder) = left.pop() {
            let named = named && folder == top;
            let skipped = folder.file_name().and_then(OsStr::to_str).is_some_and(|name| SKIPPED.contains(&name));
            if self.is_own(&folder) || (skipped && !named) || !self.seen.insert(folder.clone()) {
                continue;
            }
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                // It went while we looked, or is not ours to look into.
                Err(error) if !matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                    self.seen.remove(&folder);
                    continue;
                }
                Err(error) => return Err(refused(&error)),
            }
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            // Links to folders are not followed: a loop of them has no end.
            left.extend(
                entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
        Ok(())
    }
    fn remove(&mut self, folder: &Path) {
        if self.seen.remove(folder) {
            // The system has forgotten it already.
            let _gone = self.watcher.unwatch(folder);
        }
    }
}

struct WatchThread {
    root: PathBuf,
    sets: Vec<(ServiceId, GlobSet)>,
    folders: WatchedFolders,
}

struct PendingChange {
    first: Instant,
    last: Instant,
    path: PathBuf,
}

impl WatchThread {
    fn run(mut self, news: &mpsc::Receiver<WatchMessage>, changed: impl Fn(ServiceId, String)) {
        let mut pending: BTreeMap<ServiceId, PendingChange> = BTreeMap::new();
        loop {
            let now = Instant::now();
            let due = |one: &PendingChange| (one.last + SETTLE_FOR).min(one.first + MAX_SETTLE);
            let next = pending.values().map(due).min();
            let got = match next {
                Some(at) => news.recv_timeout(at.saturating_duration_since(now)),
                None => news.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match got {
                Ok(WatchMessage::End) | Err(RecvTimeoutError::Disconnected) => return,
                // The queue of the system ran over, or a folder went: what is lost is seen with the next change.
                Ok(WatchMessage::Event(Err(_))) | Err(RecvTimeoutError::Timeout) => {}
                Ok(WatchMessage::Event(Ok(event))) => self.hear(&event, &mut pending),
            }
            let now = Instant::now();
            let ripe: Vec<ServiceId> = pending.iter().filter(|(_, one)| due(one) <= now).map(|(id, _)| id.clone()).collect();
            for id in ripe {
                if let Some(one) = pending.remove(&id) {
                    let path = one.path.strip_prefix(&self.root).unwrap_or(&one.path);
                    changed(id, path.display().to_string());
                }
            }
        }
    }

    fn hear(&mut self, event: &notify::Event, pending: &mut BTreeMap<ServiceId, PendingChange>) {
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
            return;
        }
        for path in &event.paths {
            if self.folders.is_own(path) || is_of_an_editor(path) {
                continue;
            }
            if matches!(event.kind, EventKind::Remove(_)) {
                self.folders.remove(path);
            }
            let mut files = vec![path.clone()];
            if path.is_dir() {
                // Files may have come into a new folder before it was watched. What cannot be watched stays unseen.
                let known = self.folders.seen.len();
                let _full = self.folders.add(path, false);
                files = if self.folders.seen.len() > known { files_in(path) } else { Vec::new() };
            }
            for file in files {
                self.note(&file, pending);
            }
        }
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

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found
}

/// What editors and interpreters write beside a file.
fn is_of_an_editor(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    name.ends_with('~')
        || name.starts_with(".#")
        || name == "4913"
        || [".swp", ".swx", ".swo", ".pyc"].iter().any(|ending| name.ends_with(ending))
        || path.components().any(|part| part.as_os_str() == "__pycache__")
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;

    #[test]
    fn globs_have_a_base() {
        for (glob, expected) in [
            ("src/**/*.py", "/p/src"),
            ("./src", "/p/src"),
            ("../other/*.rs", "/other"),
            ("*.toml", "/p"),
            ("/etc/x.conf", "/etc/x.conf"),
            ("a/{b,c}/d", "/p/a"),
        ] {
            assert_eq!(base(&absolute(Path::new("/p"), glob)), Path::new(expected), "{glob}");
        }
        assert_eq!(base(&absolute(Path::new("/p [1]"), "a/*")), Path::new("/p [1]/a"));
    }

    #[test]
    fn changes_are_told_once_and_only_where_they_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["src/deep", "node_modules/x", ".devrun"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let id = |name: &str| ServiceId::single(&ServiceName::new(name).unwrap());
        let (sender, told) = mpsc::channel();
        let subjects = vec![
            WatchedFiles { id: id("py"), globs: vec!["src/**/*.py".to_owned()] },
            WatchedFiles { id: id("all"), globs: vec!["**".to_owned()] },
        ];
        let watcher = FileWatcher::start(&root, subjects, vec![root.join(".devrun")], move |id, path| {
            sender.send((id.to_string(), path)).unwrap();
        })
        .unwrap();
        for path in ["node_modules/x/a.py", ".devrun/b.py", "src/c.py~", "src/__pycache__/c.pyc"] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        for round in 0..5 {
            std::fs::write(root.join("src/deep/x.py"), round.to_string()).unwrap();
        }
        let mut seen: Vec<(String, String)> = Vec::new();
        while seen.len() < 2 {
            seen.push(told.recv_timeout(Duration::from_secs(20)).unwrap());
        }
        seen.sort();
        assert_eq!(seen, [("all".to_owned(), "src/deep/x.py".to_owned()), ("py".to_owned(), "src/deep/x.py".to_owned())]);
        // A folder that comes later, with a file in it.
        std::fs::create_dir_all(root.join("src/new/er")).unwrap();
        std::fs::write(root.join("src/new/er/y.py"), "x").unwrap();
        let (mut py, mut all) = (false, false);
        while !(py && all) {
            let (id, _) = told.recv_timeout(Duration::from_secs(20)).unwrap();
            py |= id == "py";
            all |= id == "all";
        }
        drop(watcher);
    }
}
