//! Binaries: where a recipe's executables are, or how they get into the store.
//!
//! ```text
//! locate ─► [sources.NAME] ─► devrun.lock's pin in the store ─► system ─► catalogue
//!                │                                               search     │
//!                └──────────────────────► install ◄─────────────────────────┘
//!              download | package | build ─► verify ─► unpack ─► try out ─► store ─► lockfile
//! ```
//!
//! This file holds what the other layers call. `catalog` says what can be had, `system` what is there, `install` brings the
//! rest. Nothing here belongs to a running stack: a `fetch` works with no supervisor, and dropping the future ends whatever
//! it runs.

#![forbid(unsafe_code)]

pub mod atomic_file;
pub mod catalog;
pub mod client;
pub mod command_path;
pub mod download;
pub mod input;
pub mod install;
pub mod lockfile;
pub mod manifest;
pub mod ownership;
pub mod package;
pub mod platform;
mod select;
pub mod store;
pub mod subprocess;
pub mod system;
pub mod transfer;
pub mod unpack;
pub mod verify;
pub mod version;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use devrun_model::{Failure, FailureKind, RecipeUse};

pub use store::store_folder;

/// Takes the course of a download; implemented by `ui`.
pub trait DownloadProgress: Send + Sync {
    /// A step began: `downloading postgres 18.4 (npm)`; the total in bytes where it is known.
    fn begin(&self, what: &str, total: Option<u64>);
    /// Bytes so far.
    fn advance(&self, so_far: u64);
    /// It ended; the text says how.
    fn end(&self, how: &str);
}

/// The way out where the disk is full.
const MAKE_ROOM: &str = "free some space, or move the store with DEVRUN_BIN_CACHE=DIRECTORY";

/// Progress for nobody.
#[derive(Debug, Default)]
pub struct NoDownloadProgress;
impl DownloadProgress for NoDownloadProgress {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _so_far: u64) {}
    fn end(&self, _how: &str) {}
}

/// How to look and where to put.
#[derive(Clone)]
pub struct FetchOptions {
    /// The store (`NAME/VERSION-HASH/`).
    pub store: PathBuf,
    /// `devrun.lock`.
    pub lock_file: PathBuf,
    /// No network at all.
    pub offline: bool,
    /// A base URL or `file://` folder that stands in for every vendor host.
    pub mirror: Option<String>,
    /// The caller's environment: PATH, and what registry clients need.
    pub env: BTreeMap<String, String>,
    /// Who watches.
    pub progress: Arc<dyn DownloadProgress>,
}

/// Where a recipe's executables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The recipe.
    pub recipe: String,
    /// The version the server itself reports.
    pub version: String,
    /// Absolute paths by name (`postgres`, `initdb`, `psql`).
    pub tools: BTreeMap<String, PathBuf>,
    /// Variables the tools need (`LD_LIBRARY_PATH` of an unpacked archive).
    pub env: BTreeMap<String, String>,
    /// `system`, `store`, `path`.
    pub origin: String,
    /// One line for `which`: why this one.
    pub why: String,
}

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
    let store = store::Store::at(store);
    let mut lines = Vec::new();
    for catalog in catalog::Catalog::all().map_err(|error| Failure::new(FailureKind::Internal, error))? {
        let entries = store.entries(&catalog.recipe);
        for version in catalog.versions {
            let mut platforms: Vec<String> = version.sources.iter().map(|source| source.platform.clone()).collect();
            platforms.sort();
            platforms.dedup();
            let sources =
                version.sources.iter().filter(|source| source.serves(&here)).map(catalog::CatalogSource::label).collect();
            let stored = entries.iter().any(|entry| entry.manifest.version == version.version);
            lines.push(CatalogLine { recipe: catalog.recipe.clone(), version: version.version, platforms, sources, stored });
        }
    }
    Ok(lines)
}

/// Finds the executable of a `run` command in the service's own PATH and directory.
///
/// # Errors
/// `Binary`, naming the word and the PATH.
pub fn find_command(word: &str, env: &BTreeMap<String, String>, dir: &std::path::Path) -> Result<PathBuf, Failure> {
    command_path::find(word, env, dir)
}

/// Runs blocking work off the event loop.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, format!("work on a binary did not end: {error}")))
}
