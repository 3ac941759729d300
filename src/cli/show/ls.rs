//! Every stack of this user on this machine: `devrun ls`, and `down --emergency --all`.
//!
//! There is no register that could be wrong: the runtime directories are looked at, and all supervisors that listen there are
//! asked at once, with one deadline, as any number of them may be stopped or stuck.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use crate::ui::table;
use crate::ui::term::{Term, say};
use devrun_model::duration::human;
use devrun_model::exit;
use devrun_model::{Failure, Kind, Paths, State};
use devrun_runtime::runtime_dir;

use crate::app::connect;
use crate::app::load;
use crate::app::other_data;
use crate::app::readonly;
use crate::cli::table_args::TableHabits;
use crate::globals::Globals;

/// How long all supervisors together may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

// `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub compose: TableHabits,
    /// Print only project directories
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Also the instances of this project that are down
    #[arg(short = 'a', long)]
    pub all: bool,
}

#[derive(Serialize)]
struct StackRow {
    project: String,
    instance: String,
    root: String,
    state_dir: String,
    supervisor_pid: Option<i32>,
    services: usize,
    running: usize,
    /// `running`, `stopping`, `down`, `dead` where the supervisor ended without cleaning up, or `silent` where it does not answer.
    status: &'static str,
}

/// `devrun ls`.
///
/// # Errors
/// `Internal` when no runtime can be made.
pub fn list(globals: &Globals, args: &LsArgs, _term: Term) -> Result<i32, Failure> {
    let places = runtime_dir::stacks(&load::environment());
    let runtime = crate::app::runtime::runtime()?;
    let mut stacks = runtime.block_on(ask_all(places));
    // A supervisor that was too late may still be asked.
    runtime.shutdown_background();
    if args.all {
        stacks.extend(down(globals, &stacks));
    }
    if args.json || args.compose.is_json() {
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
                if stack.instance.is_empty() { "-".to_owned() } else { stack.instance.clone() },
                stack.status.to_owned(),
                stack.supervisor_pid.map(|pid| pid.to_string()).unwrap_or_default(),
                format!("{}/{}", stack.running, stack.services),
                stack.root.clone(),
            ]
        })
        .collect();
    let code = readonly::text(&table::render(&["PROJECT", "INSTANCE", "STATUS", "PID", "RUNNING", "DIRECTORY"], &rows));
    if stacks.iter().any(|stack| stack.status == "dead") {
        say(
            "dead: the supervisor was killed; what it left running is ended by `devrun down --emergency` in the directory, or by `devrun down --emergency --all`",
        );
    }
    silent(&stacks).iter().for_each(say);
    Ok(code)
}

/// What `silent` means and what to type, below the table.
fn silent(stacks: &[StackRow]) -> Vec<String> {
    let silent = || stacks.iter().filter(|stack| stack.status == "silent");
    let suspended: Vec<i32> =
        silent().filter_map(|stack| stack.supervisor_pid).filter(|pid| connect::is_suspended(*pid)).collect();
    let mut lines = Vec::new();
    if !suspended.is_empty() {
        let pids = suspended.iter().map(|pid| format!(" {pid}")).collect::<String>();
        lines.push(format!(
            "silent: the supervisor is stopped (Ctrl-Z or SIGSTOP) and does not answer; to resume it: kill -CONT{pids}"
        ));
    }
    if silent().count() > suspended.len() {
        lines.push(format!(
            "silent: the supervisor runs and did not answer within {}; `devrun down --emergency` in the directory ends it and what it runs",
            human(ANSWER_LIMIT)
        ));
    }
    lines
}

/// The stacks of the project at hand that have data or logs and do not run. Outside a project there are none.
fn down(globals: &Globals, running: &[StackRow]) -> Vec<StackRow> {
    let Ok(project) = load::project_by_state(globals) else { return Vec::new() };
    let usual = Globals { instance: Some(String::new()), ..globals.clone() };
    let own = load::project_by_state(&usual).ok().map(|usual| (String::new(), usual.places.state));
    let all = own.filter(|(_, state)| state.is_dir()).into_iter().chain(other_data::instances(&project));
    all.filter(|(_, state)| !running.iter().any(|stack| stack.state_dir == state.display().to_string()))
        .map(|(instance, state)| {
            let places = Paths { root: project.places.root.clone(), state, run: project.places.run.clone() };
            StackRow { instance, ..StackRow::unanswered(&places, "down") }
        })
        .collect()
}

async fn ask_all(places: Vec<Paths>) -> Vec<StackRow> {
    let deadline = Instant::now() + ANSWER_LIMIT;
    let asked: Vec<_> = places
        .into_iter()
        .map(|places| {
            let asked = places.clone();
            (places, tokio::spawn(async move { ask(&asked).await }))
        })
        .collect();
    let mut stacks = Vec::with_capacity(asked.len());
    for (places, answer) in asked {
        let stack = tokio::time::timeout_at(deadline, answer).await;
        stacks.extend(stack.ok().and_then(Result::ok).unwrap_or_else(|| Some(StackRow::silent(&places))));
    }
    stacks
}

/// Whether nothing was started since the last end: `init` and a start that was refused leave directories too. A supervisor that was
/// killed leaves its socket.
fn has_ended(places: &Paths) -> bool {
    places.socket().symlink_metadata().is_err() && load::is_running(places).is_ok_and(|running| !running)
}

/// What one supervisor says of its stack. One that does not answer is shown by what is known of it, so that `ls` does not end
/// at the first that is stuck. `None`: it has ended in order.
async fn ask(places: &Paths) -> Option<StackRow> {
    let status = match connect::supervisor(places).await {
        Ok(Some(mut client)) => client.status().await.ok().flatten(),
        Ok(None) => None,
        Err(_) => return Some(StackRow::silent(places)),
    };
    if status.is_none() && has_ended(places) {
        return None;
    }
    let mut stack = StackRow::unanswered(places, "dead");
    if let Some(status) = status {
        stack.status = if status.stopping { "stopping" } else { "running" };
        stack.project = status.snapshot.project;
        stack.instance = status.snapshot.instance;
        stack.supervisor_pid = status.snapshot.supervisor_pid;
        let services = status.snapshot.services.iter().filter(|service| service.kind == Kind::Service);
        stack.services = services.clone().count();
        stack.running = services.filter(|service| service.state == State::Running).count();
    }
    Some(stack)
}

impl StackRow {
    /// One whose supervisor runs and does not answer; which process it is, its lock and its journal say.
    fn silent(places: &Paths) -> Self {
        Self { supervisor_pid: connect::holder(places).map(|running| running.pid), ..Self::unanswered(places, "silent") }
    }

    /// What the directories alone tell.
    fn unanswered(places: &Paths, status: &'static str) -> Self {
        Self {
            project: places.root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            instance: String::new(),
            root: places.root.display().to_string(),
            state_dir: places.state.display().to_string(),
            supervisor_pid: None,
            services: 0,
            running: 0,
            status,
        }
    }
}
