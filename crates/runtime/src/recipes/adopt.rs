//! Data that something else has made: what is looked at before it is taken over.

use super::recipes_with_code;
use crate::init::{self, Adoption};
use devrun_model::{Failure, RecipeUse, VolumeSpec};

/// Takes over the data in a volume for a service of this recipe; `version` is that of the binaries it will run with.
///
/// # Errors
/// `Task` where there is no such data, `Binary` for another major version, `Elsewhere` while something uses it.
pub fn adopt(volume: &VolumeSpec, recipe: &RecipeUse, version: &str) -> Result<Adoption, Failure> {
    let name = recipe.recipe.name.as_str();
    let server = recipes_with_code::recipe_code(name);
    let is_data = |folder: &_| server.is_data(name, folder);
    init::adopt(volume, name, server.secrets_in_data(), is_data, |folder| server.check_data(folder, version))
}
