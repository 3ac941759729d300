//! Taking over a data folder that something else has made: its content moves to where the engine expects it, and a
//! sentinel vouches for it from then on.
//!
//! Everything is a rename within the volume, which may be a mount point and stays where it is. Killed half-way, the same
//! call goes on where it ended, as what is on its way lies in a folder of a name of ours.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::durable::{failed, sync_folder, write_durably};
use super::staging::{SENTINEL, Sentinel, sentinel};
use devrun_model::{Failure, FailureKind, VolumeSpec};

const MOVING: &str = ".devrun-adopt";

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adoption {
    /// It is ours already.
    Ours,
    /// It was taken over: where it lay.
    From(PathBuf),
}

/// Takes the data in a volume over for `recipe`. `is_data` knows the engine's data folder by its look; `check` refuses
/// what cannot be used, and answers with the version that made it. `secrets`: the attributes the data was made with.
///
/// # Errors
/// `Task` for a volume without such data, what `check` says, and when something cannot be moved; nothing has been then.
pub fn adopt(
    volume: &VolumeSpec,
    recipe: &str,
    secrets: &[&str],
    is_data: impl Fn(&Path) -> bool,
    check: impl Fn(&Path) -> Result<String, Failure>,
) -> Result<Adoption, Failure> {
    let root = &volume.path;
    let (engine, moving) = (root.join(recipe), root.join(MOVING));
    let data = engine.join("data");
    if sentinel(root, recipe).is_some() && data.is_dir() {
        return Ok(Adoption::Ours);
    }
    let places = [data.clone(), root.join("data"), root.join("pgdata"), moving.clone(), root.clone()];
    let Some(found) = places.into_iter().find(|folder| is_data(folder)) else {
        return Err(Failure::new(FailureKind::Task, format!("{} holds no data of {recipe}", root.display())).help(format!(
            "put the engine's data directory there as it is, or set its path: [volumes] {} = {{ path = \"…\" }}",
            volume.name
        )));
    };
    owned(&found)?;
    let version = check(&found)?;
    if found == *root || moving.exists() {
        gather(root, &moving, recipe)?;
    }
    if !engine.exists() {
        std::fs::DirBuilder::new().mode(0o700).create(&engine).map_err(|error| failed("make", &engine, error))?;
    }
    let from = if moving.exists() { moving } else { found.clone() };
    if from != data {
        std::fs::rename(&from, &data).map_err(|error| failed("move", &from, error))?;
    }
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).map_err(|error| failed("close", &data, error))?;
    sync_folder(&engine)?;
    sync_folder(root)?;
    let mut sentinel = Sentinel::new(&format!("{recipe}/adopted"), String::new(), &version, Duration::ZERO)?;
    sentinel.secrets = secrets.iter().map(|name| (*name).to_owned()).collect();
    let text = serde_json::to_vec(&sentinel).map_err(|error| failed("write", &engine, error))?;
    write_durably(&engine, SENTINEL, &text)?;
    Ok(Adoption::From(found))
}

/// The volume's own content, into one folder beside it.
fn gather(root: &Path, moving: &Path, recipe: &str) -> Result<(), Failure> {
    match std::fs::DirBuilder::new().mode(0o700).create(moving) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("make", moving, error)),
        _ => {}
    }
    for entry in std::fs::read_dir(root).map_err(|error| failed("read", root, error))? {
        let entry = entry.map_err(|error| failed("read", root, error))?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text == "lost+found" || text.starts_with(".devrun-") || (text == *recipe && sentinel(root, recipe).is_some()) {
            continue;
        }
        std::fs::rename(entry.path(), moving.join(&name)).map_err(|error| failed("move", &entry.path(), error))?;
    }
    Ok(())
}

/// An engine that cannot write to its files ends in the middle of its start.
fn owned(folder: &Path) -> Result<(), Failure> {
    let us = nix::unistd::geteuid();
    let meta = std::fs::metadata(folder).map_err(|error| failed("read", folder, error))?;
    if meta.uid() != us.as_raw() && !us.is_root() {
        return Err(Failure::new(FailureKind::Task, format!("{} belongs to uid {}, not to us", folder.display(), meta.uid()))
            .help(format!("sudo chown -R {us} '{}'", folder.display())));
    }
    if meta.uid() != us.as_raw() {
        chown(folder, us.as_raw(), nix::unistd::getegid().as_raw())?;
    }
    Ok(())
}

/// As root: an engine in a user namespace sees only root's files as its own.
fn chown(path: &Path, uid: u32, gid: u32) -> Result<(), Failure> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(|error| failed("own", path, error))?;
    if std::fs::symlink_metadata(path).map_err(|error| failed("read", path, error))?.is_dir() {
        for entry in std::fs::read_dir(path).map_err(|error| failed("read", path, error))? {
            chown(&entry.map_err(|error| failed("read", path, error))?.path(), uid, gid)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::{VolumeClass, VolumeName};

    fn volume(path: &Path) -> VolumeSpec {
        VolumeSpec { name: VolumeName::new("v").unwrap(), class: VolumeClass::Persistent, path: path.to_owned(), placed: true }
    }

    fn take(path: &Path) -> Result<Adoption, Failure> {
        adopt(&volume(path), "redis", &[], |folder| folder.join("dump.rdb").is_file(), |_| Ok("7".to_owned()))
    }

    #[test]
    fn wherever_it_lies_it_ends_up_in_one_place() {
        for below in ["", "data", "redis/data"] {
            let folder = tempfile::tempdir().unwrap();
            let place = folder.path().join(below);
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("dump.rdb"), "REDIS").unwrap();
            std::fs::create_dir_all(place.join("appendonlydir")).unwrap();
            assert_eq!(take(folder.path()).unwrap(), Adoption::From(place.clone()), "{below:?}");
            assert_eq!(std::fs::read_to_string(folder.path().join("redis/data/dump.rdb")).unwrap(), "REDIS");
            assert!(folder.path().join("redis/data/appendonlydir").is_dir());
            assert!(!folder.path().join(MOVING).exists());
            assert_eq!(take(folder.path()).unwrap(), Adoption::Ours);
        }
    }

    #[test]
    fn a_move_that_was_cut_short_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(MOVING)).unwrap();
        std::fs::write(folder.path().join(MOVING).join("dump.rdb"), "REDIS").unwrap();
        std::fs::write(folder.path().join("more"), "x").unwrap();
        take(folder.path()).unwrap();
        assert!(folder.path().join("redis/data/dump.rdb").is_file() && folder.path().join("redis/data/more").is_file());
    }

    #[test]
    fn what_is_no_data_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("photo.jpg"), "x").unwrap();
        assert_eq!(take(folder.path()).unwrap_err().kind, FailureKind::Task);
        std::fs::write(folder.path().join("dump.rdb"), "x").unwrap();
        let is_data = |folder: &Path| folder.join("dump.rdb").is_file();
        let refused = adopt(&volume(folder.path()), "redis", &[], is_data, |_| Err(Failure::new(FailureKind::Binary, "no")));
        assert_eq!(refused.unwrap_err().kind, FailureKind::Binary);
        assert!(folder.path().join("dump.rdb").is_file() && folder.path().join("photo.jpg").is_file());
        assert!(!folder.path().join("redis").exists() && !folder.path().join(MOVING).exists());
    }
}
