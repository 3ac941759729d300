//! cgroup v2 where it can be had: one folder a run, one below it for each process.
//!
//! Owns making, killing, asking and removing. Never a condition: without write access everything works by the tree alone,
//! and the keeper's `Ready` says so.
//!
//! A keeper locks its run's folder. One that nobody has locked and in which nothing lives is what a run left whose journal
//! was lost with it, so nobody else would ever know of it: the end of any run of the same user takes such folders away.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::keeper::SpawnSpec;

/// How the folder of a run begins; 32 hexadecimal digits follow.
const PREFIX: &str = "devrun-";

/// The folder of a run.
#[derive(Debug)]
pub struct Groups {
    base: PathBuf,
    // Held as long as the keeper lives. What it forks has it until exec.
    _lock: File,
}

/// The folder of one process.
#[derive(Debug, Clone)]
pub struct Group {
    path: PathBuf,
}

impl Groups {
    /// Makes the run's folder.
    ///
    /// # Errors
    /// Why it cannot be had here, as a fragment.
    pub fn make(run: &str) -> Result<Self, String> {
        let base = parent()?.join(format!("{PREFIX}{run}"));
        let lock = own(&base).map_err(|error| error.to_string())?;
        let usable =
            OpenOptions::new().write(true).open(base.join("cgroup.procs")).and_then(|_| fs::metadata(base.join("cgroup.kill")));
        match usable {
            Ok(_) => Ok(Self { base, _lock: lock }),
            Err(error) => {
                remove(&base);
                Err(error.to_string())
            }
        }
    }
    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.base
    }
    /// Makes a process's folder and opens it; a child is made in it, or writes itself into its `cgroup.procs`.
    ///
    /// # Errors
    /// What the system says; the process is then started without one.
    pub fn group(&self, spec: &SpawnSpec) -> io::Result<(Group, File)> {
        let path = self.recorded(spec);
        fs::create_dir(&path)?;
        self.limit(&path, spec);
        match File::open(&path) {
            Ok(folder) => Ok((Group { path }, folder)),
            Err(error) => {
                remove(&path);
                Err(error)
            }
        }
    }
    /// `limits.cpu` and `limits.memory`, before the process is in it. What the kernel refuses is not in effect, which the
    /// one who asked for the start has been told by [`unlimited`].
    fn limit(&self, path: &Path, spec: &SpawnSpec) {
        let enable = |controller: &str| {
            for folder in [self.base.parent(), Some(self.base.as_path())].into_iter().flatten() {
                // A folder that has it enabled already takes the word as well.
                let _refused = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        };
        let set = |file: &str, value: String| {
            let _refused = fs::write(path.join(file), value);
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
    }
    /// Where the folder of a process is.
    #[must_use]
    pub fn recorded(&self, spec: &SpawnSpec) -> PathBuf {
        self.base.join(format!("{}.{}.{}", spec.service, spec.generation, spec.process))
    }
    /// Removes the run's folder once all below it is gone.
    pub fn remove(&self) {
        remove(&self.base);
    }
}

impl Group {
    /// A group by the path that a journal recorded; only below a folder of ours.
    #[must_use]
    pub fn recorded(path: &Path) -> Option<Self> {
        let parent = path.parent()?.file_name()?.to_str()?;
        (parent.starts_with(PREFIX) && path.is_dir()).then(|| Self { path: path.to_owned() })
    }
    /// The folder.
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
    /// What the system says; a folder that is gone is no error.
    pub fn kill(&self) -> io::Result<()> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
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
    /// Removes the folder.
    pub fn remove(&self) {
        remove(&self.path);
    }
    /// Removes the folder if nothing lives in it and nothing is below it: the kernel refuses otherwise, so this is the proof
    /// that it is empty and the tidying up in one call. True: it is gone.
    #[must_use]
    pub fn remove_empty(&self) -> bool {
        match fs::remove_dir(&self.path) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// Makes a run's folder, or takes over that of a keeper before us, and locks it.
fn own(base: &Path) -> io::Result<File> {
    for _ in 0..50 {
        match fs::create_dir(base) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let folder = match File::open(base) {
            // Somebody has taken it for abandoned.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        if folder.try_lock_shared().is_ok() && base.is_dir() {
            return Ok(folder);
        }
        // Who looks for abandoned ones holds it for an instant.
        std::thread::sleep(Duration::from_millis(1));
    }
    // Anybody may lock what he can open. Without the lock the folder may be taken away while it is empty, no more.
    File::open(base)
}

/// Removes the folders of runs of this user whose keeper is gone and in which nothing lives. `beside`: a run's folder, where
/// one is known.
pub fn remove_abandoned(beside: Option<&Path>) {
    use std::os::unix::fs::MetadataExt;
    let known = beside.and_then(Path::parent).map(Path::to_path_buf);
    let Some(parent) = known.or_else(|| parent().ok()) else { return };
    let uid = nix::unistd::geteuid().as_raw();
    for folder in subfolders(&parent) {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ours =
            name.strip_prefix(PREFIX).is_some_and(|run| run.len() == 32 && run.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if !ours || !fs::metadata(&folder).is_ok_and(|meta| meta.uid() == uid) {
            continue;
        }
        // The lock is held until the folder is gone, so that nobody takes it over meanwhile. A populated one is refused by
        // the kernel as well.
        let Ok(lock) = File::open(&folder) else { continue };
        if lock.try_lock().is_ok() && !(Group { path: folder.clone() }).populated() {
            remove(&folder);
        }
    }
}

/// Why a limit that a controller (`cpu`, `memory`) would keep is not in effect here; `None`: it is.
#[must_use]
pub fn unlimited(controller: &str) -> Option<String> {
    let parent = match parent() {
        Ok(parent) => parent,
        Err(why) => return Some(why),
    };
    // Root may hand a controller down from the top; anybody else has those that were handed down to them, and the folder
    // they stand in holds processes, so that it cannot hand on more than it does already.
    let file = if nix::unistd::geteuid().is_root() { "cgroup.controllers" } else { "cgroup.subtree_control" };
    let there = fs::read_to_string(parent.join(file)).unwrap_or_default();
    let has = there.split_whitespace().any(|word| word == controller);
    (!has).then(|| format!("cgroup v2 has no {controller} controller for us"))
}

/// Where a run's folder is made. Root takes the top of the tree; anybody else can only have what was delegated to them,
/// which is where they are.
///
/// # Errors
/// Why there is none, as a fragment.
pub fn parent() -> Result<PathBuf, String> {
    let mount = mount_point().ok_or("no cgroup2 is mounted")?;
    if nix::unistd::geteuid().is_root() {
        return Ok(mount);
    }
    let text = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("in no cgroup2")?;
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

/// Removes a folder and those that a service made below it. The kernel lets go of an emptied group a moment after its last
/// member was reaped, so a busy answer is asked again for a few milliseconds; a folder that stays does no harm.
fn remove(path: &Path) {
    for attempt in 0..10 {
        for folder in subfolders(path) {
            remove(&folder);
        }
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < 9 => {
                std::thread::sleep(Duration::from_micros(300));
            }
            _ => return,
        }
    }
}

/// Where cgroup2 is mounted; hybrid systems have it beside the old hierarchies.
fn mount_point() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    text.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2").then(|| PathBuf::from(before.split(' ').nth(4).unwrap_or_default()))
    })
}
