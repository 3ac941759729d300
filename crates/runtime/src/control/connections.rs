//! The connections of the control socket: how many there may be, and who gives way when all places are taken.
//!
//! A client asks within milliseconds of the greeting, so one that has said nothing is held back by nothing: the one that
//! has been silent longest makes room for the next. Those that watch or sit at a terminal stay, and are fewer than all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Connections at once.
const MAX_CONNECTIONS: usize = 64;
/// Of these, those that watch or are attached.
pub(super) const MAX_STAYING: usize = 48;
/// How long a connection may take to make room.
const EVICTION_LIMIT: Duration = Duration::from_secs(1);

/// One that may have to make room.
#[derive(Debug)]
struct OpenConnection {
    id: u64,
    has_asked: bool,
    evicted: Arc<Notify>,
}

/// All but those that were told to end.
#[derive(Debug, Default)]
struct Entries {
    next: u64,
    /// The one that has been silent longest is the first.
    passing: Vec<OpenConnection>,
    staying: usize,
}

/// The conversations that are going on, so that the end of a run can wait for their last lines.
#[derive(Debug, Clone)]
pub struct OpenConnections {
    places: Arc<Semaphore>,
    entries: Arc<Mutex<Entries>>,
}

impl OpenConnections {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_CONNECTIONS)), entries: Arc::default() }
    }

    /// Returns when none is left, or when this long is over: a client that asked for nothing may never hang up.
    pub async fn over(&self, patience: Duration) {
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        // Too late is as good as over, and the semaphore is never closed.
        let _over = tokio::time::timeout(patience, self.places.acquire_many(all)).await;
    }

    /// A place for a new connection. `None`: all others stay.
    pub(super) async fn admit(&self) -> Option<ConnectionSlot> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.evict()?;
                tokio::time::timeout(EVICTION_LIMIT, Arc::clone(&self.places).acquire_owned()).await.ok()?.ok()?
            }
        };
        let evicted = Arc::new(Notify::new());
        let mut entries = self.lock();
        entries.next += 1;
        let id = entries.next;
        entries.passing.push(OpenConnection { id, has_asked: false, evicted: Arc::clone(&evicted) });
        drop(entries);
        Some(ConnectionSlot { id, evicted, stays: false, all: self.clone(), _place: place })
    }

    fn evict(&self) -> Option<()> {
        let mut entries = self.lock();
        let silent = entries.passing.iter().position(|entry| !entry.has_asked);
        if silent.is_none() && entries.passing.is_empty() {
            return None;
        }
        entries.passing.remove(silent.unwrap_or(0)).evicted.notify_one();
        Some(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // Nothing in here panics half way.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for OpenConnections {
    fn default() -> Self {
        Self::new()
    }
}

/// A connection's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    id: u64,
    evicted: Arc<Notify>,
    stays: bool,
    all: OpenConnections,
    _place: OwnedSemaphorePermit,
}

impl ConnectionSlot {
    /// Returns when the place is needed for another connection.
    pub(super) fn evicted(&self) -> impl Future<Output = ()> + use<> {
        let evicted = Arc::clone(&self.evicted);
        async move { evicted.notified().await }
    }

    /// It asked for something, and is the last to make room now.
    pub(super) fn asked(&self) {
        let mut entries = self.all.lock();
        if let Some(at) = entries.passing.iter().position(|entry| entry.id == self.id) {
            let mut entry = entries.passing.remove(at);
            entry.has_asked = true;
            entries.passing.push(entry);
        }
    }

    /// It watches or is attached from here on. False: too many do.
    pub(super) fn stay(&mut self) -> bool {
        let mut entries = self.all.lock();
        if self.stays {
            return true;
        }
        if entries.staying >= MAX_STAYING {
            return false;
        }
        entries.staying += 1;
        entries.passing.retain(|entry| entry.id != self.id);
        drop(entries);
        self.stays = true;
        true
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut entries = self.all.lock();
        entries.passing.retain(|entry| entry.id != self.id);
        if self.stays {
            entries.staying -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_silent_make_room_first_and_those_that_watch_never() {
        let all = OpenConnections::new();
        let mut watching = Vec::new();
        for _ in 0..MAX_STAYING {
            let mut one = all.admit().await.unwrap();
            assert!(one.stay());
            watching.push(one);
        }
        let mut places = Vec::new();
        for _ in MAX_STAYING..MAX_CONNECTIONS {
            places.push(all.admit().await.unwrap());
        }
        assert!(!places[0].stay(), "places are left for those that ask");
        places[0].asked();
        let (first, second) = (places[0].evicted(), places[1].evicted());
        let served = places.remove(1);
        let leaving = tokio::spawn(async move {
            second.await;
            drop(served);
        });
        // The second is the one that has been silent longest.
        let next = all.admit().await.unwrap();
        leaving.await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), first).await.is_err());
        drop(next);
        for one in &watching {
            assert!(tokio::time::timeout(Duration::from_millis(1), one.evicted()).await.is_err());
        }
    }
}
