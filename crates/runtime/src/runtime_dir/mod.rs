//! The directories of one project: where they are, and that they are ours alone.
//!
//! Owns finding, making and checking of the state directory (`.devrun/`) and of the short runtime directory for sockets and
//! rendered files. Owns no file in them. The runtime directory depends on `XDG_RUNTIME_DIR`, which differs between a login
//! and a cron job, so the first supervisor writes its path down in the state directory and everybody else reads it there.
//!
//! Nothing in a directory is believed before owner and mode of the directory were looked at, for root as for everybody, and before
//! it was compared with where it says that it lies ([`devrun_keeper::state_location`]).

mod claim;
mod files;
mod handover;
mod locate;
mod named_path;
mod pointers;
mod prepare;
mod private;

pub use claim::claim;
pub use files::{append, empty, replace, write_named, write_private};
pub use handover::{give, hand_over, impassable};
pub use locate::{ephemeral, ephemeral_of, locate, places_of_ephemeral, ports_file, stacks};
pub use named_path::resolve;
pub use pointers::{STATE, is_ephemeral};
pub use prepare::{ensure_run, lacks_pointer, prepare, remove_run};
pub use private::{check_private, is_private, make_private};
