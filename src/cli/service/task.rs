//! `devrun task`: one-time work by hand, and what its sentinels say.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::ui::table;
use crate::ui::term::{Term, say};
use devrun_model::exit;
use devrun_model::{Command, Failure, FailureKind, Kind, Once, ServiceSpec, State, VolumeSpec};
use devrun_runtime::engine::task_hash;
use devrun_runtime::init::{self, TaskStatus};
use devrun_runtime::local_time::local;

use crate::app::load::{self, Purpose, Wanted};
use crate::app::readonly::{self, Seen};
use crate::app::temporary_stack::{TemporaryStack, with_temporary_stack};
use crate::globals::Globals;
use crate::ui::exit_line;

// `task`.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// Task; or `resolve NAME` with --done or --rerun
    #[arg(value_name = "NAME", required_unless_present = "status")]
    pub name: Option<String>,
    /// After `resolve`: the task
    #[arg(value_name = "TASK", hide = true)]
    pub resolved: Option<String>,
    /// Run it even if it is already done
    #[arg(long, conflicts_with_all = ["status", "done", "rerun"])]
    pub force: bool,
    /// Show the status of tasks
    #[arg(long)]
    pub status: bool,
    /// With --status: output as JSON
    #[arg(long, requires = "status")]
    pub json: bool,
    /// With resolve: mark the task as done
    #[arg(long, conflicts_with = "rerun")]
    pub done: bool,
    /// With resolve: run the task again
    #[arg(long)]
    pub rerun: bool,
}

/// Runs it.
///
/// # Errors
/// `Task` when it fails, `Config` when there is no such task.
pub fn run(globals: &Globals, args: &TaskArgs, term: Term) -> Result<i32, Failure> {
    let bad = |reason: String, help: &str| Failure::new(FailureKind::Config, reason).help(help.to_owned());
    if args.status {
        return status(globals, args);
    }
    match (args.name.as_deref(), args.resolved.as_deref()) {
        (Some("resolve"), Some(name)) if args.done || args.rerun => resolve(globals, name, args.done),
        (Some("resolve"), Some(name)) => {
            Err(bad("say whether the task did its work".to_owned(), &format!("devrun task resolve {name} --done | --rerun")))
        }
        (Some(name), None) if !args.done && !args.rerun => start(globals, name, args.force, term),
        (Some(name), None) => {
            Err(bad("--done and --rerun belong to resolve".to_owned(), &format!("devrun task resolve {name} --done")))
        }
        _ => Err(bad("one task at a time".to_owned(), "devrun task NAME")),
    }
}

#[derive(Serialize)]
struct TaskRow {
    name: String,
    /// `fresh`, `done`, `changed`, `interrupted`, or `always` where there is no sentinel.
    standing: &'static str,
    at: Option<String>,
    state: State,
    exit_code: Option<i32>,
}

fn status(globals: &Globals, args: &TaskArgs) -> Result<i32, Failure> {
    let seen = Seen::new(globals, &[])?;
    let mut rows = Vec::new();
    for spec in seen.plan.services.values().filter(|spec| spec.kind == Kind::Task) {
        if args.name.as_ref().is_some_and(|name| spec.service.as_str() != name) {
            continue;
        }
        let (standing, at) = match sentinel(spec, &seen.plan) {
            None => ("always", None),
            Some((volume, once)) => match init::task_status(volume, once, &task_hash(spec, &seen.plan.root)?)? {
                TaskStatus::Fresh => ("fresh", None),
                TaskStatus::Done { at } => ("done", Some(at)),
                TaskStatus::Changed { at } => ("changed", Some(at)),
                TaskStatus::Indeterminate { since } => ("interrupted", Some(since)),
            },
        };
        let status = seen.status(spec);
        rows.push(TaskRow {
            name: spec.service.to_string(),
            standing,
            at,
            state: status.map_or(State::Stopped, |status| status.state),
            exit_code: status.and_then(|status| status.exit_code),
        });
    }
    if args.json {
        return readonly::json(&rows);
    }
    if rows.is_empty() {
        say("the procfile has no task");
        return Ok(exit::DONE);
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                row.standing.to_owned(),
                row.state.to_string(),
                row.at.as_deref().map(local).unwrap_or_default(),
            ]
        })
        .collect();
    Ok(readonly::text(&table::render(&["TASK", "ONCE", "STATE", "SINCE"], &cells)))
}

fn sentinel<'a>(spec: &'a ServiceSpec, plan: &'a devrun_model::Plan) -> Option<(&'a VolumeSpec, &'a Once)> {
    let once = spec.task.as_ref()?.once.as_ref()?;
    Some((plan.volumes.get(&once.volume)?, once))
}

fn task_of<'a>(plan: &'a devrun_model::Plan, name: &str) -> Result<&'a ServiceSpec, Failure> {
    let spec = readonly::one(plan, name)?;
    if spec.kind == Kind::Task {
        return Ok(spec);
    }
    Err(Failure::new(FailureKind::Config, format!("{name} is a service and no task")).help(format!("devrun start {name}")))
}

fn resolve(globals: &Globals, name: &str, done: bool) -> Result<i32, Failure> {
    let seen = Seen::new(globals, &[name.to_owned()])?;
    let spec = task_of(&seen.plan, name)?;
    if seen.running() && seen.status(spec).is_some_and(|status| status.state.is_live()) {
        return Err(Failure::new(FailureKind::Elsewhere, format!("{name} is running right now"))
            .help(format!("devrun wait {name}, or devrun stop {name}")));
    }
    let Some((volume, once)) = sentinel(spec, &seen.plan) else {
        return Err(Failure::new(FailureKind::Config, format!("{name} has no sentinel: it runs at every start"))
            .help("give it `once = \"VOLUME/.NAME\"`"));
    };
    if done {
        init::commit_task(volume, once, &task_hash(spec, &seen.plan.root)?, Duration::ZERO)?;
        say(format!("{name} counts as done"));
    } else {
        init::forget_task(volume, once)?;
        say(format!("{name} runs again at the next start, or with: devrun task {name}"));
    }
    Ok(exit::DONE)
}

/// Under the supervisor that is there; else with a stack that stands for as long as the task takes.
fn start(globals: &Globals, name: &str, force: bool, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let wanted = Wanted { purpose: Purpose::Start, named: vec![name.to_owned()], warn: true, ..Wanted::act() };
    let plan = load::plan(globals, &project, &wanted)?;
    let spec = task_of(&plan, name)?;
    let id = spec.id.clone();
    if force && let Some((volume, once)) = sentinel(spec, &plan) {
        init::forget_task(volume, once)?;
    }
    let runtime = crate::app::runtime::runtime()?;
    if load::is_running(&project.places)? {
        return runtime.block_on(async {
            let (session, status) = crate::app::request::session(&project).await?;
            if !status.snapshot.services.iter().any(|service| service.name == id.as_str()) {
                return Err(Failure::new(FailureKind::Config, format!("the supervisor does not know {name} yet"))
                    .help("devrun up -d reads the procfile again"));
            }
            crate::app::request::settle(session, &status, Command::Start { plan: None, targets: vec![id] }, term).await
        });
    }
    let order = TemporaryStack { project: &project, plan: plan.clone(), targets: vec![id], offline: false, mirror: None };
    let result = runtime.block_on(with_temporary_stack(order, term, async |_| Ok(exit::DONE)))?;
    match result.stack_code() {
        None => Ok(exit::DONE),
        Some(code) => {
            say(exit_line::of_outcome(&result.start, None)
                .unwrap_or_else(|| exit_line::last_line(code, Some(name), exit::meaning(code))));
            Ok(code)
        }
    }
}
