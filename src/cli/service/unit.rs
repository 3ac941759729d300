//! `devrun __unit`: what the units that `export systemd` writes call.

use clap::{Args, ValueEnum};

use devrun_model::{Failure, FailureKind};

use crate::app::unit::{left_out, prepare, process, readiness, task, unit_plan};
use crate::globals::Globals;

// `__unit`.
#[derive(Debug, Args)]
pub struct UnitArgs {
    /// What the unit needs
    pub action: UnitAction,
    /// The service, task or copy
    pub name: Option<String>,
}

/// What a unit can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UnitAction {
    /// Read the procfile for all units of this start.
    Plan,
    /// Remove what was kept for this start.
    Forget,
    /// Whether an optional server is there.
    Present,
    /// First boot and `pre_start`.
    Prepare,
    /// Become the service.
    Exec,
    /// Wait until the service is ready.
    Ready,
    /// Run the stop command.
    Stop,
    /// Run a task.
    Task,
    /// Serve the address that copies share.
    Address,
}

/// Runs it.
///
/// # Errors
/// As the action.
pub fn run(globals: &Globals, args: &UnitArgs) -> Result<i32, Failure> {
    let name = || {
        args.name.as_deref().ok_or_else(|| {
            Failure::new(FailureKind::Config, "missing name of the service").help("units call this: devrun export systemd")
        })
    };
    match args.action {
        UnitAction::Plan => unit_plan::write(globals),
        UnitAction::Forget => unit_plan::forget(globals),
        UnitAction::Present => left_out::present(globals, name()?),
        UnitAction::Prepare => prepare::run(globals, name()?),
        UnitAction::Exec => process::exec(globals, name()?),
        UnitAction::Ready => readiness::run(globals, name()?),
        UnitAction::Stop => process::stop(globals, name()?),
        UnitAction::Task => task::run(globals, name()?),
        UnitAction::Address => process::address(globals, name()?),
    }
}
