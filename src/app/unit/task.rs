//! A task as a oneshot unit: the sentinel decides whether it runs and is written when it is done, as under a supervisor.

use std::time::Instant;

use devrun_core::{LastRun, TaskDecision, decide_task};
use devrun_model::{Failure, FailureKind, Launch, ServiceSpec, TaskSpec, exit};
use devrun_runtime::engine::task_hash;
use devrun_runtime::init::{self, TaskStatus};
use devrun_runtime::local_time;
use devrun_runtime::recipes;

use super::left_out;
use super::process;
use super::unit_advice::WRITE_UNITS;
use super::unit_plan::UnitPlan;
use crate::app::runtime;
use crate::globals::Globals;
use crate::ui::term::say;

/// Runs a task, unless it is done.
///
/// # Errors
/// `Task` when a person has to decide, and as its work.
pub fn run(globals: &Globals, name: &str) -> Result<i32, Failure> {
    let made = UnitPlan::read(globals)?;
    let spec = made.spec(name)?;
    let task = spec.task.as_ref().ok_or_else(|| {
        Failure::new(FailureKind::Config, format!("{name} is a service, and its unit takes it for a task")).help(WRITE_UNITS)
    })?;
    if let Some(why) = left_out::reason(&made, spec) {
        say(why);
        return Ok(exit::DONE);
    }
    let Some(once) = &task.once else { return work(&made, spec, task) };
    let volume = made.plan.volumes.get(&once.volume).ok_or_else(|| {
        Failure::new(FailureKind::Config, format!("task {name}: unknown volume {}", once.volume)).help("devrun check")
    })?;
    let hash = task_hash(spec, &made.plan.root)?;
    let last = match init::task_status(volume, once, &hash)? {
        TaskStatus::Fresh => LastRun::Never,
        TaskStatus::Done { at } => LastRun::Done { at: local_time::local(&at) },
        TaskStatus::Changed { at } => LastRun::Changed { at: local_time::local(&at) },
        TaskStatus::Indeterminate { since } => LastRun::Interrupted { since: local_time::local(&since) },
    };
    match decide_task(&spec.id, task, last) {
        TaskDecision::Run(note) => note.into_iter().for_each(say),
        TaskDecision::AlreadyDone(why) => {
            say(why);
            return Ok(exit::DONE);
        }
        TaskDecision::Refuse(failure) => return Err(failure),
    }
    init::begin_task(volume, once, &hash)?;
    let began = Instant::now();
    let result = work(&made, spec, task);
    match &result {
        Ok(exit::DONE) => init::commit_task(volume, once, &hash, began.elapsed())?,
        // Ended by a signal: what it did is not known. Our own end by one leaves the record as well.
        Ok(code) if *code > 128 => {}
        Ok(_) | Err(_) => init::rollback_task(volume, once)?,
    }
    result
}

fn work(made: &UnitPlan, spec: &ServiceSpec, task: &TaskSpec) -> Result<i32, Failure> {
    if !matches!(spec.launch, Launch::Work) {
        return process::run_to_end(made, spec);
    }
    let internal =
        |what: &str| Failure::new(FailureKind::Internal, format!("task {}: it has no {what}", spec.id)).help(WRITE_UNITS);
    let work = task.work.as_ref().ok_or_else(|| internal("work"))?;
    let on = task.on.as_ref().and_then(|on| made.plan.services.get(on)).ok_or_else(|| internal("server to work on"))?;
    runtime::runtime()?.block_on(recipes::work(work, on, &|text: String| say(text)))?;
    Ok(exit::DONE)
}
