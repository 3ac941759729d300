//! Connections: accepted, limited, and ended in order.
//!
//! A connection that has not sent a whole head in time is closed: the parser's own time-out counts once it knows the version,
//! ours before that. Of those that wait for a request the oldest gives way when there are too many, or no descriptor is left.
//!
//! At the end a connection without a request is not closed at once: its next request may be on its way already, and would be
//! lost. It is answered, and closed by that answer.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use devrun_connections::{ClientConnection, ClientConnections, HeldBody};
use http::{StatusCode, Version};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::client_peer::Peer;
use super::framing_watch::{FramingWatch, WatchedStream};
use super::gateway::Gateway;
use super::gateway_client::GatewayClient;
use super::request_check::TwoFramings;
use super::workers::Workers;

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// For a whole request head; also how long an idle connection is kept.
    pub head_timeout: Duration,
    /// Connections without a request at a time.
    pub most_waiting: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { head_timeout: Duration::from_secs(30), most_waiting: 4096 }
    }
}

/// Of a request head, in bytes. That it has at most 100 lines is the limit of hyper, which allocates for any other.
const MAX_HEAD: usize = 64 * 1024;
/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// At the end requests may go on for this long; streams without an end are cut.
const DRAIN: Duration = Duration::from_secs(5);
/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 22;
/// How long a connection without a request is kept for its next one.
const LINGER: Duration = Duration::from_millis(300);

/// The requests of one connection.
#[derive(Debug, Default)]
struct Requests {
    has_asked: AtomicBool,
    active: AtomicUsize,
    begun: Notify,
}

impl Requests {
    fn begin(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::SeqCst);
        self.begun.notify_waiters();
    }
    /// Returns when one is in progress.
    async fn next(&self) {
        let begun = self.begun.notified();
        tokio::pin!(begun);
        begun.as_mut().enable();
        if self.active.load(Ordering::SeqCst) == 0 {
            begun.await;
        }
    }
}

/// Serves until `ended` returns, then lets requests in progress end.
///
/// # Errors
/// When a thread or its event loop cannot be made.
pub async fn serve(listener: TcpListener, gateway: Gateway, ended: impl Future<Output = ()>) -> io::Result<()> {
    serve_with(listener, gateway, ended, ConnectionLimits::default()).await
}

pub(crate) async fn serve_with(
    listener: TcpListener,
    gateway: Gateway,
    ended: impl Future<Output = ()>,
    limits: ConnectionLimits,
) -> io::Result<()> {
    let workers = Workers::start()?;
    let gateway = Arc::new(gateway);
    // The open connections are its receivers.
    let ending = watch::Sender::new(());
    let builder = Arc::new(builder(limits));
    let connections = ClientConnections::new(limits.most_waiting);
    tokio::pin!(ended);
    loop {
        let accepted = tokio::select! {
            () = &mut ended => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (builder, gateway, ending) = (Arc::clone(&builder), Arc::clone(&gateway), ending.subscribe());
                let connection = connections.open();
                workers.serve(stream, move |stream, client| async move {
                    let Some(peer) = peer_of(&stream) else { return };
                    let caller = GatewayClient { gateway, client, peer };
                    tokio::select! {
                        () = serve_connection(&builder, stream, caller, ending, limits, Arc::clone(&connection)) => {}
                        () = connection.closing() => {}
                    }
                });
            }
            // Out of descriptors, most likely: the backlog keeps callers waiting meanwhile.
            Err(_) => {
                connections.close_oldest();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    ending.send_replace(());
    // Whatever takes longer is cut by the end of the threads.
    let _late = tokio::time::timeout(DRAIN, async {
        // First what may just have come in; streams without an end are not waited for.
        if tokio::time::timeout(LINGER, ending.closed()).await.is_err() {
            tokio::select! {
                () = ending.closed() => {}
                // The last response may not have left yet.
                () = gateway.in_progress().over() => {
                    let _flushed = tokio::time::timeout(LINGER, ending.closed()).await;
                }
            }
        }
    })
    .await;
    Ok(())
}

fn builder(limits: ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(limits.head_timeout);
    builder
}

/// What the requests of one connection share.
struct ServedConnection {
    caller: Arc<GatewayClient>,
    place: Arc<ClientConnection>,
    watch: Arc<FramingWatch>,
    requests: Requests,
}

/// A request that has no response yet.
struct Active(Arc<ServedConnection>);

impl Active {
    fn begin(connection: &Arc<ServedConnection>) -> Self {
        connection.requests.begin();
        Self(Arc::clone(connection))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.requests.active.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The other end of a connection; `None` if it has ended already.
fn peer_of(stream: &TcpStream) -> Option<Peer> {
    let (remote, local) = (stream.peer_addr().ok()?.ip().to_canonical(), stream.local_addr().ok()?.ip().to_canonical());
    Some(Peer::new(remote, remote.is_loopback() || remote == local))
}

async fn serve_connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    mut caller: GatewayClient,
    ending: watch::Receiver<()>,
    limits: ConnectionLimits,
    place: Arc<ClientConnection>,
) {
    // Without it small responses wait for an acknowledgement; a connection that has ended already shows by itself.
    let _ended = stream.set_nodelay(true);
    let Some(tls) = caller.gateway.tls().cloned() else {
        return serve_requests(builder, stream, caller, ending, limits, place).await;
    };
    let handshake = async {
        // A record of TLS begins with its type (RFC 8446, 5.1); what begins otherwise is answered as HTTP.
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] == TLS_HANDSHAKE { tls.accept(stream).await.map(Either::Left) } else { Ok(Either::Right(stream)) }
    };
    match tokio::time::timeout(limits.head_timeout, handshake).await {
        Ok(Ok(Either::Left(stream))) => {
            caller.peer.is_secure = true;
            serve_requests(builder, stream, caller, ending, limits, place).await;
        }
        Ok(Ok(Either::Right(stream))) => serve_requests(builder, stream, caller, ending, limits, place).await,
        // An alert was sent, or the client sends nothing.
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn serve_requests(
    builder: &Builder<TokioExecutor>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    caller: GatewayClient,
    mut ending: watch::Receiver<()>,
    limits: ConnectionLimits,
    place: Arc<ClientConnection>,
) {
    let watch = Arc::<FramingWatch>::default();
    let watched = WatchedStream::new(stream, Arc::clone(&watch));
    let served = Arc::new(ServedConnection { caller: Arc::new(caller), place, watch, requests: Requests::default() });
    let service = service_fn({
        let served = Arc::clone(&served);
        move |mut request: http::Request<Incoming>| {
            let (active, in_progress) = (Active::begin(&served), served.place.begin());
            let is_http1 = request.version() <= Version::HTTP_11;
            if is_http1 && served.watch.take_both() {
                request.extensions_mut().insert(TwoFramings);
            }
            async move {
                let response = active.0.caller.answer(request).await;
                if is_http1 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    active.0.watch.expect_head();
                }
                // Of a stream, until its end.
                Ok::<_, Infallible>(response.map(|body| HeldBody::new(body, in_progress)))
            }
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(watched), service).into_owned();
    let head_timeout = tokio::time::sleep(limits.head_timeout);
    tokio::pin!(connection, head_timeout);
    let mut is_known = false;
    loop {
        tokio::select! {
            // A client that breaks off or sends what is not HTTP has had its answer.
            _broken = &mut connection => return,
            () = &mut head_timeout, if !is_known => {
                is_known = served.requests.has_asked.load(Ordering::Relaxed);
                if !is_known {
                    return;
                }
            }
            _ended = ending.changed() => break,
        }
    }
    tokio::select! {
        _broken = &mut connection => return,
        () = served.requests.next() => {}
        () = tokio::time::sleep(LINGER) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _broken = connection.await;
}
