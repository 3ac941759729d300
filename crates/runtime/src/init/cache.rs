//! The warm cache: the bare output of a slow init tool, copied instead of made again.
//!
//! An entry is complete or absent: it is built under a temporary name, synced and renamed. It holds nothing of any
//! project. Everything here is an optimisation, so callers go on without it when something fails.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::durable::{nonce, rename_new, sync_below};
use super::remove_tree::remove_below;

const DRAFT: &str = ".draft-";

/// Where entries lie: `$XDG_CACHE_HOME/devrun/init`, `~/.cache/devrun/init`, for root `/var/cache/devrun/init`. The
/// service's own environment is asked first, then ours. None where neither knows.
#[must_use]
pub fn cache_folder(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let theirs = env.get(name).map(|path| PathBuf::from(devrun_model::os_text::to_os(path)));
        theirs.or_else(|| std::env::var_os(name).map(PathBuf::from)).filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| {
        if rustix::process::geteuid().is_root() {
            Some(PathBuf::from("/var/cache"))
        } else {
            absolute("HOME").map(|home| home.join(".cache"))
        }
    })?;
    Some(base.join("devrun/init"))
}

/// The complete entry of this key. One that belongs to somebody else is none.
#[must_use]
pub fn find_cached(folder: &Path, key: &str) -> Option<PathBuf> {
    let entry = folder.join(key);
    let metadata = std::fs::symlink_metadata(&entry).ok()?;
    (metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0).then_some(entry)
}

/// An entry that is being built.
#[derive(Debug)]
#[must_use = "a draft that is not published is left for a later run to remove"]
pub struct CacheDraft {
    folder: PathBuf,
    name: String,
    key: String,
}

/// Makes an empty folder to build an entry in, and removes drafts that were given up an hour ago or earlier.
///
/// # Errors
/// When the cache cannot be written.
pub fn create_draft(folder: &Path, key: &str) -> io::Result<CacheDraft> {
    if let Some(shared) = folder.parent() {
        // Servers of other users run from the store, which lies there too.
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(shared)?;
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let opened = File::open(folder)?;
    for entry in std::fs::read_dir(folder)?.filter_map(Result::ok) {
        let name = entry.file_name();
        let old = |time: SystemTime| time.elapsed().is_ok_and(|age| age > Duration::from_secs(3600));
        let given_up = entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(old);
        if given_up
            && name.to_string_lossy().starts_with(DRAFT)
            && let Ok(name) = std::ffi::CString::new(name.as_encoded_bytes())
        {
            // A failure leaves it to the next run.
            let _ = remove_below(&opened, &name);
        }
    }
    let name = format!("{DRAFT}{}", nonce().map_err(|failure| io::Error::other(failure.reason))?);
    std::fs::DirBuilder::new().mode(0o700).create(folder.join(&name))?;
    Ok(CacheDraft { folder: folder.to_owned(), name, key: key.to_owned() })
}

impl CacheDraft {
    /// Where to build it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }
    /// Makes it durable and gives it its name; somebody else's entry of the same key wins.
    ///
    /// # Errors
    /// When it cannot be synced or renamed.
    pub fn publish(self) -> io::Result<()> {
        let path = self.path();
        let opened = File::open(&path)?;
        sync_below(&opened, &path).map_err(|failure| io::Error::other(failure.reason))?;
        let folder = File::open(&self.folder)?;
        match rename_new(&folder, &self.name, &self.key) {
            Ok(()) => folder.sync_all(),
            Err(rustix::io::Errno::EXIST) => {
                let name = std::ffi::CString::new(self.name.as_str())?;
                Ok(remove_below(&folder, &name)?)
            }
            Err(error) => Err(error.into()),
        }
    }
    /// Gives it up.
    pub fn discard(self) {
        if let (Ok(folder), Ok(name)) = (File::open(&self.folder), std::ffi::CString::new(self.name.as_str())) {
            // What cannot be removed now is removed by a later `create_draft`.
            let _ = remove_below(&folder, &name);
        }
    }
}

/// Copies a tree of folders and files with their modes into `to`, which must not exist. Blocks are shared where the file
/// system can. Anything else in the tree (links, sockets) is an error: the copy would not be the same.
///
/// # Errors
/// When something cannot be read or written, or is neither folder nor file.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    copy_folders(from, to, &mut files)?;
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(1, 4);
    let share = files.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = files
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().try_for_each(|(from, to, mode)| copy_file(from, to, *mode))))
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(io::Error::other("a copy panicked"))))
    })
}

type CopyJob = (PathBuf, PathBuf, u32);

fn copy_folders(from: &Path, to: &Path, files: &mut Vec<CopyJob>) -> io::Result<()> {
    let mode = std::fs::symlink_metadata(from)?.mode() & 0o777;
    std::fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_folders(&entry.path(), &target, files)?;
        } else if kind.is_file() {
            files.push((entry.path(), target, entry.metadata()?.mode() & 0o777));
        } else {
            return Err(io::Error::other(format!("{} is neither a directory nor a file", entry.path().display())));
        }
    }
    if mode != 0o700 {
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, mode: u32) -> io::Result<()> {
    #[cfg(target_os = "macos")]
    if rustix::fs::fclonefileat(File::open(from)?, rustix::fs::CWD, to, rustix::fs::CloneFlags::empty()).is_ok() {
        return std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode));
    }
    let mut source = File::open(from)?;
    let mut target = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
    #[cfg(target_os = "linux")]
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let length = source.metadata()?.len();
    if length < SPARSE_FROM {
        io::copy(&mut source, &mut target).map(|_| ())
    } else {
        copy_sparse(&mut source, &mut target, length)
    }
}

/// Files of this size and more are worth a look for zeros.
const SPARSE_FROM: u64 = 1024 * 1024;
const BLOCK: usize = 64 * 1024;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Copies a file without its blocks of zeros: a fresh write-ahead log is 16 MiB of hardly anything else.
fn copy_sparse(source: &mut File, target: &mut File, length: u64) -> io::Result<()> {
    let mut block = vec![0u8; BLOCK];
    let mut left = length;
    while left > 0 {
        let wanted = BLOCK.min(usize::try_from(left).unwrap_or(BLOCK));
        source.read_exact(&mut block[..wanted])?;
        if block[..wanted] == ZEROS[..wanted] {
            target.seek_relative(i64::try_from(wanted).unwrap_or(i64::MAX))?;
        } else {
            target.write_all(&block[..wanted])?;
        }
        left -= wanted as u64;
    }
    target.set_len(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_modes() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir_all(from.join("base/1")).unwrap();
        std::fs::write(from.join("base/1/112"), vec![7u8; 100_000]).unwrap();
        std::fs::write(from.join("PG_VERSION"), "15\n").unwrap();
        std::fs::set_permissions(from.join("PG_VERSION"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut log = vec![0u8; 3 * BLOCK * 20 + 17];
        for at in [0, BLOCK * 31 + 5, BLOCK * 60 + 16] {
            log[at] = 1;
        }
        std::fs::write(from.join("wal"), &log).unwrap();
        std::fs::write(from.join("zeros"), vec![0u8; 2 << 20]).unwrap();
        let to = folder.path().join("to");
        copy_tree(&from, &to).unwrap();
        assert!(std::fs::read(to.join("wal")).unwrap() == log);
        assert!(std::fs::read(to.join("zeros")).unwrap() == vec![0u8; 2 << 20]);
        assert_eq!(std::fs::read(to.join("base/1/112")).unwrap(), vec![7u8; 100_000]);
        assert_eq!(std::fs::metadata(to.join("PG_VERSION")).unwrap().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink("/etc", from.join("link")).unwrap();
        assert!(copy_tree(&from, &folder.path().join("again")).is_err());
    }

    /// A service of another user reaches its program in the store, which lies in the same directory.
    #[test]
    fn only_the_directory_of_the_entries_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("shared/init");
        let _draft = create_draft(&cache, "key").unwrap();
        std::fs::create_dir(folder.path().join("plain")).unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("shared"), mode("shared/init")), (mode("plain") & 0o755, 0o700));
    }

    #[test]
    fn an_entry_is_complete_or_absent_and_the_first_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let first = create_draft(&cache, "key").unwrap();
        let second = create_draft(&cache, "key").unwrap();
        std::fs::write(first.path().join("f"), "first").unwrap();
        std::fs::write(second.path().join("f"), "second").unwrap();
        assert!(find_cached(&cache, "key").is_none());
        first.publish().unwrap();
        second.publish().unwrap();
        assert_eq!(std::fs::read_to_string(find_cached(&cache, "key").unwrap().join("f")).unwrap(), "first");
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    }
}
