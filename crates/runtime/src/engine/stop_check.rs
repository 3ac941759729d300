//! `stop.check`: whether now is a good moment to stop a server, and how long one waits for a better one.
//!
//! The wait is bounded by half of the grace, so that the server still has the other half for its own way out; a server
//! that cannot be asked is stopped at once, as it may be the very reason for the stop.

use std::time::Duration;

use tokio::time::Instant;

use crate::recipes;
use devrun_model::{ServiceSpec, duration::human};

/// From one question to the next.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// For one answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns when the server is in the middle of nothing, or when the wait is over; says what it waits for.
pub(super) async fn wait_until_idle(spec: &ServiceSpec, grace: Duration, say: impl Fn(String)) {
    let end = Instant::now() + grace / 2;
    let mut reported = None;
    loop {
        let limit = ASK_TIMEOUT.min(end.saturating_duration_since(Instant::now()));
        let busy = match tokio::time::timeout(limit, recipes::busy_with(spec)).await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(busy))) => busy,
            Ok(Err(failure)) => return say(format!("cannot be asked whether now is a good moment: {}", failure.reason)),
            // A slow answer during the wait is the end of the wait; the first one is worth a word.
            Err(_) if reported.is_none() => return say("does not answer whether now is a good moment".to_owned()),
            Err(_) => String::new(),
        };
        if Instant::now() + ASK_EVERY >= end {
            return say(format!("{}; it is stopped all the same", reported.unwrap_or(busy)));
        }
        if reported.as_ref() != Some(&busy) && !busy.is_empty() {
            say(format!("{busy}: the stop waits for up to {}", human(grace / 2)));
            reported = Some(busy);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
