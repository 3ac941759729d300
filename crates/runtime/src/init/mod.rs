//! One-time work on disk: the stage of a first boot, sentinels of tasks, intent records.
//!
//! Owns what must be true of the file system at every instant, whatever is killed when: a first boot is built in a stage
//! inside its volume and appears by one rename (`staging`), a task is begun and sealed by records that survive a power cut
//! (`task_status`), the bare output of a slow `initdb` is kept for the next volume (`cache`). Owns no process and no server:
//! what happens inside a stage is the recipes' business, which keeps every step here testable with plain closures.

mod adopt;
mod cache;
mod durable;
mod hash;
mod pending_password;
pub(crate) mod remove_tree;
mod staging;
mod task_record;
mod task_status;

pub use adopt::{Adoption, adopt};
pub use cache::{CacheDraft, cache_folder, copy_tree, create_draft, find_cached};
pub use durable::{nonce, now, sync_folder, write_durably};
pub use hash::{hash_file, hash_files, hash_inputs, hash_start_of_file};
pub use pending_password::{PendingPassword, clear_pending_password, mark_password_pending, pending_password};
pub use staging::{SENTINEL, Sentinel, Staging, VolumeState, open_volume, sentinel, volume_id};
pub use task_status::{TaskStatus, begin_task, commit_task, forget_task, rollback_task, task_status};
