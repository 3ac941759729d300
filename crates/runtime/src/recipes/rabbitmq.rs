//! RabbitMQ: which of its scripts is started. Data is enough for the rest.
//!
//! On Debian the command on PATH is a wrapper that changes to a user of its own; what it wraps is started here instead,
//! as whoever we are. The name server of Erlang nodes (`epmd`) gets a port of its own and starts as a process of the
//! service, so that it ends with it and is shared with nobody.

use super::context::{RecipeContext, tool};
use super::generic;
use super::recipe::Recipe;
use crate::exec_request::ExecRequest;
use devrun_model::Failure;

/// RabbitMQ: its script is started directly, not the wrapper on PATH.
pub(super) struct RabbitMq;

impl Recipe for RabbitMq {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        prepare(context)
    }
}

/// What to exec.
///
/// # Errors
/// As for every recipe that is data.
fn prepare(context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
    let mut request = generic::prepare(context)?;
    let named = tool(context, "rabbitmq-server")?;
    let real = std::fs::canonicalize(named).unwrap_or_else(|_| named.to_owned());
    let beside = real.parent().map(|folder| folder.join("rabbitmq-server")).filter(|script| script.is_file());
    request.program = beside.unwrap_or_else(|| named.to_owned());
    Ok(request)
}
