//! Requests to a supervisor that runs: connect, name services, wait until it has done what was asked.

use crate::app::load::{self, Project, Wanted};
use crate::app::running_mode;
use crate::app::session::{Session, Settled, Signals, token, until_settled};
use crate::app::stop_wait;
use crate::app::unknown_service::unknown_or_inactive;
use crate::globals::Globals;
use crate::ui::ci;
use crate::ui::exit_line;
use crate::ui::progress::ProgressView;
use crate::ui::start_times::StartTimes;
use crate::ui::summary;
use crate::ui::term::{Progress, Term, say};
use devrun_model::{Command, Failure, FailureKind, ServiceId};

/// Names against what the supervisor runs; the procfile may have been edited since.
///
/// # Errors
/// `Config` for a name that is neither.
pub fn ids(
    globals: &Globals,
    project: &Project,
    snapshot: &devrun_model::Snapshot,
    names: &[String],
) -> Result<Vec<ServiceId>, Failure> {
    let mut found = Vec::new();
    for name in names {
        let before = found.len();
        for service in &snapshot.services {
            if service.name == *name || service.service == *name {
                found.extend(ServiceId::parse(&service.name));
            }
        }
        if found.len() == before {
            return Err(unknown(globals, project, snapshot, name));
        }
    }
    Ok(found)
}

/// The error for a name that the supervisor does not have: the procfile may have it in a profile that is not active.
#[must_use]
pub fn unknown(globals: &Globals, project: &Project, snapshot: &devrun_model::Snapshot, name: &str) -> Failure {
    // The procfile may have errors; what runs is known without it.
    let plan = load::plan(globals, project, &Wanted::look()).ok();
    let known = snapshot.services.iter().map(|service| service.name.as_str());
    unknown_or_inactive(plan.as_deref(), name, "running under this supervisor", known)
}

/// The supervisor that runs, to ask it for something.
///
/// # Errors
/// `Elsewhere` when nothing runs, or another mode than the one that was given.
pub async fn session(project: &Project) -> Result<(Session, devrun_model::feed::Status), Failure> {
    let patience = if load::is_running(&project.places)? { std::time::Duration::from_secs(5) } else { std::time::Duration::ZERO };
    let found = Session::remote(&project.places, patience).await?;
    let (session, status) =
        found.ok_or_else(|| Failure::new(FailureKind::Elsewhere, "nothing is running").help("devrun up -d"))?;
    running_mode::check_given(project, &status.snapshot)?;
    Ok((session, status))
}

/// Sends a command and shows what happens until it is done. Returns the exit code.
///
/// # Errors
/// `Elsewhere` when the connection breaks, and while the stack is being stopped.
pub async fn settle(session: Session, status: &devrun_model::feed::Status, command: Command, term: Term) -> Result<i32, Failure> {
    settle_with(session, status, command, term, |_| None).await
}

/// [`settle()`], with a line about what was done when nothing failed.
///
/// # Errors
/// As [`settle()`].
pub async fn settle_with(
    mut session: Session,
    status: &devrun_model::feed::Status,
    command: Command,
    term: Term,
    result: impl FnOnce(&StartTimes) -> Option<String>,
) -> Result<i32, Failure> {
    if status.stopping {
        return Err(stop_wait::being_stopped());
    }
    let mut signals = Signals::take()?;
    let mut view = ProgressView::new(term);
    let ours = token();
    session.command(ours, command).await?;
    let settled = until_settled(&mut session, status, Some(ours), &mut view, &mut signals).await?;
    view.clear();
    match settled {
        Settled::Interrupted(code) => Ok(code),
        Settled::Gone(None) => Err(Failure::new(FailureKind::Elsewhere, "the supervisor ended").help("devrun ps; devrun logs")),
        Settled::Outcome(outcome) | Settled::Gone(Some(outcome)) if stop_wait::was_refused(&outcome) => {
            Err(stop_wait::being_stopped())
        }
        Settled::Outcome(outcome) | Settled::Gone(Some(outcome)) => {
            if !outcome.failures.is_empty() || !outcome.blocked.is_empty() {
                // A supervisor that has nothing left to do may have ended.
                let status = session.status().await.ok().flatten();
                say(summary::failures(&outcome, status.as_ref().map(|status| &status.snapshot), term.err_color).trim_end());
                ci::failures(&outcome);
            }
            if let Some(line) = exit_line::of_outcome(&outcome, None) {
                say(line);
            } else if let Some(line) = result(view.times()).filter(|_| !matches!(term.progress, Progress::Quiet | Progress::Json))
            {
                say(line);
            }
            Ok(outcome.code())
        }
    }
}
