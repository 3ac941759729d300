//! The built-in receiver of OTLP: this very program in another role. What it receives lies with the logs.

use super::context::RecipeContext;
use super::generic::{check_settings, files, text_of, values};
use super::recipe::Recipe;
use crate::exec_request::ExecRequest;
use crate::user;
use devrun_model::{Failure, FailureKind};

/// The built-in receiver.
pub(super) struct TelemetryRecipe;

impl Recipe for TelemetryRecipe {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        check_settings(context)?;
        let port = context
            .spec
            .port()
            .ok_or_else(|| Failure::new(FailureKind::Config, "the receiver of telemetry has no port").help("port = 4318"))?;
        let dir = text_of(&context.places.telemetry())?;
        let host = if context.spec.bind.is_empty() { "127.0.0.1" } else { context.spec.bind.as_str() };
        let argv = vec!["devrun".to_owned(), "__telemetry".to_owned(), host.to_owned(), port.to_string(), dir];
        let files = files(context, &values(context)?)?;
        Ok(context.request(devrun_keeper::own_program::path(), argv, context.places.root.clone(), user::of(context.spec)?, files))
    }
}
