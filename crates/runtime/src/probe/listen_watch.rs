//! Tells when somebody begins to listen: one question to the kernel for all services that are waited for.
//!
//! A connect that is refused costs a socket and a wake-up for each service and look, so ten services that start together
//! would take half a processor from one another if each was looked at every millisecond, and a second each would be too
//! seldom by far. Whether a port has a listener is a question that the kernel answers without a connection, for many ports
//! in one call (see `ports::ListenerQuery`). The connection is made when the answer is yes.
//!
//! It may be mistaken on one side only: a listener that is not seen (another network namespace, a forwarder in the kernel).
//! So whoever waits here goes on trying by himself, at a slower step.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::schedule::{self, Sleeper};
use crate::ports::ListenerQuery;

/// Shared by all probes of one supervisor. Costs nothing while nobody waits: no timer, no task, no descriptor.
#[derive(Debug, Clone, Default)]
pub struct ListenWatch(Arc<Mutex<WatchState>>);

#[derive(Debug, Default)]
struct WatchState {
    waiting: Vec<Waiter>,
    /// A task asks for those that wait.
    is_polling: bool,
    /// This kernel does not answer.
    is_unsupported: bool,
}

#[derive(Debug)]
struct Waiter {
    at: Vec<SocketAddr>,
    /// Since the spawn of its service.
    since: Instant,
    notify: oneshot::Sender<()>,
}

impl ListenWatch {
    fn state(&self) -> MutexGuard<'_, WatchState> {
        // A panic elsewhere leaves nothing half-written in here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it can be waited for. Not knowing better, yes.
    pub fn is_supported(&self) -> bool {
        devrun_keeper::TELLS_LISTENERS && !self.state().is_unsupported
    }

    /// Ends when one of the addresses has a listener, or when that cannot be known after all. `since`: the spawn of the
    /// service. Must be called inside a runtime.
    pub async fn wait_for_listener(&self, at: &[SocketAddr], since: Instant) {
        let (notify, heard) = oneshot::channel();
        let first = {
            let mut state = self.state();
            state.waiting.push(Waiter { at: at.to_vec(), since, notify });
            !std::mem::replace(&mut state.is_polling, true)
        };
        if first {
            tokio::spawn(self.clone().poll_kernel());
        }
        // Dropped without a word: the runtime ends.
        let _rung = heard.await;
    }

    /// Goes on until nobody waits any more.
    async fn poll_kernel(self) {
        let mut sleeper = Sleeper::default();
        let mut inquiry = ListenerQuery::begin();
        loop {
            let pause = {
                let mut state = self.state();
                state.waiting.retain(|waiting| !waiting.notify.is_closed());
                if inquiry.is_err() {
                    *state = WatchState { is_unsupported: true, ..WatchState::default() };
                    return;
                }
                let now = Instant::now();
                let Some(youngest) = state.waiting.iter().map(|waiting| now.saturating_duration_since(waiting.since)).min()
                else {
                    state.is_polling = false;
                    return;
                };
                schedule::listener_poll_interval(youngest, state.waiting.len())
            };
            sleeper.sleep_exactly(pause).await;
            let Ok(open) = &mut inquiry else { continue };
            let mut state = self.state();
            let all: Vec<SocketAddr> = state.waiting.iter().flat_map(|waiting| waiting.at.iter().copied()).collect();
            let answers = match open.listened(&all) {
                Ok(answers) => answers,
                Err(error) => {
                    inquiry = Err(error);
                    continue;
                }
            };
            let mut answers = answers.into_iter();
            for waiting in std::mem::take(&mut state.waiting) {
                let own: Vec<bool> = answers.by_ref().take(waiting.at.len()).collect();
                if own.contains(&true) {
                    // Given up meanwhile: nobody to tell.
                    let _told = waiting.notify.send(());
                } else {
                    state.waiting.push(waiting);
                }
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn each_is_told_of_its_own_listener_and_the_task_ends_with_the_last_one() {
        let (listen_watch, since) = (ListenWatch::default(), Instant::now());
        // Bound and not yet listening: nobody else gets these numbers.
        let sockets: Vec<_> = (0..3)
            .map(|_| {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
                socket
            })
            .collect();
        let mut waits: Vec<_> = sockets
            .iter()
            .map(|socket| {
                let (listen_watch, at) = (listen_watch.clone(), socket.local_addr().unwrap());
                tokio::spawn(async move {
                    let other = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), at.port());
                    listen_watch.wait_for_listener(&[at, other], since).await;
                })
            })
            .collect();
        for socket in sockets {
            let wait = waits.remove(0);
            let _listener = socket.listen(1).unwrap();
            tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap().unwrap();
            assert!(waits.iter().all(|wait| !wait.is_finished()), "somebody else's listener");
        }
        // Whoever gives up is forgotten.
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(5), listen_watch.wait_for_listener(&[nobody], since)).await.is_err());
        let deadline = Instant::now() + Duration::from_secs(20);
        while listen_watch.state().is_polling {
            assert!(Instant::now() < deadline, "it goes on for nobody");
            tokio::task::yield_now().await;
        }
        assert!(listen_watch.is_supported() && listen_watch.state().waiting.is_empty());
    }
}
