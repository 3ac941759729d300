//! Leftovers of an earlier run: found and ended before anything starts. Nothing is adopted: a process whose parent is gone
//! has no exit code and no log, and two copies of a service are worse than a restart.

use crate::drivers::journal;
use crate::drivers::process::sweep::{How, SweepReport, ever_ran, sweep};
use crate::model::{Failure, FailureKind, Places};

/// Ends what an earlier run left, as it would have been stopped. The caller holds the instance lock. Returns lines that
/// say what was done.
///
/// # Errors
/// `Survivors` when something cannot be ended: nothing may start beside it.
pub async fn clear(places: &Places) -> Result<Vec<String>, Failure> {
    let journal = journal::of(places)?;
    // A keeper that came to its end has proved that nothing is left: no need to look at every process of the machine.
    if journal.damaged == 0 && journal.result.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    if !ever_ran(&journal, places) {
        return Ok(Vec::new());
    }
    let folders = places.clone();
    let report = tokio::task::spawn_blocking(move || sweep(&journal, &folders, How::Gentle))
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, format!("the sweep failed: {error}")))?;
    describe(&report)
}

fn describe(report: &SweepReport) -> Result<Vec<String>, Failure> {
    if let Some(first) = report.survivors.first() {
        let list = report.survivors.iter().map(|left| format!("{} ({})", left.pid, left.command)).collect::<Vec<_>>().join(", ");
        return Err(Failure::new(FailureKind::Survivors, format!("processes of an earlier run cannot be ended: {list}"))
            .help(format!("look at what pid {} is stuck in: cat /proc/{}/stack", first.pid, first.pid)));
    }
    if report.killed.is_empty() {
        return Ok(Vec::new());
    }
    let mut lines = vec![format!("an earlier run left {} processes; they were stopped:", report.killed.len())];
    lines.extend(report.killed.iter().map(|gone| {
        let service = gone.service.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
        format!("  {service}pid {} ({}), known by its {}", gone.pid, gone.command, gone.evidence)
    }));
    Ok(lines)
}
