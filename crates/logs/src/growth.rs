//! Notice that logs have grown, without looking again and again: the kernel tells it (inotify(7)).
//!
//! A viewer waits for [`LogGrowth::changed`] and is not woken while nothing is written. Each watch tells one write and no more
//! (`IN_ONESHOT`): a service that writes a thousand lines a second would wake a viewer as often, although it shows them four times
//! a second. [`LogGrowth::arm`] watches again; what is read after it is not older than the next notice.
//! Where there is no directory yet, where it was removed, or where the system has no watches left, it looks twice a second until it
//! can watch.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;

/// How often is looked where the kernel tells nothing.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of notices that are read at once.
const BUFFER: usize = 16 * 1024;

/// A watch on the directory of the logs.
#[derive(Debug)]
pub struct LogGrowth {
    folder: PathBuf,
    /// The kernel's queue of notices; `None` while the directory cannot be watched.
    watch: Option<Receiver>,
}

impl LogGrowth {
    /// Watches a directory and those in it.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let mut growth = Self { folder: folder.to_path_buf(), watch: None };
        growth.arm();
        growth
    }

    /// Watches again after [`LogGrowth::changed`] has returned. The logs are read after this.
    pub fn arm(&mut self) {
        if let Some(queue) = &self.watch {
            drain(queue);
            if add_watches(queue, &self.folder) {
                return;
            }
        }
        self.watch = queue().filter(|queue| add_watches(queue, &self.folder));
    }

    /// Returns when something was written since [`LogGrowth::arm`]. Then it reports nothing until that is called again.
    pub async fn changed(&mut self) {
        while let Some(queue) = &self.watch {
            if queue.readable().await.is_err() {
                self.watch = None;
                break;
            }
            if drain(queue) {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes all notices; what they say is all the same, as everything is looked at. False where there are none.
fn drain(queue: &Receiver) -> bool {
    let mut buffer = [0u8; BUFFER];
    let mut any = false;
    while let Ok(1..) = queue.try_read(&mut buffer) {
        any = true;
    }
    any
}

/// The kernel's queue is read as a pipe is.
#[cfg(target_os = "linux")]
fn queue() -> Option<Receiver> {
    use rustix::fs::inotify::{self, CreateFlags};
    if !devrun_keeper::HAS_FILE_NOTICES {
        return None;
    }
    let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    Receiver::from_owned_fd_unchecked(queue).ok()
}

/// False where the directory cannot be watched.
#[cfg(target_os = "linux")]
fn add_watches(queue: &Receiver, folder: &Path) -> bool {
    use rustix::fs::inotify::{self, WatchFlags};
    let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::ONESHOT;
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    for entry in entries.flatten() {
        // Further files of a service; where there is no watch left, they are seen with the next line of the service.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _unseen = inotify::add_watch(queue, entry.path(), what);
        }
    }
    inotify::add_watch(queue, folder, what).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn queue() -> Option<Receiver> {
    None
}

#[cfg(not(target_os = "linux"))]
fn add_watches(_queue: &Receiver, _folder: &Path) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    async fn is_silent(growth: &mut LogGrowth) -> bool {
        tokio::time::timeout(Duration::from_millis(50), growth.changed()).await.is_err()
    }

    #[tokio::test]
    async fn a_write_wakes_and_silence_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        let mut growth = LogGrowth::new(&logs);
        // Not there yet, made, removed, made again.
        for round in 0..2 {
            std::fs::create_dir(&logs).unwrap();
            while growth.watch.is_none() {
                growth.changed().await;
                growth.arm();
            }
            assert!(is_silent(&mut growth).await, "{round}");
            std::fs::write(logs.join("a.log"), "x").unwrap();
            tokio::time::timeout(Duration::from_secs(10), growth.changed()).await.unwrap();
            growth.arm();
            assert!(is_silent(&mut growth).await, "{round}");
            std::fs::remove_dir_all(&logs).unwrap();
            growth.changed().await;
            growth.arm();
        }
    }

    #[tokio::test]
    async fn one_write_of_many_wakes_until_it_is_armed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("further")).unwrap();
        let mut growth = LogGrowth::new(dir.path());
        let (own, further) = (dir.path().join("a.log"), dir.path().join("further/b.log"));
        std::fs::write(&own, "x").unwrap();
        growth.changed().await;
        for _ in 0..100 {
            std::fs::write(&own, "x").unwrap();
        }
        assert!(is_silent(&mut growth).await, "it was reported once");
        growth.arm();
        for path in [&further, &own] {
            std::fs::write(path, "x").unwrap();
            tokio::time::timeout(Duration::from_secs(10), growth.changed()).await.unwrap();
        }
        growth.arm();
        assert!(is_silent(&mut growth).await);
    }
}
