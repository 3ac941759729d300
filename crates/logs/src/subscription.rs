//! Viewers of output: each has a bounded queue; a slow one loses pieces and is notified how many bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use devrun_model::ServiceId;

use super::log_stream::LogStream;

/// What a viewer gets.
#[derive(Debug, Clone)]
pub enum LogItem {
    /// Whole lines, or a piece of one: it is longer than 64 KiB, or its end has not come for a moment.
    Chunk {
        /// Whose.
        id: ServiceId,
        /// From where.
        stream: LogStream,
        /// Microseconds since 1970.
        micros: i64,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// The viewer was too slow: so many bytes are only in the files.
    Missed(u64),
}

/// Bytes that may wait for one viewer.
const SUBSCRIBER_QUEUE_BYTES: u64 = 32 * 1024 * 1024;

/// The pump's end.
pub(super) struct Subscriber {
    sender: mpsc::UnboundedSender<LogItem>,
    waiting: Arc<AtomicU64>,
    missed: u64,
}

impl Subscriber {
    /// Hands a piece over, or counts it as missed; `false`: the viewer is gone.
    pub(super) fn offer(&mut self, id: &ServiceId, stream: LogStream, micros: i64, bytes: &Arc<[u8]>) -> bool {
        let length = bytes.len() as u64;
        if self.waiting.load(Ordering::Relaxed) + length > SUBSCRIBER_QUEUE_BYTES {
            self.missed += length;
            return !self.sender.is_closed();
        }
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            drop(self.sender.send(LogItem::Missed(missed)));
        }
        self.waiting.fetch_add(length, Ordering::Relaxed);
        self.sender.send(LogItem::Chunk { id: id.clone(), stream, micros, bytes: Arc::clone(bytes) }).is_ok()
    }
}

/// The two ends of one viewer.
pub(super) fn subscription() -> (Subscriber, LogSubscription) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicU64::new(0));
    (Subscriber { sender, waiting: Arc::clone(&waiting), missed: 0 }, LogSubscription { receiver, waiting })
}

/// A viewer's end.
#[derive(Debug)]
pub struct LogSubscription {
    receiver: mpsc::UnboundedReceiver<LogItem>,
    waiting: Arc<AtomicU64>,
}

impl LogSubscription {
    /// The next piece; `None` when the pump has ended.
    pub async fn next(&mut self) -> Option<LogItem> {
        let item = self.receiver.recv().await;
        self.taken(&item);
        item
    }
    /// The next piece that is there already.
    pub fn try_next(&mut self) -> Option<LogItem> {
        let item = self.receiver.try_recv().ok();
        self.taken(&item);
        item
    }
    fn taken(&self, item: &Option<LogItem>) {
        if let Some(LogItem::Chunk { bytes, .. }) = item {
            self.waiting.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        }
    }
}
