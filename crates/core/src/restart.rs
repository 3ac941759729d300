//! Whether a service that ended is started again, and after what wait. Plain functions of the policy and the plan's seed.
//!
//! `on-failure:n` is Docker's: at most `n` restarts in a row, so `1 + n` starts. "In a row" means quick crashes: a service that
//! ran `backoff.reset` or longer restarts at once and the count starts over. Otherwise the first wait is `initial`, each
//! further one is longer by `factor`, up to `max`. Every wait is moved by up to a tenth either way, so services that fell
//! together do not come back in step; the amount depends on seed, id and attempt alone, and `max` is never passed.

use std::time::Duration;

use devrun_model::fnv::fnv1a;
use devrun_model::{Backoff, Kind, RestartPolicy, ServiceId, ServiceSpec};

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartDecision {
    /// The policy does not restart it.
    NoRestart,
    /// The policy would, but its limit is reached.
    LimitReached {
        /// Restarts that were granted.
        restarts: u32,
    },
    /// Start again, as the `attempt`-th quick crash in a row (0: it had run long enough).
    Restart {
        /// How many quick crashes in a row there are now.
        attempt: u32,
    },
}

/// Decides after an end.
#[must_use]
pub fn decide(spec: &ServiceSpec, success: bool, ran: Duration, crashes: u32) -> RestartDecision {
    let restarts = match spec.kind {
        // A task that is done is done, and one that failed is run again only where its policy says so outright:
        // `always` in `[defaults]` is meant for services.
        Kind::Task => !success && matches!(spec.restart, RestartPolicy::OnFailure { .. }),
        Kind::Service => spec.restart.restarts(success),
    };
    if !restarts {
        return RestartDecision::NoRestart;
    }
    let attempt = if ran >= spec.backoff.reset { 0 } else { crashes.saturating_add(1) };
    match spec.restart {
        RestartPolicy::OnFailure { max: Some(max) } if max == 0 || attempt > max => {
            RestartDecision::LimitReached { restarts: max }
        }
        _ => RestartDecision::Restart { attempt },
    }
}

/// The wait before the restart that follows the `attempt`-th quick crash in a row.
#[must_use]
pub fn delay(backoff: &Backoff, attempt: u32, seed: u64, id: &ServiceId) -> Duration {
    if attempt == 0 {
        return Duration::ZERO;
    }
    // A factor below 1 (or no number at all) would shorten the waits of a crash loop.
    let factor = if backoff.factor.is_finite() { backoff.factor.max(1.0) } else { 1.0 };
    let exponent = i32::try_from(attempt - 1).unwrap_or(i32::MAX);
    let wait = (backoff.initial.as_secs_f64() * factor.powi(exponent)).min(backoff.max.as_secs_f64());
    let moved = wait * (1.0 + jitter(seed, id, attempt));
    Duration::try_from_secs_f64(moved).unwrap_or(backoff.max).min(backoff.max)
}

/// A number from -0.1 to 0.1 (FNV-1a over the inputs, then the finaliser of splitmix64).
fn jitter(seed: u64, id: &ServiceId, attempt: u32) -> f64 {
    let mut hash = fnv1a(seed.to_le_bytes().into_iter().chain(id.as_str().bytes()).chain(attempt.to_le_bytes()));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    // 53 bits are what a double holds exactly.
    let unit = (hash >> 11) as f64 / (1u64 << 53) as f64;
    (unit - 0.5) / 5.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;

    fn spec(kind: Kind, restart: RestartPolicy) -> ServiceSpec {
        let name = ServiceName::new("api").unwrap();
        ServiceSpec { kind, restart, ..ServiceSpec::bare(name, "/".into(), vec!["true".to_owned()]) }
    }

    #[test]
    fn who_comes_back() {
        use Kind::{Service, Task};
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        let failure = OnFailure { max: Some(2) };
        for (kind, policy, success, ran_s, crashes, expected) in [
            (Service, No, false, 1, 0, RestartDecision::NoRestart),
            (Service, No, true, 1, 0, RestartDecision::NoRestart),
            (Service, failure, true, 1, 0, RestartDecision::NoRestart),
            (Service, failure, false, 1, 0, RestartDecision::Restart { attempt: 1 }),
            (Service, failure, false, 1, 1, RestartDecision::Restart { attempt: 2 }),
            (Service, failure, false, 1, 2, RestartDecision::LimitReached { restarts: 2 }),
            (Service, failure, false, 10, 2, RestartDecision::Restart { attempt: 0 }),
            (Service, OnFailure { max: Some(0) }, false, 10, 0, RestartDecision::LimitReached { restarts: 0 }),
            (Service, OnFailure { max: None }, false, 1, 99, RestartDecision::Restart { attempt: 100 }),
            (Service, Always, true, 1, 9, RestartDecision::Restart { attempt: 10 }),
            (Service, UnlessStopped, false, 1, u32::MAX, RestartDecision::Restart { attempt: u32::MAX }),
            (Task, Always, false, 1, 0, RestartDecision::NoRestart),
            (Task, Always, true, 1, 0, RestartDecision::NoRestart),
            (Task, failure, false, 1, 0, RestartDecision::Restart { attempt: 1 }),
            (Task, failure, true, 1, 0, RestartDecision::NoRestart),
        ] {
            let got = decide(&spec(kind, policy), success, Duration::from_secs(ran_s), crashes);
            assert_eq!(got, expected, "{kind:?} {policy} success={success} ran={ran_s}s crashes={crashes}");
        }
    }

    #[test]
    fn waits_grow_to_the_cap_and_stay_within_a_tenth() {
        let backoff = Backoff::default();
        let id = ServiceId::parse("api").unwrap();
        for (attempt, base_ms) in
            [(0, 0), (1, 250), (2, 500), (3, 1000), (7, 16_000), (8, 30_000), (99, 30_000), (u32::MAX, 30_000)]
        {
            for seed in 0..50 {
                let ms = delay(&backoff, attempt, seed, &id).as_secs_f64() * 1000.0;
                let base = f64::from(base_ms);
                assert!(ms >= base * 0.9 && ms <= base * 1.1 && ms <= 30_000.0, "attempt {attempt}, seed {seed}: {ms}");
            }
        }
    }

    #[test]
    fn jitter_depends_on_seed_id_and_attempt_alone() {
        let backoff = Backoff::default();
        let (a, b) = (ServiceId::parse("a").unwrap(), ServiceId::parse("b").unwrap());
        assert_eq!(delay(&backoff, 1, 7, &a), delay(&backoff, 1, 7, &a));
        assert_ne!(delay(&backoff, 1, 7, &a), delay(&backoff, 1, 7, &b));
        assert_ne!(delay(&backoff, 1, 7, &a), delay(&backoff, 1, 8, &a));
    }

    #[test]
    fn odd_numbers_do_no_harm() {
        let id = ServiceId::parse("a").unwrap();
        for factor in [f64::NAN, f64::INFINITY, -3.0, 0.0, 1e300] {
            let backoff = Backoff { factor, ..Backoff::default() };
            assert!(delay(&backoff, 40, 1, &id) <= backoff.max, "{factor}");
        }
    }
}
