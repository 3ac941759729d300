//! Notice that the state directory was deleted under a running stack: the lock file of its supervisor has no name any more.
//!
//! Without it nothing keeps a second supervisor from starting the same services, and the journal that a later clean-up works from
//! is gone too; so the stack is stopped while it is still known. The kernel tells it (inotify(7)): IN_ATTRIB comes when a link is
//! removed. A project that is moved keeps its lock file, and goes on.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use devrun_keeper::lock::InstanceLock;
use tokio::net::unix::pipe::Receiver;

/// How often is looked where the kernel tells nothing: no inotify, or no watches left.
const LOOK: Duration = Duration::from_secs(5);
/// Bytes of notices that are read at once.
const BUFFER: usize = 4096;

/// Returns when the file of the lock was deleted.
pub async fn lock_deleted(lock: &InstanceLock) {
    let mut watch = Watch::of(lock.as_fd());
    // The first look comes after the watch, so that nothing is missed in between.
    while lock.is_linked() {
        let readable = match &watch {
            Some(watch) => watch.queue.readable().await.is_ok(),
            None => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        let mut buffer = [0u8; BUFFER];
        // What came is all the same, as the file is looked at.
        while let Some(Ok(1..)) = watch.as_ref().map(|watch| watch.queue.try_read(&mut buffer)) {}
        if !readable {
            watch = None;
        }
    }
}

/// Whether the path leads to another file than the lock's: another run has begun there.
pub fn is_of_another_run(lock: &InstanceLock, path: &Path) -> bool {
    match (std::fs::symlink_metadata(path), lock.file_id()) {
        (Ok(meta), Ok(own)) => (meta.dev(), meta.ino()) != own,
        _ => false,
    }
}

/// The notices of one file.
struct Watch {
    queue: Receiver,
    #[cfg(target_os = "linux")]
    number: i32,
}

impl Watch {
    /// By the descriptor: the path may lead elsewhere by now.
    #[cfg(target_os = "linux")]
    fn of(file: BorrowedFd<'_>) -> Option<Self> {
        use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
        if !devrun_keeper::HAS_FILE_NOTICES {
            return None;
        }
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let number = inotify::add_watch(&queue, own.as_str(), WatchFlags::ATTRIB | WatchFlags::DELETE_SELF).ok()?;
        Some(Self { queue: Receiver::from_owned_fd_unchecked(queue).ok()?, number })
    }
    #[cfg(not(target_os = "linux"))]
    fn of(_file: BorrowedFd<'_>) -> Option<Self> {
        None
    }
}

/// A queue that is closed with a watch on it waits until every processor has passed a point of rest (8 to 17 ms, in the close or in
/// the end of the process); one without watches does not.
#[cfg(target_os = "linux")]
impl Drop for Watch {
    fn drop(&mut self) {
        // A deleted file's watch is gone already.
        let _gone = rustix::fs::inotify::remove_watch(&self.queue, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(path: &Path) -> InstanceLock {
        InstanceLock::take(path).unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[tokio::test]
    async fn a_deleted_lock_is_noticed_and_a_moved_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let lock = take(&state.join("lock"));
        let deleted = lock_deleted(&lock);
        tokio::pin!(deleted);
        let short = Duration::from_millis(50);
        assert!(tokio::time::timeout(short, &mut deleted).await.is_err());
        let moved = dir.path().join("moved");
        std::fs::rename(&state, &moved).unwrap();
        assert!(tokio::time::timeout(short, &mut deleted).await.is_err(), "moved");
        assert!(!is_of_another_run(&lock, &state.join("lock")));
        std::fs::remove_dir_all(&moved).unwrap();
        tokio::time::timeout(Duration::from_secs(10), &mut deleted).await.unwrap();
        std::fs::create_dir(&state).unwrap();
        let next = take(&state.join("lock"));
        assert!(is_of_another_run(&lock, &state.join("lock")));
        assert!(!is_of_another_run(&next, &state.join("lock")));
        // One that was deleted before anything was watched.
        tokio::time::timeout(Duration::from_secs(10), lock_deleted(&lock)).await.unwrap();
    }
}
