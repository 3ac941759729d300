//! Whether a keeper that owes an answer is lost: stopped, frozen, or stuck for good.
//!
//! A keeper that nobody waits for is asked nothing, so an idle stack wakes nobody. A request is followed by a ping, and its
//! answer ends the watch. The criterion must hold on a machine that is far too busy: silence alone proves nothing. A keeper
//! counts as lost when several looks in a row found neither a message of it, nor a turn on a processor (its context
//! switches), nor a process that waits for a processor or a disk. Looks are counted, not seconds: time in which this
//! process could not run either passes as one look.

use std::time::{Duration, Instant};

use super::procfs;

/// From a request to its ping, and from one look to the next.
const LOOK: Duration = Duration::from_millis(500);
/// So many looks in a row without a sign of life: 4 s after the ping.
const SILENT: u32 = 8;

/// What `/proc` says of a process that may be stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// `R S D T …`, see proc(5).
    pub state: u8,
    /// How often it has been on a processor.
    pub switches: u64,
}

impl Activity {
    /// Of a process of one thread.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { state: procfs::stat(pid)?.state, switches: procfs::switches(pid).unwrap_or_default() })
    }
}

/// What is to be done after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// Send a ping.
    Ping,
    /// It is lost.
    Lost,
}

/// The watch over one keeper.
#[derive(Debug, Default)]
pub struct KeeperWatch {
    next: Option<Instant>,
    pinged: bool,
    asked_since: bool,
    silent: u32,
    last: Option<Activity>,
}

impl KeeperWatch {
    /// Something was asked of it.
    pub fn asked(&mut self, now: Instant) {
        if self.next.is_none() {
            self.next = Some(now + LOOK);
        }
        self.asked_since = self.pinged;
    }
    /// Something was heard of it.
    pub fn heard(&mut self) {
        self.silent = 0;
    }
    /// The ping was answered: everything that was asked before it has been done.
    pub fn answered(&mut self, now: Instant) {
        let again = self.asked_since;
        *self = Self::default();
        if again {
            self.asked(now);
        }
    }
    /// When to look; `None` when nothing is owed.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.next
    }
    /// A look, where one is due; `activity` is asked only then.
    pub fn look(&mut self, now: Instant, activity: impl FnOnce() -> Option<Activity>) -> Verdict {
        if self.next.is_none_or(|at| at > now) {
            return Verdict::Wait;
        }
        self.next = Some(now + LOOK);
        let seen = activity();
        if !self.pinged {
            self.pinged = true;
            self.silent = 0;
            self.last = seen;
            return Verdict::Ping;
        }
        let works = seen
            .is_some_and(|seen| matches!(seen.state, b'R' | b'D') || self.last.is_none_or(|last| last.switches != seen.switches));
        self.last = seen;
        self.silent = if works { 0 } else { self.silent + 1 };
        if self.silent >= SILENT { Verdict::Lost } else { Verdict::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a keeper in these states until the verdict; how many looks after the ping that took.
    fn looks(states: impl IntoIterator<Item = Activity>) -> Option<usize> {
        let mut now = Instant::now();
        let mut watch = KeeperWatch::default();
        watch.asked(now);
        for (number, seen) in states.into_iter().enumerate() {
            now += LOOK;
            let verdict = watch.look(now, || Some(seen));
            assert_eq!(verdict == Verdict::Ping, number == 0);
            if verdict == Verdict::Lost {
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
        watch.asked(now);
        now += LOOK;
        let stopped = || Some(Activity { state: b'T', switches: 1 });
        assert_eq!(watch.look(now, stopped), Verdict::Ping);
        now += Duration::from_secs(3600);
        assert_eq!(watch.look(now, stopped), Verdict::Wait, "this process was stopped as well");
        watch.answered(now);
        assert_eq!(watch.next_wake(), None);
        watch.asked(now);
        now += LOOK;
        assert_eq!(watch.look(now, stopped), Verdict::Ping);
        watch.asked(now);
        watch.answered(now);
        assert_eq!(watch.next_wake(), Some(now + LOOK), "what was asked after the ping has no answer yet");
    }
}
