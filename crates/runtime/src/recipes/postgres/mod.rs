//! Postgres: what its image's entrypoint did before the server ever listened.
//!
//! `invoke` says how the server is started and refuses data it must not touch; `boot` is the first boot, whole in a stage;
//! `cluster` makes or copies the empty cluster; `scripts` are the user's init files. The unix socket stays in the private
//! runtime folder and is trusted, as the folder is the lock; every host connection is scram.

mod boot;
mod boot_progress;
mod cluster;
mod invoke;
mod scripts;
mod server;

pub use invoke::socket_folder;
pub(super) use server::Postgres;
