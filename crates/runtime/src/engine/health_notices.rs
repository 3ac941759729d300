//! What the loop notices by itself: that it was held and for how long, and a stop that takes its time. Nothing here decides; it
//! is what a person watching would say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use devrun_core::StopProgress;
use devrun_core::Tick;
use devrun_model::ServiceId;

/// While a deadline is pending the loop wakes at least this often, so that a pause is known to this accuracy. Without a
/// deadline nothing can come too early, and the loop sleeps.
const WAKE_EVERY: Duration = Duration::from_secs(1);
/// A wake-up later than this is no jitter: this process did not run.
const HELD_AFTER: Duration = Duration::from_millis(1500);
/// A stop is talked about every so often.
const NOTICE_EVERY: Duration = Duration::from_secs(5);
/// Nobody is looked at more often than this, to see whether there is something to say.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// What was noticed so far.
#[derive(Debug, Default)]
pub(crate) struct HealthNotices {
    checked_at: Option<Tick>,
    slow_stops: BTreeMap<ServiceId, (Tick, u128)>,
}

/// When to wake for a deadline.
#[must_use]
pub(crate) fn wake(deadline: Option<Instant>, now: Instant) -> Option<Instant> {
    deadline.map(|at| at.clamp(now, now + WAKE_EVERY))
}

/// How long the process was held while it slept until `wake`.
#[must_use]
pub(crate) fn overslept(wake: Option<Instant>, now: Instant) -> Option<Duration> {
    let late = now.saturating_duration_since(wake?);
    (late > HELD_AFTER).then_some(late)
}

impl HealthNotices {
    /// Whether it is time to look at those that leave again: every end of a process wakes the loop, and many end at once.
    pub(crate) fn should_check(&mut self, now: Tick) -> bool {
        let due = self.checked_at.is_none_or(|at| now.since(at) >= CHECK_EVERY);
        if due {
            self.checked_at = Some(now);
        }
        due
    }
    /// What is to be said now about a stop that takes long.
    pub(crate) fn slow_stop(&mut self, id: &ServiceId, progress: StopProgress, now: Tick) -> Option<String> {
        let waited = now.since(progress.requested_at);
        let turn = waited.as_millis() / NOTICE_EVERY.as_millis();
        let (requested_at, said) = self.slow_stops.entry(id.clone()).or_insert((progress.requested_at, 0));
        if *requested_at != progress.requested_at {
            (*requested_at, *said) = (progress.requested_at, 0);
        }
        if turn <= *said {
            return None;
        }
        *said = turn;
        Some(if progress.is_killed {
            format!("waiting for {id} (killed, {}s so far)", waited.as_secs())
        } else {
            let (grace, left) = (progress.deadline.since(progress.requested_at), progress.deadline.since(now));
            format!("waiting for {id} (grace {}s, {}s left)", grace.as_secs(), left.as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;

    fn id() -> ServiceId {
        ServiceId::single(&ServiceName::new("db").expect("a name"))
    }

    #[test]
    fn late_is_more_than_jitter() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        assert_eq!(overslept(None, now), None, "nothing was due");
        assert_eq!(overslept(Some(now), now + ms(900)), None);
        assert_eq!(overslept(Some(now), now + ms(5000)), Some(ms(5000)));
        assert_eq!(overslept(Some(now + ms(10)), now), None, "woken early");
        assert_eq!(wake(Some(now + ms(60_000)), now), Some(now + WAKE_EVERY));
        assert_eq!(wake(Some(now + ms(3)), now), Some(now + ms(3)));
        assert_eq!(wake(now.checked_sub(ms(3)), now), Some(now), "an old deadline is no sleep");
    }

    #[test]
    fn a_long_stop_is_talked_about_every_five_seconds() {
        let mut notices = HealthNotices::default();
        let progress = StopProgress { requested_at: Tick::ms(1000), deadline: Tick::ms(61_000), is_killed: false };
        assert_eq!(notices.slow_stop(&id(), progress, Tick::ms(5900)), None);
        assert_eq!(notices.slow_stop(&id(), progress, Tick::ms(6000)).as_deref(), Some("waiting for db (grace 60s, 55s left)"));
        assert_eq!(notices.slow_stop(&id(), progress, Tick::ms(6500)), None);
        assert!(notices.slow_stop(&id(), progress, Tick::ms(11_000)).is_some());
        let again = StopProgress { requested_at: Tick::ms(90_000), ..progress };
        assert_eq!(notices.slow_stop(&id(), again, Tick::ms(91_000)), None, "another stop begins anew");
    }
}
