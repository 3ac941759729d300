//! `devrun self update`: replaces this program by the newest release of a directory that the user names.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use clap::{Args, Subcommand};
use devrun_model::{Failure, FailureKind, exit};
use devrun_store::{DownloadProgress, FetchOptions, NoDownloadProgress, version};

use crate::app::self_update::{self, InstallMethod, UpdateOptions};
use crate::ui::download::Bars;
use crate::ui::term::{Progress, Term, say};

// `self`.
#[derive(Debug, Args)]
pub struct SelfArgs {
    #[command(subcommand)]
    command: SelfCommand,
}

// What is done to it.
#[derive(Debug, Subcommand)]
enum SelfCommand {
    /// Replace this binary with the newest release
    #[command(
        after_help = "Examples:\n  devrun self update --from https://example.com/devrun/latest\n  devrun self update --check --from ./dist"
    )]
    Update(UpdateArgs),
}

// `self update`.
#[derive(Debug, Args)]
struct UpdateArgs {
    /// URL (https) or directory that holds the release and its SHA256SUMS
    #[arg(long, value_name = "URL|DIR", env = "DEVRUN_UPDATE_URL")]
    from: Option<String>,
    /// Only say whether there is a newer release
    #[arg(long)]
    check: bool,
}

/// Looks for a newer release and installs it.
///
/// # Errors
/// `Config` when a package manager owns the program, no source is named or the directory cannot be written; `Binary` when the
/// release cannot be had, `Integrity` when it is not what the sums say.
pub fn run(args: &SelfArgs, term: Term) -> Result<i32, Failure> {
    let SelfCommand::Update(args) = &args.command;
    let program = self_update::own_program()?;
    if !args.check
        && let Some(method) = InstallMethod::of(&program)
    {
        return Err(method.refusal(&program));
    }
    let progress: Arc<dyn DownloadProgress> = match term.progress {
        Progress::Tty | Progress::Plain => Arc::new(Bars::new(term)),
        Progress::Json | Progress::Quiet => Arc::new(NoDownloadProgress),
    };
    // The store and its lock file are not used: a release is fetched to where it will be.
    let nowhere = std::path::PathBuf::new();
    let fetch = FetchOptions {
        store: nowhere.clone(),
        lock_file: nowhere,
        offline: false,
        mirror: None,
        env: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        progress,
    };
    let options = UpdateOptions { base: base(args.from.as_deref())?, program, fetch };
    crate::app::runtime::runtime()?.block_on(update(&options, args.check))
}

async fn update(options: &UpdateOptions, only_check: bool) -> Result<i32, Failure> {
    let current = env!("CARGO_PKG_VERSION");
    let release = self_update::find_release(options).await?;
    if version::compare(&release.version, current) != Ordering::Greater {
        say(format!("devrun {current} is up to date (newest release: {})", release.version));
        return Ok(exit::DONE);
    }
    if only_check {
        say(format!("devrun {} is available; this is {current}", release.version));
        return Ok(exit::DONE);
    }
    self_update::replace(&release, options).await?;
    say(format!("updated {} from {current} to {}", options.program.display(), release.version));
    say("running stacks keep the old version until `devrun down` and `devrun up`");
    Ok(exit::DONE)
}

/// The base of URLs, from what was typed.
fn base(from: Option<&str>) -> Result<String, Failure> {
    let Some(from) = from.map(str::trim).filter(|from| !from.is_empty()) else {
        return Err(Failure::new(FailureKind::Config, "missing the address of a release")
            .help("devrun self update --from URL|DIR, or set DEVRUN_UPDATE_URL"));
    };
    if from.contains("://") {
        return Ok(from.trim_end_matches('/').to_owned());
    }
    let folder = std::path::absolute(Path::new(from))
        .map_err(|error| Failure::new(FailureKind::Config, format!("invalid directory {from:?}: {error}")))?;
    Ok(format!("file://{}", folder.display()))
}
