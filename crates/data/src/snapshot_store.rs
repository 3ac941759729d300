//! The snapshots of one state directory: `snapshots/NAME/` with `manifest.json`, `volumes/`, `secrets/` and `plan.json`.
//!
//! A snapshot is written into a stage next to the others and appears by one rename; it goes by one rename too. So a name is a
//! whole snapshot or none, whatever is killed when. Stages and what is being removed begin with a dot, which no name does; the
//! next command that changes something removes them.

use std::fs::File;
use std::path::{Path, PathBuf};

use devrun_model::{Failure, FailureKind};
use rustix::fs::FlockOperation;

use crate::durable::{failed, make_private, nonce, remove_tree, replace_durably, sync_directory, sync_file_system};
use crate::snapshot_manifest::{LAYOUT, SnapshotManifest};

const MANIFEST: &str = "manifest.json";
const STAGE: &str = ".stage-";
const REMOVED: &str = ".removed-";
/// The longest name: with it a path still fits everywhere.
const LONGEST: usize = 64;

/// Refuses what cannot be the name of a snapshot.
///
/// # Errors
/// `Config`.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let starts = name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if starts && name.len() <= LONGEST && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Config, format!("invalid snapshot name {name:?}"))
        .help("use up to 64 letters, digits, `-`, `_` and `.`, a letter or digit first: devrun snapshot save before-migration"))
}

/// The snapshots of a state directory.
#[derive(Debug)]
pub struct SnapshotStore {
    root: PathBuf,
    /// Held by whoever changes something.
    _lock: Option<File>,
}

impl SnapshotStore {
    /// To read: nothing is made.
    #[must_use]
    pub fn look(state: &Path) -> Self {
        Self { root: state.join("snapshots"), _lock: None }
    }

    /// To change: one at a time. What an earlier command left half done is removed.
    ///
    /// # Errors
    /// `Elsewhere` while another command changes snapshots; `Task` when the directory cannot be used.
    pub fn open(state: &Path) -> Result<Self, Failure> {
        let root = state.join("snapshots");
        make_private(&root)?;
        let lock = File::open(&root).map_err(|error| failed("open", &root, &error))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Failure::new(FailureKind::Elsewhere, "another command is changing the snapshots or the data")
                    .help("wait until it has finished, then try again"));
            }
            Err(error) => return Err(failed("lock", &root, &error.into())),
        }
        let entries = std::fs::read_dir(&root).map_err(|error| failed("read", &root, &error))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(STAGE) || name.starts_with(REMOVED) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(Self { root, _lock: Some(lock) })
    }

    /// The directory of a snapshot.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A volume in it.
    #[must_use]
    pub fn volume(&self, name: &str, volume: &str) -> PathBuf {
        self.path(name).join("volumes").join(volume)
    }

    /// A secret in it.
    #[must_use]
    pub fn secret(&self, name: &str, secret: &str) -> PathBuf {
        self.path(name).join("secrets").join(secret)
    }

    /// Whether there is a snapshot of this name.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// All snapshots, the newest first. One whose manifest cannot be read is reported by its name.
    #[must_use]
    pub fn list(&self) -> Vec<(String, Result<SnapshotManifest, Failure>)> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| check_name(name).is_ok());
        let mut found: Vec<_> = names.map(|name| (name.clone(), self.read(&name))).collect();
        let made = |manifest: &Result<SnapshotManifest, Failure>| manifest.as_ref().ok().map(|manifest| manifest.made_at.clone());
        found.sort_by(|one, other| made(&other.1).cmp(&made(&one.1)).then_with(|| one.0.cmp(&other.0)));
        found
    }

    /// The manifest of a snapshot.
    ///
    /// # Errors
    /// `Config` for a name without a snapshot, `Integrity` for a manifest that cannot be read.
    pub fn read(&self, name: &str) -> Result<SnapshotManifest, Failure> {
        check_name(name)?;
        let path = self.path(name).join(MANIFEST);
        let broken = |reason: String| {
            Failure::new(FailureKind::Integrity, format!("snapshot {name}: {}: {reason}", path.display()))
                .help(format!("devrun snapshot rm {name}"))
        };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.exists(name) => {
                let all: Vec<String> = self.list().into_iter().map(|(name, _)| name).collect();
                let help = if all.is_empty() {
                    "devrun snapshot save NAME".to_owned()
                } else {
                    format!("there are: {}", all.join(", "))
                };
                return Err(Failure::new(FailureKind::Config, format!("unknown snapshot `{name}`")).help(help));
            }
            Err(error) => return Err(broken(error.to_string())),
        };
        let manifest: SnapshotManifest = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        if manifest.devrun > LAYOUT {
            return Err(Failure::new(
                FailureKind::Config,
                format!("snapshot {name} was made by devrun {}, which is newer", manifest.by),
            )
            .help("use that version of devrun"));
        }
        Ok(manifest)
    }

    /// A stage for a new snapshot.
    ///
    /// # Errors
    /// `Config` where the name is taken; `Task` when no directory can be made.
    pub fn stage(&self, name: &str) -> Result<SnapshotStage<'_>, Failure> {
        check_name(name)?;
        if self.exists(name) {
            return Err(Failure::new(FailureKind::Config, format!("snapshot `{name}` exists already"))
                .help(format!("choose another name, or remove it first: devrun snapshot rm {name}")));
        }
        let path = self.root.join(format!("{STAGE}{}", nonce()?));
        make_private(&path.join("volumes"))?;
        make_private(&path.join("secrets"))?;
        Ok(SnapshotStage { store: self, path, committed: false })
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// `Config` where there is none, `Task` when it cannot be removed; the next command tries again.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        if !self.exists(name) {
            self.read(name)?;
        }
        let path = self.path(name);
        let doomed = self.root.join(format!("{REMOVED}{}", nonce()?));
        std::fs::rename(&path, &doomed).map_err(|error| failed("remove", &path, &error))?;
        sync_directory(&self.root)?;
        remove_tree(&doomed)
    }
}

/// A snapshot in the making. Dropped without [`SnapshotStage::commit`] it is removed.
#[derive(Debug)]
pub struct SnapshotStage<'a> {
    store: &'a SnapshotStore,
    path: PathBuf,
    committed: bool,
}

impl SnapshotStage<'_> {
    /// Where a volume is to be copied to; nothing is there yet.
    #[must_use]
    pub fn volume(&self, name: &str) -> PathBuf {
        self.path.join("volumes").join(name)
    }

    /// Keeps a secret, 0600.
    ///
    /// # Errors
    /// As the file system says.
    pub fn add_secret(&self, name: &str, value: &str) -> Result<(), Failure> {
        replace_durably(&self.path.join("secrets").join(name), value.as_bytes())
    }

    /// Keeps the resolved plan, 0600: it holds secrets.
    ///
    /// # Errors
    /// As the file system says.
    pub fn add_plan(&self, json: &[u8]) -> Result<(), Failure> {
        replace_durably(&self.path.join("plan.json"), json)
    }

    /// Writes the manifest, makes all of it durable and gives it its name.
    ///
    /// # Errors
    /// When any of it fails; then there is no snapshot.
    pub fn commit(mut self, manifest: &SnapshotManifest) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(manifest)
            .map_err(|error| Failure::new(FailureKind::Internal, format!("the manifest cannot be written: {error}")))?;
        replace_durably(&self.path.join(MANIFEST), &text)?;
        sync_file_system(&self.path)?;
        let target = self.store.path(&manifest.name);
        // Under the lock of the store, so nothing can have taken the name; an empty directory would be replaced otherwise.
        if self.store.exists(&manifest.name) {
            return Err(Failure::new(FailureKind::Config, format!("snapshot `{}` exists already", manifest.name)));
        }
        std::fs::rename(&self.path, &target).map_err(|error| failed("put in place", &target, &error))?;
        self.committed = true;
        sync_directory(&self.store.root)
    }
}

impl Drop for SnapshotStage<'_> {
    fn drop(&mut self) {
        if !self.committed {
            // What stays is removed by the next command.
            let _ = remove_tree(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn names() {
        for good in ["a", "before-migration", "v1.2_x", "2026"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "..", ".hidden", "-x", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert_eq!(check_name(bad).unwrap_err().kind, FailureKind::Config, "{bad:?}");
        }
    }

    #[test]
    fn it_appears_whole_and_goes_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(folder.path()).unwrap();
        let stage = store.stage("one").unwrap();
        std::fs::create_dir(stage.volume("pg")).unwrap();
        stage.add_secret("db-password", "hush").unwrap();
        assert!(store.list().is_empty(), "a stage is no snapshot");
        stage.commit(&SnapshotManifest::new("one", "shop")).unwrap();
        assert_eq!(store.read("one").unwrap().project, "shop");
        assert!(store.volume("one", "pg").is_dir());
        let secret = store.secret("one", "db-password");
        assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(store.path("one")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(store.stage("one").unwrap_err().kind, FailureKind::Config);
        assert!(store.read("two").unwrap_err().help.unwrap().contains("one"));
        store.remove("one").unwrap();
        assert!(store.list().is_empty() && !store.path("one").exists());
        assert_eq!(store.remove("one").unwrap_err().kind, FailureKind::Config);
    }

    #[test]
    fn what_was_left_half_done_is_removed_by_the_next_command_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("snapshots");
        std::fs::create_dir_all(root.join(".stage-0/volumes/pg")).unwrap();
        std::fs::create_dir_all(root.join(".removed-1/volumes")).unwrap();
        assert!(SnapshotStore::look(folder.path()).list().is_empty());
        assert!(root.join(".stage-0").exists());
        let store = SnapshotStore::open(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
        // Another command at the same time.
        assert_eq!(SnapshotStore::open(folder.path()).unwrap_err().kind, FailureKind::Elsewhere);
        drop(store);
        let dropped = SnapshotStore::open(folder.path()).unwrap();
        drop(dropped.stage("x").unwrap());
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    }

    #[test]
    fn a_manifest_of_another_kind_is_an_integrity_failure() {
        let folder = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(folder.path()).unwrap();
        std::fs::create_dir(store.path("bad")).unwrap();
        std::fs::write(store.path("bad").join(MANIFEST), "{").unwrap();
        assert_eq!(store.read("bad").unwrap_err().kind, FailureKind::Integrity);
        assert_eq!(store.list().len(), 1);
        store.remove("bad").unwrap();
    }
}
