//! Wall time, for stamps only: RFC 3339 UTC, always six digits and `Z`. Decisions use ticks.

use std::time::{Duration, Instant, SystemTime};

use crate::core::Tick;

/// Ties the engine's monotonic clock to the wall clock of its start, so that stamps of one run never go backwards.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    wall: SystemTime,
}

impl Clock {
    /// Begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self { start: Instant::now(), wall: SystemTime::now() }
    }
    /// The present tick.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick(self.start.elapsed())
    }
    /// The instant of a tick, for the runtime's timer.
    #[must_use]
    pub fn instant(&self, tick: Tick) -> Instant {
        self.start + tick.0
    }
    /// The stamp of a tick.
    #[must_use]
    pub fn stamp(&self, tick: Tick) -> String {
        stamp(self.wall + tick.0)
    }
}

/// The stamp of a wall time.
#[must_use]
pub fn stamp(time: SystemTime) -> String {
    let micros = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros();
    of_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// The stamp of microseconds since 1970.
#[must_use]
pub fn of_micros(micros: i64) -> String {
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => "1970-01-01T00:00:00.000000Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn six_digits_and_z() {
        assert_eq!(super::of_micros(1_000_000), "1970-01-01T00:00:01.000000Z");
        assert_eq!(super::of_micros(1_795_000_000_123_450), "2026-11-18T11:06:40.123450Z");
    }
}
