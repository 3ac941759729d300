//! Time that passes only while everything waits. tokio has such a clock too, but with a feature that the whole tree would be
//! compiled with a second time.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::engine::{LoopTimer, Sleep, TimeSource};

#[derive(Clone)]
pub(crate) struct FakeTime {
    start: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    elapsed: Duration,
    sleeps: u64,
    sleeping: BTreeMap<(Duration, u64), Waker>,
}

impl FakeTime {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), state: Arc::default() }
    }
    pub(crate) fn elapsed(&self) -> Duration {
        self.state.lock().unwrap().elapsed
    }
    /// A runtime of one thread. Whenever it would wait, the earliest sleep ends instead.
    pub(crate) fn runtime(&self) -> tokio::runtime::Runtime {
        let time = self.clone();
        tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(move || time.advance()).build().unwrap()
    }
    fn advance(&self) {
        let waker = {
            let mut state = self.state.lock().unwrap();
            let Some(((at, _), waker)) = state.sleeping.pop_first() else { return };
            state.elapsed = state.elapsed.max(at);
            waker
        };
        waker.wake();
    }
}

impl TimeSource for FakeTime {
    fn now(&self) -> Instant {
        self.start + self.elapsed()
    }
    fn sleep(&self, duration: Duration) -> Sleep<'static> {
        let mut state = self.state.lock().unwrap();
        state.sleeps += 1;
        Box::pin(FakeSleep { key: (state.elapsed + duration, state.sleeps), time: self.clone() })
    }
    fn timer(&self) -> Box<dyn LoopTimer> {
        Box::new(self.clone())
    }
}

impl LoopTimer for FakeTime {
    fn sleep(&mut self, duration: Duration) -> Sleep<'_> {
        TimeSource::sleep(self, duration)
    }
}

struct FakeSleep {
    time: FakeTime,
    key: (Duration, u64),
}

impl Future for FakeSleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.time.state.lock().unwrap();
        if state.elapsed >= self.key.0 {
            return Poll::Ready(());
        }
        state.sleeping.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for FakeSleep {
    fn drop(&mut self) {
        self.time.state.lock().unwrap().sleeping.remove(&self.key);
    }
}
