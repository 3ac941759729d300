//! When the next attempt is due.
//!
//! Before the first pass: steps that grow with the time since the spawn, so that a service is noticed within 2 % of its own
//! start time and a slow one costs little. The runtime's timer counts in whole milliseconds and rounds up, which makes a
//! step of 1 ms one of 1.1 to 2.2 ms; a timer descriptor (timerfd_create(2)) keeps to some 0.1 ms, so short steps use one.
//! After it: multiples of `interval` on one clock for the whole process, so that the probes of a stack share their wake-ups.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The least step.
pub(crate) const MIN_STEP: Duration = Duration::from_millis(1);

#[cfg(target_os = "linux")]
/// Above this a millisecond more or less is below the 2 % that a step may be late anyway.
const TIMER_IS_EXACT_ENOUGH: Duration = Duration::from_millis(20);

/// The step after an attempt that took `took`, `since` after the spawn. A dear attempt is never followed by a pause
/// shorter than itself, unless that pause is `cap`.
pub fn attempt_step(since: Duration, took: Duration, cap: Duration) -> Duration {
    let cap = cap.max(MIN_STEP);
    (since / 50).max(MIN_STEP).max(took).min(cap)
}

/// The pause between two questions whether any of `waiting` services listens, `youngest` after the spawn of the last one.
/// A question costs some 10 µs and 2 more for each: a quarter of a millisecond for a quick service, a fifth of a per cent of the
/// start of a slower one, and never more than a tenth of one processor for all.
pub(crate) fn listener_poll_interval(youngest: Duration, waiting: usize) -> Duration {
    const SHORTEST: Duration = Duration::from_micros(250);
    const LONGEST: Duration = Duration::from_millis(20);
    let all = Duration::from_micros(30).saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
    (youngest / 500).max(all).clamp(SHORTEST, LONGEST)
}

/// Between two attempts of one whose listener is waited for, it may come where it is not seen.
pub(crate) fn fallback_step(step: Duration, cap: Duration) -> Duration {
    step.max(Duration::from_millis(20).min(cap))
}

/// The pause that output of the service cannot shorten: a chatty one must not turn its probe into a busy loop.
pub(crate) fn min_step_after_nudge(step: Duration) -> Duration {
    (step / 4).max(MIN_STEP)
}

/// The next shared moment. One that comes within a tenth of the interval is left out, as an attempt was made just now.
pub(crate) fn next_shared_tick(now: Instant, interval: Duration) -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    after(*EPOCH.get_or_init(|| now), now, interval)
}

fn after(epoch: Instant, now: Instant, interval: Duration) -> Instant {
    let interval = interval.max(MIN_STEP);
    let since = now.saturating_duration_since(epoch).as_nanos();
    let nanos = interval.as_nanos();
    let mut turns = since / nanos + 1;
    if turns * nanos - since < nanos / 10 {
        turns += 1;
    }
    // An interval is a year at most (see `model::duration`), a process's life some more.
    epoch + Duration::from_nanos(u64::try_from(turns * nanos).unwrap_or(u64::MAX / 2))
}

/// Sleeps to a tenth of a millisecond where it matters. Holds one descriptor once it was needed; drop it when it is not any more.
#[derive(Default)]
pub struct Sleeper {
    #[cfg(target_os = "linux")]
    timer: Option<precise::TimerFdSleep>,
    /// No descriptor was to be had: the runtime's timer has to do.
    #[cfg(target_os = "linux")]
    coarse: bool,
}

impl Sleeper {
    /// Sleeps. May be dropped in the middle and used again.
    pub async fn sleep(&mut self, duration: Duration) {
        #[cfg(target_os = "linux")]
        if duration >= TIMER_IS_EXACT_ENOUGH {
            return tokio::time::sleep(duration).await;
        }
        self.sleep_exactly(duration).await;
    }

    /// The same without a limit to what counts as short: for the one timer of a loop.
    pub async fn sleep_exactly(&mut self, duration: Duration) {
        #[cfg(target_os = "linux")]
        if !self.coarse {
            if self.timer.is_none() {
                self.timer = precise::TimerFdSleep::new().ok();
            }
            if let Some(timer) = &self.timer
                && timer.sleep(duration).await.is_ok()
            {
                return;
            }
            self.coarse = true;
        }
        tokio::time::sleep(duration).await;
    }
}

#[cfg(target_os = "linux")]
mod precise {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::time::Duration;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    struct TimerDescriptor(TimerFd);

    impl AsRawFd for TimerDescriptor {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    pub(super) struct TimerFdSleep(AsyncFd<TimerDescriptor>);

    impl TimerFdSleep {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe, as a type's descriptor might change; this one owns its own for good"
            )]
            AsyncFd::with_interest(TimerDescriptor(timer), Interest::READABLE).map(Self)
        }

        pub(super) async fn sleep(&self, duration: Duration) -> io::Result<()> {
            // Zero would disarm it.
            let due = TimeSpec::from_duration(duration.max(Duration::from_nanos(1)));
            self.0.get_ref().0.set(Expiration::OneShot(due), TimerSetTimeFlags::empty())?;
            loop {
                let mut ready = self.0.readable().await?;
                // An earlier sleep that was dropped may have left its readiness behind: only a read tells.
                if let Ok(read) = ready.try_io(|timer| timer.get_ref().0.wait().map_err(io::Error::from)) {
                    return read;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn steps_grow_with_the_time_since_the_spawn_up_to_the_cap() {
        for (since, took, cap, expected) in [
            (ms(0), ms(0), ms(250), ms(1)),
            (ms(49), ms(0), ms(250), ms(1)),
            (ms(100), ms(0), ms(250), ms(2)),
            (ms(1000), ms(0), ms(250), ms(20)),
            (ms(60_000), ms(0), ms(250), ms(250)),
            (ms(10), ms(7), ms(250), ms(7)),
            (ms(10), ms(5000), ms(250), ms(250)),
            (ms(10), ms(0), ms(0), ms(1)),
        ] {
            assert_eq!(attempt_step(since, took, cap), expected, "{since:?} {took:?} {cap:?}");
        }
    }

    #[test]
    fn questions_grow_with_the_start_and_with_their_number() {
        for (youngest, waiting, expected) in [
            (ms(0), 1, 250),
            (ms(0), 10, 300),
            (ms(200), 10, 400),
            (ms(1000), 10, 2000),
            (ms(60_000), 1, 20_000),
            (ms(0), 100, 3000),
            (ms(0), 100_000, 20_000),
        ] {
            assert_eq!(listener_poll_interval(youngest, waiting), Duration::from_micros(expected), "{youngest:?} {waiting}");
        }
        assert_eq!(
            [fallback_step(ms(1), ms(250)), fallback_step(ms(90), ms(250)), fallback_step(ms(5), ms(5))],
            [ms(20), ms(90), ms(5)]
        );
    }

    #[test]
    fn a_start_of_a_minute_takes_some_five_hundred_attempts() {
        let (mut now, mut attempts) = (Duration::ZERO, 0);
        while now < ms(60_000) {
            now += attempt_step(now, Duration::ZERO, ms(250));
            attempts += 1;
        }
        assert!((450..600).contains(&attempts), "{attempts}");
    }

    #[test]
    fn moments_of_different_services_coincide() {
        let epoch = Instant::now();
        let first = after(epoch, epoch + ms(1_200), ms(10_000));
        let second = after(epoch, epoch + ms(7_900), ms(10_000));
        assert_eq!(first, second);
        assert_eq!(first, epoch + ms(10_000));
        // Just before the shared moment the next one is taken.
        assert_eq!(after(epoch, epoch + ms(9_500), ms(10_000)), epoch + ms(20_000));
        assert_eq!(after(epoch, epoch + ms(10_000), ms(10_000)), epoch + ms(20_000));
        // Intervals that divide one another meet.
        assert_eq!(after(epoch, epoch + ms(25_000), ms(30_000)), after(epoch, epoch + ms(25_000), ms(5_000)));
        assert!(after(epoch, epoch, Duration::ZERO) > epoch);
    }

    #[tokio::test]
    async fn a_sleep_that_was_dropped_does_not_shorten_the_next_one() {
        let mut sleeper = Sleeper::default();
        for _ in 0..20 {
            let _either = tokio::time::timeout(Duration::from_micros(300), sleeper.sleep(Duration::from_micros(300))).await;
            let began = Instant::now();
            sleeper.sleep(ms(4)).await;
            assert!(began.elapsed() >= ms(4), "{:?}", began.elapsed());
        }
    }
}
