//! How tests wait, and the only file of the tests that sleeps: `test_hygiene.rs` refuses a bare sleep anywhere else.
//!
//! To wait for something is to poll with a generous deadline. Where the passing of time is what a test is about, the call says
//! why: a thing that must not happen for a while ([`stays_true_for`]), the moment of a kill, a server that is slow.

use std::fmt::{Debug, Display};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Between two looks at what must not change; such a look is often a run of the binary.
const WATCH: Duration = Duration::from_millis(20);

/// Polls until `condition` gives something; `None` when `limit` passes first.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if start.elapsed() >= limit {
            return None;
        }
        sleep(POLL);
    }
}

/// Polls until `condition` gives something.
///
/// # Panics
/// When the deadline passes first.
#[track_caller]
pub fn eventually<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Option<T>) -> T {
    within(deadline, condition).unwrap_or_else(|| panic!("{what}: not within {deadline:?}"))
}

/// [`eventually`] for a test whose own tasks must run meanwhile.
pub async fn eventually_async(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "{what}: not within {deadline:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Repeats an attempt until it succeeds.
///
/// # Panics
/// When the deadline passes first, with the last error.
pub async fn eventually_ok<T, E: Display>(deadline: Duration, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(found) => return found,
            Err(error) => assert!(start.elapsed() < deadline, "not within {deadline:?}: {error}"),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Looks again and again for `duration`.
///
/// # Panics
/// As soon as a look finds that `condition` does not hold.
#[track_caller]
pub fn stays_true_for(what: &str, duration: Duration, mut condition: impl FnMut() -> bool) {
    stays_equal_for(what, duration, &true, &mut condition);
}

/// [`stays_true_for`] for a value.
///
/// # Panics
/// As soon as `look` gives something other than `expected`.
#[track_caller]
pub fn stays_equal_for<T: PartialEq + Debug>(what: &str, duration: Duration, expected: &T, mut look: impl FnMut() -> T) {
    let start = Instant::now();
    loop {
        assert_eq!(&look(), expected, "{what}: not for {duration:?}, but only for {:?}", start.elapsed());
        let left = duration.saturating_sub(start.elapsed());
        if left.is_zero() {
            return;
        }
        sleep(WATCH.min(left));
    }
}

/// [`stays_true_for`] for a test whose own tasks must run meanwhile.
pub async fn stays_true_for_async(what: &str, duration: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    loop {
        assert!(condition(), "{what}: not for {duration:?}, but only for {:?}", start.elapsed());
        let left = duration.saturating_sub(start.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(WATCH.min(left)).await;
    }
}

/// Lets time pass where that is the point: the moment of a kill, the window of a measurement, a slow server. Never to wait for
/// something to happen.
pub fn let_time_pass(why: &str, duration: Duration) {
    assert!(!why.is_empty());
    sleep(duration);
}

/// [`let_time_pass`] for a test whose own tasks must run meanwhile.
pub async fn let_time_pass_async(why: &str, duration: Duration) {
    assert!(!why.is_empty());
    tokio::time::sleep(duration).await;
}
