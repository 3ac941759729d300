//! A server's own directory in its volume, and the version that made what is there.

use std::path::PathBuf;

use super::context::RecipeContext;
use crate::init::Sentinel;
use devrun_model::{Failure, FailureKind, VolumeSpec};

/// The engine's own directory in a volume: the sentinel lies next to it, as some engines demand an empty directory and others
/// take every directory at their root for content.
#[must_use]
pub fn engine_dir(volume: &VolumeSpec, recipe: &str) -> PathBuf {
    volume.path.join(recipe).join("data")
}

/// Refuses data that a newer major version of the server made: such servers move data on, and never back.
pub(super) fn refuse_newer_data(context: &RecipeContext<'_>, sentinel: &Sentinel, volume: &VolumeSpec) -> Result<(), Failure> {
    let number = |version: &str| version.split('.').next().and_then(|first| first.parse::<u32>().ok());
    let name = &context.recipe.recipe.name;
    let (made, ours) = (&sentinel.tool, &context.located.version);
    match (number(made), number(ours)) {
        (Some(then), Some(now)) if then > now => Err(Failure::new(
            FailureKind::Binary,
            format!("the data in {} was made by {name} {made}, and {name} {ours} cannot read it", volume.path.display()),
        )
        .help(format!("use = \"{name}@{then}\"; or start over without the data: devrun clean --only {}", volume.name))),
        _ => Ok(()),
    }
}
