//! Connections: accepted, limited, and ended in order.
//!
//! A connection that has not sent a whole head in time is closed: the parser's own time-out counts once it knows the version,
//! ours before that.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};

use super::gateway::{Gateway, Peer};

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// For a whole request head; also how long an idle connection is kept.
    pub head_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { head_timeout: Duration::from_secs(30) }
    }
}

/// Of a request head: its lines, and its bytes.
const MAX_HEADERS: usize = 128;
const MAX_HEAD: usize = 64 * 1024;
/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// At the end requests may go on for this long; streams without an end are cut.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `ended` returns, then lets requests in progress end.
pub async fn serve(listener: TcpListener, gateway: Gateway, ended: impl Future<Output = ()>) {
    serve_with(listener, gateway, ended, ConnectionLimits::default()).await;
}

pub(crate) async fn serve_with(
    listener: TcpListener,
    gateway: Gateway,
    ended: impl Future<Output = ()>,
    limits: ConnectionLimits,
) {
    let gateway = Arc::new(gateway);
    let graceful = GracefulShutdown::new();
    let builder = Arc::new(builder(limits));
    tokio::pin!(ended);
    loop {
        let accepted = tokio::select! {
            () = &mut ended => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let watcher = graceful.watcher();
                let (builder, gateway) = (Arc::clone(&builder), Arc::clone(&gateway));
                tokio::spawn(async move { serve_connection(&builder, stream, gateway, watcher, limits).await });
            }
            // Out of descriptors, most likely: the backlog keeps callers waiting meanwhile.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    drop(listener);
    let connections = graceful.shutdown();
    // Whatever takes longer is cut by the end of the process.
    let _late = tokio::time::timeout(DRAIN, async {
        tokio::select! {
            () = connections => {}
            () = gateway.in_progress().over() => {}
        }
    })
    .await;
}

fn builder(limits: ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(limits.head_timeout);
    builder
}

async fn serve_connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    gateway: Arc<Gateway>,
    watcher: hyper_util::server::graceful::Watcher,
    limits: ConnectionLimits,
) {
    let (Ok(remote), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    // Without it small responses wait for an acknowledgement; a connection that has ended already shows by itself.
    let _ended = stream.set_nodelay(true);
    let address = remote.ip().to_canonical();
    let peer = Peer { address, is_local: address.is_loopback() || address == local.ip().to_canonical() };
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&has_asked);
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, Infallible>(gateway.answer(peer, request).await) }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let connection = watcher.watch(connection);
    tokio::pin!(connection);
    tokio::select! {
        // A client that breaks off or sends what is no HTTP has had its answer.
        _broken = &mut connection => return,
        () = tokio::time::sleep(limits.head_timeout) => {}
    }
    if has_asked.load(Ordering::Relaxed) {
        let _broken = connection.await;
    }
}
