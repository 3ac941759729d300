//! Whether a directory answers. One on a network or FUSE mount whose server is gone blocks every system call that touches it, for ever
//! and out of reach of every signal: a thread that touches it can neither be ended nor let its process end. So another process
//! is asked first, and only about mounts that can fall silent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use devrun_model::{Failure, FailureKind, ServiceSpec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a directory may take. A network file system over a slow line answers in less.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How long an answer holds: the services of a stack mostly share one directory, and start together.
const ANSWER_HOLDS: Duration = Duration::from_millis(500);

/// Bytes that hold the mounts of most machines.
const READ_SIZE: usize = 16 * 1024;

/// File systems whose answers come from another process or machine, by the beginning of their names.
const REMOTE: [&str; 13] =
    ["fuse", "nfs", "cifs", "smb", "9p", "afs", "autofs", "ceph", "gluster", "lustre", "davfs", "virtiofs", "vboxsf"];

/// The directories of these that have not answered in time, all asked at once. Whatever is answered counts, also that there is none.
///
/// The process that asked stays until the mount answers or is taken away: it cannot be ended.
#[must_use]
pub fn silent<'a>(directories: impl IntoIterator<Item = &'a Path>, limit: Duration) -> Vec<PathBuf> {
    silent_of(&mut Mounts::default(), directories, limit)
}

/// The mounts of this process, read again only after a change.
#[derive(Debug, Default)]
struct Mounts {
    file: Option<File>,
    text: String,
}

impl Mounts {
    /// Without the file (another system, a /proc that is not mounted) nothing is known of mounts.
    fn text(&mut self) -> &str {
        let changed = self.file.as_ref().is_none_or(|file| {
            // The kernel marks an open mountinfo when a mount comes or goes: proc_pid_mounts(5).
            let mut wanted = [PollFd::new(file, PollFlags::PRI)];
            !matches!(poll(&mut wanted, Some(&Timespec::default())), Ok(0))
        });
        if changed {
            self.text.clear();
            self.file = File::open("/proc/self/mountinfo").ok();
            // Whole pages: the kernel makes the text of each read, however short.
            self.text.reserve(READ_SIZE);
            if let Some(file) = &mut self.file
                && file.read_to_string(&mut self.text).is_err()
            {
                self.file = None;
            }
        }
        &self.text
    }
}

/// Asks those that lie on mounts which can fall silent.
fn silent_of<'a>(mounts: &mut Mounts, directories: impl IntoIterator<Item = &'a Path>, limit: Duration) -> Vec<PathBuf> {
    let mounts = mounts.text();
    let remote = directories.into_iter().filter(|directory| is_remote(mounts, directory));
    let mut waiting: Vec<(PathBuf, Child)> =
        remote.filter_map(|directory| Some((directory.to_owned(), ask(directory)?))).collect();
    let deadline = Instant::now() + limit;
    while !waiting.is_empty() && Instant::now() < deadline {
        waiting.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        std::thread::sleep(Duration::from_millis(2));
    }
    waiting
        .into_iter()
        .map(|(directory, mut child)| {
            // Without effect on one that hangs.
            let _ends = child.kill();
            directory
        })
        .collect()
}

/// The directories of these that can fall silent, by the file systems that they lie on. None is asked or touched.
#[must_use]
pub fn remote<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Vec<&'a Path> {
    let mut mounts = Mounts::default();
    let text = mounts.text();
    directories.into_iter().filter(|directory| is_remote(text, directory)).collect()
}

/// `None` where there is no `ls`: then nothing can be asked, and the directory is taken as it is.
fn ask(directory: &Path) -> Option<Child> {
    Command::new("ls")
        .arg("-d")
        .arg("--")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

/// Whether the mount that a path lies on is one of a file system that can fall silent. Links in the path are not followed: that would
/// touch it.
fn is_remote(mountinfo: &str, path: &Path) -> bool {
    let mut found = (0, false);
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let point = before.split(' ').nth(4).unwrap_or_default().replace("\\040", " ");
        // The last mount over a place is the one that counts.
        if path.starts_with(&point) && point.len() >= found.0 {
            let kind = after.split(' ').next().unwrap_or_default();
            found = (point.len(), REMOTE.iter().any(|name| kind.starts_with(name)));
        }
    }
    found.1
}

/// Whether a directory answers, for who is about to touch it.
///
/// # Errors
/// `Config`, with what may be done.
pub fn check(directory: &Path) -> Result<(), Failure> {
    if silent([directory], ANSWER_LIMIT).is_empty() {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Config, format!("the directory {} does not answer", directory.display()))
        .help("a network or FUSE mount whose server is gone? umount -l the mount"))
}

/// What to say of a service whose directory does not answer.
#[must_use]
pub fn silent_failure(spec: &ServiceSpec) -> Failure {
    let (dir, table) = (spec.dir.display(), if spec.task.is_some() { "tasks" } else { "services" });
    Failure::new(FailureKind::Config, format!("{}: the directory {dir} does not answer", spec.service)).help(format!(
        "a network or FUSE mount whose server is gone? umount -l the mount, or correct {table}.{}.dir",
        spec.service
    ))
}

/// The directories that have answered lately.
#[derive(Debug, Default)]
pub(crate) struct DirectoryAnswers {
    answered: BTreeMap<PathBuf, Instant>,
    mounts: Mounts,
}

impl DirectoryAnswers {
    /// Asks the working directory of a service, unless it has just answered.
    pub(crate) fn check(&mut self, spec: &ServiceSpec) -> Result<(), Failure> {
        if self.answered.get(&spec.dir).is_some_and(|answered| answered.elapsed() < ANSWER_HOLDS) {
            return Ok(());
        }
        if !silent_of(&mut self.mounts, [spec.dir.as_path()], ANSWER_LIMIT).is_empty() {
            self.answered.remove(&spec.dir);
            return Err(silent_failure(spec));
        }
        self.answered.insert(spec.dir.clone(), Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 8:1 / / rw shared:1 - ext4 /dev/vda rw\n\
        40 22 0:40 / /home/me/far rw shared:9 - nfs4 server:/x rw\n\
        41 40 0:41 / /home/me/far/near rw - tmpfs tmpfs rw\n\
        42 22 0:42 / /srv/with\\040space rw - fuse.sshfs me@there: rw\n\
        43 22 0:43 / /over rw - fuse.sshfs me@there: rw\n\
        44 43 0:44 / /over rw - ext4 /dev/vdb rw\n";

    #[test]
    fn the_mount_that_counts_is_the_longest_and_the_last() {
        for (path, remote) in [
            ("/home/me", false),
            ("/home/me/far", true),
            ("/home/me/far/a/b", true),
            ("/home/me/farther", false),
            ("/home/me/far/near/a", false),
            ("/srv/with space/a", true),
            ("/over/a", false),
        ] {
            assert_eq!(is_remote(MOUNTS, Path::new(path)), remote, "{path}");
        }
    }

    #[test]
    fn mounts_are_read_again_only_after_a_change() {
        let mut mounts = Mounts::default();
        // Another process may mount something at this very moment, but not a hundred times in a row.
        let kept = (0..100).any(|_| {
            assert_eq!(mounts.text().contains(" / "), cfg!(target_os = "linux"));
            mounts.text.push_str("not read again");
            mounts.text().ends_with("not read again")
        });
        assert_eq!(kept, cfg!(target_os = "linux"));
    }

    #[test]
    fn what_is_there_and_what_is_not_both_answer() {
        for path in ["/", "/no/such/directory"] {
            let mut child = ask(Path::new(path)).unwrap();
            assert!(child.wait().is_ok());
        }
        assert_eq!(silent([Path::new("/")], Duration::from_secs(60)), Vec::<PathBuf>::new());
    }
}
