//! Monotonic time since the supervisor began. A newtype, so that no wall clock can slip into a decision.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment; only differences mean anything. Suspend and Ctrl-Z are simply a tick that does not advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Tick(pub Duration);

impl Tick {
    /// The beginning.
    pub const ZERO: Self = Self(Duration::ZERO);
    /// `ms` milliseconds after the beginning.
    #[must_use]
    pub const fn ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
    /// The time from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Tick {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl Sub<Duration> for Tick {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(rhs))
    }
}
