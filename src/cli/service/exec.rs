//! `devrun exec` and `devrun shell`: a command in a service's environment and folder.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::ui::term::{Term, say};
use devrun_model::{Failure, FailureKind, State};

use crate::app::child_command;
use crate::app::env_options;
use crate::app::load::{self, Wanted};
use crate::app::readonly;
use crate::app::recipe_tools;
use crate::app::session::Signals;
use crate::globals::Globals;

// `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Service whose environment and working directory to use
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Set an environment variable; NAME alone takes the caller's value
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Working directory [default: that of the service]
    #[arg(short = 'w', long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Compose's `-i`, `-t` and `-T`: a terminal is used where there is one
    #[arg(short = 'i', long = "interactive", short_aliases = ['t', 'T'], aliases = ["tty", "no-tty", "no-TTY"], hide = true, action = clap::ArgAction::Count)]
    pub terminal: u8,
    /// Command to run
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

// `shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// Service whose environment and working directory to use
    #[arg(value_name = "SERVICE")]
    pub service: String,
}

/// `devrun exec`.
///
/// # Errors
/// `Config` when there is no such service.
pub fn run(globals: &Globals, args: &ExecArgs, _term: Term) -> Result<i32, Failure> {
    execute(globals, args)
}

/// `devrun shell`: the caller's own shell, else `sh`.
///
/// # Errors
/// `Config` when there is no such service.
pub fn shell(globals: &Globals, args: &ShellArgs, _term: Term) -> Result<i32, Failure> {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| OsString::from("/bin/sh"));
    let (service, command) = (args.service.clone(), vec![shell]);
    execute(globals, &ExecArgs { service, env: Vec::new(), workdir: None, terminal: 0, command })
}

fn execute(globals: &Globals, args: &ExecArgs) -> Result<i32, Failure> {
    let name = args.service.as_str();
    let project = load::project(globals)?;
    let plan = load::plan(globals, &project, &Wanted { named: vec![name.to_owned()], ..Wanted::act() })?;
    let spec = readonly::one(&plan, name)?;
    let runtime = crate::app::runtime::runtime()?;
    runtime.block_on(async {
        let snapshot = crate::app::snapshot::snapshot(globals, &project).await?;
        let up = snapshot.supervisor_pid.is_some()
            && snapshot.services.iter().any(|service| service.name == spec.id.as_str() && service.state == State::Running);
        if !up {
            say(format!("note: {} is not running", spec.id));
        }
        // The service's own variables win over the usual ones of its recipe.
        let mut variables: BTreeMap<String, String> = crate::app::service_env::exports(spec)?;
        variables.extend(spec.env.clone());
        recipe_tools::add_to_path(&project, std::iter::once(spec), &mut variables).await?;
        env_options::add(&args.env, &project.env, &mut variables)?;
        // As every path of a command line, it begins where the caller is.
        let dir = match &args.workdir {
            Some(dir) => std::path::absolute(dir).map_err(|error| {
                Failure::new(FailureKind::Config, format!("invalid directory {}: {error}", dir.display()))
                    .help("-w /path/to/directory")
            })?,
            None => spec.dir.clone(),
        };
        let mut signals = Signals::take()?;
        Ok(child_command::run(&args.command, &variables, &dir, Some(spec), &mut signals).await?.code)
    })
}
