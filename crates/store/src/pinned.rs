//! Which entry of `devrun.lock` holds for one use of a recipe. Two Postgres of one version with different extensions have a source and
//! an entry each: no source has them all.

use super::catalog::Catalog;
use super::extensions::{self, Coverage};
use super::lockfile::{LockEntry, LockFile};
use super::platform;
use devrun_model::{Failure, FailureKind, RecipeUse};

/// The newest entry that fits and is not known to lack an extension.
pub(super) fn entry(
    lock: &LockFile,
    recipe: &RecipeUse,
    catalog: &Catalog,
    fits: impl Fn(&LockEntry) -> bool,
) -> Option<LockEntry> {
    let entries = lock.of(&recipe.recipe.name, &platform::current());
    entries.into_iter().find(|entry| fits(entry) && !is_known_to_lack(catalog, entry, &recipe.extensions)).cloned()
}

/// Whether the pinned source is one that the catalogue knows to lack an extension.
fn is_known_to_lack(catalog: &Catalog, pin: &LockEntry, wanted: &[String]) -> bool {
    let sources = catalog.versions.iter().filter(|version| version.version == pin.version).flat_map(|one| &one.sources);
    let mut pinned = sources.filter(|source| source.label() == pin.source);
    pinned.any(|source| extensions::coverage(source, wanted) == Coverage::Lacking)
}

/// What the lock pins lacks an extension that the procfile asks for, as its files show.
pub(super) fn lacks(pin: &LockEntry, wanted: &[String]) -> Failure {
    let names = wanted.join(", ");
    Failure::new(
        FailureKind::Binary,
        format!("devrun.lock pins {} {} from {}, which lacks {names}", pin.name, pin.version, pin.source),
    )
    .help(format!("to choose a source that has it: devrun lock --update {}", pin.name))
}
