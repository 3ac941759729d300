//! `devrun __gateway`: what the keeper runs for a service with `use = "gateway"`.

use std::path::PathBuf;

use clap::Args;

use devrun_model::Failure;

// `__gateway`.
#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// Its routes, as the recipe wrote them
    pub config: PathBuf,
}

/// Serves until it is stopped.
///
/// # Errors
/// As `app::gateway::run`.
pub fn run(args: &GatewayArgs) -> Result<i32, Failure> {
    crate::app::gateway::run(&args.config)
}
