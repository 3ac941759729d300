//! The stop of a server whose data directory is gone: its signal would make it save first, which fails, and it would stay up until it is
//! killed at the end of its grace period.

use std::time::Duration;

use crate::recipes;
use devrun_model::ServiceSpec;

/// For the command that ends it.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Ends it without saving, and says so. One that does not take that gets its stop signal all the same.
pub(super) async fn end(spec: &ServiceSpec, grace: Duration, say: impl Fn(String)) {
    say("its data directory was deleted: stopping it without saving".to_owned());
    match tokio::time::timeout(ANSWER_LIMIT.min(grace), recipes::end_without_saving(spec)).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => say(format!("cannot be stopped without saving: {}", failure.reason)),
        Err(_) => say("cannot be stopped without saving: no answer".to_owned()),
    }
}
