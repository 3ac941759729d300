//! Postgres: what its image's entrypoint did before the server ever listened.
//!
//! `invoke` says how the server is started and refuses data it must not touch; `boot` is the first boot, whole in a stage;
//! `cluster` makes or copies the empty cluster; `scripts` are the user's init files. The unix socket stays in the private
//! runtime folder and is trusted, as the folder is the lock; every host connection is scram.

mod boot;
mod cluster;
mod invoke;
mod scripts;

use super::RotationRequest;
use devrun_model::{Failure, FailureKind};

/// Gives a running server its new password, through its private socket.
///
/// # Errors
/// `Task` when it does not take it.
pub(super) async fn renew(RotationRequest { old, new, places, volume }: RotationRequest<'_>) -> Result<(), Failure> {
    let volume = volume.ok_or_else(|| Failure::new(FailureKind::Internal, "a postgres without a volume"))?;
    let role = new.attribute("user").unwrap_or_else(|| "postgres".to_owned());
    let socket = socket_folder(places, old, volume);
    let (so_far, password) = (old.attribute("password"), new.attribute("password"));
    boot::alter(&role, password.as_deref(), so_far.as_deref(), &socket, old.port().unwrap_or(5432)).await
}

pub(super) use boot::first_boot;
pub(super) use cluster::last_lines;
pub use invoke::socket_folder;
pub(super) use invoke::{major, make_private, prepare};
