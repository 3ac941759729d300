//! `devrun __telemetry`: what the keeper runs for a service with `use = "telemetry"`.

use std::path::PathBuf;

use clap::Args;

use devrun_model::Failure;

// `__telemetry`.
#[derive(Debug, Args)]
pub struct TelemetryArgs {
    /// The address to listen on
    pub host: String,
    /// The port to listen on
    pub port: u16,
    /// Where records are kept
    pub dir: PathBuf,
}

/// Serves until it is stopped.
///
/// # Errors
/// As `app::telemetry::run`.
pub fn run(args: &TelemetryArgs) -> Result<i32, Failure> {
    crate::app::telemetry::run(&args.host, args.port, &args.dir)
}
