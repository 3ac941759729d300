//! `watch`: tells which service's files changed, once things are quiet again.
//!
//! Directories are watched one by one rather than recursively by the library, so that those which no one means (`.git`,
//! `node_modules`, our own state) cost nothing and cannot trigger anything. Only writes, creations, renames and removals
//! count; reading a file or changing its mode does not.
//!
//! What a glob means is looked for by name: the directories above it are watched too, and a directory that was removed and made
//! again is another one (by its inode), which is watched too. Where the system has no watches left, files are polled.

mod folders;
mod report;
mod thread;
mod watcher;

pub use report::WatchReport;
pub use watcher::{FileWatcher, WatchedFiles};
