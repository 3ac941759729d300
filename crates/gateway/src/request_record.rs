//! What is written down of one request: when its response has ended, or when its client left before there was one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};

use super::access_log::AccessLine;
use super::gateway::Gateway;
use super::request_body::BoxError;
use super::response_body::ResponseBody;
use super::upstreams::Lease;

/// The status of nginx for a request whose client left before there was a response.
const CLIENT_LEFT: u16 = 499;

/// A request in progress. Dropped, it is counted and is a line of the access log.
pub(crate) struct RequestRecord {
    gateway: Arc<Gateway>,
    began: Instant,
    pub line: AccessLine,
    /// The copy that answers is busy until then.
    pub lease: Option<Lease>,
    is_counted: bool,
    is_awaited: bool,
}

impl RequestRecord {
    pub(crate) fn begin<B>(gateway: Arc<Gateway>, request: &Request<B>) -> Self {
        gateway.in_progress().begin();
        let line = AccessLine {
            at: jiff::Timestamp::now(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            status: CLIENT_LEFT,
            ..AccessLine::default()
        };
        Self { gateway, began: Instant::now(), line, lease: None, is_counted: false, is_awaited: true }
    }

    /// Counts it with the time until now: its end says nothing about the service.
    pub(crate) fn count(&mut self) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.gateway.counts().count(self.line.route.as_deref(), self.line.status, self.began.elapsed());
        }
    }

    /// A stream of events has no end that could be waited for.
    pub(crate) fn without_end(&mut self) {
        self.count();
        if let Some(lease) = &mut self.lease {
            lease.without_end();
        }
        if std::mem::replace(&mut self.is_awaited, false) {
            self.gateway.in_progress().end();
        }
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        self.count();
        self.line.took = self.began.elapsed();
        self.gateway.log().access(std::mem::take(&mut self.line));
        if self.is_awaited {
            self.gateway.in_progress().end();
        }
    }
}

/// A response's body; with its end the request is over.
pub(crate) struct RecordedBody {
    inner: ResponseBody,
    record: RequestRecord,
}

impl RecordedBody {
    pub(crate) fn new(inner: ResponseBody, record: RequestRecord) -> Self {
        Self { inner, record }
    }
}

impl Body for RecordedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.record.line.bytes += data.len() as u64;
        }
        polled
    }
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
