//! The connections of one server: which of them wait, since when, and which is closed for another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The connections of one server that wait.
#[derive(Debug)]
pub struct ClientConnections {
    most_waiting: usize,
    queue: Mutex<WaitingQueue>,
}

/// By the order in which they began to wait.
#[derive(Debug, Default)]
struct WaitingQueue {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// One connection, from its beginning until it is dropped.
#[derive(Debug)]
pub struct ClientConnection {
    all: Arc<ClientConnections>,
    closing: Arc<Notify>,
    state: Mutex<ConnectionState>,
}

#[derive(Debug)]
struct ConnectionState {
    /// Requests in progress.
    active: usize,
    /// Its place among those that wait.
    place: Option<u64>,
}

/// A request in progress, until it is dropped.
#[derive(Debug)]
pub struct ActiveRequest(Arc<ClientConnection>);

impl ClientConnections {
    /// At most `most_waiting` of them wait at a time.
    #[must_use]
    pub fn new(most_waiting: usize) -> Arc<Self> {
        Arc::new(Self { most_waiting: most_waiting.max(1), queue: Mutex::default() })
    }

    /// Adds a connection that was just accepted. It waits for its first request.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> Arc<ClientConnection> {
        let closing = Arc::new(Notify::new());
        let place = self.begin_waiting(&closing);
        let state = Mutex::new(ConnectionState { active: 0, place: Some(place) });
        Arc::new(ClientConnection { all: Arc::clone(self), closing, state })
    }

    /// Closes the connection that has waited for the longest: descriptors are short. False: none waits.
    pub fn close_oldest(&self) -> bool {
        self.queue().waiting.pop_first().map(|(_, closing)| closing.notify_one()).is_some()
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    fn begin_waiting(&self, closing: &Arc<Notify>) -> u64 {
        let mut queue = self.queue();
        let place = queue.next;
        queue.next += 1;
        queue.waiting.insert(place, Arc::clone(closing));
        while queue.waiting.len() > self.most_waiting {
            if let Some((_, oldest)) = queue.waiting.pop_first() {
                oldest.notify_one();
            }
        }
        place
    }

    fn end_waiting(&self, place: u64) {
        self.queue().waiting.remove(&place);
    }

    fn queue(&self) -> MutexGuard<'_, WaitingQueue> {
        // A panic elsewhere leaves the map whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientConnection {
    /// Returns when this connection is to give way to another.
    pub async fn closing(&self) {
        self.closing.notified().await;
    }

    /// A request has come; it is in progress until what is returned is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.resume();
        ActiveRequest(Arc::clone(self))
    }

    fn resume(&self) {
        let mut state = self.state();
        state.active += 1;
        if let Some(place) = state.place.take() {
            self.all.end_waiting(place);
        }
    }

    fn pause(&self) {
        let mut state = self.state();
        state.active = state.active.saturating_sub(1);
        if state.active == 0 && state.place.is_none() {
            state.place = Some(self.all.begin_waiting(&self.closing));
        }
    }

    fn state(&self) -> MutexGuard<'_, ConnectionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActiveRequest {
    /// Awaits what the client is to send, the rest of its request. The connection waits for that time.
    pub async fn while_waiting<T>(&self, rest: impl Future<Output = T>) -> T {
        /// Also when the future is dropped in the middle.
        struct Resumed<'a>(&'a ClientConnection);
        impl Drop for Resumed<'_> {
            fn drop(&mut self) {
                self.0.resume();
            }
        }
        self.0.pause();
        let _resumed = Resumed(&self.0);
        rest.await
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.pause();
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        if let Some(place) = self.state().place.take() {
            self.all.end_waiting(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_closing(connection: &ClientConnection) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = connection.closing() => true,
                () = std::future::ready(()) => false,
            }
        })
    }

    #[test]
    fn the_one_that_has_waited_for_the_longest_gives_way() {
        let all = ClientConnections::new(2);
        let (first, second) = (all.open(), all.open());
        // What has a request does not wait, and is not closed.
        let request = first.begin();
        let third = all.open();
        assert_eq!(all.waiting(), 2);
        assert!(!is_closing(&first) && !is_closing(&second) && !is_closing(&third));
        // The end of a request makes it the newest of those that wait.
        drop(request);
        assert_eq!(all.waiting(), 2);
        assert!(is_closing(&second) && !is_closing(&first) && !is_closing(&third));
        drop(second);
        assert_eq!(all.waiting(), 2);
        drop(first);
        assert_eq!(all.waiting(), 1);
        assert!(all.close_oldest() && is_closing(&third) && !all.close_oldest());
    }

    #[test]
    fn several_requests_of_one_connection_count_as_one() {
        let all = ClientConnections::new(8);
        let one = all.open();
        let requests = (one.begin(), one.begin());
        assert_eq!(all.waiting(), 0);
        drop(requests.0);
        assert_eq!(all.waiting(), 0);
        drop(requests.1);
        assert_eq!(all.waiting(), 1);
        drop(one);
        assert_eq!(all.waiting(), 0);
    }

    #[test]
    fn a_client_that_owes_the_rest_of_its_request_waits() {
        let all = ClientConnections::new(1);
        let slow = all.open();
        let request = slow.begin();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            request
                .while_waiting(async {
                    assert_eq!(all.waiting(), 1);
                    let _newer = all.open();
                    slow.closing().await;
                })
                .await;
        });
        assert_eq!(all.waiting(), 0);
        drop(request);
    }
}
