//! How a server whose data was made with a password comes to another one.

use crate::init::{self, PendingPassword};
use crate::secrets;
use devrun_model::{Failure, Paths, ServiceSpec, VolumeSpec};

/// How a server whose data was made with a password comes to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordRotation {
    /// Whoever has its data may set one.
    Anew,
    /// It takes one only from who knows the old one.
    FromOld,
    /// Not by us.
    Never,
}

/// The mark of a volume whose password is to be set to the one that this definition has. One that was resolved before the
/// secret was renewed leaves the mark to the next.
pub(super) fn pending_rotation(volume: &VolumeSpec, password: Option<&str>) -> Result<Option<PendingPassword>, Failure> {
    let Some(due) = init::pending_password(&volume.path) else { return Ok(None) };
    let (Some(folder), Some(name)) = (due.secret.parent(), due.secret.file_name().and_then(|name| name.to_str())) else {
        return Ok(None);
    };
    let secret = secrets::read(folder, name)?;
    let fits = password.zip(secret).is_some_and(|(password, secret)| password.contains(&secret));
    Ok(fits.then_some(due))
}

/// A server that runs by one definition and is to have the password of another.
#[derive(Clone, Copy)]
pub(super) struct RotationRequest<'a> {
    pub old: &'a ServiceSpec,
    pub new: &'a ServiceSpec,
    pub places: &'a Paths,
    pub volume: Option<&'a VolumeSpec>,
}
