//! Whose files may decide what is run. A procfile, an env file or an executable of the store runs with the rights of the
//! caller, so whoever can change it has those rights.
//!
//! Root trusts what belongs to root, in directories of root, and nothing that a group or others can write. An ordinary user
//! trusts its own files and root's that others cannot write; a right to write of its own private group (umask 002 on systems
//! that give each user a group) is no risk to it. `DEVRUN_SAFE_DIRECTORY` lifts the check for directories, as git's
//! `safe.directory` does.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use devrun_model::{Failure, FailureKind};

/// The bit of a directory in which only a file's owner may rename or remove it. A number of its own, as `libc` has another type for it on
/// macOS.
const STICKY: u32 = 0o1000;
/// Directories, separated by colons, whose files are trusted whoever owns them; `*`: all.
const SAFE: &str = "DEVRUN_SAFE_DIRECTORY";

/// What this process trusts.
#[derive(Debug, Clone)]
pub struct Trust {
    uid: u32,
    safe: Vec<PathBuf>,
    all: bool,
}

/// Why a file or directory is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnershipFault {
    Owner(u32),
    Group(u32),
    Others(u32),
}

impl Trust {
    /// That of the effective user, with the directories that the environment names.
    #[must_use]
    pub fn current() -> Self {
        let named = std::env::var_os(SAFE).unwrap_or_default();
        let named: Vec<PathBuf> = std::env::split_paths(&named).collect();
        let all = named.iter().any(|path| path == Path::new("*"));
        let safe = named.iter().filter(|path| path.is_absolute()).filter_map(|path| path.canonicalize().ok()).collect();
        Self { uid: nix::unistd::geteuid().as_raw(), safe, all }
    }

    /// Whether a file or directory is ours or root's, whatever its mode.
    ///
    /// # Errors
    /// `Config`, with the way out.
    pub fn owner(&self, meta: &Metadata, path: &Path) -> Result<(), Failure> {
        match self.fault(meta) {
            Some(fault @ OwnershipFault::Owner(_)) if !self.is_safe(path) => Err(self.failure(fault, meta, path)),
            _ => Ok(()),
        }
    }

    /// Whether nobody but us and root can change a file or directory, as far as its own owner and mode tell.
    ///
    /// # Errors
    /// `Config`, with the way out.
    pub fn meta(&self, meta: &Metadata, path: &Path) -> Result<(), Failure> {
        match self.fault(meta) {
            Some(fault) if !self.is_safe(path) => Err(self.failure(fault, meta, path)),
            _ => Ok(()),
        }
    }

    /// As [`Self::meta`], and for root the directories above it too: who can write to one of them can replace the file.
    ///
    /// # Errors
    /// `Config`, with the way out.
    pub fn file(&self, meta: &Metadata, path: &Path) -> Result<(), Failure> {
        if self.is_safe(path) {
            return Ok(());
        }
        self.meta(meta, path)?;
        self.above(path)
    }

    /// For root: every directory above `path` is root's, and written by nobody else unless it is sticky. A link counts with
    /// the directories that it lies in and with those that it leads to.
    ///
    /// # Errors
    /// `Config`, naming the directory.
    pub fn above(&self, path: &Path) -> Result<(), Failure> {
        if self.uid != 0 || self.is_safe(path) {
            return Ok(());
        }
        let named = path.parent().and_then(|folder| folder.canonicalize().ok());
        let real = path.canonicalize().ok().and_then(|real| real.parent().map(Path::to_owned));
        let second = real.filter(|real| Some(real) != named.as_ref());
        for folder in named.iter().chain(&second).flat_map(|folder| folder.ancestors()) {
            let Ok(meta) = std::fs::metadata(folder) else { continue };
            match self.fault(&meta) {
                Some(OwnershipFault::Group(_) | OwnershipFault::Others(_)) if meta.mode() & STICKY != 0 => {}
                Some(fault) => return Err(self.failure(fault, &meta, folder)),
                None => {}
            }
        }
        Ok(())
    }

    fn fault(&self, meta: &Metadata) -> Option<OwnershipFault> {
        let mode = meta.mode();
        if meta.uid() != self.uid && meta.uid() != 0 {
            Some(OwnershipFault::Owner(meta.uid()))
        } else if mode & 0o002 != 0 {
            Some(OwnershipFault::Others(mode))
        } else if mode & 0o020 != 0 && !self.is_private_group(meta.gid()) {
            Some(OwnershipFault::Group(meta.gid()))
        } else {
            None
        }
    }

    /// Whether a group is the caller's alone: its own name, primary, and without other members. Root's group is root's.
    fn is_private_group(&self, gid: u32) -> bool {
        if self.uid == 0 {
            return false;
        }
        let user = User::from_uid(Uid::from_raw(self.uid)).ok().flatten();
        let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
        match (user, group) {
            _ if gid == 0 => true,
            (Some(user), Some(group)) => {
                user.gid.as_raw() == gid && group.name == user.name && group.mem.iter().all(|member| *member == user.name)
            }
            // A number without a name, as a container is given one.
            (None, None) => gid == self.uid,
            _ => false,
        }
    }

    fn is_safe(&self, path: &Path) -> bool {
        if self.all {
            return true;
        }
        if self.safe.is_empty() {
            return false;
        }
        let real = path.canonicalize();
        real.is_ok_and(|real| self.safe.iter().any(|safe| real.starts_with(safe)))
    }

    fn failure(&self, fault: OwnershipFault, meta: &Metadata, path: &Path) -> Failure {
        let us = if self.uid == 0 { ", and devrun runs as root" } else { "" };
        let (reason, fix) = match fault {
            OwnershipFault::Owner(uid) => {
                let owner = User::from_uid(Uid::from_raw(uid)).ok().flatten();
                let owner = owner.map_or_else(|| format!("uid {uid}"), |user| user.name);
                let fix = match self.uid {
                    0 => format!("run devrun as {owner}, or chown root {}", path.display()),
                    uid => format!("chown {uid} {}", path.display()),
                };
                (format!("{} belongs to another user ({owner}){us}", path.display()), fix)
            }
            OwnershipFault::Others(mode) => {
                let reason = format!("{} is writable by others (mode {:04o}){us}", path.display(), mode & 0o7777);
                (reason, format!("chmod o-w {}", path.display()))
            }
            OwnershipFault::Group(gid) => {
                let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
                let group = group.map_or_else(|| gid.to_string(), |group| group.name);
                (format!("{} is writable by the group {group}{us}", path.display()), format!("chmod g-w {}", path.display()))
            }
        };
        // Both at once, where both are open.
        let fix = if meta.mode() & 0o022 == 0o022 { fix.replace("chmod o-w", "chmod go-w") } else { fix };
        let folder = if meta.is_dir() { path } else { path.parent().unwrap_or(path) };
        Failure::new(FailureKind::Config, reason)
            .help(format!("{fix}; if you trust all who can change it: {SAFE}={} devrun …", folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn trust(uid: u32) -> Trust {
        Trust { uid, safe: Vec::new(), all: false }
    }

    #[test]
    fn the_owner_and_the_mode_decide() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("procfile.toml");
        std::fs::write(&file, "").unwrap();
        let us = nix::unistd::geteuid().as_raw();
        for (mode, fine) in [(0o644, true), (0o600, true), (0o666, false), (0o646, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let meta = file.metadata().unwrap();
            assert_eq!(trust(us).meta(&meta, &file).is_ok(), fine, "{mode:o}");
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let meta = file.metadata().unwrap();
        let stranger = trust(4_000_001).meta(&meta, &file);
        assert_eq!(stranger.is_ok(), us == 0, "root's files serve everybody, others' nobody else");
        assert!(!trust(0).is_private_group(0) && trust(4_000_001).is_private_group(4_000_001));
        assert!(!trust(4_000_001).is_private_group(4_000_002));
    }

    #[test]
    fn a_named_directory_is_trusted_with_all_below() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("procfile.toml");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        let meta = file.metadata().unwrap();
        let us = nix::unistd::geteuid().as_raw();
        let failure = trust(us).file(&meta, &file).unwrap_err();
        assert!(failure.help.unwrap().contains("DEVRUN_SAFE_DIRECTORY="));
        let named = Trust { safe: vec![folder.path().canonicalize().unwrap()], ..trust(us) };
        named.file(&meta, &file).unwrap();
        let elsewhere = Trust { safe: vec![PathBuf::from("/usr")], ..trust(us) };
        assert!(elsewhere.file(&meta, &file).is_err());
    }
}
