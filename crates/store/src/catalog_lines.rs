//! What the catalogue offers, line by line.

use super::catalog::{Catalog, CatalogSource};
use super::platform;
use super::store::Store;
use devrun_model::Failure;

/// One line of `devrun catalog`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CatalogLine {
    /// The recipe.
    pub recipe: String,
    /// The version.
    pub version: String,
    /// Platforms it can be had for.
    pub platforms: Vec<String>,
    /// Sources for this platform, in the order in which they are tried.
    pub sources: Vec<String>,
    /// Whether it lies in the store.
    pub stored: bool,
}

/// What can be had, recipe by recipe, newest first.
///
/// # Errors
/// `Internal` when the compiled-in catalogue cannot be read.
pub fn catalog(store: &std::path::Path) -> Result<Vec<CatalogLine>, Failure> {
    let here = platform::current();
    let store = Store::at(store);
    let mut lines = Vec::new();
    for catalog in Catalog::all()? {
        let entries = store.entries(&catalog.recipe);
        for version in catalog.versions {
            let mut platforms: Vec<String> = version.sources.iter().map(|source| source.platform.clone()).collect();
            platforms.sort();
            platforms.dedup();
            let sources = version.sources.iter().filter(|source| source.serves(&here)).map(CatalogSource::label).collect();
            let stored = entries.iter().any(|entry| entry.manifest.version == version.version);
            lines.push(CatalogLine { recipe: catalog.recipe.clone(), version: version.version, platforms, sources, stored });
        }
    }
    Ok(lines)
}
