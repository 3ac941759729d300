//! Tells when somebody begins to listen: one question to the kernel for all services that are waited for.
//!
//! A connect that is refused costs a socket and a wake-up for each service and look, so ten services that start together
//! would take half a processor from one another if each was looked at every millisecond, and a second each would be too
//! seldom by far. Whether a port has a listener is a question that the kernel answers without a connection, for many ports
//! in one call (see `ports::Inquiry`). The connection is made when the answer is yes.
//!
//! It may be mistaken on one side only: a listener that is not seen (another network namespace, a forwarder in the kernel).
//! So whoever waits here goes on trying by himself, at a slower step.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::clock::{self, Sleeper};
use crate::ports::Inquiry;

/// Shared by all probes of one supervisor. Costs nothing while nobody waits: no timer, no task, no descriptor.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    /// A task asks for those that wait.
    asking: bool,
    /// This kernel does not answer.
    mute: bool,
}

#[derive(Debug)]
struct Waiting {
    at: Vec<SocketAddr>,
    /// Since the spawn of its service.
    since: Instant,
    rung: oneshot::Sender<()>,
}

impl Bell {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half-written in here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it can be waited for. Not knowing better, yes.
    pub fn rings(&self) -> bool {
        cfg!(target_os = "linux") && !self.state().mute
    }

    /// Ends when one of the addresses has a listener, or when that cannot be known after all. `since`: the spawn of the
    /// service. Must be called inside a runtime.
    pub async fn listening(&self, at: &[SocketAddr], since: Instant) {
        let (rung, heard) = oneshot::channel();
        let first = {
            let mut state = self.state();
            state.waiting.push(Waiting { at: at.to_vec(), since, rung });
            !std::mem::replace(&mut state.asking, true)
        };
        if first {
            tokio::spawn(self.clone().ask());
        }
        // Dropped without a word: the runtime ends.
        let _rung = heard.await;
    }

    /// Goes on until nobody waits any more.
    async fn ask(self) {
        let mut sleeper = Sleeper::default();
        let mut inquiry = Inquiry::begin();
        loop {
            let pause = {
                let mut state = self.state();
                state.waiting.retain(|waiting| !waiting.rung.is_closed());
                if inquiry.is_err() {
                    *state = State { mute: true, ..State::default() };
                    return;
                }
                let now = Instant::now();
                let Some(youngest) = state.waiting.iter().map(|waiting| now.saturating_duration_since(waiting.since)).min()
                else {
                    state.asking = false;
                    return;
                };
                clock::question(youngest, state.waiting.len())
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
                    let _told = waiting.rung.send(());
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
        let (bell, since) = (Bell::default(), Instant::now());
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
                let (bell, at) = (bell.clone(), socket.local_addr().unwrap());
                tokio::spawn(async move {
                    let other = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), at.port());
                    bell.listening(&[at, other], since).await;
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
        assert!(tokio::time::timeout(Duration::from_millis(5), bell.listening(&[nobody], since)).await.is_err());
        let deadline = Instant::now() + Duration::from_secs(20);
        while bell.state().asking {
            assert!(Instant::now() < deadline, "it goes on for nobody");
            tokio::task::yield_now().await;
        }
        assert!(bell.rings() && bell.state().waiting.is_empty());
    }
}
