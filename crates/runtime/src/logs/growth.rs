//! Notice that logs have grown, without looking again and again: the kernel tells it (inotify(7)).
//!
//! A viewer waits for [`LogGrowth::changed`] and is not woken while nothing is written. Where there is no directory yet, where it was
//! removed, or where the system has no watches left, it looks twice a second until it can watch.

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
    /// The descriptor of the kernel's queue of notices. It is read as a pipe is.
    watch: Option<Receiver>,
}

impl LogGrowth {
    /// Watches a directory and those in it.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), watch: watch(folder) }
    }

    /// Returns when something was written since the last call.
    pub async fn changed(&mut self) {
        while let Some(queue) = &self.watch {
            if queue.readable().await.is_err() {
                self.watch = None;
                break;
            }
            let mut buffer = [0u8; BUFFER];
            let (mut any, mut removed) = (false, false);
            // What came is all the same, as everything is looked at; but the directory itself may be gone.
            while let Ok(count @ 1..) = queue.try_read(&mut buffer) {
                any = true;
                removed |= has_ended(buffer.get(..count).unwrap_or_default());
            }
            if removed {
                self.watch = None;
            }
            if any {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
        self.watch = watch(&self.folder);
    }
}

/// Whether one of the notices says that a watch has ended (IN_IGNORED). Each is of 16 bytes and a name, whose length is the last
/// of four numbers; the second is the mask.
fn has_ended(mut notices: &[u8]) -> bool {
    const IN_IGNORED: u32 = 0x8000;
    let number = |at: usize, from: &[u8]| Some(u32::from_ne_bytes(from.get(at..at + 4)?.try_into().ok()?));
    while let (Some(mask), Some(length)) = (number(4, notices), number(12, notices)) {
        if mask & IN_IGNORED != 0 {
            return true;
        }
        notices = notices.get(16 + length as usize..).unwrap_or_default();
    }
    false
}

#[cfg(target_os = "linux")]
fn watch(folder: &Path) -> Option<Receiver> {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
    inotify::add_watch(&queue, folder, what).ok()?;
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        // Further files of a service; where there is no watch left, they are seen with the next line of the service.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _unseen = inotify::add_watch(&queue, entry.path(), what);
        }
    }
    Receiver::from_owned_fd_unchecked(queue).ok()
}

#[cfg(not(target_os = "linux"))]
fn watch(_folder: &Path) -> Option<Receiver> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

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
            }
            assert!(tokio::time::timeout(Duration::from_millis(50), growth.changed()).await.is_err(), "{round}");
            std::fs::write(logs.join("a.log"), "x").unwrap();
            tokio::time::timeout(Duration::from_secs(10), growth.changed()).await.unwrap();
            assert!(tokio::time::timeout(Duration::from_millis(50), growth.changed()).await.is_err(), "{round}");
            std::fs::remove_dir_all(&logs).unwrap();
            growth.changed().await;
        }
    }
}
