//! Finding and fetching, as the other layers ask for it.

use super::fetch_options::FetchOptions;
use super::located::Located;
use super::select;
use devrun_model::{Failure, RecipeUse};

/// Finds or fetches, in the contract's order.
///
/// # Errors
/// `Binary` with an install hint where nothing fits, `Integrity` where a pin does not hold.
pub async fn locate(recipe: &RecipeUse, options: &FetchOptions) -> Result<Located, Failure> {
    select::find(recipe, options, select::SelectMode::Run).await
}

/// Finds and never fetches: `devrun which`, `doctor`.
///
/// # Errors
/// As [`locate`]; what could be fetched is named in the help.
pub async fn which(recipe: &RecipeUse, options: &FetchOptions) -> Result<Located, Failure> {
    select::find(recipe, options, select::SelectMode::Look).await
}

/// Whether a start would find it or could fetch it; nothing is fetched and nothing is run. An installed server that no one has asked for
/// its version counts as the one that is wanted.
///
/// # Errors
/// `Binary` where it is not on this machine and no source has it, or none may be used as there is no network.
pub async fn check(recipe: &RecipeUse, options: &FetchOptions) -> Result<(), Failure> {
    select::find(recipe, options, select::SelectMode::Offer).await.map(drop)
}

/// Into the store, whatever the system has: `devrun fetch NAME`.
///
/// # Errors
/// As [`locate`].
pub async fn fetch(recipe: &RecipeUse, options: &FetchOptions) -> Result<Located, Failure> {
    select::find(recipe, options, select::SelectMode::Store).await
}

/// All of a project at once, each as [`locate`]; results in the order of the arguments.
pub async fn fetch_all(recipes: &[RecipeUse], options: &FetchOptions) -> Vec<Result<Located, Failure>> {
    futures_util::future::join_all(recipes.iter().map(|recipe| locate(recipe, options))).await
}

/// The newest that fits, whatever is pinned, and pins that: `devrun lock --update`.
///
/// # Errors
/// As [`locate`]; the lock is then as it was.
pub async fn lock_update(recipe: &RecipeUse, options: &FetchOptions) -> Result<Located, Failure> {
    select::find(recipe, options, select::SelectMode::Update).await
}

/// Names of the programs that a recipe's binaries may bring.
#[must_use]
pub fn tool_names(recipe: &devrun_model::RecipeData) -> Vec<String> {
    // A catalogue that cannot be read is an error of the look-up itself.
    let optional = crate::catalog::Catalog::of(&recipe.name).map(|catalog| catalog.optional).unwrap_or_default();
    recipe.bin.iter().cloned().chain(optional).collect()
}
