//! Stops a stack, by its supervisor or without one. Nothing here needs a valid procfile: what runs is what was started.

use std::time::Duration;

use crate::ui::progress::ProgressView;
use crate::ui::summary;
use crate::ui::term::{Progress, Term, data, say};
use devrun_keeper::caller::{self, Caller};
use devrun_keeper::journal::Journal;
use devrun_keeper::leftover_sweep::{SweepMode, SweepReport, sweep};
use devrun_keeper::lock::{InstanceLock, InstanceLockError};
use devrun_model::exit;
use devrun_model::{Command, Failure, FailureKind, Paths, ServiceId};
use devrun_runtime::control::ControlClient;
use devrun_runtime::control::protocol::ControlReply;
use devrun_runtime::engine::stop_leftovers;
use devrun_runtime::runtime_dir;

use crate::app::abandoned_runs;
use crate::app::load;
use crate::app::session::{Session, Signals, token, until_gone};

/// Stops what runs, as a bare `down` does, for a command that continues afterwards.
///
/// # Errors
/// As `down`, and as [`only_from_outside`].
pub fn stop(places: &Paths, term: Term) -> Result<i32, Failure> {
    only_from_outside(places)?;
    crate::app::runtime::runtime()?.block_on(gentle(places, None, term))
}

/// For a command that has something to do after the stop: from inside a service it would be stopped itself, with that undone.
///
/// # Errors
/// `Config`, naming the service.
pub fn only_from_outside(places: &Paths) -> Result<(), Failure> {
    let Some(caller) = caller::inside(&devrun_keeper::project_journal::of_project(places).unwrap_or_default()) else {
        return Ok(());
    };
    let place = caller.service.map_or_else(|| "a service".to_owned(), |id| id.to_string());
    Err(Failure::new(
        FailureKind::Config,
        format!("this command runs inside {place} and would be stopped with it, its work undone"),
    )
    .help("run it in a terminal of your own; nothing was stopped"))
}

pub async fn gentle(places: &Paths, grace: Option<Duration>, term: Term) -> Result<i32, Failure> {
    // An unreadable journal is reported below, where it matters.
    if let Some(caller) = caller::inside(&devrun_keeper::project_journal::of_project(places).unwrap_or_default()) {
        return hand_over(places, grace, &caller).await;
    }
    let mut signals = Signals::take()?;
    let give_up = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let found = Session::remote(places, Duration::ZERO).await?;
        if let Some((mut session, status)) = found {
            let mut view = ProgressView::new(term);
            view.status(&status, false);
            session.command(token(), down(grace)).await?;
            let (stops, last, interrupted) = until_gone(&mut session, &mut view, &mut signals).await?;
            view.clear();
            let (lock, succeeded) = match until_released(places, status.snapshot.supervisor_pid, &mut signals).await? {
                Released::Free(lock) => (Some(lock), false),
                Released::Succeeded => (None, true),
                Released::Held => (None, false),
                Released::Interrupted(code) => return Ok(code),
            };
            if !matches!(term.progress, Progress::Quiet | Progress::Json) {
                let table = summary::stops(&stops);
                if !table.is_empty() {
                    say(table.trim_end());
                } else if last.is_some() && interrupted.is_none() {
                    say("no service was running; the supervisor has ended");
                }
            }
            if let Some(outcome) = &last {
                let survived = outcome.failures.iter().find(|failed| failed.failure.kind == FailureKind::Survivors);
                if let Some(failed) = survived {
                    return Err(failed.failure.clone());
                }
            }
            if lock.is_none() && last.is_none() && !succeeded {
                // The connection broke, and the stop may not be over.
                return Err(not_ended());
            }
            // Where the keeper left no proof of its end, this is one. Who has started since has done so itself.
            let (report, code) = match &lock {
                Some(_) if !stop_leftovers::ended_clean(&devrun_keeper::project_journal::of_project(places)?) => {
                    leftovers(places, &mut signals).await?
                }
                _ => (SweepReport::default(), None),
            };
            return conclude(&report, interrupted.or(code));
        }
        let Some(_lock) = alone(places)? else {
            // Just starting, just ending, or stuck.
            if tokio::time::Instant::now() > give_up {
                return Err(Failure::new(FailureKind::Elsewhere, "a supervisor holds the lock and cannot be reached")
                    .help("devrun down --emergency ends it and what it runs"));
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => continue,
                code = signals.next() => return Ok(code),
            }
        };
        let (report, code) = leftovers(places, &mut signals).await?;
        if report.killed.is_empty() && report.survivors.is_empty() && term.progress != Progress::Quiet {
            say("nothing is running");
        }
        let _gone = runtime_dir::remove_run(places);
        return conclude(&report, code);
    }
}

fn down(grace: Option<Duration>) -> Command {
    Command::Down { grace_ms: grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)) }
}

/// From inside a service: whoever waited for the end of the stack would be waited for. The supervisor is asked, and a keeper
/// without one is stopping everything already.
async fn hand_over(places: &Paths, grace: Option<Duration>, caller: &Caller) -> Result<i32, Failure> {
    let client = crate::app::connect::supervisor(places).await?;
    // Said before the request: the service, and this command with it, may be stopped at once.
    let who = if client.is_some() { "supervisor" } else { "keeper" };
    let _reader_gone = data(format!("{}; the {who} stops the stack", describe(caller)));
    if let Some(mut client) = client {
        client.command(token(), down(grace)).await?;
        // Read by it: it would not look for a request behind a connection that broke.
        while client.next().await?.is_some_and(|reply| !matches!(reply, ControlReply::Taken)) {}
    }
    Ok(exit::DONE)
}

/// Says, before a command that stops `targets` (none: all) is given, that this process is a part of one of them and ends with it: it
/// cannot say so afterwards.
pub fn say_own_end(places: &Paths, targets: &[ServiceId]) {
    // An unreadable journal is reported where it matters.
    let caller = caller::inside(&devrun_keeper::project_journal::of_project(places).unwrap_or_default());
    let Some(caller) = caller else { return };
    if targets.is_empty() || caller.service.as_ref().is_some_and(|id| targets.contains(id)) {
        say(format!("{}; the supervisor does the rest", describe(&caller)));
    }
}

/// The entry of this command in the list of what ends.
fn describe(caller: &Caller) -> String {
    let service = caller.service.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
    format!("{service}pid {} ({}) is this command and ends now", caller.pid, caller.command)
}

/// What became of the instance lock of a supervisor that has said its last word.
enum Released {
    /// It is free, or held by this process now.
    Free(Option<InstanceLock>),
    /// The next supervisor has it already.
    Succeeded,
    /// It is still held after ten seconds.
    Held,
    /// A signal came: its exit code.
    Interrupted(i32),
}

/// Waits for the supervisor's last steps: it lets go of the lock when nothing of it is left.
async fn until_released(places: &Paths, supervisor: Option<i32>, signals: &mut Signals) -> Result<Released, Failure> {
    let give_up = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(lock) = alone(places)? {
            return Ok(Released::Free(lock));
        }
        if tokio::time::Instant::now() >= give_up {
            return Ok(Released::Held);
        }
        let next = ControlClient::connect(places).await.ok().flatten().map(|client| client.hello.pid);
        if next.is_some_and(|pid| Some(pid) != supervisor) {
            return Ok(Released::Succeeded);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
            code = signals.next() => return Ok(Released::Interrupted(code)),
        }
    }
}

/// Waits for the end of a supervisor that is stopping everything, as `--rollback` makes it. Returns the exit code of a signal
/// that came meanwhile; the stop is quickened by it.
///
/// # Errors
/// As `down`.
pub async fn follow(places: &Paths, session: &mut Session, supervisor: Option<i32>, term: Term) -> Result<Option<i32>, Failure> {
    let mut signals = Signals::take()?;
    let mut view = ProgressView::new(term);
    let (_stops, last, interrupted) = until_gone(session, &mut view, &mut signals).await?;
    view.clear();
    let survived = |outcome: devrun_model::feed::Outcome| {
        outcome.failures.into_iter().find(|failed| failed.failure.kind == FailureKind::Survivors)
    };
    if let Some(failed) = last.and_then(survived) {
        return Err(failed.failure);
    }
    match until_released(places, supervisor, &mut signals).await? {
        Released::Free(_) | Released::Succeeded => Ok(interrupted),
        Released::Interrupted(code) => Ok(Some(code)),
        Released::Held => Err(not_ended()),
    }
}

fn not_ended() -> Failure {
    Failure::new(FailureKind::Elsewhere, "the supervisor has not ended yet")
        .help("devrun ps shows what has not stopped yet; devrun down --emergency kills it")
}

/// The instance lock, which keeps everybody from starting while leftovers are ended and the runtime folder is removed: what a
/// supervisor runs that began a moment ago is no leftover, and the folder is its own. `None`: somebody holds it.
///
/// # Errors
/// `Config` when the lock cannot be taken for another reason.
fn alone(places: &Paths) -> Result<Option<Option<InstanceLock>>, Failure> {
    let path = places.instance_lock();
    if !path.exists() {
        // Nothing was ever started here, and looking makes no folders.
        return Ok(Some(None));
    }
    match InstanceLock::take_without_pid(&path) {
        Ok(lock) => Ok(Some(Some(lock))),
        Err(InstanceLockError::Held(_)) => Ok(None),
        Err(InstanceLockError::Failed(failure)) => Err(failure),
    }
}

/// For whoever deletes what a stack works on: nobody can start one until the result is dropped.
///
/// # Errors
/// `Elsewhere` when one is up, or began while somebody was asked.
pub fn keep_others_out(places: &Paths) -> Result<Option<InstanceLock>, Failure> {
    // Somebody who only asks whether a supervisor is there has the lock for an instant.
    for _ in 0..20 {
        if let Some(lock) = alone(places)? {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(Failure::new(FailureKind::Elsewhere, "the stack is up: nothing was deleted").help("devrun down, then once more"))
}

/// Ends what is left; a signal ends the graces. Returns its exit code too.
async fn leftovers(places: &Paths, signals: &mut Signals) -> Result<(SweepReport, Option<i32>), Failure> {
    stop_leftovers::stop_recorded_run(devrun_keeper::project_journal::of_project(places)?, places, signals.next(), say).await
}

fn conclude(report: &SweepReport, interrupted: Option<i32>) -> Result<i32, Failure> {
    for gone in &report.killed {
        let service = gone.service.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
        // The list is data: a script may want to check it.
        let _reader_gone = data(format!("{service}pid {} ({}) ended, known by its {}", gone.pid, gone.command, gone.evidence));
    }
    if let Some(caller) = &report.caller {
        let _reader_gone = data(describe(caller));
    }
    if let Some(first) = report.survivors.first() {
        let list = report.survivors.iter().map(|left| format!("{} ({})", left.pid, left.command)).collect::<Vec<_>>().join(", ");
        return Err(Failure::new(FailureKind::Survivors, format!("these could not be ended: {list}")).help(first.advice()));
    }
    Ok(interrupted.unwrap_or(exit::DONE))
}

/// What `down --emergency` says where it finds nothing.
pub const NOTHING_LEFT: &str = "nothing was left";

/// Everything that is provably this project's, now: the supervisor first, so that nothing is restarted. Where nothing is left it says
/// `nothing`.
pub fn emergency(places: &Paths, nothing: &str) -> Result<i32, Failure> {
    let journal = devrun_keeper::project_journal::of_project(places).unwrap_or_else(|failure| {
        // Locks, the control socket and what the processes carry tell without it.
        say(format!("{}; it is not needed for this", failure.reason));
        Journal::default()
    });
    let report = sweep(&journal, places, SweepMode::Emergency);
    if report.killed.is_empty() && report.survivors.is_empty() {
        say(nothing);
    }
    let code = conclude(&report, None)?;
    // Where another has started since, it needs the directory.
    if let Ok(Some(_lock)) = alone(places) {
        abandoned_runs::remove_directories(places);
    }
    Ok(code)
}

/// Whether a supervisor answers; for verbs that only look.
///
/// # Errors
/// `Elsewhere` when one is there and does not answer.
pub async fn connect(places: &Paths) -> Result<ControlClient, Failure> {
    match crate::app::connect::supervisor(places).await? {
        Some(client) => Ok(client),
        None => Err(Failure::new(FailureKind::Elsewhere, "nothing is running").help("devrun up -d")),
    }
}

/// `down --emergency --all`: one after the other, so that what cannot be ended in one project does not save the next.
///
/// # Errors
/// The first that happened, after all were tried.
pub fn emergency_all() -> Result<i32, Failure> {
    let found = runtime_dir::stacks(&load::environment());
    if found.is_empty() {
        say("no stack of this user was found");
    }
    let mut first = None;
    for places in &found {
        say(format!("{}:", places.root.display()));
        if let Err(failure) = crate::app::stop_stack::emergency(places, NOTHING_LEFT) {
            say(format!("  {failure}"));
            first.get_or_insert(failure);
        }
    }
    match first {
        Some(failure) => Err(failure),
        None => Ok(exit::DONE),
    }
}
