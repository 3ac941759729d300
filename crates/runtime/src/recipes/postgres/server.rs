//! What the code of the recipe does differently from its data.

use std::path::Path;

use super::super::context::RecipeContext;
use super::super::first_boot::FirstBoot;
use super::super::password_rotation::{PasswordRotation, RotationRequest};
use super::super::recipe::{Recipe, RecipeFuture};
use super::boot;
use super::invoke::{self, socket_folder};
use crate::exec_request::ExecRequest;
use devrun_model::{Failure, FailureKind};

/// The server and what its image's entrypoint did.
pub(in super::super) struct Postgres;

impl Recipe for Postgres {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        invoke::prepare(context)
    }
    fn first_boot<'a>(&'a self, context: &'a RecipeContext<'a>) -> RecipeFuture<'a, FirstBoot> {
        Box::pin(boot::first_boot(context))
    }
    fn password_rotation(&self) -> PasswordRotation {
        PasswordRotation::Anew
    }
    fn rotate_password<'a>(&'a self, request: RotationRequest<'a>) -> RecipeFuture<'a, bool> {
        Box::pin(async move { rotate_password(request).await.map(|()| true) })
    }
    fn is_data(&self, _name: &str, folder: &Path) -> bool {
        folder.join("PG_VERSION").is_file() && folder.join("global/pg_control").is_file()
    }
    fn check_data(&self, folder: &Path, version: &str) -> Result<String, Failure> {
        check_data(folder, version)
    }
    fn secrets_in_data(&self) -> &'static [&'static str] {
        &["password"]
    }
    fn temporary_settings(&self) -> &'static [(&'static str, &'static str)] {
        &[("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")]
    }
}

/// The version that made the data, unless another server uses it or this one cannot.
fn check_data(folder: &Path, version: &str) -> Result<String, Failure> {
    let file = folder.join("PG_VERSION");
    let made = std::fs::read_to_string(&file)
        .map_err(|error| Failure::new(FailureKind::Task, format!("{} cannot be read: {error}", file.display())))?;
    let (made, ours) = (made.trim().to_owned(), invoke::major(version));
    if made != ours {
        return Err(Failure::new(
            FailureKind::Binary,
            format!("the data in {} was made by postgres {made}, and postgres {version} cannot read it", folder.display()),
        )
        .help(format!("use = \"postgres@{made}\"")));
    }
    let holder = std::fs::read_to_string(folder.join("postmaster.pid")).unwrap_or_default();
    let pid = holder.lines().next().and_then(|line| line.trim().parse::<i32>().ok()).filter(|pid| *pid > 1);
    if let Some(pid) = pid
        && devrun_keeper::process_list::stat(pid).is_some()
    {
        return Err(Failure::new(
            FailureKind::Elsewhere,
            format!("the data in {} is in use by pid {pid}, as its postmaster.pid says", folder.display()),
        )
        .help("stop that server first; where it is none, remove the file postmaster.pid"));
    }
    Ok(made)
}

/// Gives a running server its new password, through its private socket.
///
/// # Errors
/// `Task` when it does not take it.
async fn rotate_password(RotationRequest { old, new, places, volume }: RotationRequest<'_>) -> Result<(), Failure> {
    let volume = volume.ok_or_else(|| Failure::new(FailureKind::Internal, "a postgres without a volume"))?;
    let role = new.attribute("user").unwrap_or_else(|| "postgres".to_owned());
    let socket = socket_folder(places, old, volume);
    let (so_far, password) = (old.attribute("password"), new.attribute("password"));
    boot::alter(&role, password.as_deref(), so_far.as_deref(), &socket, old.port().unwrap_or(5432)).await
}
