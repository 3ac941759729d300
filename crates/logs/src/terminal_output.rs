//! What a service writes to its terminal, for one that is attached. The service never waits for it: where too much is waiting the feed is
//! cut, and the receiver knows that this was not the end of the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

/// Pieces that may wait for one attached terminal.
const QUEUE: usize = 1024;

/// Pieces from which on the receiver is behind. The others are for what is typed already, which a service may answer with more than it is.
const BEHIND: usize = QUEUE / 8;

/// Where the raw bytes of a terminal go.
#[derive(Debug)]
pub(super) struct TerminalFeed {
    pieces: mpsc::Sender<Arc<[u8]>>,
    is_overrun: Arc<AtomicBool>,
}

impl TerminalFeed {
    /// Whether it takes further ones.
    pub(super) fn send(&self, bytes: Arc<[u8]>) -> bool {
        let sent = self.pieces.try_send(bytes);
        if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
            self.is_overrun.store(true, Ordering::Release);
        }
        sent.is_ok()
    }
}

/// The receiver's end.
#[derive(Debug)]
pub struct TerminalOutput {
    pieces: mpsc::Receiver<Arc<[u8]>>,
    is_overrun: Arc<AtomicBool>,
}

impl TerminalOutput {
    /// Returns what comes next; `None` when the service has ended, or the feed was cut.
    pub async fn recv(&mut self) -> Option<Arc<[u8]>> {
        self.pieces.recv().await
    }

    /// Whether so much is waiting that the receiver should do nothing else.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.pieces.len() >= BEHIND
    }

    /// Whether the feed was cut because too much was waiting.
    #[must_use]
    pub fn is_overrun(&self) -> bool {
        self.is_overrun.load(Ordering::Acquire)
    }
}

/// Makes both ends.
pub(super) fn terminal_output() -> (TerminalFeed, TerminalOutput) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let is_overrun = Arc::new(AtomicBool::new(false));
    (TerminalFeed { pieces: sender, is_overrun: Arc::clone(&is_overrun) }, TerminalOutput { pieces: receiver, is_overrun })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_feed_that_is_not_read_is_cut_and_one_that_has_ended_is_not() {
        let (feed, mut output) = terminal_output();
        assert!(feed.send(Arc::from(&b"x"[..])));
        drop(feed);
        assert!(output.recv().await.is_some() && output.recv().await.is_none() && !output.is_overrun());
        let (feed, mut output) = terminal_output();
        assert!(!output.is_behind());
        assert_eq!((0..2 * QUEUE).filter(|_| feed.send(Arc::from(&b"x"[..]))).count(), QUEUE);
        drop(feed);
        assert!(output.is_behind());
        while output.recv().await.is_some() {}
        assert!(output.is_overrun());
    }
}
