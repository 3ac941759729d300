//! Notices a request head that has both `Content-Length` and `Transfer-Encoding`, so that it can be refused (RFC 9112, 6.1). The
//! parser (hyper) takes the encoding and drops the length before a service sees the request.
//!
//! Bytes are looked at while a head is expected only: on a connection's first read, and after each response. A head that has come
//! together with the request before it is not seen; it is safe all the same, as every request is written again for the service.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const LENGTH: &[u8] = b"content-length:";
const ENCODING: &[u8] = b"transfer-encoding:";

/// What the stream and the service of one connection share.
#[derive(Debug)]
pub(crate) struct FramingWatch {
    expects_head: AtomicBool,
    has_both: AtomicBool,
}

impl Default for FramingWatch {
    fn default() -> Self {
        Self { expects_head: AtomicBool::new(true), has_both: AtomicBool::new(false) }
    }
}

impl FramingWatch {
    /// Whether the head that was read last has both; asked once for each request.
    pub(crate) fn take_both(&self) -> bool {
        self.has_both.swap(false, Ordering::Relaxed)
    }
    /// The next request's head may come.
    pub(crate) fn expect_head(&self) {
        self.expects_head.store(true, Ordering::Relaxed);
    }
}

/// A connection whose heads are looked at.
pub(crate) struct WatchedStream<S> {
    inner: S,
    watch: Arc<FramingWatch>,
    head: HeadScanner,
}

impl<S> WatchedStream<S> {
    pub(crate) fn new(inner: S, watch: Arc<FramingWatch>) -> Self {
        Self { inner, watch, head: HeadScanner::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        if self.watch.expects_head.load(Ordering::Relaxed)
            && let Some(has_both) = buffer.filled().get(before..).and_then(|bytes| self.head.feed(bytes))
        {
            self.watch.expects_head.store(false, Ordering::Relaxed);
            self.watch.has_both.store(has_both, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Reads the names of a head's lines, however it is cut into pieces.
#[derive(Default)]
struct HeadScanner {
    /// How the present line begins.
    line: [u8; ENCODING.len()],
    filled: usize,
    /// A line that is not empty has been seen; empty ones may stand before it (RFC 9112, 2.2).
    has_begun: bool,
    has_length: bool,
    has_encoding: bool,
}

impl HeadScanner {
    /// At the end of a head: whether it has both.
    fn feed(&mut self, mut bytes: &[u8]) -> Option<bool> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (part, rest) = bytes.split_at(end);
            self.keep(part);
            bytes = rest.get(1..).unwrap_or_default();
            let line = self.line.get(..self.filled).unwrap_or_default();
            if !matches!(line, b"" | b"\r") {
                self.has_begun = true;
                let begins = |name: &[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
                self.has_length |= begins(LENGTH);
                self.has_encoding |= begins(ENCODING);
            } else if self.has_begun {
                let has_both = self.has_length && self.has_encoding;
                *self = Self::default();
                return Some(has_both);
            }
            self.filled = 0;
        }
        self.keep(bytes);
        None
    }
    fn keep(&mut self, part: &[u8]) {
        let free = self.line.get_mut(self.filled..).unwrap_or_default();
        let count = part.len().min(free.len());
        if let (Some(to), Some(from)) = (free.get_mut(..count), part.get(..count)) {
            to.copy_from_slice(from);
        }
        self.filled += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_framings_are_seen_however_the_head_is_cut() {
        for (head, has_both) in [
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\r\ntransfer-ENCODING:chunked\r\nHost: a\r\nCONTENT-length:4\r\n\r\n", true),
            ("\r\n\r\nPOST / HTTP/1.1\nContent-Length: 4\nTransfer-Encoding: chunked\n\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nX-Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encodings: chunked\r\n\r\n", false),
            ("GET /content-length:?transfer-encoding: HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ] {
            for size in [1, 2, 3, 7, 18, 1000] {
                let mut scanner = HeadScanner::default();
                let seen = head.as_bytes().chunks(size).find_map(|chunk| scanner.feed(chunk));
                assert_eq!(seen, Some(has_both), "{size}: {head}");
            }
        }
        assert_eq!(HeadScanner::default().feed(b"POST / HTTP/1.1\r\nHost"), None);
    }
}
