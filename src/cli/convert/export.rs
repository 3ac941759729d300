//! `devrun export`: the procfile in another format.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::ui::term::{data, safe, say};
use devrun_model::exit;
use devrun_model::{Failure, FailureKind};
use devrun_runtime::runtime_dir;

use crate::app::load::{self, Wanted};
use crate::globals::Globals;

// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Target format: compose or procfile
    #[arg(value_name = "FORMAT", value_parser = ["compose", "procfile", "systemd", "kubernetes", "nomad"])]
    pub format: String,
    /// Output file [default: stdout]
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// `Config`: the procfile is wrong, or the file is there already.
pub fn run(globals: &Globals, args: &ExportArgs) -> Result<i32, Failure> {
    if !matches!(args.format.as_str(), "compose" | "procfile") {
        return Err(Failure::new(FailureKind::Config, format!("`devrun export {}` is not built yet", args.format))
            .help("compose and procfile are"));
    }
    let project = load::project(globals)?;
    let read = load::read(globals, &project, &Wanted::look())?;
    let merged = read.document.merged();
    let text = if args.format == "compose" {
        let (text, left) = devrun_convert::export_compose(&merged, &read.plan.project.to_string());
        for line in left {
            say(safe(&line));
        }
        text
    } else {
        devrun_convert::export_procfile(&merged)
    };
    let failed = |error: std::io::Error| Failure::new(FailureKind::Config, format!("the export cannot be written: {error}"));
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => {
            if path.exists() && !globals.yes {
                return Err(Failure::new(
                    FailureKind::Config,
                    format!("{} is there already and was left as it is", path.display()),
                )
                .help("--yes replaces it"));
            }
            runtime_dir::replace(path, text.as_bytes()).map_err(failed)?;
        }
        None => data(text.trim_end()).map_err(failed)?,
    }
    Ok(exit::DONE)
}
