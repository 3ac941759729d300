//! `devrun __shared`: the processes behind `scope = "user"`.

use clap::{Args, Subcommand};

use crate::app::shared_server::{start, watch};
use crate::globals::Globals;
use devrun_model::{Failure, exit};

// `__shared`.
#[derive(Debug, Args)]
pub struct SharedArgs {
    /// Action
    #[command(subcommand)]
    pub action: SharedAction,
}

// What to do with a shared server.
#[derive(Debug, Subcommand)]
pub enum SharedAction {
    /// Starts the servers that the project shares, and makes its databases
    Start {
        /// Services named on the command line
        services: Vec<String>,
    },
    /// Watches over the users of the server whose stack this is
    Watch,
}

/// Runs it.
///
/// # Errors
/// As the action says.
pub fn run(globals: &Globals, args: &SharedArgs) -> Result<i32, Failure> {
    match &args.action {
        SharedAction::Start { services } => start::run(globals, services).map(|()| exit::DONE),
        SharedAction::Watch => watch::run(globals),
    }
}
