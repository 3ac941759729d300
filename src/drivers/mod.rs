//! Effects, one folder each. A driver does what it is told and reports; it never decides.

pub mod fetch;
pub mod init;
pub mod input;
pub mod journal;
pub mod location;
pub mod lock;
pub mod logs;
pub mod mask_hashes;
pub mod ownership;
pub mod ports;
pub mod probe;
pub mod process;
pub mod removal;
pub mod runtime_dir;
pub mod secrets;
pub mod stats;
pub mod user;
pub mod watch;
