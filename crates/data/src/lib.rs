//! Saved data: what a stack's volumes hold, copied, kept and put back.
//!
//! - `tree_copy`: a whole directory tree, copy-on-write where the file system can
//! - `snapshot_manifest`, `snapshot_store`: snapshots under their names; each appears by one rename and goes by one
//! - `volume_swap`, `swap_record`: replaces the contents of volumes by staged ones, all or none, whatever is killed when
//! - `archive`, `backup_manifest`: a data directory as one file, and the file next to it that says what it is
//! - `object_archive`: objects of an S3 server with their metadata as one file
//! - `git_head`: the branch and commit that the data belong to
//!
//! It knows no server, no process and no supervisor: who may be writing meanwhile is the caller's business.

#![forbid(unsafe_code)]

mod archive;
mod backup_manifest;
mod cancel;
mod durable;
mod git_head;
mod object_archive;
mod snapshot_manifest;
mod snapshot_store;
mod swap_record;
mod tree_copy;
mod volume_swap;

pub use archive::{hash_file, pack, unpack};
pub use backup_manifest::{BackupFormat, BackupManifest, manifest_path};
pub use cancel::CopyCancel;
pub use durable::{nonce, now, replace_durably, sync_file_system};
pub use git_head::GitHead;
pub use object_archive::{ArchivedBucket, ArchivedEntry, ArchivedItem, ArchivedObject, ObjectArchive, ObjectArchiveWriter};
pub use snapshot_manifest::{DataEngine, SnapshotManifest, SnapshotService, SnapshotVolume};
pub use snapshot_store::{SnapshotStage, SnapshotStore, check_name};
pub use tree_copy::{CopyReport, can_clone, copy_tree, free_bytes, tree_bytes};
pub use volume_swap::{KeptData, PendingSwap, SwapStage};
