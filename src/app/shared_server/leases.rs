//! Which checkouts use a shared server. A lease is a file with the path of the checkout's instance lock; it holds while that
//! lock is held, and while the command that starts the checkout holds the lease's own lock.

use std::fs::{self, File};
use std::io;
use std::os::fd::IntoRawFd as _;
use std::path::{Path, PathBuf};

use devrun_config::{Document, Facts};
use devrun_keeper::lock;
use devrun_model::Failure;
use devrun_runtime::runtime_dir;
use serde::{Deserialize, Serialize};

use super::location::{alone, directory};
use crate::app::project::Project;
use crate::app::user_state::unusable;

const LEASES: &str = "leases";
const DROPPED: &str = "dropped";

/// What a checkout has on a shared server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLease {
    /// The directory of the checkout.
    pub root: PathBuf,
    /// Its instance lock.
    pub lock: PathBuf,
    /// Its login.
    pub user: String,
    /// Its database.
    pub database: String,
}

/// Keeps the server up until the checkout's own supervisor does.
#[derive(Debug)]
#[must_use]
pub struct HeldLease {
    lock: File,
}

/// The file of a lease.
#[must_use]
pub fn file(directory: &Path, suffix: &str) -> PathBuf {
    directory.join(LEASES).join(format!("{suffix}.json"))
}

impl HeldLease {
    /// Keeps it until this process ends. A process that forks into a supervisor closes what it does not know there.
    pub fn keep(self) {
        let _open = self.lock.into_raw_fd();
    }
}

/// Registers a checkout.
///
/// # Errors
/// `Config`, naming the file.
pub fn hold(directory: &Path, suffix: &str, lease: &ServerLease) -> Result<HeldLease, Failure> {
    let _alone = alone(directory)?;
    runtime_dir::make_private(&directory.join(LEASES), "state")?;
    let path = directory.join(LEASES).join(format!("{suffix}.lock"));
    let held = lock::open(&path, true).map_err(|error| unusable(&path, &error))?;
    held.lock_shared().map_err(|error| unusable(&path, &error))?;
    let path = file(directory, suffix);
    let text = serde_json::to_vec_pretty(lease).map_err(|error| unusable(&path, &error.into()))?;
    runtime_dir::replace(&path, &text).map_err(|error| unusable(&path, &error))?;
    Ok(HeldLease { lock: held })
}

/// The roots of the checkouts that use the server now.
///
/// # Errors
/// `Config` for a file that cannot be read: then the server stays.
pub fn holders(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut holders = Vec::new();
    for path in files(&directory.join(LEASES))? {
        let Some(lease) = read(&path)? else { continue };
        let is_held = |path: &Path| match File::open(path) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Ok(false),
                Err(fs::TryLockError::WouldBlock) => Ok(true),
                Err(fs::TryLockError::Error(error)) => Err(unusable(path, &error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(unusable(path, &error)),
        };
        if is_held(&path.with_extension("lock"))? || lock::is_held(&lease.lock).map_err(|error| unusable(&lease.lock, &error))? {
            holders.push(lease.root);
        }
    }
    Ok(holders)
}

/// The leases of a project: service, and the file, which need not be there.
///
/// # Errors
/// `Config` without a home directory.
pub fn of_project(project: &Project, document: &Document, facts: &Facts) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut found = Vec::new();
    for scope in document.user_scopes() {
        if let Some(server) = facts.shared.get(&scope.service) {
            found.push((scope.service.clone(), file(&directory(&project.env, &scope)?, &server.suffix)));
        }
    }
    Ok(found)
}

/// Gives up the database of a checkout. It is dropped by the watch, or by the next start.
///
/// # Errors
/// `Config`, naming the file.
pub fn give_up(file: &Path) -> Result<(), Failure> {
    let Some(directory) = file.parent().and_then(Path::parent) else { return Ok(()) };
    let _alone = alone(directory)?;
    let dropped = directory.join(DROPPED);
    runtime_dir::make_private(&dropped, "state")?;
    let Some(name) = file.file_name() else { return Ok(()) };
    match fs::rename(file, dropped.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(file, &error)),
        _ => Ok(()),
    }
}

/// What has been given up and is still there, with its file, which is to be removed once it is gone.
///
/// # Errors
/// `Config`, naming the file.
pub fn given_up(directory: &Path) -> Result<Vec<(PathBuf, ServerLease)>, Failure> {
    let mut found = Vec::new();
    for path in files(&directory.join(DROPPED))? {
        if let Some(lease) = read(&path)? {
            found.push((path, lease));
        }
    }
    Ok(found)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(directory, &error)),
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    Ok(files)
}

/// `None`: it is gone by now.
fn read(path: &Path) -> Result<Option<ServerLease>, Failure> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unusable(path, &error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(root: &Path) -> ServerLease {
        ServerLease { root: root.to_owned(), lock: root.join("lock"), user: "app_1".to_owned(), database: "app_1".to_owned() }
    }

    #[test]
    fn a_lease_holds_with_its_command_and_with_the_instance_lock() {
        let directory = tempfile::tempdir().unwrap();
        let checkout = tempfile::tempdir().unwrap();
        let (server, root) = (directory.path().join("shared/postgres"), checkout.path());
        assert!(holders(&server).unwrap().is_empty());
        let held = hold(&server, "1", &lease(root)).unwrap();
        assert_eq!(holders(&server).unwrap(), [root]);
        // The same checkout, from two terminals.
        let second = hold(&server, "1", &lease(root)).unwrap();
        drop(held);
        assert_eq!(holders(&server).unwrap(), [root]);
        drop(second);
        assert!(holders(&server).unwrap().is_empty());
        let instance = lock::InstanceLock::take(&root.join("lock")).unwrap();
        assert_eq!(holders(&server).unwrap(), [root]);
        drop(instance);
        assert!(holders(&server).unwrap().is_empty());
    }

    #[test]
    fn what_is_given_up_is_listed_until_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let (server, root) = (directory.path().join("shared/postgres"), directory.path());
        drop(hold(&server, "1", &lease(root)).unwrap());
        give_up(&file(&server, "1")).unwrap();
        give_up(&file(&server, "1")).unwrap();
        let found = given_up(&server).unwrap();
        assert_eq!(found, [(server.join("dropped/1.json"), lease(root))]);
        assert!(!file(&server, "1").exists());
        // What cannot be read is an error, and no reason to stop the server.
        drop(hold(&server, "2", &lease(root)).unwrap());
        fs::write(file(&server, "2"), "{").unwrap();
        assert!(holders(&server).is_err());
    }
}
