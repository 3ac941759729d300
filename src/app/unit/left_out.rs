//! What is left out of a start because an optional server is not on this machine: the server itself, by a condition of its unit,
//! and work on it, which then counts as done, as nothing may wait for it.

use devrun_core::is_useless_without;
use devrun_model::{Failure, Launch, ServiceSpec, exit};

use super::unit_plan::UnitPlan;
use crate::globals::Globals;
use crate::ui::term::say;

/// The exit code of a condition that does not hold; 255 is that of one that failed (systemd.service(5), `ExecCondition=`).
const LEFT_OUT: i32 = 1;
const FAILED: i32 = 255;

/// Whether an optional server was found when the stack was started.
///
/// # Errors
/// None: what cannot be read is printed, with the exit code that fails the unit.
pub fn present(globals: &Globals, name: &str) -> Result<i32, Failure> {
    let read = UnitPlan::read(globals).and_then(|made| made.spec(name).map(|spec| reason(&made, spec)));
    Ok(match read {
        Ok(None) => exit::DONE,
        Ok(Some(why)) => {
            say(why);
            LEFT_OUT
        }
        Err(failure) => {
            say(format!("error: {failure}"));
            FAILED
        }
    })
}

/// Why a service or task is left out, as a supervisor decides it.
pub(super) fn reason(made: &UnitPlan, spec: &ServiceSpec) -> Option<String> {
    if spec.optional && matches!(spec.launch, Launch::Recipe(_)) && !made.located.contains_key(&spec.id) {
        return Some(format!("{} is left out: its program is not on this machine", spec.id));
    }
    let edges = spec.depends_on.iter().filter(|edge| edge.required && is_useless_without(spec, &edge.on));
    let because = edges.filter_map(|edge| made.plan.services.get(&edge.on)).find_map(|on| reason(made, on))?;
    Some(format!("{} is left out: {because}", spec.id))
}
