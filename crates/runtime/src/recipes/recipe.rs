//! What the code of a recipe may do differently from its data.
//!
//! Every method has a default that reads the recipe's data alone; a server that needs more has a type in its own file, and its
//! name stands once, in `recipes_with_code::recipe_code`.

use std::path::Path;
use std::pin::Pin;

use super::context::RecipeContext;
use super::first_boot::FirstBoot;
use super::generic;
use super::password_rotation::{PasswordRotation, RotationRequest};
use crate::exec_request::ExecRequest;
use devrun_model::{Failure, ServiceSpec};

/// A future that a trait object returns.
pub(super) type RecipeFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

pub(super) trait Recipe: Send + Sync {
    /// What to exec, and the files to write before.
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        generic::prepare(context)
    }
    /// The first boot, staged and renamed; nothing where the data exists.
    fn first_boot<'a>(&'a self, context: &'a RecipeContext<'a>) -> RecipeFuture<'a, FirstBoot> {
        Box::pin(generic::first_boot(context))
    }
    /// How a server whose data was made with a password comes to another one.
    fn password_rotation(&self) -> PasswordRotation {
        PasswordRotation::Never
    }
    /// Gives the running server a new password. `false`: it takes one at its start only.
    fn rotate_password<'a>(&'a self, _request: RotationRequest<'a>) -> RecipeFuture<'a, bool> {
        Box::pin(std::future::ready(Ok(false)))
    }
    /// Whether a directory that something else made looks like its data; `name` is the recipe's.
    fn is_data(&self, name: &str, folder: &Path) -> bool {
        // No more is known than that there is something that is not from an earlier first boot.
        contains(folder, |entry| !entry.starts_with('.') && entry != name && entry != "lost+found")
    }
    /// Refuses data that binaries of this version cannot read, or that is in use. Returns the version that made it.
    fn check_data(&self, _folder: &Path, version: &str) -> Result<String, Failure> {
        Ok(version.to_owned())
    }
    /// The attributes that the data was made with.
    fn secrets_in_data(&self) -> &'static [&'static str] {
        &[]
    }
    /// Whether its stop signal would not end it, as it cannot write its data first: process `pid` with its data in `folder`.
    fn cannot_save(&self, _pid: i32, _folder: &Path) -> bool {
        false
    }
    /// Ends such a server without saving. The stop signal follows.
    fn end_without_saving<'a>(&'a self, _spec: &'a ServiceSpec) -> RecipeFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// Settings of a copy whose data need not survive a loss of power.
    fn temporary_settings(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

/// A recipe that is data alone.
pub(super) struct DataRecipe;

impl Recipe for DataRecipe {}

/// Whether the directory has an entry like this.
pub(super) fn contains(folder: &Path, wanted: impl Fn(&str) -> bool) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).any(|name| wanted(&name))
}
