//! Whether a keeper that owes an answer is lost: stopped, frozen, or stuck for good.
//!
//! An idle keeper is not pinged, so an idle stack causes no wake-ups. A request is followed by a ping, and its answer ends the
//! watch. The criterion must hold on a machine that is far too busy: silence alone proves nothing. A keeper counts as lost when
//! several checks in a row found neither a message of it, nor a turn on a processor (its context switches), nor a process that
//! waits for a processor or a disk. Checks are counted, not seconds: time in which this process could not run either counts as
//! one check.

use std::time::{Duration, Instant};

use super::process_list::Activity;

/// From a request to its ping, and from one check to the next.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// So many checks in a row without a sign of life: 4 s after the ping.
const SILENT_CHECKS: u32 = 8;

/// What is to be done after a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchDecision {
    /// Nothing yet.
    Wait,
    /// Send a ping.
    Ping,
    /// It is lost.
    Lost,
}

/// The watch over one keeper.
#[derive(Debug, Default)]
pub(crate) struct KeeperWatch {
    next: Option<Instant>,
    is_pinged: bool,
    has_newer_request: bool,
    silent: u32,
    last: Option<Activity>,
}

impl KeeperWatch {
    /// Something was asked of it.
    pub(crate) fn request_sent(&mut self, now: Instant) {
        if self.next.is_none() {
            self.next = Some(now + CHECK_INTERVAL);
        }
        self.has_newer_request = self.is_pinged;
    }
    /// Something was heard of it.
    pub(crate) fn message_received(&mut self) {
        self.silent = 0;
    }
    /// The ping was answered: everything that was asked before it has been done.
    pub(crate) fn pong_received(&mut self, now: Instant) {
        let again = self.has_newer_request;
        *self = Self::default();
        if again {
            self.request_sent(now);
        }
    }
    /// When to check; `None` when no answer is due.
    #[must_use]
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.next
    }
    /// Checks, if a check is due; `activity` is asked only then.
    pub(crate) fn check(&mut self, now: Instant, activity: impl FnOnce() -> Option<Activity>) -> WatchDecision {
        if self.next.is_none_or(|at| at > now) {
            return WatchDecision::Wait;
        }
        self.next = Some(now + CHECK_INTERVAL);
        let seen = activity();
        if !self.is_pinged {
            self.is_pinged = true;
            self.silent = 0;
            self.last = seen;
            return WatchDecision::Ping;
        }
        let works = seen
            .is_some_and(|seen| matches!(seen.state, b'R' | b'D') || self.last.is_none_or(|last| last.switches != seen.switches));
        self.last = seen;
        self.silent = if works { 0 } else { self.silent + 1 };
        if self.silent >= SILENT_CHECKS { WatchDecision::Lost } else { WatchDecision::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a keeper in these states until the verdict; how many looks after the ping that took.
    fn looks(states: impl IntoIterator<Item = Activity>) -> Option<usize> {
        let mut now = Instant::now();
        let mut watch = KeeperWatch::default();
        watch.request_sent(now);
        for (number, seen) in states.into_iter().enumerate() {
            now += CHECK_INTERVAL;
            let decision = watch.check(now, || Some(seen));
            assert_eq!(decision == WatchDecision::Ping, number == 0);
            if decision == WatchDecision::Lost {
                return Some(number);
            }
        }
        None
    }

    #[test]
    fn only_one_that_does_nothing_at_all_is_lost() {
        let at = |state, switches| Activity { state, switches };
        assert_eq!(looks((0..100).map(|_| at(b'T', 7))), Some(8));
        assert_eq!(looks((0..100).map(|_| at(b'S', 7))), Some(8), "frozen: it sleeps and nothing wakes it");
        assert_eq!(looks((0..100).map(|_| at(b'R', 7))), None, "it waits for a processor");
        assert_eq!(looks((0..100).map(|_| at(b'D', 7))), None, "it waits for a disk");
        assert_eq!(looks((0..100).map(|round| at(b'S', round / 5))), None, "it works, however slowly");
    }

    #[test]
    fn nothing_is_owed_after_an_answer_and_time_asleep_is_one_look() {
        let mut now = Instant::now();
        let mut watch = KeeperWatch::default();
        assert_eq!(watch.next_wake(), None);
        watch.request_sent(now);
        now += CHECK_INTERVAL;
        let stopped = || Some(Activity { state: b'T', switches: 1 });
        assert_eq!(watch.check(now, stopped), WatchDecision::Ping);
        now += Duration::from_secs(3600);
        assert_eq!(watch.check(now, stopped), WatchDecision::Wait, "this process was stopped as well");
        watch.pong_received(now);
        assert_eq!(watch.next_wake(), None);
        watch.request_sent(now);
        now += CHECK_INTERVAL;
        assert_eq!(watch.check(now, stopped), WatchDecision::Ping);
        watch.request_sent(now);
        watch.pong_received(now);
        assert_eq!(watch.next_wake(), Some(now + CHECK_INTERVAL), "what was asked after the ping has no answer yet");
    }
}
