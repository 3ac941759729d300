//! One complete entry of the store: its manifest, and the check before use.
//!
//! **What the check is worth.** Every executable and library is hashed when the entry is made. Before use their size, times
//! and inode are compared with the stamps taken then, which costs microseconds; a file whose stamp differs is hashed in
//! full. The change time cannot be set by a program, so a replaced or edited file is noticed even if its modification time
//! was put back. Who can write the manifest can defeat all this; the check is against accidents, bit rot and half-copied
//! folders, and against tampering by somebody who may not write the whole entry.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Failure, FailureKind};

use super::verify::{self, Pin};

/// The manifest's name in an entry.
pub(super) const MANIFEST: &str = ".devrun-entry.json";
const STAMPS: &str = ".devrun-stamps.json";

/// What an entry says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of this file.
    pub format: u32,
    /// The recipe.
    pub name: String,
    /// The version as catalogued.
    pub version: String,
    /// The version the server reports.
    pub reported: String,
    /// The platform.
    pub platform: String,
    /// Where it came from, as in the lock.
    pub source: String,
    /// The artifact.
    pub pin: Pin,
    /// Executables by name, relative.
    pub tools: BTreeMap<String, String>,
    /// Folders of libraries that the tools do not find by themselves, relative.
    pub lib: Vec<String>,
    /// What can be executed or loaded, by path.
    pub files: BTreeMap<String, Pin>,
}

/// What a file looked like when it was last hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self {
            size: meta.len(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// One complete entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its folder.
    pub folder: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
}

impl Entry {
    /// The entry in this folder, if it is a complete one.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(folder.join(MANIFEST)).ok()?;
        let manifest: Manifest = serde_json::from_str(&text).ok()?;
        (manifest.format == 1).then(|| Self { folder: folder.to_owned(), manifest })
    }

    /// Whether all that can be executed or loaded is as it was unpacked.
    ///
    /// # Errors
    /// `Integrity`, naming the first file that is not.
    pub fn verify(&self) -> Result<(), Failure> {
        let stamps: BTreeMap<String, Stamp> = std::fs::read_to_string(self.folder.join(STAMPS))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let mut fresh = BTreeMap::new();
        for (path, pin) in &self.manifest.files {
            let at = self.folder.join(path);
            let meta = std::fs::symlink_metadata(&at).map_err(|error| self.tampered(path, &format!("it is gone ({error})")))?;
            if !meta.is_file() {
                return Err(self.tampered(path, "it is no regular file any more"));
            }
            let stamp = Stamp::of(&meta);
            if stamps.get(path) != Some(&stamp) {
                let found = verify::of_file(&at).map_err(|error| self.tampered(path, &error.to_string()))?;
                if let Some(how) = pin.differs(&found) {
                    return Err(self.tampered(path, &how));
                }
            }
            fresh.insert(path.clone(), stamp);
        }
        if fresh != stamps {
            // A store that was copied has other inodes; the next look is quick again where we may write. Elsewhere it is not.
            let _slow_next_time = write_stamps(&self.folder, &fresh);
        }
        for (name, path) in &self.manifest.tools {
            if !self.folder.join(path).exists() {
                return Err(self.tampered(path, &format!("{name} is gone")));
            }
        }
        Ok(())
    }

    fn tampered(&self, path: &str, how: &str) -> Failure {
        Failure::new(
            FailureKind::Integrity,
            format!("{} in the store is not what was unpacked: {how}", self.folder.join(path).display()),
        )
        .help(format!("remove {} and run `devrun fetch {}`", self.folder.display(), self.manifest.name))
    }

    /// Absolute paths of the tools.
    #[must_use]
    pub fn tools(&self) -> BTreeMap<String, PathBuf> {
        self.manifest.tools.iter().map(|(name, path)| (name.clone(), self.folder.join(path))).collect()
    }

    /// Variables that the tools need.
    #[must_use]
    pub fn env(&self) -> BTreeMap<String, String> {
        if self.manifest.lib.is_empty() {
            return BTreeMap::new();
        }
        let variable = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };
        let folders: Vec<String> =
            self.manifest.lib.iter().map(|lib| self.folder.join(lib).to_string_lossy().into_owned()).collect();
        BTreeMap::from([(variable.to_owned(), folders.join(":"))])
    }
}

/// Hashes what can be executed or loaded.
pub(super) fn collect(
    root: &Path,
    folder: &Path,
    files: &mut BTreeMap<String, Pin>,
    stamps: &mut BTreeMap<String, Stamp>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let path = entry.path();
        if meta.is_dir() {
            collect(root, &path, files, stamps)?;
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let loaded = name.ends_with(".so") || name.contains(".so.") || name.ends_with(".dylib") || name.ends_with(".jar");
        if !meta.is_file() || !(loaded || meta.permissions().mode() & 0o111 != 0) {
            continue;
        }
        let Some(relative) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
        files.insert(relative.to_owned(), verify::of_file(&path)?);
        stamps.insert(relative.to_owned(), Stamp::of(&std::fs::symlink_metadata(&path)?));
    }
    Ok(())
}

pub(super) fn write_stamps(folder: &Path, stamps: &BTreeMap<String, Stamp>) -> std::io::Result<()> {
    let text = serde_json::to_string(stamps).map_err(std::io::Error::other)?;
    let mut file = tempfile::Builder::new().prefix(".devrun-stamps-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(folder.join(STAMPS)).map(drop).map_err(|error| error.error)
}
