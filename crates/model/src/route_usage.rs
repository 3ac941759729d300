//! How the routes of a gateway are used: counted by the gateway, asked for over its socket, shown by `top` and `/metrics`.

use serde::{Deserialize, Serialize};

/// The upper ends of the ranges in which times are counted, in microseconds. The last range has no end.
pub const BOUNDS_US: [u64; 18] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000, 20_000_000, 50_000_000,
];

/// The word that asks a gateway for its [`RouteUsage`]s, on the socket of `DrainRequest`.
pub const ROUTE_USAGE_REQUEST: &str = "route-usage";

/// The requests of one route since its gateway was started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteUsage {
    /// Its path, or the host that stands for a service; `-`: no route was found.
    pub route: String,
    /// How many took so long, by the ranges of [`BOUNDS_US`], the one without an end at last.
    pub times: Vec<u64>,
    /// All times together, in microseconds.
    pub sum_us: u64,
    /// Responses by the first digit of their status, from 1.
    pub statuses: [u64; 5],
}

impl RouteUsage {
    /// All requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.times.iter().sum()
    }
    /// What came after an earlier reading. A gateway that was started again since then counts from the beginning.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if self.requests() < earlier.requests() {
            return self.clone();
        }
        let less = |now: u64, before: Option<&u64>| now.saturating_sub(before.copied().unwrap_or_default());
        let mut statuses = self.statuses;
        statuses.iter_mut().zip(earlier.statuses).for_each(|(now, before)| *now = now.saturating_sub(before));
        Self {
            route: self.route.clone(),
            times: self.times.iter().enumerate().map(|(at, now)| less(*now, earlier.times.get(at))).collect(),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
            statuses,
        }
    }
    /// The time in milliseconds within which this part of the requests was answered, from 0 to 1. Inside a range times are taken
    /// as evenly spread; what took longer than the last end counts as that. `None`: there was no request.
    #[must_use]
    pub fn quantile_ms(&self, part: f64) -> Option<f64> {
        let wanted = self.requests() as f64 * part;
        let (mut below, mut least) = (0.0, 0.0);
        for (count, most) in self.times.iter().zip(BOUNDS_US) {
            let (count, most) = (*count as f64, most as f64);
            if count > 0.0 && below + count >= wanted {
                return Some((least + (most - least) * (wanted - below) / count) / 1000.0);
            }
            (below, least) = (below + count, most);
        }
        (self.requests() > 0).then_some(least / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(times: &[(usize, u64)]) -> RouteUsage {
        let mut all = vec![0; BOUNDS_US.len() + 1];
        times.iter().for_each(|(at, count)| all[*at] = *count);
        RouteUsage { route: "/".to_owned(), times: all, sum_us: 7, statuses: [0, 3, 0, 1, 0] }
    }

    #[test]
    fn quantiles_lie_in_the_range_that_holds_them() {
        // Half of them below 1 ms, the rest below 20 ms.
        let half = usage(&[(3, 50), (7, 50)]);
        assert_eq!(half.quantile_ms(0.5), Some(1.0));
        assert_eq!(half.quantile_ms(0.25), Some(0.75));
        assert_eq!(half.quantile_ms(1.0), Some(20.0));
        assert_eq!(usage(&[]).quantile_ms(0.5), None);
        assert_eq!(usage(&[(BOUNDS_US.len(), 1)]).quantile_ms(0.99), Some(50_000.0));
    }

    #[test]
    fn a_difference_is_what_came_since() {
        let (before, now) = (usage(&[(3, 1)]), RouteUsage { statuses: [0, 5, 0, 1, 0], ..usage(&[(3, 1), (4, 2)]) });
        let since = now.since(&before);
        assert_eq!((since.requests(), since.sum_us, since.statuses), (2, 0, [0, 2, 0, 0, 0]));
        // Started again.
        assert_eq!(before.since(&now), before);
    }
}
