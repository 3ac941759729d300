//! A start that meets a stop: who is there to be joined, and for how long a stop that is under way is waited for.

use std::time::Duration;

use crate::ui::term::{Progress, Term, say};
use devrun_keeper::journal;
use devrun_model::feed::Outcome;
use devrun_model::{Failure, FailureKind, Paths, duration};
use devrun_runtime::engine::stop_leftovers;

use crate::app::connect;
use crate::app::load;

/// How long a stop that is under way is waited for.
const STOP_LIMIT: Duration = Duration::from_secs(300);

/// Whether a start was refused by a supervisor that is on its way out.
pub fn was_refused(outcome: &Outcome) -> bool {
    !outcome.failures.is_empty() && outcome.failures.iter().all(|failed| failed.failure.is_being_stopped())
}

/// The failure of a command that comes while the stack is being stopped.
pub fn being_stopped() -> Failure {
    Failure::new(FailureKind::Elsewhere, "the stack is being stopped").help("devrun up -d, which waits until it has stopped")
}

/// Whether the last run came to its end, and nothing of it is left.
pub fn stopped_in_order(places: &Paths) -> bool {
    journal::read(&places.journal()).is_ok_and(|journal| stop_leftovers::ended_clean(&journal))
}

/// The stop came first, again and again.
pub fn keeps_ending() -> Failure {
    Failure::new(FailureKind::Elsewhere, "the stack was stopped again each time this start reached it")
        .help("see who stops it: devrun events; then devrun up")
}

/// Whether a supervisor is there to be joined. One that holds the lock and does not answer is just starting, or was killed
/// and lets go in a moment; only one that stays so counts as there. A stop that is under way is waited for.
///
/// # Errors
/// `Elsewhere` when the stop takes too long.
pub async fn answers(places: &Paths, term: Term) -> Result<bool, Failure> {
    let begun = tokio::time::Instant::now();
    let mut stopping = None;
    while load::is_running(places)? {
        if stopping.is_none() && begun.elapsed() > Duration::from_secs(10) {
            return Ok(true);
        }
        if stopping.is_some() && begun.elapsed() > STOP_LIMIT {
            return Err(Failure::new(
                FailureKind::Elsewhere,
                format!("the stack is still being stopped after {}", duration::human(STOP_LIMIT)),
            )
            .help("devrun ps shows what has not stopped yet; devrun down --emergency kills it"));
        }
        // A stop cannot be taken back, so it is enough to see now and then that this is still the same supervisor.
        let due = stopping.is_none_or(|seen: tokio::time::Instant| seen.elapsed() > Duration::from_secs(1));
        if due
            && let Some(mut client) = connect::supervisor(places).await?
            && let Ok(Some(status)) = client.status().await
        {
            if !status.stopping {
                return Ok(true);
            }
            if stopping.is_none() && term.progress != Progress::Quiet {
                say("waiting for the stop that is under way");
            }
            stopping = Some(tokio::time::Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(false)
}
