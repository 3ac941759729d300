//! The body of a response, that of a service or our own.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;

use super::connection_pool::UpstreamBody;
use super::request_body::BoxError;

/// The body of every response.
pub(crate) enum ResponseBody {
    Own(Full<Bytes>),
    Upstream(UpstreamBody),
    File(UnsyncBoxBody<Bytes, BoxError>),
}

/// A body of one piece.
pub(crate) fn full(text: impl Into<Bytes>) -> ResponseBody {
    ResponseBody::Own(Full::new(text.into()))
}

/// No body.
pub(crate) fn empty() -> ResponseBody {
    ResponseBody::Own(Full::default())
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Own(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Upstream(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::File(body) => Pin::new(body).poll_frame(context),
        }
    }
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Upstream(body) => body.is_end_stream(),
            Self::File(body) => body.is_end_stream(),
        }
    }
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Upstream(body) => body.size_hint(),
            Self::File(body) => body.size_hint(),
        }
    }
}
