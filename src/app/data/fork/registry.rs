//! Which forks exist: one file each in `forks/` of the runtime directory, written before the database is made. Names of files
//! are unique, so that two callers never get the same logical database of a Redis.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use devrun_keeper::identity;
use devrun_model::keeper::Identity;
use devrun_model::{Failure, FailureKind, Paths};
use serde::{Deserialize, Serialize};

/// A database for one caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The server's service.
    pub service: String,
    /// The database's name, or number.
    pub database: String,
    /// Whose it is; it goes with that process.
    pub owner: Option<Identity>,
    /// Until when, in milliseconds of the Unix epoch.
    pub until_ms: Option<i64>,
    /// The command that is making it; absent once the database is complete. While that command runs the fork is not over: dropped
    /// before it exists, it would stay for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maker: Option<Identity>,
}

impl Fork {
    /// Whether the command that was making it was interrupted, or its caller has ended, or its time is up.
    #[must_use]
    pub fn is_over(&self, now_ms: i64) -> bool {
        if let Some(maker) = &self.maker {
            return !identity::holds(maker);
        }
        self.owner.as_ref().is_some_and(|owner| !identity::holds(owner)) || self.until_ms.is_some_and(|until| now_ms >= until)
    }
    fn file_name(&self) -> String {
        format!("{}+{}.json", self.service, self.database)
    }
}

fn text(fork: &Fork) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(fork).map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))
}

/// The forks of one stack.
pub struct ForkRegistry {
    folder: PathBuf,
}

impl ForkRegistry {
    /// Of the stack that runs.
    #[must_use]
    pub fn new(places: &Paths) -> Self {
        Self { folder: places.run.join("forks") }
    }

    fn failed(path: &Path, error: &std::io::Error) -> Failure {
        Failure::new(FailureKind::Task, format!("cannot write {}: {error}", path.display()))
    }

    fn make_folder(&self) -> Result<(), Failure> {
        devrun_runtime::runtime_dir::make_private(&self.folder, "runtime")
    }

    /// Adds one; false where its name is taken.
    ///
    /// # Errors
    /// As the file system says.
    pub fn add(&self, fork: &Fork) -> Result<bool, Failure> {
        self.make_folder()?;
        let path = self.folder.join(fork.file_name());
        let text = text(fork)?;
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => file.write_all(&text).map(|()| true).map_err(|error| Self::failed(&path, &error)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Self::failed(&path, &error)),
        }
    }

    /// Writes one again, complete: a reader sees the old text or the new one.
    ///
    /// # Errors
    /// As the file system says.
    pub fn replace(&self, fork: &Fork) -> Result<(), Failure> {
        let path = self.folder.join(fork.file_name());
        let part = path.with_extension("part");
        fs::write(&part, text(fork)?).and_then(|()| fs::rename(&part, &path)).map_err(|error| Self::failed(&path, &error))
    }

    /// Takes one out.
    ///
    /// # Errors
    /// As the file system says; one that is not there is no error.
    pub fn remove(&self, fork: &Fork) -> Result<(), Failure> {
        let path = self.folder.join(fork.file_name());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Self::failed(&path, &error)),
            _ => Ok(()),
        }
    }

    /// All of them. A file that is just being written is left out.
    #[must_use]
    pub fn list(&self) -> Vec<Fork> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut found: Vec<Fork> = entries
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
            .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok())
            .collect();
        found.sort_by(|one, other| (&one.service, &one.database).cmp(&(&other.service, &other.database)));
        found
    }

    /// Those that are over. What is found to be is read once more: a command that has completed its fork and ended between the first
    /// reading and the look at its process had written it again before.
    #[must_use]
    pub fn over(&self, now_ms: i64) -> Vec<Fork> {
        let name = Fork::file_name;
        let found: BTreeSet<String> = self.list().iter().filter(|fork| fork.is_over(now_ms)).map(name).collect();
        if found.is_empty() {
            return Vec::new();
        }
        self.list().into_iter().filter(|fork| found.contains(&name(fork)) && fork.is_over(now_ms)).collect()
    }

    /// The databases of all of them. Read twice: one reading can pass over the fork that is being replaced meanwhile.
    #[must_use]
    pub fn databases(&self) -> BTreeSet<String> {
        [self.list(), self.list()].into_iter().flatten().map(|fork| fork.database).collect()
    }

    /// Holds a file of this name; `None` where somebody else does.
    ///
    /// # Errors
    /// As the file system says.
    pub fn try_lock(&self, name: &str) -> Result<Option<File>, Failure> {
        let (path, file) = self.lock_file(name)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Self::failed(&path, &error.into())),
        }
    }

    /// Waits for it.
    ///
    /// # Errors
    /// As the file system says.
    pub fn lock(&self, name: &str) -> Result<File, Failure> {
        let (path, file) = self.lock_file(name)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| Self::failed(&path, &error.into()))?;
        Ok(file)
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File), Failure> {
        self.make_folder()?;
        let path = self.folder.join(format!("{name}.lock"));
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        file.map_err(|error| Self::failed(&path, &error)).map(|file| (path, file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fork(database: &str, owner: Option<Identity>, until_ms: Option<i64>) -> Fork {
        Fork { service: "pg".to_owned(), database: database.to_owned(), owner, until_ms, maker: None }
    }

    #[test]
    fn a_name_is_given_once_and_freed_again() {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let registry = ForkRegistry { folder: folder.path().join("forks") };
        let one = fork("1", None, None);
        assert_eq!(registry.add(&one), Ok(true));
        assert_eq!(registry.add(&one), Ok(false));
        assert_eq!(registry.list(), std::slice::from_ref(&one));
        let later = fork("1", None, Some(5));
        assert_eq!(registry.replace(&later), Ok(()));
        assert_eq!(registry.list(), std::slice::from_ref(&later));
        assert_eq!(registry.databases(), BTreeSet::from(["1".to_owned()]));
        assert_eq!(registry.over(4), []);
        assert_eq!(registry.over(5), [later]);
        assert_eq!(registry.remove(&one), Ok(()));
        assert_eq!(registry.remove(&one), Ok(()));
        assert_eq!(registry.add(&one), Ok(true));
        let held = registry.try_lock("reaper");
        assert!(matches!(held, Ok(Some(_))));
        assert!(matches!(registry.try_lock("reaper"), Ok(None)));
    }

    #[test]
    fn it_is_over_with_its_owner_or_its_time() {
        let own = identity::own();
        let gone = Identity { start: own.start + 1, ..own.clone() };
        let made_by = |maker: &Identity| Fork { maker: Some(maker.clone()), ..fork("1", None, Some(5)) };
        assert!(!made_by(&own).is_over(6));
        assert!(made_by(&gone).is_over(4));
        assert!(!fork("1", Some(own.clone()), None).is_over(5));
        assert!(fork("1", Some(gone), None).is_over(5));
        assert!(fork("1", Some(own), Some(5)).is_over(5));
        assert!(!fork("1", None, Some(6)).is_over(5));
        assert!(!fork("1", None, None).is_over(5));
    }
}
