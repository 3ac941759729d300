//! `devrun compose`: what docker compose calls for a service with `provider: { type: devrun }`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::app::compose_provider::{self, ComposeService, ProvidedService};
use crate::app::readonly;
use crate::globals::Globals;
use devrun_model::{Failure, FailureKind, exit};

// `compose`.
#[derive(Debug, Args)]
pub struct ComposeArgs {
    /// Action
    #[command(subcommand)]
    pub action: ComposeAction,
}

// What compose asks for.
#[derive(Debug, Subcommand)]
pub enum ComposeAction {
    /// Start the service and say how its clients reach it
    Up(ComposeUpArgs),
    /// Stop the service; its data stays
    Down {
        /// Name of the service in the compose file
        service: String,
    },
    /// Stop the service; its data stays
    Stop {
        /// Name of the service in the compose file
        service: String,
    },
    /// Print the options of the others
    Metadata,
    /// What somebody types who expects compose
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

// `compose up`.
#[derive(Debug, Args)]
pub struct ComposeUpArgs {
    /// What runs: postgres@16, redis, minio
    #[arg(long)]
    pub recipe: Option<String>,
    /// Port on 127.0.0.1
    #[arg(long)]
    pub port: Option<u16>,
    /// Login
    #[arg(long)]
    pub user: Option<String>,
    /// Its password
    #[arg(long)]
    pub password: Option<String>,
    /// Database that is made at the first start
    #[arg(long)]
    pub database: Option<String>,
    /// File or directory of the first start
    #[arg(long)]
    pub init: Vec<PathBuf>,
    /// Extension of the database
    #[arg(long)]
    pub extension: Vec<String>,
    /// Setting of the server
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Name of the service in the compose file
    pub service: Option<String>,
}

/// Runs it. Failures are lines for compose, which shows no other output.
///
/// # Errors
/// `Config` where somebody typed it.
pub fn run(globals: &Globals, args: &ComposeArgs) -> Result<i32, Failure> {
    let by_hand = || {
        Failure::new(FailureKind::Config, "`devrun compose` is what docker compose calls for `provider: { type: devrun }`")
            .help("leave out `compose`: devrun up, devrun ps, devrun down; a compose file is read as it is")
    };
    let whose = |service: &str| -> Result<ComposeService, Failure> {
        let project = globals.project_name.clone().ok_or_else(by_hand)?;
        Ok(ComposeService { project, service: service.to_owned() })
    };
    let result = match &args.action {
        ComposeAction::Metadata => return readonly::json(&compose_provider::metadata()),
        ComposeAction::Other(_) => return Err(by_hand()),
        ComposeAction::Up(up) => {
            let whose = whose(up.service.as_deref().ok_or_else(by_hand)?)?;
            provided(up).and_then(|wanted| compose_provider::up(globals, &whose, &wanted))
        }
        ComposeAction::Down { service } | ComposeAction::Stop { service } => compose_provider::down(globals, &whose(service)?),
    };
    match result {
        Ok(()) => Ok(exit::DONE),
        Err(failure) => {
            compose_provider::report(&failure);
            Ok(exit::of(failure.kind))
        }
    }
}

fn provided(args: &ComposeUpArgs) -> Result<ProvidedService, Failure> {
    let recipe = args.recipe.clone().ok_or_else(|| {
        Failure::new(FailureKind::Config, "provider devrun: the option `recipe` is missing")
            .help("provider: { type: devrun, options: { recipe: postgres@16 } }")
    })?;
    Ok(ProvidedService {
        recipe,
        port: args.port,
        user: args.user.clone(),
        password: args.password.clone(),
        database: args.database.clone(),
        init: args.init.clone(),
        extensions: args.extension.clone(),
        set: args.set.clone(),
    })
}
