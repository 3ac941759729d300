//! A stack that stands for as long as one piece of work takes: up, wait, work, and down again whatever happened. This
//! process is its supervisor, so that even `kill -9` leaves nothing behind.

use std::sync::Arc;

use crate::ui::ci;
use crate::ui::progress::ProgressView;
use crate::ui::start_times::StartTimes;
use crate::ui::summary;
use crate::ui::term::{Progress, Term, say};
use devrun_model::exit;
use devrun_model::feed::Outcome;
use devrun_model::{Command, Failure, FailureKind, Paths, Plan, ServiceId, UpOptions};
use devrun_runtime::engine::EngineExit;

use crate::app::connect;
use crate::app::load::{self, Project};
use crate::app::session::{Settled, Signals};
use crate::app::stack_session::{Boot, RunSignals, StackClaim, StackEvent};
use crate::app::start_scope::PlannedStart;

/// What is to stand.
pub struct TemporaryStack<'a> {
    /// Where.
    pub project: &'a Project,
    /// What.
    pub plan: Arc<Plan>,
    /// Which of it; empty: all.
    pub targets: Vec<ServiceId>,
    /// No network.
    pub offline: bool,
    /// In the place of vendor hosts.
    pub mirror: Option<String>,
}

/// The runtime directory of a stack whose state is thrown away, which goes with it however far the stack came.
pub struct TemporaryRun(pub Paths);

impl Drop for TemporaryRun {
    fn drop(&mut self) {
        // A run that ended has removed it. What stays is shown by `devrun ls`.
        let _absent = devrun_runtime::runtime_dir::remove_run(&self.0);
    }
}

/// How it went.
pub struct TemporaryStackResult {
    /// How the start ended.
    pub start: Outcome,
    /// How long each service took.
    pub times: StartTimes,
    /// The code of the work, if it was begun.
    pub work: Option<i32>,
    /// How the stack ended.
    pub ended: EngineExit,
    /// A signal ended the start: the exit code that says so.
    pub interrupted: Option<i32>,
}

/// Brings it up, does `work` when all is ready, and takes it down.
///
/// # Errors
/// `Elsewhere` when the stack is up already; as [`StackClaim::boot`]. What `work` fails with comes after the teardown.
pub async fn with_temporary_stack(
    order: TemporaryStack<'_>,
    term: Term,
    work: impl AsyncFnOnce(&mut Signals) -> Result<i32, Failure>,
) -> Result<TemporaryStackResult, Failure> {
    let places = &order.project.places;
    let claim = match StackClaim::take(places)? {
        Ok(claim) => claim,
        Err(pid) => return Err(up_already(places, pid).await),
    };
    let signals = RunSignals::ending_only()?;
    let progress: Arc<dyn devrun_store::DownloadProgress> = match term.progress {
        Progress::Tty | Progress::Plain => Arc::new(crate::ui::download::Bars::new(term)),
        Progress::Json | Progress::Quiet => Arc::new(devrun_store::NoDownloadProgress),
    };
    let fetch = load::fetch_options(order.project, order.offline, order.mirror.clone(), progress);
    let planned = PlannedStart::new(&order.plan, &order.targets, false);
    let mut session = match claim.boot(planned, fetch, signals, std::future::pending(), say).await? {
        Boot::Done(session) => session,
        Boot::Interrupted(code) => return Ok(TemporaryStackResult::not_begun(code)),
    };
    let status = session.watch().await?;
    let mut view = ProgressView::new(term).with_plan(&order.plan).with_logs(places.logs());
    view.status(&status, false);
    let token = session.command(Command::Up { plan: None, targets: order.targets, options: UpOptions::default() });
    let settled = session.until_settled(token, &mut view).await;
    view.clear();
    let times = view.times().clone();
    let (mut start, mut interrupted, mut done) = (Outcome::default(), None, None);
    let mut error = None;
    match settled? {
        Settled::Interrupted(code) => interrupted = Some(code),
        Settled::Gone(outcome) => start = outcome.unwrap_or_default(),
        Settled::Outcome(outcome) => {
            let ready = outcome.failures.is_empty() && outcome.blocked.is_empty();
            start = outcome;
            if ready {
                match work(session.ending_signals()).await {
                    Ok(code) => done = Some(code),
                    Err(failure) => error = Some(failure),
                }
            }
        }
    }
    session.command(Command::Down { grace_ms: None });
    let ended = loop {
        match session.next().await? {
            StackEvent::Signal(code) => {
                interrupted.get_or_insert(code);
                session.engine().interrupt();
            }
            StackEvent::Feed(item) => view.item(&item),
            StackEvent::FeedClosed | StackEvent::Control(_) | StackEvent::Log(_) => {}
            StackEvent::Ended(ended) => break ended,
        }
    };
    view.clear();
    for (pid, command) in &ended.survivors {
        say(format!("pid {pid} ({command}) could not be ended"));
    }
    if !start.failures.is_empty() || !start.blocked.is_empty() {
        say(summary::failures(&start, None, term.err_color).trim_end());
        ci::failures(&start);
    }
    match error {
        Some(failure) => Err(failure),
        None => Ok(TemporaryStackResult { start, times, work: done, ended, interrupted }),
    }
}

/// Another supervisor has the stack. One that is stopping it is soon gone.
async fn up_already(places: &Paths, pid: Option<i32>) -> Failure {
    let who = pid.map(|pid| format!(" under supervisor {pid}")).unwrap_or_default();
    let status = match connect::supervisor(places).await {
        Ok(Some(mut client)) => client.status().await.ok().flatten(),
        Ok(None) | Err(_) => None,
    };
    if status.is_some_and(|status| status.stopping) {
        return Failure::new(FailureKind::Elsewhere, format!("the stack{who} is being stopped"))
            .help("devrun down waits until it is stopped, then run this again; `--ephemeral` creates a second, temporary stack");
    }
    Failure::new(FailureKind::Elsewhere, format!("the stack is up already{who}"))
        .help("devrun exec SERVICE -- CMD uses the running stack; `--ephemeral` creates a second, temporary one")
}

impl TemporaryStackResult {
    /// A signal came before anything was started.
    fn not_begun(code: i32) -> Self {
        let ended = EngineExit { outcome: Outcome::default(), survivors: Vec::new(), scratch: Vec::new() };
        Self { start: Outcome::default(), times: StartTimes::default(), work: None, ended, interrupted: Some(code) }
    }
    /// The code of the stack's own failure, if there was one.
    #[must_use]
    pub fn stack_code(&self) -> Option<i32> {
        if !self.ended.survivors.is_empty() {
            return Some(exit::SURVIVORS);
        }
        Some(self.interrupted.filter(|_| self.work.is_none()).unwrap_or_else(|| self.start.code()))
            .filter(|code| *code != exit::DONE)
    }
}
