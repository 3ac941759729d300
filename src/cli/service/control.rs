//! Small verbs that ask a running supervisor for something.

use crate::app::request::{ids, session, settle};
use clap::Args;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ui::download;
use crate::ui::progress::ProgressView;
use crate::ui::term::{Progress, Term, say};
use devrun_model::exit;
use devrun_model::feed::FeedItem;
use devrun_model::{Command, Failure, FailureKind, Plan, RestartTargets, ServiceId, Signal, State, StopPurpose};

use crate::app::load::{self, Purpose, Wanted};
use crate::app::missing_files::MissingFiles;
use crate::app::missing_programs::{self, LaunchPlaces, ProgramCheck};
use crate::app::session::{Session, Signals, token};
use crate::app::start_scope;
use crate::app::stop_stack;
use crate::globals::Globals;

/// How long the feed is still read after the status has shown the end.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(50);

#[derive(Debug, Args)]
pub struct KillArgs {
    /// Signal name or number
    #[arg(short = 's', long, value_name = "SIG", default_value = "KILL")]
    pub signal: String,
    /// Services
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
    /// Compose's option for what is always so here
    #[arg(long, hide = true)]
    pub remove_orphans: bool,
}

#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Also restart services that depend on them
    #[arg(long)]
    pub with_dependents: bool,
    /// Maximum grace period of every service
    #[arg(short = 't', long, value_name = "T")]
    pub timeout: Option<String>,
    /// Compose's option for what is always so here
    #[arg(long, hide = true)]
    pub no_deps: bool,
}

#[derive(Debug, Args)]
pub struct StopArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Kill what is still running after this time
    #[arg(short = 't', long, value_name = "T")]
    pub timeout: Option<String>,
}

// `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Compose's option for what is always so here
    #[arg(long, hide = true)]
    pub wait: bool,
}

/// `devrun stop`: returns when the trees are empty.
///
/// # Errors
/// `Elsewhere` when nothing runs, `Survivors` when something cannot be ended.
pub fn stop(globals: &Globals, args: &StopArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let grace = args.timeout.as_deref().map(|text| seconds(text, "devrun stop --timeout 5s api")).transpose()?;
    crate::app::runtime::waiting_runtime()?.block_on(async {
        let (mut session, status) = session(&project).await?;
        let targets = ids(globals, &project, &status.snapshot, &args.services)?;
        let mut watched: Vec<ServiceId> = if targets.is_empty() {
            status.snapshot.services.iter().filter_map(|service| ServiceId::parse(&service.name).ok()).collect()
        } else {
            targets.clone()
        };
        let mut view = ProgressView::new(term);
        stop_stack::say_own_end(&project.places, &targets);
        session.command(token(), Command::Stop { targets, purpose: StopPurpose::Manual }).await?;
        let mut signals = Signals::take()?;
        let mut kill_at = grace.map(|grace| tokio::time::Instant::now() + grace);
        loop {
            if let Some(status) = session.status().await? {
                let live = |id: &ServiceId| {
                    status.snapshot.services.iter().any(|service| {
                        service.name == id.as_str() && (service.state.is_live() || service.state == State::BackingOff)
                    })
                };
                watched.retain(live);
                if watched.is_empty() {
                    show_last_words(&mut session, &mut view).await;
                    return Ok(exit::DONE);
                }
            }
            tokio::select! {
                item = session.next() => match item? {
                    Some(item) => {
                        view.item(&item);
                        // It had ended, even if somebody has started it again since.
                        if let FeedItem::Stopped(report) = &item {
                            watched.retain(|id| *id != report.id);
                            if watched.is_empty() {
                                show_last_words(&mut session, &mut view).await;
                                return Ok(exit::DONE);
                            }
                        }
                    }
                    None => return Ok(exit::DONE),
                },
                code = signals.next() => return Ok(code),
                () = tokio::time::sleep_until(kill_at.unwrap_or_else(tokio::time::Instant::now)), if kill_at.is_some() => {
                    kill_at = None;
                    let kill = Command::Kill { targets: watched.clone(), signal: Signal(libc::SIGKILL) };
                    session.command(token(), kill).await?;
                }
            }
        }
    })
}

/// Shows what is still on its way when everything has ended: the state comes on a connection of its own, and the report of a stop
/// before the change of state.
async fn show_last_words(session: &mut Session, view: &mut ProgressView) {
    while let Ok(Ok(Some(item))) = tokio::time::timeout(LAST_WORDS, session.next()).await {
        view.item(&item);
    }
}

/// A duration; a bare number is seconds, as compose has it.
fn seconds(text: &str, example: &str) -> Result<std::time::Duration, Failure> {
    let given = if text.chars().all(|c| c.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() };
    devrun_model::duration::parse(&given)
        .map_err(|error| Failure::new(FailureKind::Config, format!("--timeout: {error}")).help(example))
}

/// `devrun start`: procfile and environment are read again.
///
/// # Errors
/// `Elsewhere` when nothing runs.
pub fn start(globals: &Globals, args: &StartArgs, term: Term) -> Result<i32, Failure> {
    with_current_plan(globals, &args.services, term, None, |plan, targets| Command::Start { plan, targets })
}

/// `devrun restart`: procfile and environment are read again.
///
/// # Errors
/// `Elsewhere` when nothing runs, `Config` when the procfile has errors (nothing is stopped then).
pub fn restart(globals: &Globals, args: &RestartArgs, term: Term) -> Result<i32, Failure> {
    let with_dependents = args.with_dependents;
    let grace = args.timeout.as_deref().map(|text| seconds(text, "devrun restart --timeout 5s api")).transpose()?;
    let grace_ms = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    let command = |plan, targets| Command::Restart { plan, targets, with_dependents, grace_ms };
    with_current_plan(globals, &args.services, term, Some(with_dependents), command)
}

/// `restarts`: what runs is stopped for it; with those that depend on it, or without.
fn with_current_plan(
    globals: &Globals,
    services: &[String],
    term: Term,
    restarts: Option<bool>,
    command: impl FnOnce(Option<Arc<Plan>>, Vec<ServiceId>) -> Command,
) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    if !load::is_running(&project.places)? {
        return Err(Failure::new(FailureKind::Elsewhere, "nothing is running").help("devrun up -d"));
    }
    let wanted = Wanted { purpose: Purpose::Start, named: services.to_vec(), warn: true, ..Wanted::act() };
    let read = load::read(globals, &project, &wanted)?;
    let plan = Arc::clone(&read.plan);
    let targets = load::resolve(&plan, services)?;
    crate::app::runtime::ensure_threads()?;
    crate::app::runtime::waiting_runtime()?.block_on(async {
        let (session, status) = session(&project).await?;
        let missing_files = MissingFiles::find(&read, &BTreeSet::new(), term.err_color);
        let restart = restarts.map(|with_dependents| RestartTargets { targets: targets.clone(), with_dependents });
        let changes = missing_programs::changes(&project, &plan, restart).await?;
        if let (None, Some(changes)) = (restarts, &changes) {
            let scope = start_scope::of(&plan, &targets, false);
            let starts = |id: &ServiceId| changes.get(id).is_some_and(|(word, _)| word == "start");
            missing_files.refuse(|id| starts(id) && scope.contains(id), None)?;
        }
        if let (Some(_), Some(changes)) = (restarts, changes) {
            let options = load::fetch_options_by_environment(&project, download::progress(term));
            let (places, to_build) = (LaunchPlaces::new(&read), BTreeSet::new());
            let check = ProgramCheck { plan: &plan, places: &places, options: &options, to_build: &to_build };
            let started = missing_programs::started_by_restart(&changes, &plan, &targets);
            missing_files.refuse(|id| started.contains(id), Some(missing_programs::NOTHING_STOPPED))?;
            check.find(&started).await?;
        }
        if restarts.is_some() {
            stop_stack::say_own_end(&project.places, &targets);
        }
        settle(session, &status, command(Some(plan), targets), term).await
    })
}

/// `devrun kill`.
///
/// # Errors
/// `Elsewhere` when nothing runs, `Config` when there is no such signal.
pub fn kill(globals: &Globals, args: &KillArgs, term: Term) -> Result<i32, Failure> {
    let signal = Signal::parse(&args.signal).ok_or_else(|| {
        Failure::new(FailureKind::Config, format!("unknown signal {:?}", args.signal))
            .help(format!("one of {}", Signal::names().join(" ")))
    })?;
    let project = load::project(globals)?;
    crate::app::runtime::waiting_runtime()?.block_on(async {
        let (mut session, status) = session(&project).await?;
        let targets = ids(globals, &project, &status.snapshot, &args.services)?;
        let ours = token();
        if signal == Signal(libc::SIGKILL) {
            stop_stack::say_own_end(&project.places, &targets);
        }
        session.command(ours, Command::Kill { targets: targets.clone(), signal }).await?;
        while let Some(item) = session.next().await? {
            if matches!(item, devrun_model::feed::FeedItem::Accepted { token } if token == ours) {
                break;
            }
        }
        if !matches!(term.progress, Progress::Quiet | Progress::Json) {
            for target in &targets {
                let pid = status.snapshot.services.iter().find(|one| one.name == target.as_str()).and_then(|one| one.pid);
                say(match pid {
                    Some(pid) => format!("{target}: sent {signal} to pid {pid}"),
                    None => format!("{target}: not running, nothing was signalled"),
                });
            }
        }
        Ok(exit::DONE)
    })
}
