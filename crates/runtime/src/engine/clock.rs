//! Wall time, for stamps only: RFC 3339 UTC, always six digits and `Z`. Decisions use ticks.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use devrun_core::Tick;

use super::drivers::{LoopTimer, Sleep, TimeSource};

/// Ties the engine's monotonic clock to the wall clock of its start, so that stamps of one run never go backwards.
///
/// Time in which this process was held (Ctrl-Z, SIGSTOP, a machine that gave it no turn) does not count: nobody could have
/// answered us, so no time-out of ours may run out of it.
#[derive(Clone)]
pub struct Clock {
    time: Arc<dyn TimeSource>,
    start: Instant,
    wall: SystemTime,
    /// The tick at which each pause was noticed, and its length.
    pauses: Vec<(Tick, Duration)>,
    paused: Duration,
}

impl Clock {
    /// Begins now.
    #[must_use]
    pub fn begin(time: Arc<dyn TimeSource>) -> Self {
        Self { start: time.now(), time, wall: SystemTime::now(), pauses: Vec::new(), paused: Duration::ZERO }
    }
    /// The present tick.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick(self.instant_now().saturating_duration_since(self.start).saturating_sub(self.paused))
    }
    /// The present moment, pauses included.
    #[must_use]
    pub fn instant_now(&self) -> Instant {
        self.time.now()
    }
    /// Sleeps.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> Sleep<'static> {
        self.time.sleep(duration)
    }
    /// The timer of the loop.
    #[must_use]
    pub fn timer(&self) -> Box<dyn LoopTimer> {
        self.time.timer()
    }
    /// The instant of a tick, for the runtime's timer.
    #[must_use]
    pub fn instant(&self, tick: Tick) -> Instant {
        self.start + tick.0 + self.paused
    }
    /// The stamp of a tick.
    #[must_use]
    pub fn stamp(&self, tick: Tick) -> String {
        let paused: Duration = self.pauses.iter().filter(|(at, _)| *at <= tick).map(|(_, length)| *length).sum();
        stamp(self.wall + tick.0 + paused)
    }
    /// Takes a pause that has just ended out of the count. Ticks never go backwards by it: the pause lies between the last
    /// tick that anybody saw and now.
    pub fn skip(&mut self, length: Duration) {
        self.paused += length;
        self.pauses.push((self.now(), length));
    }
}

/// The stamp of a wall time.
#[must_use]
pub fn stamp(time: SystemTime) -> String {
    let micros = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros();
    stamp_of_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// The stamp of microseconds since 1970.
#[must_use]
pub fn stamp_of_micros(micros: i64) -> String {
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => "1970-01-01T00:00:00.000000Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pause_does_not_count_but_stamps_go_on() {
        use super::{Clock, Duration, Tick};
        let mut clock = Clock::begin(std::sync::Arc::new(super::super::drivers::MonotonicTime));
        // As if this process had been held for an hour until now.
        clock.start -= Duration::from_secs(3601);
        clock.wall -= Duration::from_secs(3601);
        let before = Tick::ms(500);
        let stamp = clock.stamp(before);
        clock.skip(Duration::from_secs(3600));
        assert!((1000..2000).contains(&clock.now().0.as_millis()), "{:?}", clock.now());
        assert_eq!(clock.stamp(before), stamp, "what happened before it keeps its stamp");
        let now = std::time::SystemTime::now() - Duration::from_secs(2);
        assert!(clock.stamp(clock.now()) > super::stamp(now), "what comes after it has the wall's");
        assert!(clock.instant(clock.now()) <= std::time::Instant::now());
    }

    #[test]
    fn six_digits_and_z() {
        assert_eq!(super::stamp_of_micros(1_000_000), "1970-01-01T00:00:01.000000Z");
        assert_eq!(super::stamp_of_micros(1_795_000_000_123_450), "2026-11-18T11:06:40.123450Z");
    }
}
