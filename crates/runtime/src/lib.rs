//! What acts: the engine's loop, the drivers it calls, the recipes, and the channel that others reach it by.
//!
//! - `engine`: the only loop; events for the core, and the core's actions as calls of drivers
//! - `probe`, `ports`, `init`, `secrets`, `stats`, `watch`, `runtime_dir`: drivers, one effect each; a driver does what
//!   it is asked and reports, and never decides
//! - `exec_request`: what the process of a service is, before it is one
//! - `recipes`: what a server needs: arguments, first boot, work against it
//! - `control`: the protocol of the unix socket, its server and its client
//!
//! Processes are the keeper's (`devrun_keeper`), their output is in `devrun_logs`, binaries the store's (`devrun_store`).

#![deny(unsafe_code)]

pub mod control;
pub mod copy_names;
pub mod directory_answers;
pub mod engine;
pub mod exec_request;
pub mod file_glob;
pub mod init;
pub mod local_time;
pub mod mask_hashes;
pub mod object_store;
pub mod ports;
pub mod probe;
pub mod recipes;
pub mod removal;
pub mod runtime_dir;
pub mod secrets;
mod sigv4;
pub mod stats;
pub mod trace_masks;
pub mod user;
pub mod watch;
