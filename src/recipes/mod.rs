//! What a container image's entrypoint knew: argv, first boot, stop, and the work against a running server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::drivers::fetch::Located;
use crate::drivers::process::Runner;
use crate::model::keeper::RunAs;
use crate::model::{Failure, Places, RecipeBook, RecipeData, RecipeUse, ServiceSpec, VolumeSpec, Work};

/// All that a recipe's code may look at.
pub struct Context<'a> {
    /// The service.
    pub spec: &'a ServiceSpec,
    /// How it uses the recipe.
    pub recipe: &'a RecipeUse,
    /// Its executables.
    pub located: &'a Located,
    /// Folders.
    pub places: &'a Places,
    /// Its main volume, where it keeps data.
    pub volume: Option<&'a VolumeSpec>,
    /// Runs init steps in its name.
    pub runner: &'a Runner,
}

/// What to exec.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The executable.
    pub program: PathBuf,
    /// Its words.
    pub argv: Vec<String>,
    /// Over the service's environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub dir: PathBuf,
    /// OS identity.
    pub run_as: RunAs,
    /// Files to write, 0600, before the spawn.
    pub files: Vec<(PathBuf, String)>,
}

/// The recipes compiled in.
#[derive(Debug)]
pub struct Book {}

impl Book {
    /// Reads the compiled-in files.
    #[must_use]
    pub fn new() -> Self {
        unimplemented!()
    }
}

impl RecipeBook for Book {
    fn find(&self, _name: &str) -> Option<&RecipeData> {
        unimplemented!()
    }
    fn names(&self) -> Vec<&str> {
        unimplemented!()
    }
}

/// What to exec for this service.
///
/// # Errors
/// `Config` or `Binary` when it cannot run here.
pub fn prepare(_context: &Context<'_>) -> Result<Invocation, Failure> {
    unimplemented!()
}

/// The whole first boot, staged and renamed; nothing to do when the data is there.
///
/// # Errors
/// `Task` when a step failed or the folder is foreign, `Binary` when another major version made the data.
pub async fn first_boot(_context: &Context<'_>) -> Result<(), Failure> {
    unimplemented!()
}

/// A task's work against the running server `on`.
///
/// # Errors
/// `Task`, or `Credentials`.
pub async fn work(_work: &Work, _on: &ServiceSpec) -> Result<(), Failure> {
    unimplemented!()
}
