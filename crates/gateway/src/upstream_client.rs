//! Connections to services: a pool of HTTP/1.1 ones, and HTTP/2 for gRPC. A service that listens on `localhost` may have either
//! loopback address, so the other one is tried when the first is refused.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

use super::body::RequestBody;

/// The servers of common frameworks close an idle connection after 5 s (uvicorn, Node); one that we close before is never
/// closed under a request.
const IDLE: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends requests to services.
#[derive(Clone)]
pub(crate) struct UpstreamClient {
    http1: Client<Connector, RequestBody>,
    http2: Client<Connector, RequestBody>,
}

impl UpstreamClient {
    pub(crate) fn new() -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).timer(TokioTimer::new()).set_host(false);
        let http1 = builder.build(Connector);
        let http2 = builder.http2_only(true).build(Connector);
        Self { http1, http2 }
    }

    /// Sends a request; its version says how.
    pub(crate) async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, Error> {
        if request.version() == Version::HTTP_2 { self.http2.request(request).await } else { self.http1.request(request).await }
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
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(80);
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(&host, port)).await;
            let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// Connects to a copy.
pub(crate) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)) => TcpStream::connect(&[v4, v6][..]).await,
        Ok(IpAddr::V6(Ipv6Addr::LOCALHOST)) => TcpStream::connect(&[v6, v4][..]).await,
        Ok(address) => TcpStream::connect((address, port)).await,
        Err(_) if host == "localhost" => TcpStream::connect(&[v4, v6][..]).await,
        Err(_) => TcpStream::connect((host, port)).await,
    }
}
