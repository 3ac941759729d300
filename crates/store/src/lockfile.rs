//! `devrun.lock`: what was fetched, pinned by size and sha256.
//!
//! Owns the file's format and how it changes: the first fetch adds an entry, an entry that is there changes only by an
//! update that somebody asked for. It is written whole and renamed into place; two writers at once take turns on a lock of
//! its folder and read again before they write, so neither loses the other's entry.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::trusted_file;
use devrun_model::{Failure, FailureKind};

use super::pin::Pin;

const HEAD: &str =
    "# What devrun fetched, pinned by size and sha256. Commit it. Entries change only by `devrun lock --update`.\n";

/// One pinned artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockEntry {
    /// The recipe.
    pub name: String,
    /// The version.
    pub version: String,
    /// The platform.
    pub platform: String,
    /// Where it came from.
    pub source: String,
    /// Bytes.
    pub size: u64,
    /// Hexadecimal.
    pub sha256: String,
}

impl LockEntry {
    /// Its pin.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin { size: self.size, sha256: self.sha256.clone() }
    }
    fn is_of(&self, other: &Self) -> bool {
        self.name == other.name && self.version == other.version && self.platform == other.platform && self.source == other.source
    }
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    /// The format.
    version: u32,
    /// Entries, sorted.
    #[serde(default, rename = "binary", skip_serializing_if = "Vec::is_empty")]
    entries: Vec<LockEntry>,
}

impl LockFile {
    /// Reads the file; an absent one is empty.
    ///
    /// # Errors
    /// `Integrity` when it cannot be understood: going on without pins would be going on unchecked.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = trusted_file::read_untrusted(path).map_err(|failure| Failure { kind: FailureKind::Integrity, ..failure })?;
        let Some(text) = text else { return Ok(Self { version: 1, entries: Vec::new() }) };
        let refuse = |why: String| {
            Failure::new(FailureKind::Integrity, format!("{} cannot be understood: {why}", path.display()))
                .help("restore it from version control, or delete it and run `devrun lock`")
        };
        let lock: Self = toml::from_str(&text).map_err(|error| refuse(error.message().to_owned()))?;
        if lock.version != 1 {
            return Err(refuse(format!("its format is {}, this devrun knows 1", lock.version)));
        }
        for entry in &lock.entries {
            if entry.sha256.len() != 64 || !entry.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(refuse(format!("the sha256 of {} {} is none", entry.name, entry.version)));
            }
        }
        Ok(lock)
    }

    /// All entries.
    #[must_use]
    pub fn entries(&self) -> &[LockEntry] {
        &self.entries
    }

    /// The pinned entries of a recipe on a platform, newest first.
    #[must_use]
    pub fn of(&self, name: &str, platform: &str) -> Vec<&LockEntry> {
        let mut found: Vec<&LockEntry> =
            self.entries.iter().filter(|entry| entry.name == name && entry.platform == platform).collect();
        found.sort_by(|a, b| super::version::compare(&b.version, &a.version));
        found
    }

    /// Adds what is missing. An entry that is there stays as it is.
    ///
    /// # Errors
    /// `Integrity` when an entry is there with another pin, `Config` when the file cannot be written.
    pub fn add(path: &Path, entry: &LockEntry) -> Result<(), Failure> {
        change(path, |lock| {
            if let Some(known) = lock.entries.iter().find(|known| known.is_of(entry)) {
                return match known.pin().differs(&entry.pin()) {
                    None => Ok(false),
                    Some(how) => Err(mismatch(entry, &how)),
                };
            }
            lock.entries.push(entry.clone());
            Ok(true)
        })
    }

    /// Puts this entry in the place of the one that the same use of the recipe had before; those of other uses stay.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn replace(path: &Path, entry: &LockEntry, before: impl FnOnce(&Self) -> Option<LockEntry>) -> Result<(), Failure> {
        change(path, |lock| {
            let old = lock.entries.clone();
            let replaced = before(lock);
            lock.entries.retain(|known| Some(known) != replaced.as_ref() && !known.is_of(entry));
            lock.entries.push(entry.clone());
            lock.sort();
            Ok(lock.entries != old)
        })
    }

    fn sort(&mut self) {
        self.entries.sort_by(|a, b| {
            (&a.name, &a.platform).cmp(&(&b.name, &b.platform)).then_with(|| super::version::compare(&a.version, &b.version))
        });
    }
}

/// A pin that does not hold.
#[must_use]
pub fn mismatch(entry: &LockEntry, how: &str) -> Failure {
    Failure::new(
        FailureKind::Integrity,
        format!("{} {} from {} is not what is pinned: {how}", entry.name, entry.version, entry.source),
    )
    .help(format!("if the publisher replaced it on purpose, run `devrun lock --update {}`; else do not use it", entry.name))
}

fn change(path: &Path, edit: impl FnOnce(&mut LockFile) -> Result<bool, Failure>) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| {
        Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display()))
            .help("make its directory writable, or run the command where it is")
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned);
    // The folder itself is locked: a lock file of its own would be one more thing to ignore in git.
    let guard = File::open(&folder).map_err(|error| failed(&error))?;
    guard.lock().map_err(|error| failed(&error))?;
    let mut lock = LockFile::read(path)?;
    if !edit(&mut lock)? {
        return Ok(());
    }
    lock.sort();
    let text = toml::to_string(&lock)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("{} cannot be rendered: {error}", path.display())))?;
    let mut file = tempfile::Builder::new().prefix(".devrun.lock-").tempfile_in(&folder).map_err(|error| failed(&error))?;
    file.write_all(HEAD.as_bytes()).and_then(|()| file.write_all(text.as_bytes())).map_err(|error| failed(&error))?;
    let mode = std::fs::metadata(path).map_or(0o644, |meta| std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777);
    file.as_file()
        .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
        .and_then(|()| file.as_file().sync_all())
        .map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error.error))?;
    guard.sync_all().map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: &str, fill: char) -> LockEntry {
        LockEntry {
            name: "redis".to_owned(),
            version: version.to_owned(),
            platform: "linux-x86_64".to_owned(),
            source: "pypi x==1".to_owned(),
            size: 3,
            sha256: fill.to_string().repeat(64),
        }
    }

    #[test]
    fn an_entry_is_added_once_and_never_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devrun.lock");
        LockFile::add(&path, &entry("6.2.5", 'a')).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# What devrun fetched"), "{text}");
        LockFile::add(&path, &entry("6.2.5", 'a')).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        let refused = LockFile::add(&path, &entry("6.2.5", 'b')).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Integrity);
        assert!(refused.help.unwrap().contains("devrun lock --update redis"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn an_update_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devrun.lock");
        LockFile::add(&path, &entry("6.2.5", 'a')).unwrap();
        let mut other = entry("6.2.5", 'c');
        other.name = "nginx".to_owned();
        LockFile::add(&path, &other).unwrap();
        LockFile::replace(&path, &entry("6.2.14", 'b'), |lock| lock.of("redis", "linux-x86_64").first().copied().cloned())
            .unwrap();
        let lock = LockFile::read(&path).unwrap();
        assert_eq!(lock.of("redis", "linux-x86_64"), [&entry("6.2.14", 'b')]);
        assert_eq!(lock.entries().len(), 2);
        // Another use of the same recipe keeps its own.
        LockFile::replace(&path, &entry("7.0.1", 'd'), |_| None).unwrap();
        assert_eq!(LockFile::read(&path).unwrap().of("redis", "linux-x86_64").len(), 2);
    }

    #[test]
    fn two_sources_of_one_version_have_an_entry_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devrun.lock");
        LockFile::add(&path, &entry("16.14", 'a')).unwrap();
        let other = LockEntry { source: "npm y@1".to_owned(), ..entry("16.14", 'b') };
        LockFile::add(&path, &other).unwrap();
        LockFile::add(&path, &other).unwrap();
        assert_eq!(LockFile::read(&path).unwrap().entries().len(), 2);
        assert!(LockFile::add(&path, &LockEntry { sha256: "c".repeat(64), ..other }).is_err());
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devrun.lock");
        let short = "version = 1\n[[binary]]\nname = \"x\"\nversion = \"1\"\nplatform = \"p\"\nsource = \"s\"\nsize = 1\nsha256 = \"ab\"\n";
        for text in ["version = 2", "garbage", "version = 1\nwhat = 1", short] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(LockFile::read(&path).unwrap_err().kind, FailureKind::Integrity, "{text}");
            assert!(LockFile::add(&path, &entry("1", 'a')).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "it was overwritten");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_a_configuration_error() {
        let folder = tempfile::tempdir().unwrap();
        let failure = LockFile::add(&folder.path().join("missing/devrun.lock"), &entry("1.0", 'a')).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Config);
        assert!(failure.help.unwrap().contains("make its directory writable"));
    }

    #[test]
    fn writers_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devrun.lock");
        std::thread::scope(|scope| {
            for number in 0..12 {
                let path = &path;
                scope.spawn(move || LockFile::add(path, &entry(&format!("1.{number}"), 'a')).unwrap());
            }
        });
        assert_eq!(LockFile::read(&path).unwrap().entries().len(), 12);
    }
}
