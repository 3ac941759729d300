//! Replaces the contents of volumes, and the secrets they were made with, by staged ones: all of them or none.
//!
//! A volume may be a mount point, so its directory is never renamed: the new contents are staged inside it, and its entries
//! are moved. That takes several renames, so a record in the state directory makes them one step: it is written when every
//! stage is whole and synced, and removed when everything is in place. Killed before the record, nothing has happened and the
//! stages are litter; killed after it, [`PendingSwap::finish`] does the rest, before anything starts on the data. Every move can
//! be repeated. The old contents stay in the volume until they are dropped, and [`KeptData::undo`] puts them back the same way.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::durable::{failed, make_private, remove_tree, replace_durably, sync_directory, sync_file_system};
use crate::swap_record::{RECORD, Record, check_directory, exists, read, write};
use devrun_model::{Failure, FailureKind};

/// What it becomes when the new data are in place and the old ones are still kept.
const KEPT: &str = "restored.json";
/// The new contents, whole.
const NEW: &str = ".devrun-restore-new";
/// The new contents on their way; the old ones are out.
const MOVING: &str = ".devrun-restore-in";
/// The old contents.
const OLD: &str = ".devrun-restore-old";
/// What an undo takes out again.
const UNDONE: &str = ".devrun-restore-undone";
const OWN: &[&str] = &[NEW, MOVING, OLD, UNDONE];

const NEW_SECRETS: &str = "restore-secrets";
const OLD_SECRETS: &str = "restore-secrets-old";

/// New contents of volumes that are being staged. Dropped without [`SwapStage::commit`] they are removed.
#[derive(Debug)]
pub struct SwapStage {
    state: PathBuf,
    record: Record,
    committed: bool,
}

impl SwapStage {
    /// Begins; what a killed command has staged is removed, and old data that were still kept are given up.
    ///
    /// # Errors
    /// As the file system says.
    pub fn new(state: &Path, what: &str) -> Result<Self, Failure> {
        if let Some(kept) = KeptData::find(state)? {
            kept.drop_old()?;
        }
        remove_tree(&state.join(NEW_SECRETS))?;
        let own = state.canonicalize().map_err(|error| failed("read", state, &error))?;
        let record = Record {
            what: what.to_owned(),
            state: Some(own),
            volumes: Vec::new(),
            secrets_dir: None,
            secrets: Vec::new(),
            undo: false,
        };
        Ok(Self { state: state.to_owned(), record, committed: false })
    }

    /// Adds a volume; returns the directory that is to be made and filled with its new contents. `like`: a directory whose
    /// mode and owner a volume gets that does not exist yet.
    ///
    /// # Errors
    /// As the file system says; `Task` where another kind of file, or a link, is in its place.
    pub fn add_volume(&mut self, volume: &Path, like: Option<&Path>) -> Result<PathBuf, Failure> {
        if exists(volume) {
            check_directory(volume)?;
        } else {
            make_private(volume)?;
            if let Some(metadata) = like.and_then(|like| std::fs::metadata(like).ok()) {
                if rustix::process::geteuid().is_root() {
                    std::os::unix::fs::chown(volume, Some(metadata.uid()), Some(metadata.gid()))
                        .map_err(|error| failed("set the owner of", volume, &error))?;
                }
                std::fs::set_permissions(volume, std::fs::Permissions::from_mode(metadata.mode() & 0o7777))
                    .map_err(|error| failed("set the mode of", volume, &error))?;
            }
        }
        for name in [NEW, OLD, UNDONE] {
            remove_tree(&volume.join(name))?;
        }
        self.record.volumes.push(volume.to_owned());
        Ok(volume.join(NEW))
    }

    /// Adds secrets.
    ///
    /// # Errors
    /// As the file system says.
    pub fn add_secrets(&mut self, directory: &Path, secrets: &[(String, Vec<u8>)]) -> Result<(), Failure> {
        if secrets.is_empty() {
            return Ok(());
        }
        let stage = self.state.join(NEW_SECRETS);
        make_private(&stage)?;
        for (name, value) in secrets {
            replace_durably(&stage.join(name), value)?;
            self.record.secrets.push(name.clone());
        }
        self.record.secrets_dir = Some(directory.to_owned());
        Ok(())
    }

    /// From here on the new data count. Puts them in place.
    ///
    /// # Errors
    /// As the file system says. Where the record could not be written, nothing has happened; where a move failed, the next
    /// [`PendingSwap::finish`] tries again.
    pub fn commit(mut self) -> Result<KeptData, Failure> {
        for volume in &self.record.volumes {
            sync_file_system(volume)?;
        }
        write(&self.state, RECORD, &self.record)?;
        self.committed = true;
        PendingSwap { state: self.state.clone(), record: self.record.clone() }.finish()
    }
}

impl Drop for SwapStage {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        // What stays is removed by the next restore of the same volume.
        for volume in &self.record.volumes {
            let _ = remove_tree(&volume.join(NEW));
        }
        let _ = remove_tree(&self.state.join(NEW_SECRETS));
    }
}

/// A swap that was begun and not finished.
#[derive(Debug)]
pub struct PendingSwap {
    state: PathBuf,
    record: Record,
}

impl PendingSwap {
    /// Looks for one.
    ///
    /// # Errors
    /// `Integrity` for a record that cannot be read.
    pub fn find(state: &Path) -> Result<Option<Self>, Failure> {
        Ok(read(state, RECORD)?.map(|record| Self { state: state.to_owned(), record }))
    }

    /// What is put in place, in words.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.record.what
    }

    /// Does what is left to do. Nothing may be running on the data.
    ///
    /// # Errors
    /// As the file system says; it can be called again. `Integrity` where the data are not where the record says, and nothing is done.
    pub fn finish(self) -> Result<KeptData, Failure> {
        let away = |reason: String| {
            Failure::new(FailureKind::Integrity, format!("the restore of {} was interrupted, and {reason}", self.record.what))
                .help(format!(
                    "put the project, or the volume, back where it was and run the command again; or give up the data: rm {}",
                    self.state.join(RECORD).display()
                ))
        };
        for volume in &self.record.volumes {
            check_directory(volume).map_err(|failure| away(failure.reason))?;
        }
        for volume in &self.record.volumes {
            swap(volume, self.record.undo)?;
        }
        if let Some(directory) = &self.record.secrets_dir {
            swap_secrets(&self.state, directory, &self.record)?;
        }
        write(&self.state, KEPT, &self.record)?;
        let path = self.state.join(RECORD);
        std::fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
        sync_directory(&self.state)?;
        Ok(KeptData { state: self.state, record: self.record })
    }
}

/// The data that were in place before the last swap.
#[derive(Debug)]
pub struct KeptData {
    state: PathBuf,
    record: Record,
}

impl KeptData {
    /// Looks for them.
    ///
    /// # Errors
    /// `Integrity` for a record that cannot be read.
    pub fn find(state: &Path) -> Result<Option<Self>, Failure> {
        Ok(read(state, KEPT)?.map(|record| Self { state: state.to_owned(), record }))
    }

    /// What took their place, in words.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.record.what
    }

    /// Puts them back. Nothing may be running on the data.
    ///
    /// # Errors
    /// As the file system says; `Config` for what an undo has put back already.
    pub fn undo(self) -> Result<(), Failure> {
        if self.record.undo {
            return Err(Failure::new(FailureKind::Config, "the data from before the restore are in place already"));
        }
        let record = Record { undo: true, ..self.record };
        write(&self.state, RECORD, &record)?;
        PendingSwap { state: self.state, record }.finish()?.drop_old()
    }

    /// Gives them up.
    ///
    /// # Errors
    /// As the file system says; it can be called again.
    pub fn drop_old(self) -> Result<(), Failure> {
        for volume in &self.record.volumes {
            for name in [OLD, UNDONE] {
                remove_tree(&volume.join(name))?;
            }
        }
        remove_tree(&self.state.join(OLD_SECRETS))?;
        remove_tree(&self.state.join(NEW_SECRETS))?;
        remove_tree(&self.state.join(KEPT))
    }
}

/// One volume: the old entries out, then the new ones in. Whatever of it was done before is not done twice.
fn swap(volume: &Path, undo: bool) -> Result<(), Failure> {
    let (new, moving) = (volume.join(NEW), volume.join(MOVING));
    let out = volume.join(if undo { UNDONE } else { OLD });
    if undo && exists(&volume.join(OLD)) {
        rename(&volume.join(OLD), &new)?;
    }
    if exists(&new) {
        make_private(&out)?;
        for entry in std::fs::read_dir(volume).map_err(|error| failed("read", volume, &error))? {
            let entry = entry.map_err(|error| failed("read", volume, &error))?;
            let name = entry.file_name();
            if name == "lost+found" || OWN.iter().any(|own| name == *own) {
                continue;
            }
            rename(&entry.path(), &out.join(&name))?;
        }
        sync_directory(&out)?;
        rename(&new, &moving)?;
        sync_directory(volume)?;
    }
    if exists(&moving) {
        for entry in std::fs::read_dir(&moving).map_err(|error| failed("read", &moving, &error))? {
            let entry = entry.map_err(|error| failed("read", &moving, &error))?;
            rename(&entry.path(), &volume.join(entry.file_name()))?;
        }
        std::fs::remove_dir(&moving).map_err(|error| failed("remove", &moving, &error))?;
        sync_directory(volume)?;
    }
    Ok(())
}

fn swap_secrets(state: &Path, directory: &Path, record: &Record) -> Result<(), Failure> {
    let (new, old) = (state.join(NEW_SECRETS), state.join(OLD_SECRETS));
    if record.undo && exists(&old) {
        remove_tree(&new)?;
        rename(&old, &new)?;
    }
    if !exists(&new) {
        return Ok(());
    }
    if !directory.exists() {
        make_private(directory)?;
        // As every directory of secrets: it is not for the repository.
        replace_durably(&directory.join(".gitignore"), b"*\n")?;
    }
    if !record.undo {
        make_private(&old)?;
    }
    for name in &record.secrets {
        let (staged, target, before) = (new.join(name), directory.join(name), old.join(name));
        let value = match std::fs::read(&staged) {
            Ok(value) => value,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("read", &staged, &error)),
        };
        if !record.undo && !exists(&before) {
            match std::fs::read(&target) {
                Ok(value) => replace_durably(&before, &value)?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed("read", &target, &error)),
            }
        }
        replace_durably(&target, &value)?;
        std::fs::remove_file(&staged).map_err(|error| failed("remove", &staged, &error))?;
    }
    remove_tree(&new)
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::rename(from, to).map_err(|error| {
        let failure = failed("move", from, &error);
        if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EXDEV)) {
            return failure.help("something is mounted inside the volume: unmount it, then run the command again");
        }
        failure
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let world = Self { folder: tempfile::tempdir().unwrap() };
            for volume in ["pg", "s3"] {
                std::fs::create_dir_all(world.volume(volume).join("engine")).unwrap();
                std::fs::write(world.volume(volume).join("engine/data"), format!("old {volume}")).unwrap();
            }
            std::fs::create_dir_all(world.path("state")).unwrap();
            std::fs::create_dir_all(world.path("secrets")).unwrap();
            std::fs::write(world.path("secrets/db"), "old").unwrap();
            world
        }
        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }
        fn volume(&self, name: &str) -> PathBuf {
            self.path("volumes").join(name)
        }
        fn staged(&self) -> SwapStage {
            let mut stage = SwapStage::new(&self.path("state"), "snapshot x").unwrap();
            for volume in ["pg", "s3"] {
                let new = stage.add_volume(&self.volume(volume), None).unwrap();
                std::fs::create_dir_all(new.join("engine")).unwrap();
                std::fs::write(new.join("engine/data"), format!("new {volume}")).unwrap();
                std::fs::write(new.join("more"), "").unwrap();
            }
            stage.add_secrets(&self.path("secrets"), &[("db".to_owned(), b"new".to_vec())]).unwrap();
            stage
        }
        /// `old` or `new`, whole.
        #[track_caller]
        fn holds(&self, what: &str) {
            for volume in ["pg", "s3"] {
                let text = std::fs::read_to_string(self.volume(volume).join("engine/data")).unwrap();
                assert_eq!(text, format!("{what} {volume}"));
                assert_eq!(self.volume(volume).join("more").exists(), what == "new");
            }
            assert_eq!(std::fs::read_to_string(self.path("secrets/db")).unwrap(), what);
        }
        #[track_caller]
        fn has_no_litter(&self) {
            for volume in ["pg", "s3"] {
                for entry in std::fs::read_dir(self.volume(volume)).unwrap() {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    assert!(!name.starts_with('.'), "{volume}/{name}");
                }
            }
            assert_eq!(std::fs::read_dir(self.path("state")).unwrap().count(), 0);
        }
    }

    #[test]
    fn new_data_take_the_place_and_the_old_ones_are_kept_until_they_are_dropped() {
        let world = World::new();
        let kept = world.staged().commit().unwrap();
        world.holds("new");
        assert!(world.volume("pg").join(OLD).join("engine/data").exists());
        kept.drop_old().unwrap();
        world.holds("new");
        world.has_no_litter();
    }

    #[test]
    fn an_undo_brings_everything_back() {
        let world = World::new();
        let kept = world.staged().commit().unwrap();
        kept.undo().unwrap();
        world.holds("old");
        world.has_no_litter();
        // And it can be done once more.
        world.staged().commit().unwrap().drop_old().unwrap();
        world.holds("new");
    }

    #[test]
    fn a_stage_that_is_not_committed_changes_nothing() {
        let world = World::new();
        drop(world.staged());
        world.holds("old");
        world.has_no_litter();
        // Killed: no destructor ran. The next stage clears it away.
        std::mem::forget(world.staged());
        world.holds("old");
        drop(world.staged());
        world.has_no_litter();
    }

    /// A rename of a directory without the right to write to it fails, which stands for a kill at that very moment.
    #[test]
    fn interrupted_between_any_two_moves_it_is_finished_later() {
        for undo in [false, true] {
            for at in 0..2 {
                for phase in 0..4 {
                    let world = World::new();
                    let mut stage = world.staged();
                    if undo {
                        stage.commit().unwrap();
                        let kept = KeptData::find(&world.path("state")).unwrap().unwrap();
                        let record = Record { undo: true, ..kept.record };
                        write(&world.path("state"), RECORD, &record).unwrap();
                    } else {
                        write(&world.path("state"), RECORD, &stage.record).unwrap();
                        stage.committed = true;
                        drop(stage);
                    }
                    // The volumes before `at` are through; in this one `phase` moves were made.
                    for (index, volume) in ["pg", "s3"].into_iter().enumerate() {
                        let volume = world.volume(volume);
                        if index < at {
                            swap(&volume, undo).unwrap();
                        }
                        if index == at && phase > 0 {
                            let out = volume.join(if undo { UNDONE } else { OLD });
                            if undo {
                                rename(&volume.join(OLD), &volume.join(NEW)).unwrap();
                            }
                            make_private(&out).unwrap();
                            rename(&volume.join("engine"), &out.join("engine")).unwrap();
                            if phase > 1 {
                                if undo {
                                    rename(&volume.join("more"), &out.join("more")).unwrap();
                                }
                                rename(&volume.join(NEW), &volume.join(MOVING)).unwrap();
                            }
                            if phase > 2 {
                                rename(&volume.join(MOVING).join("engine"), &volume.join("engine")).unwrap();
                            }
                        }
                    }
                    let pending = PendingSwap::find(&world.path("state")).unwrap().unwrap();
                    assert_eq!(pending.what(), "snapshot x");
                    let kept = pending.finish().unwrap();
                    world.holds(if undo { "old" } else { "new" });
                    assert!(PendingSwap::find(&world.path("state")).unwrap().is_none());
                    if undo {
                        kept.drop_old().unwrap();
                        world.has_no_litter();
                    } else {
                        kept.undo().unwrap();
                        world.holds("old");
                        world.has_no_litter();
                    }
                }
            }
        }
    }

    /// A record that was written and not carried out.
    fn interrupted(world: &World) {
        let mut stage = world.staged();
        write(&world.path("state"), RECORD, &stage.record).unwrap();
        stage.committed = true;
    }

    #[test]
    fn a_project_that_was_moved_or_copied_finishes_its_own_data() {
        for is_copy in [false, true] {
            let world = World::new();
            interrupted(&world);
            let other = tempfile::tempdir().unwrap();
            let there = other.path().join("there");
            let copied = std::process::Command::new("cp").arg("-a").arg(world.folder.path()).arg(&there).status().unwrap();
            assert!(copied.success());
            if !is_copy {
                std::fs::remove_dir_all(world.folder.path()).unwrap();
            }
            PendingSwap::find(&there.join("state")).unwrap().unwrap().finish().unwrap();
            let text = |root: &Path| std::fs::read_to_string(root.join("volumes/pg/engine/data")).unwrap();
            assert_eq!(text(&there), "new pg");
            assert_eq!(std::fs::read_to_string(there.join("secrets/db")).unwrap(), "new");
            if is_copy {
                world.holds("old");
            }
        }
    }

    #[test]
    fn data_that_are_not_where_the_record_says_are_no_finished_restore() {
        let world = World::new();
        interrupted(&world);
        std::fs::rename(world.path("volumes"), world.path("elsewhere")).unwrap();
        let failure = PendingSwap::find(&world.path("state")).unwrap().unwrap().finish().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Integrity);
        assert!(PendingSwap::find(&world.path("state")).unwrap().is_some(), "it can be finished later");
        std::fs::rename(world.path("elsewhere"), world.path("volumes")).unwrap();
        PendingSwap::find(&world.path("state")).unwrap().unwrap().finish().unwrap();
        world.holds("new");
    }

    #[test]
    fn a_copy_leaves_a_volume_elsewhere_to_the_first_project() {
        let (world, first) = (World::new(), World::new());
        let mut stage = SwapStage::new(&first.path("state"), "snapshot x").unwrap();
        std::fs::create_dir_all(stage.add_volume(&world.volume("pg"), None).unwrap().join("engine")).unwrap();
        write(&first.path("state"), RECORD, &stage.record).unwrap();
        stage.committed = true;
        let copy = World::new();
        std::fs::copy(first.path("state").join(RECORD), copy.path("state").join(RECORD)).unwrap();
        let failure = PendingSwap::find(&copy.path("state")).unwrap_err();
        assert!(failure.kind == FailureKind::Integrity && failure.reason.contains("not this copy's"), "{}", failure.reason);
        world.holds("old");
    }

    #[test]
    fn nothing_is_put_behind_a_link() {
        let world = World::new();
        std::fs::rename(world.volume("pg"), world.path("precious")).unwrap();
        std::os::unix::fs::symlink(world.path("precious"), world.volume("pg")).unwrap();
        let mut stage = SwapStage::new(&world.path("state"), "x").unwrap();
        let failure = stage.add_volume(&world.volume("pg"), None).unwrap_err();
        assert!(failure.reason.ends_with("is a link, not a directory"), "{}", failure.reason);
        // Nor where it became one after the record was written.
        std::fs::remove_file(world.volume("pg")).unwrap();
        std::fs::rename(world.path("precious"), world.volume("pg")).unwrap();
        drop(stage);
        interrupted(&world);
        std::fs::rename(world.volume("pg"), world.path("precious")).unwrap();
        std::os::unix::fs::symlink(world.path("precious"), world.volume("pg")).unwrap();
        assert!(PendingSwap::find(&world.path("state")).unwrap().unwrap().finish().is_err());
        assert_eq!(std::fs::read_to_string(world.path("precious/engine/data")).unwrap(), "old pg");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_an_integrity_failure() {
        let world = World::new();
        std::fs::write(world.path("state").join(RECORD), "{").unwrap();
        assert_eq!(PendingSwap::find(&world.path("state")).unwrap_err().kind, FailureKind::Integrity);
    }

    #[test]
    fn a_volume_that_is_gone_is_made_like_the_staged_one() {
        let world = World::new();
        std::fs::remove_dir_all(world.path("volumes")).unwrap();
        let like = world.path("like");
        std::fs::create_dir(&like).unwrap();
        std::fs::set_permissions(&like, std::fs::Permissions::from_mode(0o711)).unwrap();
        let mut stage = SwapStage::new(&world.path("state"), "x").unwrap();
        let new = stage.add_volume(&world.volume("pg"), Some(&like)).unwrap();
        std::fs::create_dir(&new).unwrap();
        std::fs::write(new.join("f"), "1").unwrap();
        stage.commit().unwrap().drop_old().unwrap();
        assert_eq!(std::fs::read_to_string(world.volume("pg").join("f")).unwrap(), "1");
        assert_eq!(std::fs::metadata(world.volume("pg")).unwrap().mode() & 0o777, 0o711);
    }
}
