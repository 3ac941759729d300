//! The connections of one server: which of them wait, since when, and which is closed for another.
//!
//! A request costs no lock that connections share: it is written down at the connection that it waits no longer, and since when it
//! waits again. The order by which they give way is put right when one has to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// The connections of one server that wait.
#[derive(Debug)]
pub struct ClientConnections {
    most_waiting: usize,
    waiting: AtomicUsize,
    order: Mutex<ConnectionOrder>,
}

/// The open connections, by a time from which on each waits at the earliest. A lock of one of them is taken after this one's.
#[derive(Debug, Default)]
struct ConnectionOrder {
    next: u64,
    places: BTreeMap<(Instant, u64), Arc<ConnectionPlace>>,
}

/// What others see of a connection.
#[derive(Debug)]
struct ConnectionPlace {
    closing: Notify,
    state: Mutex<ConnectionState>,
}

#[derive(Debug)]
struct ConnectionState {
    /// Requests in progress.
    active: usize,
    /// Since when it waits.
    waits_since: Option<Instant>,
    /// Its place in the order.
    place: (Instant, u64),
    /// It gives way to another.
    is_closing: bool,
}

/// One connection, from its beginning until it is dropped.
#[derive(Debug)]
pub struct ClientConnection {
    all: Arc<ClientConnections>,
    place: Arc<ConnectionPlace>,
}

/// A request in progress, until it is dropped.
#[derive(Debug)]
pub struct ActiveRequest(Arc<ClientConnection>);

impl ClientConnections {
    /// At most `most_waiting` of them wait at a time.
    #[must_use]
    pub fn new(most_waiting: usize) -> Arc<Self> {
        Arc::new(Self { most_waiting: most_waiting.max(1), waiting: AtomicUsize::new(0), order: Mutex::default() })
    }

    /// Adds a connection that was just accepted. It waits for its first request.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> Arc<ClientConnection> {
        let mut order = self.order();
        let at = (Instant::now(), order.next);
        order.next += 1;
        let state = ConnectionState { active: 0, waits_since: Some(at.0), place: at, is_closing: false };
        let place = Arc::new(ConnectionPlace { closing: Notify::new(), state: Mutex::new(state) });
        order.places.insert(at, Arc::clone(&place));
        if self.begin_waiting() {
            self.close_over_limit(&mut order);
        }
        drop(order);
        Arc::new(ClientConnection { all: Arc::clone(self), place })
    }

    /// Closes the connection that has waited for the longest: descriptors are short. False: none waits.
    pub fn close_oldest(&self) -> bool {
        self.close_first(&mut self.order())
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// True: one more than may wait.
    fn begin_waiting(&self) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most_waiting
    }

    fn close_over_limit(&self, order: &mut ConnectionOrder) {
        while self.waiting() > self.most_waiting && self.close_first(order) {}
    }

    fn end_waiting(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// The first one whose place is right waits for the longest, as no other waits from an earlier time on.
    fn close_first(&self, order: &mut ConnectionOrder) -> bool {
        // Once each has been moved, the first one waits, or none does.
        for _ in 0..=order.places.len() {
            let Some((at, place)) = order.places.pop_first() else { return false };
            let mut state = place.state();
            if state.waits_since == Some(at.0) {
                (state.waits_since, state.is_closing) = (None, true);
                self.end_waiting();
                place.closing.notify_one();
                return true;
            }
            state.place = (state.waits_since.unwrap_or_else(Instant::now), at.1);
            order.places.insert(state.place, Arc::clone(&place));
        }
        false
    }

    fn order(&self) -> MutexGuard<'_, ConnectionOrder> {
        // A panic elsewhere leaves the map whole.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPlace {
    fn state(&self) -> MutexGuard<'_, ConnectionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientConnection {
    /// Returns when this connection is to give way to another.
    pub async fn closing(&self) {
        self.place.closing.notified().await;
    }

    /// A request has come; it is in progress until what is returned is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.resume();
        ActiveRequest(Arc::clone(self))
    }

    fn resume(&self) {
        let mut state = self.place.state();
        state.active += 1;
        if state.waits_since.take().is_some() {
            self.all.end_waiting();
        }
    }

    fn pause(&self) {
        let mut state = self.place.state();
        state.active = state.active.saturating_sub(1);
        if state.active > 0 || state.waits_since.is_some() || state.is_closing {
            return;
        }
        state.waits_since = Some(Instant::now());
        let is_over_limit = self.all.begin_waiting();
        // The order's lock comes first.
        drop(state);
        if is_over_limit {
            self.all.close_over_limit(&mut self.all.order());
        }
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
        let mut order = self.all.order();
        let mut state = self.place.state();
        order.places.remove(&state.place);
        if state.waits_since.take().is_some() {
            self.all.end_waiting();
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
    fn those_with_a_request_are_passed_over() {
        let all = ClientConnections::new(64);
        let open: Vec<_> = (0..10).map(|_| all.open()).collect();
        let requests: Vec<_> = open.iter().step_by(2).map(|one| one.begin()).collect();
        assert_eq!(all.waiting(), 5);
        for waiting in open.iter().skip(1).step_by(2) {
            assert!(all.close_oldest() && is_closing(waiting));
        }
        assert!(!all.close_oldest());
        // In the order in which their requests ended.
        requests.into_iter().rev().for_each(drop);
        assert_eq!(all.waiting(), 5);
        for waiting in open.iter().step_by(2).rev() {
            assert!(all.close_oldest() && is_closing(waiting));
        }
        assert!(!all.close_oldest() && all.waiting() == 0);
        // One that is to be closed does not wait, whatever still comes over it.
        drop(open[0].begin());
        assert_eq!(all.waiting(), 0);
        drop(open);
        assert_eq!((all.waiting(), all.order().places.len()), (0, 0));
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
