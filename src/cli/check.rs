//! `devrun check`: reads and validates, spawns nothing, makes nothing.

use crate::exit;
use crate::model::Failure;
use crate::ui::term::{Term, say};

use super::args::{CheckArgs, Globals};
use super::load::{self, Wanted};

/// Runs it.
///
/// # Errors
/// `Config`; the diagnostics have been printed then.
pub fn run(globals: &Globals, args: &CheckArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let plan = load::plan(globals, &project, &Wanted { warn: !args.quiet, ..Wanted::look() })?;
    if !args.quiet {
        let tasks = plan.services.values().filter(|spec| spec.task.is_some()).count();
        say(format!("{}: {} services, {tasks} tasks, no errors", plan.project, plan.services.len() - tasks));
    }
    Ok(exit::DONE)
}
