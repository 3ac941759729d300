//! `devrun build`: the build commands, in the foreground, in the order in which services need one another.

use std::ffi::OsString;

use clap::Args;

use crate::ui::term::{Term, say};
use devrun_model::exit;
use devrun_model::{Failure, ServiceSpec};

use crate::app::child_command;
use crate::app::load::{self, Purpose, Wanted};
use crate::app::session::Signals;
use crate::globals::Globals;
use crate::ui::exit_line;

// `build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Compose's options for what is always so here
    #[arg(long, hide = true, aliases = ["pull", "force-rm", "quiet", "with-dependencies"], action = clap::ArgAction::Count)]
    pub no_cache: u8,
}

/// Runs it.
///
/// # Errors
/// `Config` for a procfile with errors; a failed build is exit 1, an interrupted one the code of the signal.
pub fn run(globals: &Globals, args: &BuildArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let wanted = Wanted { purpose: Purpose::Start, named: args.services.clone(), warn: true, ..Wanted::look() };
    let plan = load::plan(globals, &project, &wanted)?;
    let ids = load::resolve(&plan, &args.services)?;
    let mut specs: Vec<_> =
        plan.services.values().filter(|spec| spec.replica == 1 && (ids.is_empty() || ids.contains(&spec.id))).collect();
    specs.sort_by_key(|spec| (spec.depth, spec.id.clone()));
    let runtime = crate::app::runtime::runtime()?;
    // Once for all of them: a signal between two builds counts too.
    let mut signals = runtime.block_on(async { Signals::take() })?;
    let mut built: Vec<&ServiceSpec> = Vec::new();
    for spec in specs {
        let Some(command) = &spec.build else {
            if !ids.is_empty() {
                say(format!("{} has nothing to build", spec.service));
            }
            continue;
        };
        if let Some(same) = built.iter().find(|other| other.dir == spec.dir && other.has_same_build(spec)) {
            say(format!("{} has the same build as {}", spec.service, same.service));
            continue;
        }
        say(format!("building {}", spec.service));
        let mut env = spec.env.clone();
        env.extend(command.env.clone());
        let words: Vec<OsString> = command.argv.iter().map(OsString::from).collect();
        let ended = runtime.block_on(child_command::run(&words, &env, &spec.dir, Some(spec), &mut signals))?;
        if let Some(code) = ended.interrupted {
            say(exit_line::last_line(code, Some(spec.service.as_str()), "build interrupted"));
            return Ok(code);
        }
        if ended.code != exit::DONE {
            let reason = format!("build failed: exit {}", ended.code);
            say(exit_line::last_line(exit::SERVICE, Some(spec.service.as_str()), &reason));
            return Ok(exit::SERVICE);
        }
        built.push(spec);
    }
    if built.is_empty() && ids.is_empty() {
        say("no service has a `build`");
    }
    Ok(exit::DONE)
}
