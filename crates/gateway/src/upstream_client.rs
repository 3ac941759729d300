//! Sends requests to services: over HTTP/1.1 connections from a pool, and HTTP/2 for gRPC.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

use super::connect::connect_in_time;
use super::connection_pool::{ConnectionPool, UpstreamBody};
use super::request_body::{BoxError, RequestBody};

/// The servers of common frameworks close an idle connection after 5 s (uvicorn, Node); one that we close before is never
/// closed under a request.
const IDLE: Duration = Duration::from_secs(4);

/// Sends requests to services.
pub(crate) struct UpstreamClient {
    http1: Arc<ConnectionPool>,
    http2: Client<Connector, RequestBody>,
}

/// Why a request has no response.
#[derive(Debug)]
pub(crate) struct SendError {
    /// Nothing of the request has been sent.
    pub is_unsent: bool,
    cause: BoxError,
}

impl SendError {
    fn new(is_unsent: bool, cause: impl Into<BoxError>) -> Self {
        Self { is_unsent, cause: cause.into() }
    }

    /// What happened, without the errors that it led to.
    pub(crate) fn reason(&self) -> String {
        let mut cause: &dyn Error = &*self.cause;
        while let Some(source) = cause.source() {
            cause = source;
        }
        cause.to_string()
    }
}

impl UpstreamClient {
    pub(crate) fn new() -> Self {
        Self::with_idle(IDLE)
    }

    /// Keeps idle connections for this long.
    pub(crate) fn with_idle(idle: Duration) -> Self {
        let http2 = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .pool_idle_timeout(idle)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(Connector);
        Self { http1: ConnectionPool::new(idle), http2 }
    }

    /// Sends a request to an address; its version says how.
    pub(crate) async fn send(
        &self,
        authority: &Arc<str>,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        if request.version() == Version::HTTP_2 {
            self.send_http2(authority, request).await
        } else {
            self.send_http1(authority, request).await
        }
    }

    async fn send_http1(
        &self,
        authority: &Arc<str>,
        mut request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        loop {
            let mut connection = self.http1.connection(authority).await.map_err(|error| SendError::new(true, error))?;
            let mut error = match connection.send(request).await {
                Ok(response) => return Ok(response.map(|body| connection.body(body))),
                Err(error) => error,
            };
            match error.take_message() {
                // Its service has closed it while it was idle; there may be another one, and at last a new one.
                Some(unsent) if connection.is_reused => request = unsent,
                unsent => return Err(SendError::new(unsent.is_some(), error.into_error())),
            }
        }
    }

    async fn send_http2(&self, authority: &str, mut request: Request<RequestBody>) -> Result<Response<UpstreamBody>, SendError> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build();
        *request.uri_mut() = uri.map_err(|error| SendError::new(true, error))?;
        match self.http2.request(request).await {
            Ok(response) => Ok(response.map(UpstreamBody::unpooled)),
            Err(error) => Err(SendError::new(error.is_connect(), error)),
        }
    }
}

#[derive(Clone, Copy)]
struct Connector;

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let stream = connect_in_time(uri.authority().map_or("", |authority| authority.as_str())).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
