//! The body of a request, handed on frame by frame: it is limited, and can be taken back as long as nothing of it has been read.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A request's body is larger than its route allows.
#[derive(Debug)]
pub(crate) struct BodyTooLarge;

impl fmt::Display for BodyTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request body is larger than the route allows")
    }
}

impl Error for BodyTooLarge {}

/// A client sends nothing more of a request's body.
#[derive(Debug)]
pub(crate) struct BodyTooSlow;

impl fmt::Display for BodyTooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client sent nothing more of the request body")
    }
}

impl Error for BodyTooSlow {}

/// What a request's body may take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BodyLimits {
    /// Of all of it, in bytes.
    pub size: Option<u64>,
    /// From one piece to the next, while the service waits for it.
    pub pause: Option<Duration>,
}

struct BodyState {
    incoming: Incoming,
    left: Option<u64>,
    pause: Option<Duration>,
    /// Runs while the client is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    is_touched: bool,
    is_too_large: bool,
    is_too_slow: bool,
    is_broken: bool,
}

impl BodyState {
    /// The client is waited for: whether that takes too long.
    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(pause) = self.pause else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        timer.as_mut().poll(context)
    }
}

/// A request's body. Copies share it: one is given to an attempt, and where that came to nothing before the body was read, the
/// next attempt gets another. Most requests have none.
#[derive(Clone)]
pub(crate) struct RequestBody(Option<Arc<Mutex<BodyState>>>);

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, limits: BodyLimits) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        Self(Some(Arc::new(Mutex::new(BodyState {
            incoming,
            left: limits.size,
            pause: limits.pause,
            timer: None,
            is_touched: false,
            is_too_large: false,
            is_too_slow: false,
            is_broken: false,
        }))))
    }
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(None)
    }
    /// Whether anything of it was read, so that it cannot be sent a second time.
    pub(crate) fn is_touched(&self) -> bool {
        self.shared().is_some_and(|shared| shared.is_touched)
    }
    /// Whether it went over its limit.
    pub(crate) fn is_too_large(&self) -> bool {
        self.shared().is_some_and(|shared| shared.is_too_large)
    }
    /// Whether its client sent nothing more for too long.
    pub(crate) fn is_too_slow(&self) -> bool {
        self.shared().is_some_and(|shared| shared.is_too_slow)
    }
    /// Whether what came from the client is not a body, or ended before its end.
    pub(crate) fn is_broken(&self) -> bool {
        self.shared().is_some_and(|shared| shared.is_broken)
    }
    /// A panic while it was held left it as it was.
    fn shared(&self) -> Option<MutexGuard<'_, BodyState>> {
        self.0.as_ref().map(|shared| shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
    /// The rest of it without a limit, to be read and thrown away.
    pub(crate) fn lift_limit(&self) {
        if let Some(mut shared) = self.shared() {
            shared.left = None;
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(mut shared) = self.shared() else { return Poll::Ready(None) };
        shared.is_touched = true;
        let frame = match Pin::new(&mut shared.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                shared.is_broken = true;
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if shared.poll_pause(context).is_ready() => {
                shared.is_too_slow = true;
                return Poll::Ready(Some(Err(Box::new(BodyTooSlow))));
            }
            Poll::Pending => return Poll::Pending,
        };
        shared.timer = None;
        if let (Some(left), Some(data)) = (shared.left, frame.data_ref()) {
            match left.checked_sub(data.len() as u64) {
                Some(left) => shared.left = Some(left),
                None => {
                    shared.is_too_large = true;
                    return Poll::Ready(Some(Err(Box::new(BodyTooLarge))));
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }
    fn is_end_stream(&self) -> bool {
        self.shared().is_none_or(|shared| shared.incoming.is_end_stream())
    }
    fn size_hint(&self) -> SizeHint {
        self.shared().map_or_else(|| SizeHint::with_exact(0), |shared| shared.incoming.size_hint())
    }
}
