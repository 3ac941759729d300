//! A service that crashes over and over: single restarts are lost among others, so the loop is named once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use devrun_model::ServiceId;

use super::tick::Tick;

/// So many crashes …
pub(crate) const CRASH_LOOP_COUNT: usize = 5;
/// … within this time are a loop.
pub(crate) const CRASH_LOOP_WINDOW: Duration = Duration::from_secs(60);

/// The crashes of all services that may still become a loop.
#[derive(Debug, Clone, Default)]
pub struct CrashLoops {
    crashes: BTreeMap<ServiceId, VecDeque<Tick>>,
}

impl CrashLoops {
    /// Counts a crash. True when it completes a loop; the count then begins again.
    pub fn add(&mut self, id: &ServiceId, now: Tick) -> bool {
        let crashes = self.crashes.entry(id.clone()).or_default();
        crashes.push_back(now);
        while crashes.front().is_some_and(|at| now.since(*at) > CRASH_LOOP_WINDOW) {
            crashes.pop_front();
        }
        let is_loop = crashes.len() >= CRASH_LOOP_COUNT;
        if is_loop {
            crashes.clear();
        }
        is_loop
    }
}

/// The latest ends of the processes of one service that were not ready yet.
#[derive(Debug, Clone, Default)]
pub(super) struct UnreadyEnds {
    latest: VecDeque<Tick>,
}

impl UnreadyEnds {
    pub(super) fn add(&mut self, now: Tick) {
        self.latest.push_back(now);
        if self.latest.len() > CRASH_LOOP_COUNT {
            self.latest.pop_front();
        }
    }
    pub(super) fn clear(&mut self) {
        self.latest.clear();
    }
    /// Whether the last of them complete a loop.
    pub(super) fn is_loop(&self) -> bool {
        let ends = self.latest.front().zip(self.latest.back());
        self.latest.len() == CRASH_LOOP_COUNT && ends.is_some_and(|(first, last)| last.since(*first) <= CRASH_LOOP_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_crashes_in_a_minute_are_a_loop() {
        let id = ServiceId::parse("db").unwrap();
        let mut loops = CrashLoops::default();
        let found: Vec<bool> = (0..10).map(|turn| loops.add(&id, Tick::ms(turn * 1000))).collect();
        assert_eq!(found.iter().filter(|found| **found).count(), 2, "{found:?}");
        assert!(found[4]);
        let mut slow = CrashLoops::default();
        assert!((0..10).all(|turn| !slow.add(&id, Tick::ms(turn * 20_000))));
    }

    #[test]
    fn services_are_counted_apart() {
        let mut loops = CrashLoops::default();
        for turn in 0..4 {
            assert!(!loops.add(&ServiceId::parse("a").unwrap(), Tick::ms(turn)));
            assert!(!loops.add(&ServiceId::parse("b").unwrap(), Tick::ms(turn)));
        }
    }
}
