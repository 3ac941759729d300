//! What the engine asks of a recipe by its name: the recipe's code answers.

use super::context::RecipeContext;
use super::data_dir::engine_dir;
use super::first_boot::FirstBoot;
use super::password_rotation::{PasswordRotation, RotationRequest};
use super::recipes_with_code;
use super::sql;
use crate::exec_request::ExecRequest;
use crate::probe;
use devrun_model::ready::Endpoint;
use devrun_model::service::Server;
use devrun_model::{Failure, FailureKind, Launch, Paths, ServiceSpec, VolumeSpec};

/// How this recipe's server does, where it keeps its password in its data.
#[must_use]
pub fn password_rotation(recipe: &str) -> PasswordRotation {
    recipes_with_code::recipe_code(recipe).password_rotation()
}

/// Settings of a copy of this recipe's server whose data need not survive a loss of power.
#[must_use]
pub fn temporary_settings(recipe: &str) -> &'static [(&'static str, &'static str)] {
    recipes_with_code::recipe_code(recipe).temporary_settings()
}

/// Gives the running server `old` the password of `new`, which differs from it in nothing else. `false`: this server takes
/// a password at its start only.
///
/// # Errors
/// When it does not take it; it has the old one then.
pub async fn renew(old: &ServiceSpec, new: &ServiceSpec, places: &Paths, volume: Option<&VolumeSpec>) -> Result<bool, Failure> {
    let Launch::Recipe(recipe) = &new.launch else { return Ok(false) };
    recipes_with_code::recipe_code(&recipe.recipe.name).rotate_password(RotationRequest { old, new, places, volume }).await
}

/// What to exec for this service.
///
/// # Errors
/// `Config` or `Binary` when it cannot run here.
pub fn prepare(context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
    recipes_with_code::recipe_code(&context.recipe.recipe.name).prepare(context)
}

/// The whole first boot, staged and renamed; nothing to do when the data is there.
///
/// # Errors
/// `Task` when a step failed or the directory is foreign, `Binary` when another major version made the data.
pub async fn first_boot(context: &RecipeContext<'_>) -> Result<FirstBoot, Failure> {
    recipes_with_code::recipe_code(&context.recipe.recipe.name).first_boot(context).await
}

/// Whether the stop signal would not end this service's server, as its data directory is gone and it cannot save.
#[must_use]
pub fn cannot_save(spec: &ServiceSpec, volume: Option<&VolumeSpec>, pid: i32) -> bool {
    let (Launch::Recipe(used), Some(volume)) = (&spec.launch, volume) else { return false };
    let name = &used.recipe.name;
    recipes_with_code::recipe_code(name).cannot_save(pid, &engine_dir(volume, name))
}

/// Ends such a server without saving.
///
/// # Errors
/// `Task` when it does not take that.
pub async fn end_without_saving(spec: &ServiceSpec) -> Result<(), Failure> {
    let Launch::Recipe(used) = &spec.launch else { return Ok(()) };
    recipes_with_code::recipe_code(&used.recipe.name).end_without_saving(spec).await
}

/// `stop.check`: what a stop would cut short now, in words; `None` when it is a good moment.
///
/// # Errors
/// `Task` when it cannot be asked: a broken server is not kept running.
pub async fn busy_with(spec: &ServiceSpec) -> Result<Option<String>, Failure> {
    match spec.stop_asks() {
        Some(Server::Postgres) => sql::busy(spec).await,
        Some(Server::Redis) => {
            let port = spec.port().ok_or_else(|| Failure::new(FailureKind::Task, "it has no port"))?;
            let at = Endpoint { host: spec.bind.clone(), port };
            let (user, password) = (spec.attribute("user"), spec.attribute("password"));
            let answer = probe::redis_busy(&at, user.as_deref(), password.as_deref()).await;
            answer.map_err(|miss| Failure::new(FailureKind::Task, miss.answer))
        }
        None => Ok(None),
    }
}
