//! What the answers of one probe mean. Owns the counting (`start_period`, `retries`, the quick attempts that never count)
//! and the last answer; knows nothing of processes, and probes nothing itself. Readiness and liveness use the same counter.
//!
//! Before the first pass a driver tries every few milliseconds, so an attempt counts only when `start_period` is over and
//! it lies an `interval` after the last one that counted; the end of the start period is the first such mark. After the
//! first pass attempts come an `interval` apart by themselves and each counts.

use devrun_model::{Health, ReadySpec};

use super::tick::Tick;

/// The counter of one probe over one generation.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeTracker {
    first_pass: Option<Tick>,
    unhealthy: bool,
    failures: u32,
    counted_at: Tick,
    answer: Option<String>,
}

impl ProbeTracker {
    /// A counter for a process spawned at `spawned`.
    #[must_use]
    pub fn new(spec: &ReadySpec, spawned: Tick) -> Self {
        Self { first_pass: None, unhealthy: false, failures: 0, counted_at: spawned + spec.start_period, answer: None }
    }
    /// An attempt passed. True when it is the first one.
    pub fn passed(&mut self, now: Tick) -> bool {
        let first = self.first_pass.is_none();
        self.first_pass.get_or_insert(now);
        self.unhealthy = false;
        self.failures = 0;
        self.answer = None;
        first
    }
    /// An attempt failed. True when this one makes it unhealthy.
    pub fn failed(&mut self, spec: &ReadySpec, now: Tick, answer: String) -> bool {
        self.answer = Some(answer);
        if self.first_pass.is_none() {
            if now < self.counted_at + spec.interval {
                return false;
            }
            self.counted_at = now;
        }
        self.failures = self.failures.saturating_add(1);
        if self.unhealthy || self.failures < spec.retries.max(1) {
            return false;
        }
        self.unhealthy = true;
        true
    }
    /// When it first passed.
    #[must_use]
    pub fn first_pass(&self) -> Option<Tick> {
        self.first_pass
    }
    /// The last answer that was no pass.
    #[must_use]
    pub fn answer(&self) -> Option<&str> {
        self.answer.as_deref()
    }
    /// The last answer, and where it has not made it unhealthy, how far it is from that.
    #[must_use]
    pub fn reason(&self, spec: &ReadySpec) -> Option<String> {
        let answer = self.answer.as_ref()?;
        Some(match self.health() {
            Health::Healthy => format!("probe failed {} of {} times: {answer}", self.failures, spec.retries.max(1)),
            _ => answer.clone(),
        })
    }
    /// The word for `ps`.
    #[must_use]
    pub fn health(&self) -> Health {
        match (self.unhealthy, self.first_pass) {
            (true, _) => Health::Unhealthy,
            (false, Some(_)) => Health::Healthy,
            (false, None) => Health::Starting,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spec(start_period: u64, interval: u64, retries: u32) -> ReadySpec {
        ReadySpec {
            start_period: Duration::from_secs(start_period),
            interval: Duration::from_secs(interval),
            retries,
            ..ReadySpec::new(Vec::new())
        }
    }

    /// Feeds answers (`p`ass, `f`ail) at seconds and writes the health after each.
    fn run(spec: &ReadySpec, answers: &[(u64, char)]) -> String {
        let mut tracker = ProbeTracker::new(spec, Tick::ms(0));
        let mut out = String::new();
        for (second, answer) in answers {
            let now = Tick::ms(second * 1000);
            match answer {
                'p' => {
                    tracker.passed(now);
                }
                _ => {
                    tracker.failed(spec, now, "refused".to_owned());
                }
            }
            out.push(match tracker.health() {
                Health::Starting => 's',
                Health::Healthy => 'h',
                Health::Unhealthy => 'u',
                Health::None => '-',
            });
        }
        out
    }

    #[test]
    fn the_contract_of_starting_healthy_and_unhealthy() {
        for (name, spec, answers, expected) in [
            ("quick attempts never count", spec(0, 30, 3), vec![(0, 'f'), (1, 'f'), (2, 'f'), (3, 'f'), (4, 'f')], "sssss"),
            ("spaced ones do", spec(0, 30, 3), vec![(0, 'f'), (30, 'f'), (31, 'f'), (60, 'f'), (90, 'f')], "ssssu"),
            (
                "not within the start period",
                spec(40, 10, 2),
                vec![(10, 'f'), (35, 'f'), (49, 'f'), (50, 'f'), (60, 'f')],
                "ssssu",
            ),
            ("one pass ends the start period", spec(40, 10, 2), vec![(3, 'p'), (13, 'f'), (23, 'f')], "hhu"),
            (
                "a pass in between starts the count over",
                spec(0, 10, 3),
                vec![(0, 'p'), (10, 'f'), (20, 'f'), (30, 'p'), (40, 'f')],
                "hhhhh",
            ),
            ("unhealthy is not for ever", spec(0, 10, 1), vec![(0, 'p'), (10, 'f'), (20, 'p')], "huh"),
            ("unhealthy before the first pass may still become healthy", spec(0, 10, 1), vec![(10, 'f'), (11, 'p')], "uh"),
            ("no retries is one", spec(0, 10, 0), vec![(0, 'p'), (10, 'f')], "hu"),
        ] {
            assert_eq!(run(&spec, &answers), expected, "{name}");
        }
    }

    #[test]
    fn a_failure_that_does_not_count_yet_is_told_as_such_until_the_next_pass() {
        let spec = spec(0, 1, 3);
        let mut tracker = ProbeTracker::new(&spec, Tick::ZERO);
        tracker.failed(&spec, Tick::ms(1), "refused".to_owned());
        assert_eq!(tracker.reason(&spec).as_deref(), Some("refused"), "while it starts");
        tracker.passed(Tick::ms(5));
        assert_eq!(tracker.reason(&spec), None);
        tracker.failed(&spec, Tick::ms(1000), "503".to_owned());
        assert_eq!(tracker.reason(&spec).as_deref(), Some("probe failed 1 of 3 times: 503"));
        tracker.failed(&spec, Tick::ms(2000), "503".to_owned());
        tracker.failed(&spec, Tick::ms(3000), "503".to_owned());
        assert_eq!(tracker.reason(&spec).as_deref(), Some("503"), "unhealthy");
        tracker.passed(Tick::ms(4000));
        assert_eq!(tracker.reason(&spec), None);
    }

    #[test]
    fn turning_is_told_once() {
        let spec = spec(0, 1, 1);
        let mut tracker = ProbeTracker::new(&spec, Tick::ZERO);
        assert!(tracker.passed(Tick::ms(5)));
        assert!(!tracker.passed(Tick::ms(6)));
        assert!(tracker.failed(&spec, Tick::ms(7), "a".to_owned()));
        assert!(!tracker.failed(&spec, Tick::ms(8), "b".to_owned()));
        assert_eq!(tracker.answer(), Some("b"));
        assert_eq!(tracker.first_pass(), Some(Tick::ms(5)));
    }
}
