//! One complete entry of the store: its manifest, and the check before use.
//!
//! **What the check is worth.** Every executable and library is hashed when the entry is made. Before use their size, times
//! and inode are compared with the stamps taken then, which costs microseconds; a file whose stamp differs is hashed in
//! full. The change time cannot be set by a program, so a replaced or edited file is noticed even if its modification time
//! was put back. Directories have stamps too; where one differs, the names of all files are compared with those of the
//! unpacked archive. Who can write the manifest can defeat all this, so an entry that others can write is refused.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ownership::Trust;
use devrun_keeper::regular_file;
use devrun_model::hex::hex;
use devrun_model::{Failure, FailureKind};

use super::pin::{self, Pin};

/// The manifest's name in an entry.
pub(super) const MANIFEST: &str = ".devrun-entry.json";
const STAMPS: &str = ".devrun-stamps.json";
const STAMPS_PREFIX: &str = ".devrun-stamps";
/// The entry's own directory among the stamps.
const TOP: &str = "/";

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
    /// The sha256 of all its names; absent in an entry of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<String>,
}

/// What a file looked like when it was last hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileStamp {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.len(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl FileStamp {
    /// Of a directory, whose time tells when a name in it came or went. The entry's own got its name after its stamp.
    fn of_directory(path: &str, meta: &Metadata) -> Self {
        let stamp = Self { size: 0, ..Self::of(meta) };
        if path == TOP { Self { changed: (0, 0), ..stamp } } else { stamp }
    }
}

/// One complete entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreEntry {
    /// Its folder.
    pub folder: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
}

impl StoreEntry {
    /// The entry in this folder, if it is a complete one.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let text = regular_file::read(&folder.join(MANIFEST)).ok()?;
        let manifest: Manifest = serde_json::from_slice(&text).ok()?;
        (manifest.format == 1).then(|| Self { folder: folder.to_owned(), manifest })
    }

    /// Whether all that can be executed or loaded is as it was unpacked, and nobody else can change it.
    ///
    /// # Errors
    /// `Integrity`, naming the first file that is not.
    pub fn verify(&self) -> Result<(), Failure> {
        let trust = Trust::current();
        let owned = |path: &str, meta: &Metadata| {
            let refuse = |failure| Failure { kind: FailureKind::Integrity, ..failure };
            trust.meta(meta, &self.folder.join(path)).map_err(refuse)
        };
        let look = |path: &str| {
            std::fs::symlink_metadata(self.folder.join(path))
                .map_err(|error| self.tampered(path, &format!("it is gone ({error})")))
        };
        let top = look("")?;
        if !top.is_dir() {
            return Err(self.tampered("", "it is not a directory"));
        }
        owned("", &top)?;
        owned(MANIFEST, &look(MANIFEST)?)?;
        let stamps: BTreeMap<String, FileStamp> = regular_file::read(&self.folder.join(STAMPS))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let mut as_it_was = stamps.contains_key(TOP);
        for (path, stamp) in stamps.iter().filter(|(path, _)| path.ends_with('/')) {
            let Ok(meta) = std::fs::symlink_metadata(self.folder.join(path.trim_matches('/'))) else {
                as_it_was = false;
                break;
            };
            owned(path.trim_matches('/'), &meta)?;
            as_it_was &= FileStamp::of_directory(path, &meta) == *stamp;
        }
        for (path, pin) in &self.manifest.files {
            let meta = look(path)?;
            if !meta.is_file() {
                return Err(self.tampered(path, "it is not a regular file any more"));
            }
            owned(path, &meta)?;
            if stamps.get(path) != Some(&FileStamp::of(&meta)) {
                as_it_was = false;
                let found = pin::of_file(&self.folder.join(path)).map_err(|error| self.tampered(path, &error.to_string()))?;
                if let Some(how) = pin.differs(&found) {
                    return Err(self.tampered(path, &how));
                }
            }
        }
        if !as_it_was {
            self.verify_names(&owned)?;
            // A store that was copied has other inodes; the next look is quick again where we may write. Elsewhere it is not.
            let _slow_next_time = write_stamps(&self.folder, &self.manifest);
        }
        for (name, path) in &self.manifest.tools {
            let known = self.manifest.files.contains_key(path)
                || self.real(path).is_some_and(|real| self.manifest.files.contains_key(&real));
            if !known {
                return Err(self.tampered(path, &format!("{name} is gone, or is none of its files")));
            }
        }
        if let Some(lib) = self.manifest.lib.iter().find(|lib| !self.is_inside(lib)) {
            return Err(self.tampered(lib, "it leads out of it"));
        }
        Ok(())
    }

    /// Whether there is no file that was not unpacked, and no link that leads out.
    fn verify_names(&self, owned: &dyn Fn(&str, &Metadata) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut names = BTreeMap::new();
        walk(&self.folder, "", &mut names).map_err(|error| self.tampered("", &error.to_string()))?;
        for (path, meta) in &names {
            if meta.is_symlink() {
                if !self.is_inside(path) {
                    return Err(self.tampered(path, "it is a link that leads out of it"));
                }
                continue;
            }
            owned(path, meta)?;
            if is_loaded(path, meta) && !self.manifest.files.contains_key(path) {
                return Err(self.tampered(path, "it was added"));
            }
        }
        match &self.manifest.listing {
            Some(listing) if *listing != digest(&names) => Err(self.tampered("", "files were added or removed")),
            _ => Ok(()),
        }
    }

    /// Where a path of the entry really is, relative to it; `None` where that is elsewhere, or nowhere.
    fn real(&self, path: &str) -> Option<String> {
        let top = self.folder.canonicalize().ok()?;
        let real = self.folder.join(path).canonicalize().ok()?;
        real.strip_prefix(top).ok()?.to_str().map(str::to_owned)
    }

    /// Whether a path does not lead out of the entry. A link to nothing leads nowhere.
    fn is_inside(&self, path: &str) -> bool {
        let plain = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        plain && (self.real(path).is_some() || !self.folder.join(path).exists())
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

/// Hashes what can be executed or loaded, and all names.
pub(super) fn describe(tree: &Path, manifest: &mut Manifest) -> std::io::Result<()> {
    let mut names = BTreeMap::new();
    walk(tree, "", &mut names)?;
    manifest.files = BTreeMap::new();
    for (path, _) in names.iter().filter(|(path, meta)| is_loaded(path, meta)) {
        manifest.files.insert(path.clone(), pin::of_file(&tree.join(path))?);
    }
    manifest.listing = Some(digest(&names));
    Ok(())
}

/// Everything below a folder of the entry by its path, our own files apart.
fn walk(root: &Path, below: &str, names: &mut BTreeMap<String, Metadata>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let ours = below.is_empty() && (name == MANIFEST || name.starts_with(STAMPS_PREFIX));
        // A network file system keeps a deleted file that is still open under such a name.
        if ours || name.starts_with(".nfs") {
            continue;
        }
        let meta = entry.metadata()?;
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        if meta.is_dir() {
            walk(root, &path, names)?;
        }
        names.insert(path, meta);
    }
    Ok(())
}

fn is_loaded(path: &str, meta: &Metadata) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let library = name.ends_with(".so") || name.contains(".so.") || name.ends_with(".dylib") || name.ends_with(".jar");
    meta.is_file() && (library || meta.permissions().mode() & 0o111 != 0)
}

fn digest(names: &BTreeMap<String, Metadata>) -> String {
    use sha2::Digest as _;
    let mut sum = sha2::Sha256::new();
    for path in names.keys() {
        sum.update(path.as_bytes());
        sum.update([0]);
    }
    hex(&sum.finalize())
}

/// Notes what everything looks like now. Written in place: a rename would change the entry's own directory.
pub(super) fn write_stamps(folder: &Path, manifest: &Manifest) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o644).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let mut file = regular_file::check(options.open(folder.join(STAMPS)))?;
    let mut names = BTreeMap::new();
    walk(folder, "", &mut names)?;
    let mut stamps = BTreeMap::from([(TOP.to_owned(), FileStamp::of_directory(TOP, &std::fs::symlink_metadata(folder)?))]);
    for (path, meta) in &names {
        if meta.is_dir() {
            let path = format!("{path}/");
            let stamp = FileStamp::of_directory(&path, meta);
            stamps.insert(path, stamp);
        } else if manifest.files.contains_key(path) {
            stamps.insert(path.clone(), FileStamp::of(meta));
        }
    }
    let text = serde_json::to_string(&stamps).map_err(std::io::Error::other)?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}
