//! Leftovers of an earlier run: found and ended before anything starts. Nothing is adopted: a process whose parent is gone
//! has no exit code and no log, and two copies of a service are worse than a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use devrun_keeper::journal::Journal;
use devrun_keeper::leftover_sweep::{self, SweepMode, SweepReport, has_earlier_run};
use devrun_model::{Failure, FailureKind, Paths, duration};

/// A sweep that takes longer is worth a line.
const SILENT_FOR: Duration = Duration::from_secs(1);

/// Ends what an earlier run left, as it would have been stopped. The caller holds the instance lock. `interrupted` is the exit
/// code of a signal: with it all graces are over. `note` gets lines that say what is done.
///
/// # Errors
/// `Survivors` when something cannot be ended: nothing may start while it is there.
pub async fn stop_leftovers(
    places: &Paths,
    interrupted: impl Future<Output = i32>,
    note: impl Fn(String),
) -> Result<Option<i32>, Failure> {
    let journal = devrun_keeper::project_journal::of_project(places)?;
    if ended_clean(&journal) || !has_earlier_run(&journal, places) {
        return Ok(None);
    }
    let (report, code) = stop_recorded_run(journal, places, interrupted, &note).await?;
    describe(&report)?.into_iter().for_each(note);
    Ok(code)
}

/// Whether the keeper of this journal came to its end and proved that nothing is left: no process of the machine needs to be looked
/// at then. It has written so for each process, too; a result that passes one over is not believed.
#[must_use]
pub fn ended_clean(journal: &Journal) -> bool {
    journal.damaged == 0 && journal.result.as_ref().is_some_and(Vec::is_empty) && journal.live.is_empty()
}

/// Ends what the run of this journal left, in order; after `interrupted` at once. Returns the report and the code of
/// `interrupted`.
///
/// # Errors
/// `Internal` when the sweep itself fails.
pub async fn stop_recorded_run(
    journal: Journal,
    places: &Paths,
    interrupted: impl Future<Output = i32>,
    note: impl Fn(String),
) -> Result<(SweepReport, Option<i32>), Failure> {
    let failed = |error| Failure::new(FailureKind::Internal, format!("the sweep failed: {error}"));
    let longest = leftover_sweep::max_duration(&journal);
    let (flag, folders) = (Arc::new(AtomicBool::new(false)), places.clone());
    let seen = Arc::clone(&flag);
    let mut work =
        tokio::task::spawn_blocking(move || leftover_sweep::sweep_until(&journal, &folders, SweepMode::Graceful, &seen));
    tokio::pin!(interrupted);
    let code = tokio::select! {
        report = &mut work => return Ok((report.map_err(failed)?, None)),
        code = &mut interrupted => code,
        () = tokio::time::sleep(SILENT_FOR) => {
            note(slow_note(longest));
            tokio::select! {
                report = &mut work => return Ok((report.map_err(failed)?, None)),
                code = &mut interrupted => code,
            }
        }
    };
    flag.store(true, Ordering::Relaxed);
    Ok((work.await.map_err(failed)?, Some(code)))
}

/// Said of a sweep that takes a while. With no grace there is nothing that the journal names, and the machine is merely searched.
fn slow_note(longest: Duration) -> String {
    if longest.is_zero() {
        return "looking for processes that an earlier run may have left".to_owned();
    }
    format!("stopping what an earlier run left, for up to {} (Ctrl-C kills it)", duration::human(longest))
}

fn describe(report: &SweepReport) -> Result<Vec<String>, Failure> {
    if let Some(first) = report.survivors.first() {
        let list = report.survivors.iter().map(|left| format!("{} ({})", left.pid, left.command)).collect::<Vec<_>>().join(", ");
        return Err(Failure::new(FailureKind::Survivors, format!("processes of an earlier run cannot be ended: {list}"))
            .help(first.advice()));
    }
    if report.killed.is_empty() {
        return Ok(Vec::new());
    }
    let mut lines = vec!["stopped processes of an earlier run:".to_owned()];
    lines.extend(report.killed.iter().map(|gone| {
        let service = gone.service.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
        format!("  {service}pid {} ({}), known by its {}", gone.pid, gone.command, gone.evidence)
    }));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_no_stop() {
        assert_eq!(slow_note(Duration::ZERO), "looking for processes that an earlier run may have left");
        let stop = slow_note(Duration::from_secs(10));
        assert_eq!(stop, "stopping what an earlier run left, for up to 10s (Ctrl-C kills it)");
    }
}
