//! What the code of a recipe is given.

use std::path::{Path, PathBuf};

use crate::exec_request::ExecRequest;
use devrun_keeper::Runner;
use devrun_model::keeper::RunAs;
use devrun_model::{Failure, FailureKind, Paths, RecipeUse, ServiceSpec, VolumeSpec};
use devrun_store::Located;

/// All that a recipe's code may look at.
pub struct RecipeContext<'a> {
    /// The service.
    pub spec: &'a ServiceSpec,
    /// How it uses the recipe.
    pub recipe: &'a RecipeUse,
    /// Its executables.
    pub located: &'a Located,
    /// Directories.
    pub places: &'a Paths,
    /// Its main volume, where it keeps data.
    pub volume: Option<&'a VolumeSpec>,
    /// Runs init steps in its name.
    pub runner: &'a Runner,
}

impl RecipeContext<'_> {
    /// What to exec, in the service's environment and that of its binaries.
    pub(super) fn request(
        &self,
        program: PathBuf,
        argv: Vec<String>,
        dir: PathBuf,
        run_as: RunAs,
        files: Vec<(PathBuf, String)>,
    ) -> ExecRequest {
        let mut env = self.spec.env.clone();
        env.extend(self.located.env.clone());
        let needs_dir = dir == self.places.service_run(&self.spec.id);
        ExecRequest { program, argv, env, dir, run_as, files, needs_dir }
    }
}

/// An executable of the recipe by name.
pub(super) fn tool<'a>(context: &'a RecipeContext<'_>, name: &str) -> Result<&'a Path, Failure> {
    context.located.tools.get(name).map(PathBuf::as_path).ok_or_else(|| {
        let recipe = &context.recipe.recipe.name;
        let install = context.recipe.recipe.install.values().next().cloned();
        let failure = Failure::new(FailureKind::Binary, format!("{recipe} {}: cannot find {name}", context.located.version));
        match install {
            Some(install) => failure.help(install),
            None => failure,
        }
    })
}
