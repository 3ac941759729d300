//! `watch`: tells which service's files changed, once things are quiet again.
//!
//! Folders are watched one by one rather than recursively by the library, so that those which nobody means (`.git`,
//! `node_modules`, our own state) cost nothing and cannot trigger anything. Only writes, creations, renames and removals
//! count; reading a file or changing its mode does not.
//!
//! What a glob means is looked for by name: the folders above it are watched too, and a folder that was removed and made
//! again is another one (by its inode), which is watched too. Where the system has no watches left, files are polled.

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
/// Between two looks at all files, where they are polled.
const POLL_EVERY: Duration = Duration::from_secs(1);

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

/// What a watcher has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchReport {
    /// A file of a service changed.
    Changed(ServiceId, String),
    /// Something is worth knowing about how files are watched.
    Note(ServiceId, String),
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
    /// Begins. `own` are folders that never count; `report` gets what happens, with files relative to `root`.
    ///
    /// # Errors
    /// `Config` when a glob is none, `Service` when files can neither be watched nor polled.
    pub fn start(
        root: &Path,
        subjects: Vec<WatchedFiles>,
        own: Vec<PathBuf>,
        report: impl Fn(WatchReport) + Send + 'static,
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
        let absent = bases.iter().filter(|(base, _)| !base.exists());
        let mut notes: Vec<(ServiceId, String)> =
            absent.map(|(_, (id, glob))| (id.clone(), format!("watch: there is nothing yet that {glob:?} could mean"))).collect();
        let bases = bases.into_keys().collect();
        let mut folders = WatchedFolders::new(root.to_path_buf(), own, bases, &sender)?;
        folders.look();
        if let Some(reason) = folders.polls_because.take()
            && let Some(first) = subjects.first()
        {
            notes.push((first.id.clone(), reason));
        }
        let stamps = folders.watcher.is_none().then(|| folders.stamps());
        let looker = WatchThread { root: root.to_path_buf(), sets, folders, stamps };
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || looker.run(&news, report))
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
    Failure::new(FailureKind::Config, format!("invalid glob {glob:?} in services.{}.watch: {}", subject.id, error.kind()))
        .help("write for instance watch = [\"src/**/*.py\"]")
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

/// A folder beyond its name.
type FolderId = (u64, u64);

fn folder_id(folder: &Path) -> Option<FolderId> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(folder).ok().filter(std::fs::Metadata::is_dir)?;
    Some((meta.dev(), meta.ino()))
}

struct WatchedFolders {
    root: PathBuf,
    own: Vec<PathBuf>,
    /// What the globs mean, as far as it means itself.
    bases: BTreeSet<PathBuf>,
    /// Absent: files are polled.
    watcher: Option<RecommendedWatcher>,
    seen: BTreeMap<PathBuf, FolderId>,
    /// Why files are polled, until it was reported.
    polls_because: Option<String>,
}

impl WatchedFolders {
    fn new(
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

    fn poll_from_now_on(&mut self, error: &notify::Error) {
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

    fn is_own(&self, path: &Path) -> bool {
        self.own.iter().any(|own| path.starts_with(own))
    }

    /// Whether a path is one that a glob means or lies above such a one.
    fn leads_to_base(&self, path: &Path) -> bool {
        self.bases.iter().any(|base| base.starts_with(path))
    }

    /// Whether a path lies below one that a glob means.
    fn is_below_base(&self, path: &Path) -> bool {
        self.bases.iter().any(|base| path.starts_with(base))
    }

    /// Looks for what the globs mean and watches all of it that is not watched yet. Returns the folders that are new.
    fn look(&mut self) -> Vec<PathBuf> {
        let mut new = Vec::new();
        for base in self.bases.clone() {
            // The folders above tell when it comes, goes and comes back. Outside of the project its parent has to do.
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

    /// Watches a folder and those in it. `named`: a glob means this very folder, whatever it is called.
    fn add(&mut self, folder: &Path, named: bool, new: &mut Vec<PathBuf>) {
        if self.watcher.is_some() {
            self.walk(folder, named).for_each(|folder| self.watch(&folder, new));
        }
    }

    /// A folder and those in it, as far as they count. A folder is given before it is read, so that one who watches it then
    /// misses nothing that comes into it.
    fn walk(&self, folder: &Path, named: bool) -> impl Iterator<Item = PathBuf> + use<> {
        let top = folder.to_path_buf();
        let own = self.own.clone();
        let mut left = vec![top.clone()];
        let mut given: Option<PathBuf> = None;
        std::iter::from_fn(move || {
            // Links to folders are not followed: a loop of them has no end.
            let entries = given.take().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
            let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            left.extend(folders.map(|entry| entry.path()));
            loop {
                let folder = left.pop()?;
                let skipped = folder.file_name().and_then(OsStr::to_str).is_some_and(|name| SKIPPED.contains(&name));
                if own.iter().any(|own| folder.starts_with(own)) || (skipped && !(named && folder == top)) {
                    continue;
                }
                given = Some(folder.clone());
                return Some(folder);
            }
        })
    }

    /// Watches one folder, if it is one and is not watched. One that went meanwhile, or is not ours to look into, is passed over.
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

    /// Forgets a folder that went, and those that were in it.
    fn forget(&mut self, folder: &Path) {
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
    fn stamps(&self) -> BTreeMap<PathBuf, WatchStamp> {
        let folders = self.bases.iter().flat_map(|base| self.walk(base, true));
        let files = folders.flat_map(|folder| files_in(&folder)).chain(self.bases.iter().cloned());
        files.filter(|file| !is_of_an_editor(file)).filter_map(|file| Some((file.clone(), file_stamp(&file)?))).collect()
    }
}

/// Modification in seconds and nanoseconds, size and inode.
type WatchStamp = (i64, i64, u64, u64);

fn file_stamp(file: &Path) -> Option<WatchStamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(file).ok().filter(|meta| !meta.is_dir())?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino()))
}

struct WatchThread {
    root: PathBuf,
    sets: Vec<(ServiceId, GlobSet)>,
    folders: WatchedFolders,
    /// Of the last look, where files are polled.
    stamps: Option<BTreeMap<PathBuf, WatchStamp>>,
}

struct PendingChange {
    first: Instant,
    last: Instant,
    path: PathBuf,
}

impl WatchThread {
    fn run(mut self, news: &mpsc::Receiver<WatchMessage>, report: impl Fn(WatchReport)) {
        let mut pending: BTreeMap<ServiceId, PendingChange> = BTreeMap::new();
        // Once things are quiet after a folder went: the watch that was put on its successor may have gone with it.
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

    /// Takes an event in. True where folders went, so that it must be looked again.
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
            // Of a folder its files count, unless it is what a glob means.
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

    /// The files of folders that are new: they may have come before their folder was watched.
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

/// The files of a folder, those of the folders in it not.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir())).map(|entry| entry.path()).collect()
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
        let watcher = FileWatcher::start(&root, subjects, vec![root.join(".devrun")], move |report| match report {
            WatchReport::Changed(id, path) => sender.send((id.to_string(), path)).unwrap(),
            WatchReport::Note(_, text) => panic!("{text}"),
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

    /// A watcher of one service, its reports, and whether files are polled.
    fn watch(root: &Path, globs: &[&str], polls: bool) -> (mpsc::Receiver<WatchReport>, mpsc::Sender<WatchMessage>) {
        let id = ServiceId::single(&ServiceName::new("a").unwrap());
        let mut set = GlobSetBuilder::new();
        let mut bases = BTreeSet::new();
        for glob in globs {
            let full = absolute(root, glob);
            for text in [full.clone(), format!("{full}/**")] {
                set.add(GlobBuilder::new(&text).literal_separator(true).build().unwrap());
            }
            bases.insert(base(&full));
        }
        let (sender, news) = mpsc::channel();
        let mut folders = WatchedFolders::new(root.to_path_buf(), Vec::new(), bases, &sender).unwrap();
        if polls {
            folders.poll_from_now_on(&notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        }
        folders.look();
        let stamps = polls.then(|| folders.stamps());
        let looker = WatchThread { root: root.to_path_buf(), sets: vec![(id, set.build().unwrap())], folders, stamps };
        let (reports, told) = mpsc::channel();
        std::thread::spawn(move || looker.run(&news, move |report| drop(reports.send(report))));
        (told, sender)
    }

    fn next_change(told: &mpsc::Receiver<WatchReport>) -> String {
        match told.recv_timeout(Duration::from_secs(20)).unwrap() {
            WatchReport::Changed(_, path) => path,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_removed_or_moved_away_and_made_again_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["dist/deep", "conf/sub"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("conf/sub/app.conf"), "1").unwrap();
        let (told, end) = watch(&root, &["dist", "conf/sub/app.conf", "later/*.txt"], false);
        let quiet = || while told.recv_timeout(SETTLE_FOR * 4).is_ok() {};
        for round in 0..3 {
            if round == 1 {
                std::fs::rename(root.join("dist"), root.join("dist.old")).unwrap();
            } else {
                std::fs::remove_dir_all(root.join("dist")).unwrap();
            }
            std::fs::create_dir_all(root.join("dist/deep")).unwrap();
            std::fs::write(root.join("dist/deep/new"), "1").unwrap();
            assert!(next_change(&told).starts_with("dist"), "{round}");
            quiet();
            std::fs::write(root.join("dist/deep/new"), "2").unwrap();
            assert_eq!(next_change(&told), "dist/deep/new", "{round}");
            quiet();
        }
        // What was moved away is no longer meant.
        std::fs::write(root.join("dist.old/deep/new"), "3").unwrap();
        assert!(told.recv_timeout(SETTLE_FOR * 4).is_err());
        std::fs::remove_dir_all(root.join("conf")).unwrap();
        assert_eq!(next_change(&told), "conf/sub/app.conf");
        std::fs::create_dir_all(root.join("conf/sub")).unwrap();
        quiet();
        std::fs::write(root.join("conf/sub/app.conf"), "2").unwrap();
        assert_eq!(next_change(&told), "conf/sub/app.conf");
        std::fs::create_dir(root.join("later")).unwrap();
        quiet();
        std::fs::write(root.join("later/a.txt"), "1").unwrap();
        assert_eq!(next_change(&told), "later/a.txt");
        end.send(WatchMessage::End).unwrap();
    }

    #[test]
    fn files_are_polled_where_no_watches_are_left_and_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("src/node_modules")).unwrap();
        std::fs::write(root.join("src/a"), "1").unwrap();
        let (told, end) = watch(&root, &["src"], true);
        assert!(matches!(
            told.recv_timeout(Duration::from_secs(20)).unwrap(),
            WatchReport::Note(_, text) if text.contains("polled every 1s") && text.contains("max_user_watches")
        ));
        std::fs::write(root.join("src/node_modules/x"), "1").unwrap();
        std::fs::write(root.join("src/a"), "22").unwrap();
        assert_eq!(next_change(&told), "src/a");
        std::fs::create_dir(root.join("src/new")).unwrap();
        std::fs::write(root.join("src/new/b"), "1").unwrap();
        assert_eq!(next_change(&told), "src/new/b");
        std::fs::remove_dir_all(root.join("src/new")).unwrap();
        assert_eq!(next_change(&told), "src/new/b");
        end.send(WatchMessage::End).unwrap();
    }
}
