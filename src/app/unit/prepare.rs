//! `ExecStartPre=`: the first boot of a recipe's data, and `pre_start`.

use devrun_model::{Failure, exit};
use devrun_runtime::engine::run_first_boot_and_pre_start;

use super::short_keeper::with_keeper;
use super::unit_plan::UnitPlan;
use crate::app::runtime;
use crate::globals::Globals;
use crate::ui::term::say;

/// Prepares a service's start.
///
/// # Errors
/// As the step that failed.
pub fn run(globals: &Globals, name: &str) -> Result<i32, Failure> {
    let made = UnitPlan::read(globals)?;
    let spec = made.spec(name)?;
    let (located, volume) = (made.located.get(&spec.id), made.volume(spec));
    let notes = runtime::runtime()?.block_on(with_keeper(&made, spec, false, async |runner| {
        run_first_boot_and_pre_start(spec, located, &made.places, volume, &runner).await
    }))?;
    notes.into_iter().for_each(say);
    Ok(exit::DONE)
}
