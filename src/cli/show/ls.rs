//! Every stack of this user on this machine: `devrun ls`, and `down --emergency --all`.
//!
//! There is no register that could be wrong: the runtime folders are looked at, and whoever listens there is asked.

use clap::Args;
use serde::Serialize;

use crate::ui::table;
use crate::ui::term::{Term, say};
use devrun_model::exit;
use devrun_model::{Failure, Kind, Paths, State};
use devrun_runtime::runtime_dir;

use crate::app::load;
use crate::app::other_data;
use crate::app::readonly;
use crate::globals::Globals;

// `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// JSON
    #[arg(long)]
    pub json: bool,
    /// Folders of projects only
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Also the instances of this project that are down
    #[arg(short = 'a', long)]
    pub all: bool,
}

#[derive(Serialize)]
struct Stack {
    project: String,
    instance: String,
    root: String,
    state_dir: String,
    supervisor_pid: Option<i32>,
    services: usize,
    running: usize,
    /// `running`, `stopping`, `down`, or `dead` where the supervisor ended without cleaning up.
    status: &'static str,
}

/// `devrun ls`.
///
/// # Errors
/// `Internal` when no runtime can be made.
pub fn list(globals: &Globals, args: &LsArgs, _term: Term) -> Result<i32, Failure> {
    let places = runtime_dir::stacks(&load::environment());
    let mut stacks = crate::app::runtime::runtime()?.block_on(async {
        let mut stacks = Vec::new();
        for places in &places {
            stacks.push(ask(places).await);
        }
        stacks
    });
    if args.all {
        stacks.extend(down(globals, &stacks));
    }
    if args.json {
        return readonly::json(&stacks);
    }
    if args.quiet {
        return Ok(readonly::text(&stacks.iter().map(|stack| format!("{}\n", stack.root)).collect::<String>()));
    }
    if stacks.is_empty() {
        say("no stack of this user runs on this machine");
        return Ok(exit::DONE);
    }
    let rows: Vec<Vec<String>> = stacks
        .iter()
        .map(|stack| {
            vec![
                stack.project.clone(),
                stack.instance.clone(),
                stack.status.to_owned(),
                stack.supervisor_pid.map(|pid| pid.to_string()).unwrap_or_default(),
                format!("{}/{}", stack.running, stack.services),
                stack.root.clone(),
            ]
        })
        .collect();
    Ok(readonly::text(&table::render(&["PROJECT", "INSTANCE", "STATUS", "PID", "RUNNING", "FOLDER"], &rows)))
}

/// The stacks of the project at hand that have data or logs and do not run. Outside a project there are none.
fn down(globals: &Globals, running: &[Stack]) -> Vec<Stack> {
    let Ok(project) = load::project_by_state(globals) else { return Vec::new() };
    let usual = Globals { instance: Some(String::new()), ..globals.clone() };
    let own = load::project_by_state(&usual).ok().map(|usual| (String::new(), usual.places.state));
    let all = own.filter(|(_, state)| state.is_dir()).into_iter().chain(other_data::instances(&project));
    all.filter(|(_, state)| !running.iter().any(|stack| stack.state_dir == state.display().to_string()))
        .map(|(instance, state)| {
            let places = Paths { root: project.places.root.clone(), state, run: project.places.run.clone() };
            Stack { instance, status: "down", ..unanswered(&places) }
        })
        .collect()
}

/// What is known of a stack without an answer of it.
fn unanswered(places: &Paths) -> Stack {
    Stack {
        project: places.root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        instance: String::new(),
        root: places.root.display().to_string(),
        state_dir: places.state.display().to_string(),
        supervisor_pid: None,
        services: 0,
        running: 0,
        status: "dead",
    }
}

async fn ask(places: &Paths) -> Stack {
    let mut stack = unanswered(places);
    // One that does not answer is shown by what is known of it: `ls` must not end at the first sick stack.
    let status = match crate::app::connect::supervisor(places).await {
        Ok(Some(mut client)) => client.status().await.ok().flatten(),
        Ok(None) => None,
        Err(_) => {
            stack.status = "silent";
            None
        }
    };
    if let Some(status) = status {
        stack.status = if status.stopping { "stopping" } else { "running" };
        stack.project = status.snapshot.project;
        stack.instance = status.snapshot.instance;
        stack.supervisor_pid = status.snapshot.supervisor_pid;
        let services = status.snapshot.services.iter().filter(|service| service.kind == Kind::Service);
        stack.services = services.clone().count();
        stack.running = services.filter(|service| service.state == State::Running).count();
    }
    stack
}
