//! The store: `NAME/VERSION-HASH/`, each entry complete or absent.
//!
//! Owns: where the store is, stages and how they become entries, and the clean-up after installers that were killed; what an
//! entry is and how it is checked is in `manifest`. An entry is built in `.stage/`, synced, and renamed with `RENAME_NOREPLACE`;
//! so a reader never sees half of one, and of two installers one wins and the other takes the winner's.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use devrun_keeper::regular_file;
use nix::unistd::User;

use crate::ownership::Trust;
use devrun_model::hex::hex;
use devrun_model::{Failure, FailureKind, os_text};

use super::manifest::{self, MANIFEST, Manifest, StoreEntry};
use super::system;
use super::unpack::unpack_tree::make_folder;

/// The way out where the disk is full.
pub(super) const MAKE_ROOM: &str = "free some space, or move the store with DEVRUN_BIN_CACHE=DIRECTORY";

const STAGES: &str = ".stage";

/// The store of this project, by the contract: `$DEVRUN_BIN_CACHE`, else `bin-cache/store/` where a `bin-cache/` folder lies
/// beside the procfile, else the user's cache; root's is where a dropped user can reach it. Empty where neither the
/// environment nor the system knows a home: a place that others can make first is none.
#[must_use]
pub fn store_folder(root: &Path, env: &BTreeMap<String, String>, is_root: bool) -> PathBuf {
    let given = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(|value| PathBuf::from(os_text::to_os(value)));
    if let Some(folder) = given("DEVRUN_BIN_CACHE") {
        return if folder.is_absolute() { folder } else { root.join(folder) };
    }
    let beside = root.join("bin-cache");
    if beside.is_dir() {
        return beside.join("store");
    }
    if is_root {
        return PathBuf::from("/var/cache/devrun/bin-cache");
    }
    let home = || {
        let user = || User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir);
        given("HOME").or_else(user).filter(|home| home.is_absolute() && home != Path::new("/"))
    };
    let cache = given("XDG_CACHE_HOME").filter(|folder| folder.is_absolute()).or_else(|| home().map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("devrun").join("bin-cache")).unwrap_or_default()
}

/// One store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in this folder, which need not be there yet; an empty path is no store.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()) }
    }

    /// Complete entries of a recipe, in order of their names.
    #[must_use]
    pub fn entries(&self, name: &str) -> Vec<StoreEntry> {
        let Some(folder) = self.folder(name) else { return Vec::new() };
        let Ok(folders) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut folders: Vec<PathBuf> = folders.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        folders.sort();
        folders.iter().filter_map(|folder| StoreEntry::read(folder)).filter(|entry| entry.manifest.name == name).collect()
    }

    /// A folder or file of the store; `None` where there is no store.
    fn folder(&self, name: &str) -> Option<PathBuf> {
        (!self.root.as_os_str().is_empty()).then(|| self.root.join(name))
    }

    /// Where the versions of system servers are kept.
    #[must_use]
    pub fn answers(&self) -> system::VersionCache {
        self.folder("system.json").map(system::VersionCache::kept_in).unwrap_or_default()
    }

    fn unusable(&self, why: &str) -> Failure {
        Failure::new(FailureKind::Config, format!("the store {} cannot be used: {why}", self.root.display()))
            .help("move it with DEVRUN_BIN_CACHE=DIRECTORY")
    }

    /// Whether nobody else can put entries of this recipe into the store, where it is there.
    ///
    /// # Errors
    /// `Config`, with the way out.
    pub fn check(&self, name: &str) -> Result<(), Failure> {
        let trust = Trust::current();
        let refuse = |failure: Failure| Failure { reason: format!("cannot use the store: {}", failure.reason), ..failure };
        if let Ok(meta) = std::fs::metadata(&self.root) {
            trust.file(&meta, &self.root).map_err(refuse)?;
        }
        let Some(folder) = self.folder(name) else { return Ok(()) };
        match std::fs::symlink_metadata(&folder) {
            Ok(meta) if !meta.is_dir() => Err(self.unusable(&format!("{} is not a directory", folder.display()))),
            Ok(meta) => trust.meta(&meta, &folder).map_err(refuse),
            Err(_) => Ok(()),
        }
    }

    /// Makes the store's folders, refuses one that others may write into, and cleans up after the dead.
    ///
    /// # Errors
    /// `Config` when it cannot be used.
    pub fn open(&self) -> Result<(), Failure> {
        if self.root.as_os_str().is_empty() {
            let uid = nix::unistd::geteuid();
            return Err(Failure::new(
                FailureKind::Config,
                format!("no directory for the store: HOME is not set, and uid {uid} has no home directory"),
            )
            .help("set HOME, or name a directory: DEVRUN_BIN_CACHE=DIRECTORY"));
        }
        let made = |error: &std::io::Error| self.unusable(&error.to_string());
        make_all(&self.root).map_err(|error| made(&error))?;
        self.check(STAGES)?;
        make_all(&self.root.join(STAGES)).map_err(|error| made(&error))?;
        self.clean();
        Ok(())
    }

    /// Removes stages whose makers are provably gone: the lock of each is held for as long as its maker lives.
    pub fn clean(&self) {
        let Ok(stages) = std::fs::read_dir(self.root.join(STAGES)) else { return };
        for stage in stages.filter_map(Result::ok).map(|entry| entry.path()) {
            let Some(lock_path) = lock_of(&stage) else { continue };
            let lock = match regular_file::open(&lock_path) {
                Ok(lock) => Some(lock),
                // The lock is made before the folder and removed after it: a folder without one has no maker.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(_) => continue,
            };
            if lock.as_ref().is_some_and(|lock| lock.try_lock().is_err()) {
                continue;
            }
            // Whatever cannot be removed now is tried again by the next who comes by.
            let _later = std::fs::remove_dir_all(stage.with_extension(""));
            let _later = std::fs::remove_file(&lock_path);
        }
    }

    /// A new stage of our own.
    ///
    /// # Errors
    /// `Config` when the store cannot be written.
    pub fn stage(&self) -> Result<StoreStage, Failure> {
        self.open()?;
        for _ in 0..64 {
            let mut nonce = [0_u8; 8];
            getrandom::fill(&mut nonce)
                .map_err(|error| Failure::new(FailureKind::Internal, format!("no random numbers: {error}")))?;
            let folder = self.root.join(STAGES).join(hex(&nonce));
            let lock_path = folder.with_extension("lock");
            let lock = match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&lock_path) {
                Ok(lock) => lock,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(self.unusable(&error.to_string())),
            };
            // A cleaner may have been between the two and removed the file: then it is no longer there by its name.
            if lock.try_lock().is_err() || !same_file(&lock, &lock_path) {
                continue;
            }
            std::fs::create_dir(&folder).map_err(|error| self.unusable(&error.to_string()))?;
            let stage = StoreStage { folder, lock_path, _lock: lock };
            for part in [stage.download(), stage.tree()] {
                make_folder(&part).map_err(|error| self.unusable(&error.to_string()))?;
            }
            stage.fence().map_err(|error| self.unusable(&error.to_string()))?;
            return Ok(stage);
        }
        Err(self.unusable("no stage could be made"))
    }

    /// Waits for its turn to install this recipe, so that two who want the same do the work once.
    ///
    /// # Errors
    /// `Cancelled`, or `Config` when the store cannot be written.
    pub fn turn(&self, name: &str, cancel: &super::subprocess::Cancel, waiting: impl FnOnce()) -> Result<InstallLock, Failure> {
        self.open()?;
        self.check(name)?;
        // Among the stages, where one that a killed process leaves is removed by the next.
        let path = self.root.join(STAGES).join(format!("{name}.lock"));
        let mut waiting = Some(waiting);
        loop {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o644);
            // The opening of a FIFO would wait for its reader.
            options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            let file = regular_file::check(options.open(&path)).map_err(|error| {
                let failure = self.unusable(&format!("{}: {error}", path.display()));
                if error.kind() == std::io::ErrorKind::InvalidInput {
                    return failure.help(format!("remove {}", path.display()));
                }
                failure
            })?;
            match file.try_lock() {
                // The one before has removed it meanwhile, and another process may have made it again.
                Ok(()) if !same_file(&file, &path) => continue,
                // Where there are no locks, the rename alone still keeps entries whole.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(InstallLock { path, _lock: file }),
                Err(TryLockError::WouldBlock) => {}
            }
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            if cancel.is_cancelled() {
                return Err(Failure::cancelled());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Makes the stage's tree the entry that its manifest names. Somebody else's equal entry is as good.
    ///
    /// # Errors
    /// `Integrity` or `Config`, and the store is as before.
    pub fn commit(&self, stage: &StoreStage, mut manifest: Manifest) -> Result<StoreEntry, Failure> {
        let failed = |error: &std::io::Error| self.unusable(&error.to_string());
        let tree = stage.tree();
        manifest::describe(&tree, &mut manifest).map_err(|error| failed(&error))?;
        let text = serde_json::to_string_pretty(&manifest)
            .map_err(|error| Failure::new(FailureKind::Internal, format!("a manifest cannot be rendered: {error}")))?;
        write_file(&tree.join(MANIFEST), text.as_bytes()).map_err(|error| failed(&error))?;
        manifest::write_stamps(&tree, &manifest).map_err(|error| failed(&error))?;
        sync(&tree).map_err(|error| failed(&error))?;
        let name = self.root.join(&manifest.name);
        make_all(&name).map_err(|error| failed(&error))?;
        let short = manifest.pin.sha256.get(..12).unwrap_or(&manifest.pin.sha256);
        let folder = name.join(format!("{}-{short}", manifest.version));
        match rename_new(&tree, &folder) {
            Ok(()) => {}
            Err(error) if is_there(&error) => {
                if let Some(entry) = StoreEntry::read(&folder).filter(|entry| entry.manifest.pin == manifest.pin) {
                    return Ok(entry);
                }
                return Err(Failure::new(
                    FailureKind::Integrity,
                    format!("{} exists and is not an entry of this store", folder.display()),
                )
                .help(format!("remove {} and run `devrun fetch {}`", folder.display(), manifest.name)));
            }
            Err(error) => return Err(failed(&error)),
        }
        File::open(&name).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error))?;
        Ok(StoreEntry { folder, manifest })
    }
}

/// Its turn; over when dropped.
#[must_use]
#[derive(Debug)]
pub struct InstallLock {
    path: PathBuf,
    _lock: File,
}

impl Drop for InstallLock {
    fn drop(&mut self) {
        // While it is held: it is not the file of another process then. One that cannot be removed goes with the next cleaning.
        let _later = std::fs::remove_file(&self.path);
    }
}

/// A folder that becomes an entry, or is gone when dropped.
#[must_use]
#[derive(Debug)]
pub struct StoreStage {
    folder: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl StoreStage {
    /// Where artifacts are put.
    #[must_use]
    pub fn download(&self) -> PathBuf {
        self.folder.join("download")
    }
    /// What becomes the entry.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }
    /// Stops tools that look for their project in the folders above: the store may lie in one, whose files they would obey
    /// (`toolchain` of a go.mod, extensions in `.mvn`, workspaces of a package.json).
    fn fence(&self) -> std::io::Result<()> {
        write_file(&self.folder.join("go.mod"), b"module devrun.invalid/fence\n")?;
        write_file(&self.folder.join("package.json"), b"{}\n")?;
        make_folder(&self.folder.join(".mvn"))
    }
    /// Empties both, for the next source.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn reset(&self) -> std::io::Result<()> {
        for part in [self.download(), self.tree()] {
            match std::fs::remove_dir_all(&part) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => make_folder(&part)?,
            }
        }
        Ok(())
    }
}

impl Drop for StoreStage {
    fn drop(&mut self) {
        // What stays behind is removed by the next installer, as the lock is free then.
        let _later = std::fs::remove_dir_all(&self.folder);
        let _later = std::fs::remove_file(&self.lock_path);
    }
}

fn lock_of(stage: &Path) -> Option<PathBuf> {
    match stage.extension() {
        None => Some(stage.with_extension("lock")),
        Some(extension) if extension == "lock" => Some(stage.to_owned()),
        Some(_) => None,
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    }
}

/// Makes every missing folder of a path, 0755 whatever the umask: a dropped user has to pass through.
fn make_all(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_all(parent)?;
    }
    match make_folder(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

/// Everything of the tree to the disk before its name exists.
fn sync(tree: &Path) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        rustix::fs::syncfs(File::open(tree)?)?;
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        for entry in std::fs::read_dir(tree)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                sync(&entry.path())?;
            } else if meta.is_file() {
                File::open(entry.path())?.sync_all()?;
            }
        }
        File::open(tree)?.sync_all()
    }
}

/// Renames a folder to a name that must be free.
fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {}
            renamed => return renamed.map_err(Into::into),
        }
    }
    // The file system knows no such flag. A folder never replaces a full folder, and a full one is what an entry is.
    std::fs::rename(from, to)
}

fn is_there(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::DirectoryNotEmpty)
}

#[cfg(test)]
mod tests {
    use super::super::pin::Pin;
    use super::*;

    fn manifest(version: &str) -> Manifest {
        Manifest {
            format: 1,
            name: "tool".to_owned(),
            version: version.to_owned(),
            reported: version.to_owned(),
            platform: "any".to_owned(),
            source: "url https://x.test/tool".to_owned(),
            pin: Pin { size: 1, sha256: "ab".repeat(32) },
            tools: BTreeMap::from([("tool".to_owned(), "bin/tool".to_owned())]),
            lib: vec!["lib".to_owned()],
            files: BTreeMap::new(),
            listing: None,
        }
    }

    fn filled(store: &Store) -> StoreStage {
        let stage = store.stage().unwrap();
        std::fs::create_dir(stage.tree().join("bin")).unwrap();
        let tool = stage.tree().join("bin/tool");
        std::fs::write(&tool, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        stage
    }

    #[test]
    fn the_store_is_where_the_contract_says() {
        let project = tempfile::tempdir().unwrap();
        let root = project.path();
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let home = env(&[("HOME", "/home/u")]);
        assert_eq!(store_folder(root, &home, false), Path::new("/home/u/.cache/devrun/bin-cache"));
        assert_eq!(store_folder(root, &home, true), Path::new("/var/cache/devrun/bin-cache"));
        let xdg = env(&[("HOME", "/home/u"), ("XDG_CACHE_HOME", "/c")]);
        assert_eq!(store_folder(root, &xdg, false), Path::new("/c/devrun/bin-cache"));
        std::fs::create_dir(root.join("bin-cache")).unwrap();
        assert_eq!(store_folder(root, &home, true), root.join("bin-cache/store"));
        let given = env(&[("DEVRUN_BIN_CACHE", "/b")]);
        assert_eq!(store_folder(root, &given, true), Path::new("/b"));
        assert_eq!(store_folder(root, &env(&[("DEVRUN_BIN_CACHE", "b")]), true), root.join("b"));
    }

    #[test]
    fn an_entry_is_complete_and_the_second_installer_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(&folder.path().join("deep/store"));
        let first = store.commit(&filled(&store), manifest("1")).unwrap();
        let second = store.commit(&filled(&store), manifest("1")).unwrap();
        assert_eq!(first.folder, second.folder);
        assert_eq!(store.entries("tool").len(), 1);
        first.verify().unwrap();
        assert_eq!(first.env()["LD_LIBRARY_PATH"], first.folder.join("lib").to_string_lossy());
        assert_eq!(std::fs::read_dir(folder.path().join("deep/store/.stage")).unwrap().count(), 0);
        let mode = std::fs::metadata(&first.folder).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o755);
    }

    #[test]
    fn a_changed_executable_is_noticed_even_with_its_old_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let entry = store.commit(&filled(&store), manifest("1")).unwrap();
        let tool = entry.folder.join("bin/tool");
        let before = std::fs::metadata(&tool).unwrap().modified().unwrap();
        std::fs::write(&tool, "#!/bin/zh\n").unwrap();
        File::options().write(true).open(&tool).unwrap().set_modified(before).unwrap();
        let failure = entry.verify().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Integrity);
        assert!(failure.help.unwrap().contains("devrun fetch tool"));
        // Put back, it is the same file again.
        std::fs::write(&tool, "#!/bin/sh\n").unwrap();
        entry.verify().unwrap();
        // Stamps that are not a file only make the check slower; opening a FIFO would wait.
        let stamps = entry.folder.join(".devrun-stamps.json");
        std::fs::remove_file(&stamps).unwrap();
        nix::unistd::mkfifo(&stamps, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        entry.verify().unwrap();
        std::fs::remove_file(&tool).unwrap();
        assert_eq!(entry.verify().unwrap_err().kind, FailureKind::Integrity);
    }

    #[test]
    fn only_stages_of_the_dead_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let alive = store.stage().unwrap();
        let stages = folder.path().join(STAGES);
        // A killed installer leaves its folder and its lock, which nobody holds.
        std::fs::create_dir_all(stages.join("dead/tree")).unwrap();
        std::fs::write(stages.join("dead.lock"), "").unwrap();
        std::fs::write(stages.join("early.lock"), "").unwrap();
        store.clean();
        assert!(alive.tree().is_dir());
        let mut left: Vec<_> = std::fs::read_dir(&stages).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        assert_eq!(left.len(), 2, "{left:?}");
        drop(alive);
        assert_eq!(std::fs::read_dir(&stages).unwrap().count(), 0);
    }

    /// The opening of a FIFO waits for its other side.
    #[test]
    fn a_fifo_among_the_stages_blocks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        store.open().unwrap();
        let fifo = |name: &str| {
            let path = folder.path().join(STAGES).join(name);
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            path
        };
        fifo("old.lock");
        store.clean();
        let cancel = crate::subprocess::Cancel::default();
        drop(store.turn("postgres", &cancel, || ()).unwrap());
        let path = fifo("postgres.lock");
        let failure = store.turn("postgres", &cancel, || ()).unwrap_err();
        assert!(failure.reason.contains("postgres.lock: it is not a regular file"), "{failure:?}");
        assert_eq!(failure.help.unwrap(), format!("remove {}", path.display()));
    }

    /// An install that is given up leaves nothing: neither an empty directory of the recipe nor a lock.
    #[test]
    fn a_turn_leaves_nothing_and_is_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(&folder.path().join("store"));
        let cancel = crate::subprocess::Cancel::default();
        let turn = store.turn("postgres", &cancel, || ()).unwrap();
        let mut has_waited = false;
        let cancelled = crate::subprocess::Cancel::default();
        drop(cancelled.on_drop());
        assert!(store.turn("postgres", &cancelled, || has_waited = true).is_err() && has_waited);
        drop(turn);
        drop(store.turn("postgres", &cancel, || ()).unwrap());
        assert_eq!(std::fs::read_dir(folder.path().join("store").join(STAGES)).unwrap().count(), 0);
        assert!(!folder.path().join("store/postgres").exists());
    }

    #[test]
    fn a_store_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let failure = Store::at(folder.path()).stage().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Config);
        assert!(failure.help.unwrap().starts_with("chmod go-w"));
    }
}
