//! Counts requests by route, without a lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use devrun_model::GatewaySpec;
use devrun_model::route_usage::{BOUNDS_US, RouteUsage};

/// What no route leads to.
const NONE: &str = "-";

/// The requests of a gateway. Which routes there are is known from the start: nothing that a client sends makes more of them.
#[derive(Debug)]
pub struct RouteCounts(BTreeMap<String, Counts>);

#[derive(Debug, Default)]
struct Counts {
    times: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
    statuses: [AtomicU64; 5],
}

impl RouteCounts {
    /// Those of a gateway's routes and names.
    #[must_use]
    pub fn new(spec: &GatewaySpec) -> Self {
        let routes = spec.routes.iter().map(|route| route.path.to_string());
        let all = routes.chain(spec.names.keys().cloned()).chain([NONE.to_owned()]);
        Self(all.map(|route| (route, Counts::default())).collect())
    }
    pub(crate) fn count(&self, route: Option<&str>, status: u16, took: Duration) {
        let Some(counts) = self.0.get(route.unwrap_or(NONE)) else { return };
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let range = BOUNDS_US.partition_point(|most| *most < took);
        counts.times[range].fetch_add(1, Ordering::Relaxed);
        counts.sum_us.fetch_add(took, Ordering::Relaxed);
        if let Some(status) = counts.statuses.get(usize::from(status / 100).wrapping_sub(1)) {
            status.fetch_add(1, Ordering::Relaxed);
        }
    }
    /// As they are now.
    #[must_use]
    pub fn usage(&self) -> Vec<RouteUsage> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let one = |(route, counts): (&String, &Counts)| RouteUsage {
            route: route.clone(),
            times: counts.times.iter().map(read).collect(),
            sum_us: read(&counts.sum_us),
            statuses: counts.statuses.each_ref().map(read),
        };
        self.0.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_range_and_status() {
        let counts = RouteCounts::new(&GatewaySpec::default());
        for (status, took) in [(200, 100), (204, 101), (404, 60_000_000), (999, 0)] {
            counts.count(None, status, Duration::from_micros(took));
        }
        counts.count(Some("/unknown"), 200, Duration::ZERO);
        let usage = counts.usage();
        assert_eq!(usage.len(), 1);
        assert_eq!((usage[0].route.as_str(), usage[0].requests(), usage[0].sum_us), ("-", 4, 60_000_201));
        assert_eq!((usage[0].times[0], usage[0].times[1], usage[0].times[18]), (2, 1, 1));
        assert_eq!(usage[0].statuses, [0, 2, 0, 1, 0]);
    }
}
