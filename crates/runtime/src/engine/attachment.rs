//! One end of a service's terminal, for `devrun attach`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::mpsc;

use devrun_keeper::terminal::{self, TerminalSize};
use devrun_logs::TerminalOutput;

/// Keys that wait for a place in the queue of a terminal.
#[derive(Debug)]
pub struct WaitingKeys {
    queue: mpsc::Sender<Vec<u8>>,
    bytes: Vec<u8>,
}

impl WaitingKeys {
    /// Returns when there is a place, or nothing is left that could read them.
    pub async fn place(&self) {
        let _closed = self.queue.reserve().await;
    }
    /// Types them, after [`Self::place`].
    pub fn send(self) {
        let _closed = self.queue.try_send(self.bytes);
    }
}

/// A seat at a service's terminal.
#[derive(Debug)]
pub struct Attachment {
    pub(super) terminal: Arc<OwnedFd>,
    pub(super) keys: mpsc::Sender<Vec<u8>>,
    pub(super) screen: TerminalOutput,
}

impl Attachment {
    /// Types. `Some`: so much waits for a service that does not read that these keys have no place yet.
    #[must_use]
    pub fn keys(&self, bytes: Vec<u8>) -> Option<WaitingKeys> {
        match self.keys.try_send(bytes) {
            Err(mpsc::error::TrySendError::Full(bytes)) => Some(WaitingKeys { queue: self.keys.clone(), bytes }),
            // Nothing is left that could read them.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
        }
    }
    /// The window at this end has this size.
    pub fn resize(&self, columns: u16, rows: u16) {
        // A terminal that ended a moment ago has no size any more.
        let _gone = terminal::resize(&*self.terminal, TerminalSize { columns, rows });
    }
    /// What the service writes next; `None` when it has ended, or when this end was too slow.
    pub async fn screen(&mut self) -> Option<Arc<[u8]>> {
        self.screen.recv().await
    }
    /// Whether so much of what the service writes is waiting that nothing more should be typed.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.screen.is_behind()
    }
    /// Whether this end was too slow, and has lost what the service wrote.
    #[must_use]
    pub fn is_overrun(&self) -> bool {
        self.screen.is_overrun()
    }
}
