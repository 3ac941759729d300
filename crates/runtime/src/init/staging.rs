//! The first boot's stage: everything is built beside the place where it will stand, and appears by one rename.
//!
//! A volume may be a mount point, so the stage lies inside it, on the same file system, and the volume folder itself is
//! never renamed or removed. Killed at any point before the rename, nothing happened; after it, all of it did. The lock
//! is taken on the volume folder itself: it needs no file, so a foreign volume stays untouched to the byte.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::durable::{failed, nonce, rename_new, sync_below, write_durably};
use super::remove_tree::{remove_below, remove_marked};
use super::task_record::{SCHEMA, is_record};
use devrun_model::{Failure, FailureKind, VolumeClass, VolumeSpec};

/// The sentinel's name, beside the engine's own folder and never in it.
pub const SENTINEL: &str = ".devrun-init.json";
const STAGE: &str = ".devrun-stage-";
const MARKER: &str = ".devrun-stage";
/// Either of these says that a stage is ours, so they are the last to go: a removal may be killed too.
const MARKS: &[&str] = &[SENTINEL, MARKER];

/// What vouches for an engine's folder, and is its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentinel {
    /// Layout of this file.
    pub devrun: u32,
    /// `postgres/first-boot`.
    pub step: String,
    /// A random id of this very data; records of tasks are tied to it.
    pub volume: String,
    /// The hash of argv and input files.
    pub inputs: String,
    /// The engine's version that made it.
    pub tool: String,
    /// The version of devrun that made it.
    pub by: String,
    /// RFC 3339.
    pub finished: String,
    /// How long it took.
    pub took_ms: u64,
    /// The files that `inputs` counts, by name, each with the hash of its content: what changed since can be named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Which secrets the data was made with: names of attributes, never values or hashes of values.
    #[serde(default)]
    pub secrets: Vec<String>,
}

impl Sentinel {
    /// A sentinel of now.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(step: &str, inputs: String, tool: &str, took: std::time::Duration) -> Result<Self, Failure> {
        Ok(Self {
            devrun: SCHEMA,
            step: step.to_owned(),
            volume: format!("{}{}", nonce()?, nonce()?),
            inputs,
            tool: tool.to_owned(),
            by: env!("CARGO_PKG_VERSION").to_owned(),
            finished: super::durable::now(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            files: BTreeMap::new(),
            secrets: Vec::new(),
        })
    }
}

impl Sentinel {
    /// Names of files that differ from those that the data was made from, came or went; none where it is not known which those were.
    #[must_use]
    pub fn changed_files(&self, now: &BTreeMap<String, String>) -> Vec<String> {
        if self.files.is_empty() {
            return Vec::new();
        }
        let all: BTreeSet<&String> = self.files.keys().chain(now.keys()).collect();
        all.into_iter().filter(|name| self.files.get(*name) != now.get(*name)).cloned().collect()
    }
}

/// Reads the sentinel of `<volume>/<recipe>/`; none, or one that cannot be read, is no sentinel.
#[must_use]
pub fn sentinel(volume: &Path, recipe: &str) -> Option<Sentinel> {
    let text = std::fs::read(volume.join(recipe).join(SENTINEL)).ok()?;
    serde_json::from_slice::<Sentinel>(&text).ok().filter(|sentinel| sentinel.devrun == SCHEMA)
}

/// The identity of the data in a volume; empty where no engine has made any.
#[must_use]
pub fn volume_id(volume: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(volume) else { return String::new() };
    let mut ids: Vec<_> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str().filter(|name| !name.starts_with(".devrun-"))?;
            sentinel(volume, name).map(|sentinel| sentinel.volume)
        })
        .collect();
    ids.sort();
    ids.join("+")
}

/// What a volume turned out to be.
#[derive(Debug)]
pub enum VolumeState {
    /// The first boot was done.
    Done(Box<Sentinel>),
    /// It is to be done, in this stage.
    Fresh(Staging),
    /// Somebody else is at it; ask again.
    Busy,
}

/// A stage under its volume's lock. Dropped without `commit` or `discard` (a cancelled start, a crash) it stays on disk
/// for the next run to remove, as processes may still be writing into it.
#[derive(Debug)]
#[must_use = "a stage that is neither committed nor discarded is left for the next run to remove"]
pub struct Staging {
    /// The volume folder, which carries the lock for as long as it is open.
    lock: File,
    volume: PathBuf,
    placed: bool,
    /// What is made here is to outlive a loss of power; a scratch volume does not even outlive the stop.
    durable: bool,
    name: String,
    recipe: String,
    /// What was noticed on the way.
    pub warnings: Vec<String>,
}

/// Takes the volume's lock and decides: done, to be done, or foreign.
///
/// # Errors
/// `Task` for a volume that holds data nobody vouches for; nothing in it is touched.
pub fn open_volume(volume: &VolumeSpec, recipe: &str) -> Result<VolumeState, Failure> {
    let path = &volume.path;
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            return Err(Failure::new(
                FailureKind::Config,
                format!("volume {}: {} is not a directory", volume.name, path.display()),
            ));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => make_volume(path)?,
        Err(error) => return Err(unusable(path, &error)),
    }
    let lock = File::open(path).map_err(|error| unusable(path, &error))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(VolumeState::Busy),
        Err(error) => {
            return Err(failed("lock", path, error).help("put the state on a file system that keeps locks: --state-dir DIR"));
        }
    }
    let engine = path.join(recipe);
    let mut warnings = Vec::new();
    let mut leftover = None;
    match (sentinel(path, recipe), path_kind(&engine).map_err(|error| unusable(&engine, &error))?) {
        (Some(sentinel), PathKind::Folder { .. }) if has_data(&engine) => return Ok(VolumeState::Done(Box::new(sentinel))),
        (Some(_), PathKind::Folder { .. }) => {
            warnings
                .push(format!("{} vouched for data that is gone; the first boot is done again", engine.join(SENTINEL).display()));
            leftover = Some(recipe);
        }
        (_, PathKind::Nothing) => {}
        (_, PathKind::Folder { empty: true }) => leftover = Some(recipe),
        (_, PathKind::Folder { empty: false } | PathKind::Other) => return Err(foreign_data(volume, recipe)),
    }
    let stages = find_old_stages(volume)?;
    for name in stages {
        remove_marked(&lock, &name, MARKS)
            .map_err(|error| failed("remove the stage", &path.join(name.to_string_lossy().as_ref()), error))?;
    }
    if let Some(name) = leftover {
        let name = CString::new(name).map_err(|error| failed("remove", &engine, error))?;
        remove_below(&lock, &name).map_err(|error| failed("remove", &engine, error))?;
    }
    let name = format!("{STAGE}{}", nonce()?);
    let stage = path.join(&name);
    std::fs::DirBuilder::new().mode(0o700).create(&stage).map_err(|error| unusable(&stage, &error))?;
    std::fs::write(stage.join(MARKER), recipe).map_err(|error| unusable(&stage, &error))?;
    Ok(VolumeState::Fresh(Staging {
        lock,
        volume: path.clone(),
        placed: volume.placed,
        durable: volume.class != VolumeClass::Scratch,
        name,
        recipe: recipe.to_owned(),
        warnings,
    }))
}

fn make_volume(path: &Path) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        // A server that root starts as another user passes through, and sees nothing.
        let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { 0o700 };
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(parent).map_err(|error| unusable(parent, &error))?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(unusable(path, &error)),
        _ => Ok(()),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("{} cannot be used: {error}", path.display()))
}

fn foreign_data(volume: &VolumeSpec, what: &str) -> Failure {
    Failure::new(
        FailureKind::Task,
        format!("volume {} holds data that devrun did not make ({})", volume.name, volume.path.join(what).display()),
    )
    .help(format!("devrun volumes adopt {}", volume.name))
}

enum PathKind {
    Nothing,
    Folder { empty: bool },
    Other,
}

fn path_kind(path: &Path) -> std::io::Result<PathKind> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(PathKind::Folder { empty: std::fs::read_dir(path)?.next().is_none() }),
        Ok(_) => Ok(PathKind::Other),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(PathKind::Nothing),
        Err(error) => Err(error),
    }
}

/// Whether anything lies beside the sentinel. An engine's folder may be empty (redis before its first save); it is
/// missing only when somebody removed it.
fn has_data(engine: &Path) -> bool {
    std::fs::read_dir(engine).is_ok_and(|entries| entries.filter_map(Result::ok).any(|entry| entry.file_name() != SENTINEL))
}

/// Looks at everything in the volume before anything is changed: our old stages are returned, a stranger's file ends it.
fn find_old_stages(volume: &VolumeSpec) -> Result<Vec<CString>, Failure> {
    let mut stages = Vec::new();
    let me = rustix::process::geteuid().as_raw();
    for entry in std::fs::read_dir(&volume.path).map_err(|error| unusable(&volume.path, &error))? {
        let entry = entry.map_err(|error| unusable(&volume.path, &error))?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let path = entry.path();
        let metadata = std::fs::symlink_metadata(&path).map_err(|error| unusable(&path, &error))?;
        if text.starts_with(STAGE) {
            let marked = path.join(MARKER).is_file() || path.join(SENTINEL).is_file();
            let empty = || std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
            if metadata.is_dir() && metadata.uid() == me && (marked || empty()) {
                stages.push(CString::new(name.as_encoded_bytes()).map_err(|error| failed("read", &path, error))?);
                continue;
            }
            return Err(foreign_data(volume, &text));
        }
        let ours = text == "lost+found"
            || text.starts_with(".devrun-")
            || (metadata.is_dir()
                && (sentinel(&volume.path, &text).is_some() || matches!(path_kind(&path), Ok(PathKind::Folder { empty: true }))))
            || (metadata.is_file() && is_record(&path));
        if !ours {
            return Err(foreign_data(volume, &text));
        }
    }
    Ok(stages)
}

impl Staging {
    /// The stage's folder; what is made here becomes `<volume>/<recipe>/`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.volume.join(&self.name)
    }

    /// Lets other users pass through to the engine's folder, for an engine that runs as one of them. A volume whose place
    /// the user chose is left as it is.
    ///
    /// # Errors
    /// When a mode cannot be changed.
    pub fn allow_traversal(&self) -> Result<(), Failure> {
        let stage = self.path();
        let folders = [Some(&stage), (!self.placed).then_some(&self.volume)];
        for folder in folders.into_iter().flatten() {
            std::fs::metadata(folder)
                .and_then(|metadata| {
                    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(metadata.mode() & 0o777 | 0o011))
                })
                .map_err(|error| failed("chmod", folder, error))?;
        }
        Ok(())
    }

    /// Writes the sentinel, makes the stage durable and renames it into place. No process of the step may live any more.
    ///
    /// # Errors
    /// When any of it fails; then nothing has appeared.
    pub fn commit(self, sentinel: &Sentinel) -> Result<(), Failure> {
        let stage = self.path();
        let text = serde_json::to_vec_pretty(sentinel).map_err(|error| failed("write", &stage, error))?;
        if self.durable {
            write_durably(&stage, SENTINEL, &text)?;
        } else {
            std::fs::write(stage.join(SENTINEL), &text).map_err(|error| failed("write", &stage, error))?;
        }
        std::fs::remove_file(stage.join(MARKER)).map_err(|error| failed("remove the marker of", &stage, error))?;
        let opened = File::open(&stage).map_err(|error| failed("open", &stage, error))?;
        if self.durable {
            sync_below(&opened, &stage)?;
        }
        rename_new(&self.lock, &self.name, &self.recipe)
            .map_err(|error| failed("put in place", &self.volume.join(&self.recipe), error))?;
        if self.durable {
            self.lock.sync_all().map_err(|error| failed("sync", &self.volume, error))?;
        }
        Ok(())
    }

    /// Removes the stage after a failure that was seen to its end.
    ///
    /// # Errors
    /// When it cannot be removed; the next run tries again.
    pub fn rollback(self) -> Result<(), Failure> {
        let name = CString::new(self.name.as_str()).map_err(|error| failed("remove", &self.path(), error))?;
        remove_marked(&self.lock, &name, MARKS).map_err(|error| failed("remove", &self.path(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::{VolumeClass, VolumeName};

    fn volume(path: &Path) -> VolumeSpec {
        VolumeSpec { name: VolumeName::new("pg").unwrap(), class: VolumeClass::Persistent, path: path.to_owned(), placed: false }
    }

    fn fresh(volume: &VolumeSpec) -> Staging {
        match open_volume(volume, "postgres").unwrap() {
            VolumeState::Fresh(stage) => stage,
            other => panic!("{other:?}"),
        }
    }

    fn seal() -> Sentinel {
        Sentinel::new("postgres/first-boot", "hash".to_owned(), "15.20", std::time::Duration::from_millis(3)).unwrap()
    }

    fn build(stage: &Staging) {
        std::fs::create_dir(stage.path().join("data")).unwrap();
        std::fs::write(stage.path().join("data/PG_VERSION"), "15").unwrap();
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_first_boot_appears_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let volume = volume(&folder.path().join("not/there/yet"));
        let stage = fresh(&volume);
        build(&stage);
        stage.commit(&seal()).unwrap();
        assert_eq!(names(&volume.path), ["postgres"]);
        assert_eq!(names(&volume.path.join("postgres")), [SENTINEL, "data"]);
        assert!(matches!(open_volume(&volume, "postgres").unwrap(), VolumeState::Done(sentinel) if sentinel.tool == "15.20"));
    }

    /// A kill is a stage dropped where it stands. Whatever was reached, the next run starts over and ends right.
    #[test]
    fn killed_at_any_step_the_next_run_is_right() {
        for reached in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let volume = volume(folder.path());
            let stage = fresh(&volume);
            match reached {
                0 => std::fs::remove_file(stage.path().join(MARKER)).unwrap(),
                1 => {}
                2 => std::fs::create_dir(stage.path().join("data")).unwrap(),
                3 => build(&stage),
                4 => {
                    build(&stage);
                    write_durably(&stage.path(), SENTINEL, &serde_json::to_vec(&seal()).unwrap()).unwrap();
                }
                _ => {
                    build(&stage);
                    write_durably(&stage.path(), SENTINEL, &serde_json::to_vec(&seal()).unwrap()).unwrap();
                    std::fs::remove_file(stage.path().join(MARKER)).unwrap();
                }
            }
            drop(stage);
            let again = fresh(&volume);
            assert_eq!(names(&volume.path).len(), 1, "step {reached}: an old stage is left");
            build(&again);
            again.commit(&seal()).unwrap();
            assert_eq!(names(&volume.path), ["postgres"], "step {reached}");
        }
    }

    #[test]
    fn a_discarded_stage_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let volume = volume(folder.path());
        let stage = fresh(&volume);
        build(&stage);
        stage.rollback().unwrap();
        assert!(names(&volume.path).is_empty());
    }

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let volume = volume(folder.path());
        let stage = fresh(&volume);
        assert!(matches!(open_volume(&volume, "postgres").unwrap(), VolumeState::Busy));
        stage.rollback().unwrap();
        assert!(matches!(open_volume(&volume, "postgres").unwrap(), VolumeState::Fresh(_)));
    }

    #[test]
    fn foreign_volumes_are_refused_and_untouched() {
        let cases: [fn(&Path); 7] = [
            |v| std::fs::write(v.join("PG_VERSION"), "15").unwrap(),
            |v| {
                std::fs::create_dir(v.join("postgres")).unwrap();
                std::fs::write(v.join("postgres/x"), "x").unwrap();
            },
            |v| std::fs::write(v.join("postgres"), "a file").unwrap(),
            |v| std::os::unix::fs::symlink("/etc", v.join("postgres")).unwrap(),
            |v| {
                std::fs::create_dir(v.join("postgres")).unwrap();
                std::fs::write(v.join("postgres").join(SENTINEL), "{\"devrun\":1").unwrap();
            },
            |v| {
                std::fs::create_dir(v.join(".devrun-stage-0000")).unwrap();
                std::fs::write(v.join(".devrun-stage-0000/precious"), "x").unwrap();
            },
            |v| std::fs::write(v.join(".initialized"), "").unwrap(),
        ];
        for (index, make) in cases.iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let volume = volume(folder.path());
            // An own old stage must survive too, as the survey comes before any removal.
            drop(fresh(&volume));
            make(folder.path());
            let look = || {
                let mut all = Vec::new();
                for entry in walk(folder.path()) {
                    let metadata = std::fs::symlink_metadata(&entry).unwrap();
                    all.push((entry, metadata.modified().unwrap(), metadata.len()));
                }
                all
            };
            let before = look();
            let failure = open_volume(&volume, "postgres").unwrap_err();
            assert_eq!(failure.kind, FailureKind::Task, "case {index}");
            assert_eq!(failure.help.as_deref(), Some("devrun volumes adopt pg"), "case {index}");
            assert_eq!(before, look(), "case {index}: something was touched");
        }
    }

    fn walk(path: &Path) -> Vec<PathBuf> {
        let mut all = vec![path.to_owned()];
        if std::fs::symlink_metadata(path).unwrap().is_dir() {
            let mut entries: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            all.extend(entries.iter().flat_map(|entry| walk(entry)));
        }
        all
    }

    #[test]
    fn what_is_ours_or_the_file_systems_is_not_foreign() {
        let folder = tempfile::tempdir().unwrap();
        let volume = volume(folder.path());
        std::fs::create_dir(folder.path().join("lost+found")).unwrap();
        std::fs::create_dir(folder.path().join("postgres")).unwrap();
        let once = devrun_model::Once { volume: volume.name.clone(), name: ".initialized".to_owned() };
        super::super::begin_task(&volume, &once, "h").unwrap();
        let stage = fresh(&volume);
        build(&stage);
        stage.commit(&seal()).unwrap();
        // A record made for data that is gone does not speak of the new data.
        assert_eq!(super::super::task_status(&volume, &once, "h").unwrap(), super::super::TaskStatus::Fresh);
        // A second engine may live in the same volume.
        assert!(matches!(open_volume(&volume, "redis").unwrap(), VolumeState::Fresh(_)));
    }

    #[test]
    fn data_removed_by_hand_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let volume = volume(folder.path());
        let stage = fresh(&volume);
        build(&stage);
        stage.commit(&seal()).unwrap();
        let first = volume_id(&volume.path);
        std::fs::remove_dir_all(volume.path.join("postgres/data")).unwrap();
        let stage = fresh(&volume);
        assert_eq!(stage.warnings.len(), 1);
        build(&stage);
        stage.commit(&seal()).unwrap();
        assert_ne!(volume_id(&volume.path), first);
    }

    #[test]
    fn files_that_changed_are_named_where_it_is_known_which_they_were() {
        let files = |list: &[(&str, &str)]| list.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect();
        let mut sentinel = seal();
        let now = files(&[("a.sql", "1"), ("b.sql", "2"), ("d.sql", "1")]);
        assert!(sentinel.changed_files(&now).is_empty(), "made by an earlier version");
        sentinel.files = files(&[("a.sql", "1"), ("b.sql", "1"), ("c.sql", "1")]);
        assert_eq!(sentinel.changed_files(&now), ["b.sql", "c.sql", "d.sql"]);
    }

    #[test]
    fn another_process_that_won_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let volume = volume(folder.path());
        let stage = fresh(&volume);
        build(&stage);
        std::fs::create_dir(volume.path.join("postgres")).unwrap();
        std::fs::write(volume.path.join("postgres/x"), "x").unwrap();
        assert!(stage.commit(&seal()).is_err());
        assert_eq!(names(&volume.path.join("postgres")), ["x"]);
    }
}
