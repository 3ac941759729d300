//! The built-in gateway: this very program in another role. Its routes are written into a file of mode 0600; what its services do
//! it hears from the supervisor's control socket.

use super::context::RecipeContext;
use super::data_dir::engine_dir;
use super::generic::{check_settings, files, values};
use super::recipe::Recipe;
use crate::exec_request::ExecRequest;
use crate::user;
use devrun_model::ready::Endpoint;
use devrun_model::{DrainRequest, Failure, FailureKind, GatewayConfig, GatewayKind};

const FILE: &str = "gateway.json";

/// The built-in gateway.
pub(super) struct GatewayRecipe;

impl Recipe for GatewayRecipe {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        prepare(context)
    }
}

/// What to exec.
///
/// # Errors
/// `Config` when it has no routes or no port.
fn prepare(context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
    check_settings(context)?;
    let missing = |what: &str| Failure::new(FailureKind::Config, format!("the gateway has no {what}"));
    let spec = context.recipe.gateway.clone().ok_or_else(|| missing("routes").help("routes = { \"/\" = \"SERVICE\" }"))?;
    let port = context.spec.port().ok_or_else(|| missing("port").help("port = 8080"))?;
    let dir = context.places.service_run(&context.spec.id);
    let file = dir.join(FILE);
    let config = GatewayConfig {
        service: context.spec.id.to_string(),
        listen: Endpoint { host: context.spec.bind.clone(), port },
        spec,
        logs: context.volume.map(|volume| engine_dir(volume, &context.recipe.recipe.name)),
        places: context.places.clone(),
        kind: GatewayKind::Routes,
        drain: dir.join(DrainRequest::SOCKET),
    };
    let text = serde_json::to_string_pretty(&config)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("the routes cannot be written as JSON: {error}")))?;
    let mut files = files(context, &values(context)?)?;
    let argv = ["devrun".to_owned(), "__gateway".to_owned(), super::generic::text_of(&file)?];
    files.push((file, text));
    Ok(context.request(devrun_keeper::own_program::path(), argv.into(), dir, user::of(context.spec)?, files))
}
