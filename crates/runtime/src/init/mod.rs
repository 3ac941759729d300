//! One-time work on disk: the stage of a first boot, sentinels of tasks, intent records.
//!
//! Owns what must be true of the file system at every instant, whatever is killed when: a first boot is built in a stage
//! inside its volume and appears by one rename (`stage`), a task is begun and sealed by records that survive a power cut
//! (`record`), the bare output of a slow `initdb` is kept for the next volume (`cache`). Owns no process and no server:
//! what happens inside a stage is the recipes' business, which keeps every step here testable with plain closures.

mod adopt;
mod cache;
mod due;
mod durable;
mod hash;
mod record;
pub(crate) mod remove;
mod stage;

pub use adopt::{Adopted, adopt};
pub use cache::{Draft, cache_folder, copy_tree, draft, find};
pub use due::{Due, due, mark_due, settle_due};
pub use durable::{nonce, now, sync_folder, write_durably};
pub use hash::{hash_file, hash_inputs};
pub use record::{Standing, abandon, begin, forget, seal, standing};
pub use stage::{Opened, SENTINEL, Sentinel, Stage, open, sentinel, volume_id};
