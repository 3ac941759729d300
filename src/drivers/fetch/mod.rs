//! Binaries: where a recipe's executables are, or how they get into the store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::model::{Failure, RecipeUse};

/// Takes the course of a download; implemented by `ui`.
pub trait Progress: Send + Sync {
    /// A step began: `downloading postgres 18.4 (npm)`; the total in bytes where it is known.
    fn begin(&self, what: &str, total: Option<u64>);
    /// Bytes so far.
    fn advance(&self, so_far: u64);
    /// It ended; the text says how.
    fn end(&self, how: &str);
}

/// Progress for nobody.
#[derive(Debug, Default)]
pub struct Silent;
impl Progress for Silent {
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
    pub progress: Arc<dyn Progress>,
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
pub async fn locate(_use: &RecipeUse, _options: &FetchOptions) -> Result<Located, Failure> {
    unimplemented!()
}

/// Finds the executable of a `run` command in the service's own PATH and directory.
///
/// # Errors
/// `Binary`, naming the word and the PATH.
pub fn find_command(_word: &str, _env: &BTreeMap<String, String>, _dir: &std::path::Path) -> Result<PathBuf, Failure> {
    unimplemented!()
}
