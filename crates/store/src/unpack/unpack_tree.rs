//! The only writer of unpacked files. It trusts nothing that an archive says.
//!
//! Owns: the check of every name, the caps on entries, bytes and ratio, modes, and links. Its idea: the folder is empty and
//! nobody else's at the start, and every path that is made is remembered with what it is. A name is taken only if all its
//! parents were made here as folders, so nothing is ever written through a link, whatever order the archive has; and links
//! are made last, after every one of them was proved to stay inside.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use devrun_model::hidden_char::is_hidden;
use icu_normalizer::ComposingNormalizerBorrowed;

use super::super::catalog::UnpackRules;
use super::glob;

/// What was refused, as a lowercase fragment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// The archive's fault.
    #[error("{0}")]
    Archive(String),
    /// There is no room for it, which says nothing about the archive.
    #[error("{0}")]
    NoRoom(String),
}

impl UnpackError {
    /// The archive is cut or no archive of this kind.
    #[must_use]
    pub fn format(what: &str) -> Self {
        Self::Archive(what.to_owned())
    }
    /// The disk said no.
    #[must_use]
    pub fn io(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let text = format!("{}: {error}", path.display());
        match error.kind() {
            StorageFull | QuotaExceeded | ReadOnlyFilesystem => Self::NoRoom(text),
            _ => Self::Archive(text),
        }
    }
    /// Says in which archive.
    #[must_use]
    pub fn within(self, archive: &str) -> Self {
        match self {
            Self::Archive(why) => Self::Archive(format!("{archive}: {why}")),
            Self::NoRoom(why) => Self::NoRoom(format!("{archive}: {why}")),
        }
    }
}

/// How much an archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct UnpackLimits {
    /// Entries of any kind.
    pub entries: u64,
    /// Unpacked bytes.
    pub bytes: u64,
}

impl UnpackLimits {
    /// Sixteen times the packed size, at least 64 MiB (small archives of text pack better than that) and never over 8 GiB. The packages of
    /// MariaDB, with a dozen programs of the same code, have a tenth of their size packed.
    #[must_use]
    pub fn for_packed(packed: u64) -> Self {
        Self { entries: 100_000, bytes: packed.saturating_mul(16).clamp(64 << 20, 8 << 30) }
    }
}

/// How the names of devrun's own files in an entry of the store begin.
const CONTROL_FILES: &str = ".devrun";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MadePath {
    Folder,
    File,
    Link,
}

/// The tree as far as it is made.
pub struct UnpackTree<'a> {
    root: &'a Path,
    rules: &'a UnpackRules,
    caps: UnpackLimits,
    entries: u64,
    bytes: u64,
    made: BTreeMap<String, MadePath>,
    /// Lower-case names to the name as made: a case-blind file system would make one file of two.
    folded: BTreeMap<String, String>,
    links: Vec<(String, String)>,
}

impl<'a> UnpackTree<'a> {
    /// A tree that grows in `root`, which is there and empty.
    #[must_use]
    pub fn new(root: &'a Path, rules: &'a UnpackRules, caps: UnpackLimits) -> Self {
        Self { root, rules, caps, entries: 0, bytes: 0, made: BTreeMap::new(), folded: BTreeMap::new(), links: Vec::new() }
    }

    /// Bytes that a decoder may still give out: room for the tree and for what an archive's own bookkeeping takes.
    #[must_use]
    pub fn stream_limit(&self) -> u64 {
        self.caps.bytes.saturating_add(self.caps.entries.saturating_mul(1024))
    }

    /// Counts one entry, of whatever kind.
    ///
    /// # Errors
    /// Past the cap.
    pub fn count(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.caps.entries {
            return Err(UnpackError::Archive(format!("more than {} entries", self.caps.entries)));
        }
        Ok(())
    }

    /// A folder.
    ///
    /// # Errors
    /// A name that is refused.
    pub fn folder(&mut self, name: &[u8]) -> Result<(), UnpackError> {
        let Some(path) = self.place(name)? else { return Ok(()) };
        self.ensure_folder(&path)
    }

    /// A regular file, with the executable bit of `mode` and no other.
    ///
    /// # Errors
    /// A name that is refused, or bytes past the cap.
    pub fn file(&mut self, name: &[u8], mode: u32, content: &mut dyn Read) -> Result<(), UnpackError> {
        let Some(path) = self.place(name)? else {
            // Read all the same, so that a bomb among what is left out ends at the cap too.
            return self.copy(content, &mut std::io::sink(), name);
        };
        self.write(&path, mode, content)
    }

    /// The artifact is the file.
    ///
    /// # Errors
    /// As [`UnpackTree::file`].
    pub fn whole_file(&mut self, name: &str, content: &mut dyn Read) -> Result<(), UnpackError> {
        self.write(name, 0o755, content)
    }

    fn write(&mut self, path: &str, mode: u32, content: &mut dyn Read) -> Result<(), UnpackError> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.ensure_folder(parent)?;
        }
        self.claim(path, MadePath::File)?;
        let target = self.root.join(path);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_NOFOLLOW)
            .mode(0o600)
            .open(&target)
            .map_err(|error| UnpackError::io(&target, &error))?;
        self.copy(content, &mut file, path.as_bytes())?;
        let mode = self.mode(path, mode);
        file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(|error| UnpackError::io(&target, &error))
    }

    fn mode(&self, path: &str, archived: u32) -> u32 {
        let ruled = self.rules.mode.iter().find(|(pattern, _)| glob::matches(pattern, path)).map(|(_, mode)| mode.as_str());
        let executable = ruled.map_or(archived & 0o111 != 0, |mode| mode.ends_with("755"));
        if executable { 0o755 } else { 0o644 }
    }

    /// A symbolic link; made by [`UnpackTree::finish`].
    ///
    /// # Errors
    /// A name that is refused, or a target that leaves the tree.
    pub fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let Some(path) = self.place(name)? else { return Ok(()) };
        let target = std::str::from_utf8(target)
            .map_err(|_| UnpackError::Archive(format!("the target of the link {path} is not UTF-8")))?;
        stays_inside(&path, target)?;
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.ensure_folder(parent)?;
        }
        self.claim(&path, MadePath::Link)?;
        self.links.push((path, target.to_owned()));
        Ok(())
    }

    /// A second name of a file that the archive held before. It becomes a copy: nothing is shared, so nothing outside can be
    /// reached by it.
    ///
    /// # Errors
    /// When the first name is not a file made here.
    pub fn hard_link(&mut self, name: &[u8], first: &[u8]) -> Result<(), UnpackError> {
        let Some(path) = self.place(name)? else { return Ok(()) };
        let shown = String::from_utf8_lossy(first).into_owned();
        let outside =
            || UnpackError::Archive(format!("the hard link {path} names {shown:?}, which is not a file of this archive"));
        let Some(first) = self.place(first)? else { return Err(outside()) };
        if self.made.get(&first) != Some(&MadePath::File) {
            return Err(outside());
        }
        let source = self.root.join(&first);
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&source)
            .map_err(|error| UnpackError::io(&source, &error))?;
        let mode = file.metadata().map_err(|error| UnpackError::io(&source, &error))?.permissions().mode();
        self.write(&path, mode, &mut file)
    }

    /// An entry that is none of the above.
    pub fn special(&self, name: &[u8], what: &str) -> UnpackError {
        UnpackError::Archive(format!("{} is {what}, which no binary package needs", String::from_utf8_lossy(name).escape_debug()))
    }

    fn copy(&mut self, from: &mut dyn Read, into: &mut dyn Write, name: &[u8]) -> Result<(), UnpackError> {
        let mut buffer = vec![0_u8; 128 * 1024];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(UnpackError::Archive(format!("{}: {error}", String::from_utf8_lossy(name).escape_debug())));
                }
            };
            self.bytes += count as u64;
            if self.bytes > self.caps.bytes {
                return Err(UnpackError::Archive(format!("more than {} bytes unpacked", self.caps.bytes)));
            }
            into.write_all(&buffer[..count])
                .map_err(|error| UnpackError::io(Path::new(&String::from_utf8_lossy(name).escape_debug().to_string()), &error))?;
        }
    }

    fn ensure_folder(&mut self, path: &str) -> Result<(), UnpackError> {
        let mut end = 0;
        loop {
            end = path[end..].find('/').map_or(path.len(), |next| end + next);
            let part = &path[..end];
            match self.made.get(part) {
                Some(MadePath::Folder) => {}
                Some(MadePath::File) => return Err(UnpackError::Archive(format!("{part} is both a file and a directory"))),
                Some(MadePath::Link) => {
                    return Err(UnpackError::Archive(format!("{path} would be written through the link {part}")));
                }
                None => {
                    self.claim(part, MadePath::Folder)?;
                    let folder = self.root.join(part);
                    make_folder(&folder).map_err(|error| UnpackError::io(&folder, &error))?;
                }
            }
            if end == path.len() {
                return Ok(());
            }
            end += 1;
        }
    }

    fn claim(&mut self, path: &str, what: MadePath) -> Result<(), UnpackError> {
        if self.made.contains_key(path) {
            return Err(UnpackError::Archive(format!("{path} is there twice")));
        }
        if let Some(other) = self.folded.insert(folded(path), path.to_owned()) {
            let how = if path.to_lowercase() == other.to_lowercase() { "case" } else { "Unicode normalization" };
            return Err(UnpackError::Archive(format!("{path} and {other} differ in {how} only")));
        }
        self.made.insert(path.to_owned(), what);
        Ok(())
    }

    /// The checked path after the rules; `None` where the rules leave it out.
    fn place(&self, name: &[u8]) -> Result<Option<String>, UnpackError> {
        let parts = checked(name)?;
        let strip = self.rules.strip.unwrap_or(0);
        let mut parts = parts.get(strip..).unwrap_or_default();
        if let Some(subdir) = &self.rules.subdir {
            let wanted: Vec<&str> = subdir.split('/').collect();
            if parts.len() < wanted.len() || parts[..wanted.len()] != wanted[..] {
                return Ok(None);
            }
            parts = &parts[wanted.len()..];
        }
        if parts.is_empty() {
            return Ok(None);
        }
        if let Some(own) = parts.iter().find(|part| part.to_lowercase().starts_with(CONTROL_FILES)) {
            return Err(UnpackError::Archive(format!("the name {own} is one of devrun's own files")));
        }
        let path = parts.join("/");
        if self.rules.exclude.iter().any(|pattern| glob::matches(pattern, &path)) {
            return Ok(None);
        }
        Ok(Some(self.rules.rename.get(&path).cloned().unwrap_or(path)))
    }

    /// Makes the links and looks at the result once more.
    ///
    /// # Errors
    /// A link that leads out after all, or a manifest of links that is wrong.
    pub fn finish(mut self) -> Result<(), UnpackError> {
        if let Some(manifest) = &self.rules.symlinks {
            self.manifest(manifest)?;
        }
        let links = std::mem::take(&mut self.links);
        for (path, target) in &links {
            let at = self.root.join(path);
            std::os::unix::fs::symlink(target, &at).map_err(|error| UnpackError::io(&at, &error))?;
        }
        let root = self.root.canonicalize().map_err(|error| UnpackError::io(self.root, &error))?;
        for (path, target) in &links {
            // A dangling link is harmless and some packages have one; where it leads somewhere, that must be inside.
            if let Ok(real) = self.root.join(path).canonicalize()
                && !real.starts_with(&root)
            {
                return Err(UnpackError::Archive(format!("the link {path} to {target} leads out of the archive")));
            }
        }
        if self.rules.strip.is_none() && self.rules.subdir.is_none() {
            flatten(self.root)?;
        }
        Ok(())
    }

    /// `[{"source": "native/lib/libpq.so.5.18", "target": "native/lib/libpq.so.5"}]`: the target is the link's name, and both
    /// are counted from the package's root, as the archive had it before `subdir`.
    fn manifest(&mut self, name: &str) -> Result<(), UnpackError> {
        #[derive(serde::Deserialize)]
        struct Entry {
            source: String,
            target: String,
        }
        if self.made.get(name) != Some(&MadePath::File) {
            return Err(UnpackError::Archive(format!("the manifest of links {name} is not there")));
        }
        let path = self.root.join(name);
        let text = std::fs::read_to_string(&path).map_err(|error| UnpackError::io(&path, &error))?;
        let entries: Vec<Entry> =
            serde_json::from_str(&text).map_err(|error| UnpackError::Archive(format!("{name}: {error}")))?;
        for entry in entries {
            self.count()?;
            let inside = |path: &str| -> Result<String, UnpackError> {
                let parts = checked(path.as_bytes())?;
                let skip = self.rules.subdir.as_ref().map_or(0, |subdir| {
                    let subdir: Vec<&str> = subdir.split('/').collect();
                    if parts.starts_with(&subdir) { subdir.len() } else { 0 }
                });
                Ok(parts[skip..].join("/"))
            };
            let (source, link) = (inside(&entry.source)?, inside(&entry.target)?);
            if self.made.get(&source) != Some(&MadePath::File) {
                return Err(UnpackError::Archive(format!("{name} links {link} to {source}, which is not there")));
            }
            if self.made.contains_key(&link) {
                // Already there: the registry kept it after all.
                continue;
            }
            let up = "../".repeat(link.matches('/').count());
            let same_folder =
                source.rsplit_once('/').map(|(folder, _)| folder) == link.rsplit_once('/').map(|(folder, _)| folder);
            let target =
                if same_folder { source.rsplit('/').next().unwrap_or(&source).to_owned() } else { format!("{up}{source}") };
            stays_inside(&link, &target)?;
            if let Some((parent, _)) = link.rsplit_once('/') {
                let parent = parent.to_owned();
                self.ensure_folder(&parent)?;
            }
            self.claim(&link, MadePath::Link)?;
            self.links.push((link, target));
        }
        Ok(())
    }
}

/// A folder that others may enter and only we may write, whatever the umask.
///
/// # Errors
/// As the system says.
pub fn make_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

/// The one name that a file system keeps which tells neither case nor composed characters apart (APFS).
fn folded(path: &str) -> String {
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    nfc.normalize(&nfc.normalize(path).to_lowercase()).into_owned()
}

/// The parts of a name in an archive, or why it is refused.
fn checked(name: &[u8]) -> Result<Vec<&str>, UnpackError> {
    let shown = || String::from_utf8_lossy(name).escape_debug().to_string();
    let Ok(text) = std::str::from_utf8(name) else {
        return Err(UnpackError::Archive(format!("the name {} is not UTF-8", shown())));
    };
    if text.is_empty() {
        return Err(UnpackError::Archive("an entry has no name".to_owned()));
    }
    if text.starts_with('/') {
        return Err(UnpackError::Archive(format!("the name {} is absolute", shown())));
    }
    if text.contains('\\') {
        return Err(UnpackError::Archive(format!("the name {} holds a backslash", shown())));
    }
    if text.chars().any(char::is_control) {
        return Err(UnpackError::Archive(format!("the name {} holds a control character", shown())));
    }
    if let Some(hidden) = text.chars().find(|char| is_hidden(*char)) {
        let code = hidden.escape_unicode();
        return Err(UnpackError::Archive(format!("the name {} holds an invisible character ({code})", shown())));
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(UnpackError::Archive(format!("the name {} leaves the directory", shown()))),
            // Some file systems drop them, so that it becomes another name.
            part if part.ends_with(['.', ' ']) => {
                return Err(UnpackError::Archive(format!("the name {} has a part that ends in a dot or a blank", shown())));
            }
            part if part.len() > 255 => return Err(UnpackError::Archive("a name is longer than 255 bytes".to_owned())),
            part => parts.push(part),
        }
    }
    if parts.len() > 64 {
        return Err(UnpackError::Archive("a name is nested deeper than 64 directories".to_owned()));
    }
    Ok(parts)
}

/// A link's target is relative, goes up only at its start, and not above the root. Going up only at the start is what makes
/// the lexical check hold: the link's own folder is a real folder, and past it only names are followed, which by induction
/// stay inside; `link/../x` could leave by way of another link.
fn stays_inside(link: &str, target: &str) -> Result<(), UnpackError> {
    let out = |why: &str| Err(UnpackError::Archive(format!("the link {link} to {:?} {why}", target.escape_debug().to_string())));
    if target.is_empty() || target.contains('\0') {
        return out("has no usable target");
    }
    if target.starts_with('/') {
        return out("is absolute");
    }
    if target.contains('\\') {
        return out("holds a backslash");
    }
    if target.chars().any(|char| char.is_control() || is_hidden(char)) {
        return out("holds a control or invisible character");
    }
    let depth = link.matches('/').count();
    let (mut ups, mut names) = (0, 0);
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if names > 0 => return out("goes up after going down"),
            ".." => ups += 1,
            _ => names += 1,
        }
    }
    if ups > depth { out("leaves the archive") } else { Ok(()) }
}

/// Takes a single top folder off.
fn flatten(root: &Path) -> Result<(), UnpackError> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>, UnpackError> {
        std::fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .map_err(|error| UnpackError::io(folder, &error))
    };
    let top = list(root)?;
    let [only] = top.as_slice() else { return Ok(()) };
    if !std::fs::symlink_metadata(only).is_ok_and(|meta| meta.is_dir()) || only.ends_with("bin") {
        return Ok(());
    }
    // Moved aside first: the folder may hold an entry of its own name.
    let aside = root.join(".devrun-top");
    std::fs::rename(only, &aside).map_err(|error| UnpackError::io(only, &error))?;
    for entry in list(&aside)? {
        let Some(name) = entry.file_name() else { continue };
        std::fs::rename(&entry, root.join(name)).map_err(|error| UnpackError::io(&entry, &error))?;
    }
    std::fs::remove_dir(&aside).map_err(|error| UnpackError::io(&aside, &error))
}
