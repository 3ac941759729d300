//! cgroup v2 where it can be had: one directory a run, one below it for each process.
//!
//! Owns making, killing, asking and removing. Never a condition: without write access everything works by the tree alone,
//! and the keeper's `Ready` says so.
//!
//! A keeper locks its run's directory. One that nobody has locked and in which nothing lives is what a run left whose journal
//! was lost with it, so nobody else would ever know of it: the end of any run of the same user takes such directories away.
//!
//! A recorded path is never believed: whatever is written or removed is relative to a directory that was opened without
//! following links, that belongs to this user and that lies on the cgroup2 file system (`open_folder`).

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};

use devrun_model::keeper::SpawnSpec;

use super::drivers::own_process::HAS_CGROUPS;

/// How the directory of a run begins; 32 hexadecimal digits follow.
const PREFIX: &str = "devrun-";

/// The directory of a run.
#[derive(Debug)]
pub struct RunCgroup {
    base: PathBuf,
    // Held as long as the keeper lives. What it forks has it until exec.
    _lock: File,
}

/// The directory of one process.
#[derive(Debug, Clone)]
pub struct ProcessCgroup {
    path: PathBuf,
}

/// Why there is no cgroup for a run.
#[derive(Debug)]
pub enum CgroupError {
    /// The system has no cgroup2 mounted.
    NotMounted,
    /// This process is in no cgroup2.
    NotInOne,
    /// The kernel refuses.
    Io(io::Error),
}

impl fmt::Display for CgroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMounted => f.write_str("no cgroup2 is mounted"),
            Self::NotInOne => f.write_str("in no cgroup2"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CgroupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotMounted | Self::NotInOne => None,
            Self::Io(error) => Some(error),
        }
    }
}

impl RunCgroup {
    /// Makes the run's directory.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn make(run: &str) -> Result<Self, CgroupError> {
        let base = parent()?.join(format!("{PREFIX}{run}"));
        let lock = lock_run_folder(&base).map_err(CgroupError::Io)?;
        let usable = open_file(&lock, "cgroup.procs").and_then(|_| open_file(&lock, "cgroup.kill"));
        match usable {
            Ok(_) => Ok(Self { base, _lock: lock }),
            Err(error) => {
                remove(&base);
                Err(CgroupError::Io(error))
            }
        }
    }
    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.base
    }
    /// Makes a process's directory and opens it; a child is made in it, or writes itself into its `cgroup.procs`.
    ///
    /// # Errors
    /// What the system says; the process is then started without one.
    pub fn group(&self, spec: &SpawnSpec) -> io::Result<(ProcessCgroup, File)> {
        let path = self.recorded(spec);
        fs::create_dir(&path)?;
        match open_folder(&path) {
            Ok(folder) => {
                self.limit(&folder, spec);
                Ok((ProcessCgroup { path }, File::from(folder)))
            }
            Err(error) => {
                remove(&path);
                Err(error)
            }
        }
    }
    /// `limits.cpu`, `limits.memory` and `limits.pids`, before the process is in it. What the kernel refuses is not in effect, which the user
    /// has been told by [`missing_controller`].
    fn limit(&self, group: &OwnedFd, spec: &SpawnSpec) {
        let enable = |controller: &str| {
            for folder in [self.base.parent(), Some(self.base.as_path())].into_iter().flatten() {
                // A directory that has it enabled already takes the word as well.
                let _refused =
                    open_any(folder).and_then(|folder| write(&folder, "cgroup.subtree_control", &format!("+{controller}")));
            }
        };
        let set = |file: &str, value: String| {
            let _refused = write(group, file, &value);
        };
        if let Some(cores) = spec.cpu {
            enable("cpu");
            // Microseconds of each tenth of a second; the kernel takes no less than one millisecond.
            set("cpu.max", format!("{} 100000", ((cores * 100_000.0) as u64).max(1000)));
        }
        if let Some(bytes) = spec.memory {
            enable("memory");
            set("memory.max", bytes.to_string());
            // Half a service that lives on is of no use to anybody.
            set("memory.oom.group", "1".to_owned());
        }
        if let Some(pids) = spec.pids {
            enable("pids");
            set("pids.max", pids.to_string());
        }
    }
    /// Where the directory of a process is.
    #[must_use]
    pub fn recorded(&self, spec: &SpawnSpec) -> PathBuf {
        self.base.join(format!("{}.{}.{}", spec.service, spec.generation, spec.process))
    }
    /// Removes the run's directory once all below it is gone.
    pub fn remove(&self) {
        remove(&self.base);
    }
}

impl ProcessCgroup {
    /// A group by the path that a journal recorded; only below a directory of ours.
    #[must_use]
    pub fn recorded(path: &Path) -> Option<Self> {
        let parent = path.parent()?.file_name()?.to_str()?;
        (parent.starts_with(PREFIX) && open_folder(path).is_ok()).then(|| Self { path: path.to_owned() })
    }
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// How `/proc/PID/cgroup` ends for its members.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        key(&self.path)
    }
    /// SIGKILL to everything in it, forks in flight included.
    ///
    /// # Errors
    /// What the system says; a directory that is gone is no error.
    pub fn kill(&self) -> io::Result<()> {
        match open_folder(&self.path).and_then(|folder| write(&folder, "cgroup.kill", "1")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
    /// Whether the kernel says that something in it lives.
    #[must_use]
    pub fn populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events")).is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
    }
    /// Its processes, those of groups below included.
    #[must_use]
    pub fn members(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1));
            folders.extend(subfolders(&folder));
        }
        found
    }
    /// Removes the directory.
    pub fn remove(&self) {
        remove(&self.path);
    }
    /// Removes the directory if nothing lives in it and nothing is below it: the kernel refuses otherwise, so this is the proof
    /// that it is empty and the tidying up in one call. True: it is gone.
    #[must_use]
    pub fn remove_empty(&self) -> bool {
        match remove_folder(&self.path) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// Makes a run's directory, or takes over that of a keeper before us, and locks it.
fn lock_run_folder(base: &Path) -> io::Result<File> {
    for _ in 0..50 {
        match fs::create_dir(base) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let folder = match open_folder(base) {
            // Another run has taken it for abandoned.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => File::from(opened?),
        };
        if folder.try_lock_shared().is_ok() && base.is_dir() {
            return Ok(folder);
        }
        // A process that looks for abandoned ones holds it for an instant.
        std::thread::sleep(Duration::from_millis(1));
    }
    // Anybody may lock what he can open. Without the lock the directory may be taken away while it is empty, no more.
    open_folder(base).map(File::from)
}

/// Removes the directory of a run, by the path that a journal recorded. It stays while anything lives in it.
pub fn remove_run(base: &Path) {
    if base.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
        // What survives in it is reported by the sweep.
        let _populated = remove_folder(base);
    }
}

/// Opens a directory of the cgroup2 mount that belongs to this user, without following links.
///
/// # Errors
/// As the system says, and `InvalidInput` for what is no such directory.
fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let folder = open_any(path)?;
    if rustix::fs::fstat(&folder)?.st_uid != nix::unistd::geteuid().as_raw() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(folder)
}

/// As [`open_folder`], whoever owns it. The mount point's own path is the kernel's, and there are no links below it.
fn open_any(path: &Path) -> io::Result<OwnedFd> {
    let below = |mount: &PathBuf| path.starts_with(mount) && !path.components().any(|part| part == Component::ParentDir);
    if !mount_point().is_some_and(below) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    if is_cgroup2(&folder)? { Ok(folder) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(target_os = "linux")]
fn is_cgroup2(folder: &OwnedFd) -> io::Result<bool> {
    // CGROUP2_SUPER_MAGIC, linux/magic.h.
    Ok(rustix::fs::fstatfs(folder)?.f_type == 0x6367_7270)
}

#[cfg(not(target_os = "linux"))]
fn is_cgroup2(_folder: &OwnedFd) -> io::Result<bool> {
    Ok(false)
}

/// Opens a file of a group for writing: never made, never cut, never through a link.
fn open_file(folder: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?))
}

fn write(folder: impl AsFd, name: &str, text: &str) -> io::Result<()> {
    io::Write::write_all(&mut open_file(folder, name)?, text.as_bytes())
}

/// Removes one empty group; the kernel refuses one in which something lives.
fn remove_folder(path: &Path) -> io::Result<()> {
    // Proves that it is a group of this user.
    drop(open_folder(path)?);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    Ok(rustix::fs::unlinkat(open_any(parent)?, name, AtFlags::REMOVEDIR)?)
}

/// Removes the directories of runs of this user whose keeper is gone and in which nothing lives. `sibling`: a run's directory,
/// where one is known.
pub fn remove_abandoned(sibling: Option<&Path>) {
    use std::os::unix::fs::MetadataExt;
    let known = sibling.and_then(Path::parent).map(Path::to_path_buf);
    let Some(parent) = known.or_else(|| parent().ok()) else { return };
    let uid = nix::unistd::geteuid().as_raw();
    for folder in subfolders(&parent) {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ours =
            name.strip_prefix(PREFIX).is_some_and(|run| run.len() == 32 && run.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if !ours || !fs::metadata(&folder).is_ok_and(|meta| meta.uid() == uid) {
            continue;
        }
        // The lock is held until the directory is gone, so that nobody takes it over meanwhile. A populated one is refused by
        // the kernel as well.
        let Ok(lock) = open_folder(&folder).map(File::from) else { continue };
        if lock.try_lock().is_ok() && !(ProcessCgroup { path: folder.clone() }).populated() {
            remove(&folder);
        }
    }
}

/// Why a limit that a controller (`cpu`, `memory`, `pids`) would keep is not in effect here; `None`: it is.
#[must_use]
pub fn missing_controller(controller: &str) -> Option<String> {
    let parent = match parent() {
        Ok(parent) => parent,
        Err(error) => return Some(error.to_string()),
    };
    // Root may hand a controller down from the top; anybody else has those that were handed down to them, and the directory
    // they stand in holds processes, so that it cannot hand on more than it does already.
    let file = if nix::unistd::geteuid().is_root() { "cgroup.controllers" } else { "cgroup.subtree_control" };
    let there = fs::read_to_string(parent.join(file)).unwrap_or_default();
    let has = there.split_whitespace().any(|word| word == controller);
    (!has).then(|| format!("cgroup v2 has no {controller} controller for us"))
}

/// Where a run's directory is made. Root takes the top of the tree; anybody else can only have what was delegated to them,
/// which is where they are.
///
/// # Errors
/// Why there is none.
pub fn parent() -> Result<PathBuf, CgroupError> {
    let mount = mount_point().ok_or(CgroupError::NotMounted)?;
    if nix::unistd::geteuid().is_root() {
        return Ok(mount.clone());
    }
    let text = fs::read_to_string("/proc/self/cgroup").map_err(CgroupError::Io)?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).ok_or(CgroupError::NotInOne)?;
    Ok(mount.join(own))
}

/// The last two parts of a group's path.
#[must_use]
pub fn key(path: &Path) -> Option<String> {
    Some(format!("{}/{}", path.parent()?.file_name()?.to_str()?, path.file_name()?.to_str()?))
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Removes a directory and those that a service made below it. The kernel lets go of an emptied group a moment after its last
/// member was reaped, so a busy answer is asked again for a few milliseconds; a directory that stays does no harm.
fn remove(path: &Path) {
    for attempt in 0..10 {
        for folder in subfolders(path) {
            remove(&folder);
        }
        match remove_folder(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < 9 => {
                std::thread::sleep(Duration::from_micros(300));
            }
            _ => return,
        }
    }
}

/// Where cgroup2 is mounted; hybrid systems have it beside the old hierarchies.
fn mount_point() -> Option<&'static PathBuf> {
    static MOUNT: OnceLock<Option<PathBuf>> = OnceLock::new();
    MOUNT
        .get_or_init(|| {
            let text = HAS_CGROUPS.then(|| fs::read_to_string("/proc/self/mountinfo").ok()).flatten()?;
            text.lines().find_map(|line| {
                let (before, after) = line.split_once(" - ")?;
                (after.split(' ').next()? == "cgroup2").then(|| PathBuf::from(before.split(' ').nth(4).unwrap_or_default()))
            })
        })
        .as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_path_outside_the_cgroup_mount_is_neither_written_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (precious, group) = (dir.path().join("precious"), dir.path().join("devrun-x/y"));
        fs::write(&precious, "precious").unwrap();
        fs::create_dir_all(&group).unwrap();
        std::os::unix::fs::symlink(&precious, group.join("cgroup.kill")).unwrap();
        assert!(ProcessCgroup::recorded(&group).is_none());
        // Nor by a path that only seems to be below the mount, and not by a group made before it was replaced.
        if let Some(mount) = mount_point() {
            let up: PathBuf = mount.components().skip(1).map(|_| Component::ParentDir).collect();
            assert!(ProcessCgroup::recorded(&mount.join(up).join(group.strip_prefix("/").unwrap())).is_none());
        }
        let replaced = ProcessCgroup { path: group.clone() };
        assert!(replaced.kill().is_err());
        replaced.remove();
        assert!(!replaced.remove_empty());
        remove_run(&dir.path().join("devrun-x"));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert!(group.join("cgroup.kill").is_symlink());
    }
}
