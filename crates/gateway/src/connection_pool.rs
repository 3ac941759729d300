//! HTTP/1.1 connections to services that are kept for the next request: those of one thread (`workers`). `upstream_client` sends
//! requests on them.
//!
//! A connection is driven by a task of its own, so that one that its service closes while it is idle is known to be closed. The body of
//! a response brings the connection back that it came on. One that was not read to its end leaves a connection that is not ready for
//! a next request, and is closed.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::connect::connect_in_time;
use super::request_body::RequestBody;

/// The idle connections of one thread.
pub(crate) struct ConnectionPool {
    /// How long one is kept.
    idle_for: Duration,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// By address; the one that was used last is at the end.
    idle: HashMap<Arc<str>, Vec<IdleConnection>>,
    /// A task closes those that are idle for too long.
    is_swept: bool,
}

struct IdleConnection {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection that is used for one request.
pub(crate) struct PooledConnection {
    sender: SendRequest<RequestBody>,
    authority: Arc<str>,
    pool: Arc<ConnectionPool>,
    /// It has served a request before, and its service may have closed it since.
    pub is_reused: bool,
}

impl ConnectionPool {
    /// Connections are kept for `idle_for`.
    pub(crate) fn new(idle_for: Duration) -> Arc<Self> {
        Arc::new(Self { idle_for, state: Mutex::default() })
    }

    /// A connection to an address, one that is idle if there is one.
    pub(crate) async fn connection(self: &Arc<Self>, authority: &Arc<str>) -> io::Result<PooledConnection> {
        let (sender, is_reused) = match self.take(authority) {
            Some(sender) => (sender, true),
            // On the heap: it would make the future of every request larger.
            None => (Box::pin(open(authority)).await?, false),
        };
        Ok(PooledConnection { sender, authority: Arc::clone(authority), pool: Arc::clone(self), is_reused })
    }

    fn take(&self, authority: &str) -> Option<SendRequest<RequestBody>> {
        let now = Instant::now();
        let mut state = self.state();
        let idle = state.idle.get_mut(authority)?;
        while let Some(connection) = idle.pop() {
            if connection.is_usable(now, self.idle_for) {
                return Some(connection.sender);
            }
        }
        None
    }

    fn give_back(self: &Arc<Self>, authority: Arc<str>, sender: SendRequest<RequestBody>) {
        let connection = IdleConnection { sender, since: Instant::now() };
        let mut state = self.state();
        state.idle.entry(authority).or_default().push(connection);
        if !state.is_swept
            && let Ok(runtime) = Handle::try_current()
        {
            state.is_swept = true;
            drop(state);
            runtime.spawn(sweep(Arc::downgrade(self), self.idle_for));
        }
    }

    /// Closes what is idle for too long, and returns when to look again; `None`: nothing is left.
    fn close_idle(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut state = self.state();
        state.idle.retain(|_, idle| {
            idle.retain(|connection| connection.is_usable(now, self.idle_for));
            !idle.is_empty()
        });
        let oldest = state.idle.values().filter_map(|idle| idle.first()).map(|connection| connection.since).min();
        state.is_swept = oldest.is_some();
        oldest.map(|since| (since + self.idle_for).saturating_duration_since(now))
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        // A panic while it was held left it as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleConnection {
    fn is_usable(&self, now: Instant, idle_for: Duration) -> bool {
        self.sender.is_ready() && now < self.since + idle_for
    }
}

impl PooledConnection {
    /// Sends a request; the error has it where nothing of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.sender.try_send_request(request).await
    }

    /// The body of the response to its request.
    pub(crate) fn body(self, incoming: Incoming) -> UpstreamBody {
        // Mostly all of it is here already, and the next request need not wait until the client has taken it.
        let connection = if self.sender.is_ready() {
            self.give_back();
            None
        } else {
            Some(self)
        };
        UpstreamBody { incoming, connection }
    }

    /// One that is not ready for another request is closed.
    fn give_back(self) {
        if self.sender.is_ready() {
            self.pool.give_back(self.authority, self.sender);
        }
    }
}

/// The body of a response; at its end the connection goes back to the pool.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    connection: Option<PooledConnection>,
}

impl UpstreamBody {
    /// One whose connection is not of the pool.
    pub(crate) fn unpooled(incoming: Incoming) -> Self {
        Self { incoming, connection: None }
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.give_back();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(context)
    }
    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

async fn open(authority: &str) -> io::Result<SendRequest<RequestBody>> {
    let stream = connect_in_time(authority).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Its request gets the error.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

async fn sweep(pool: Weak<ConnectionPool>, idle_for: Duration) {
    let mut pause = idle_for;
    loop {
        tokio::time::sleep(pause).await;
        let Some(next) = pool.upgrade().and_then(|pool| pool.close_idle()) else { return };
        pause = next;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use http::{Method, StatusCode};
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::upstream_client::UpstreamClient;

    /// The longest that anything here is waited for.
    const PATIENCE: Duration = Duration::from_secs(30);
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// A service that sends the same answer to everything, and how many connections it has accepted, and how many are open.
    struct Service {
        authority: Arc<str>,
        accepted: Arc<AtomicUsize>,
        open: Arc<AtomicUsize>,
    }

    impl Service {
        async fn start(answer: &'static str) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let authority = listener.local_addr().unwrap().to_string().into();
            let (accepted, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
            let counts = (Arc::clone(&accepted), Arc::clone(&open));
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    counts.0.fetch_add(1, Ordering::SeqCst);
                    counts.1.fetch_add(1, Ordering::SeqCst);
                    let open = Arc::clone(&counts.1);
                    tokio::spawn(async move {
                        while read_head(&mut stream).await {
                            stream.write_all(answer.as_bytes()).await.unwrap();
                            if !answer.contains("Length") && !answer.contains("chunked") {
                                break;
                            }
                        }
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
            Self { authority, accepted, open }
        }

        fn accepted(&self) -> usize {
            self.accepted.load(Ordering::SeqCst)
        }
    }

    async fn read_head(stream: &mut TcpStream) -> bool {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                return false;
            }
        }
        true
    }

    fn request(method: Method) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::none());
        *request.method_mut() = method;
        request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static("api.test"));
        request
    }

    async fn ask(client: &UpstreamClient, authority: &Arc<str>, method: Method) -> String {
        let response = client.send(authority, request(method)).await.unwrap();
        let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("in time").unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_connection_serves_the_next_request_when_both_sides_keep_it() {
        for (name, answer, body, connections) in [
            ("a length", OK, "ok", 1),
            ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", 1),
            ("trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n", "ok", 1),
            ("no body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 1),
            ("hints before it", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", 1),
            ("HTTP/1.0 that keeps it", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "ok", 1),
            ("HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", 3),
            ("close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "ok", 3),
            ("until the end", "HTTP/1.1 200 OK\r\n\r\nok", "ok", 3),
            ("more than was asked for", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", "ok", 3),
        ] {
            let service = Service::start(answer).await;
            let client = UpstreamClient::new();
            for method in [Method::GET, Method::POST, Method::GET] {
                assert_eq!(ask(&client, &service.authority, method).await, body, "{name}");
            }
            assert_eq!(service.accepted(), connections, "{name}");
        }
    }

    #[tokio::test]
    async fn requests_at_a_time_have_connections_of_their_own() {
        let service = Service::start(OK).await;
        let client = UpstreamClient::new();
        let both = tokio::join!(ask(&client, &service.authority, Method::GET), ask(&client, &service.authority, Method::GET),);
        assert_eq!((both.0.as_str(), both.1.as_str(), service.accepted()), ("ok", "ok", 2));
        ask(&client, &service.authority, Method::GET).await;
        assert_eq!(service.accepted(), 2);
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_in_time() {
        let service = Service::start(OK).await;
        let client = UpstreamClient::with_idle(Duration::from_millis(50));
        for round in 1..=2 {
            ask(&client, &service.authority, Method::GET).await;
            assert_eq!(service.accepted(), round);
            let closed = async {
                while service.open.load(Ordering::SeqCst) > 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, closed).await.expect("in time");
        }
    }

    #[tokio::test]
    async fn one_that_was_idle_for_too_long_is_not_used() {
        let service = Service::start(OK).await;
        let pool = ConnectionPool::new(Duration::ZERO);
        for round in 1..=2 {
            let mut connection = pool.connection(&service.authority).await.unwrap();
            assert!(!connection.is_reused);
            let response = connection.send(request(Method::GET)).await.ok().unwrap();
            connection.body(response.into_body()).collect().await.unwrap();
            assert_eq!(service.accepted(), round);
        }
    }

    /// Whether the gateway knows already that it was closed or not: nothing was sent on it, so that a `POST` goes to a new one as well.
    #[tokio::test]
    async fn a_connection_that_was_closed_while_it_was_idle_costs_no_request() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let authority: Arc<str> = listener.local_addr().unwrap().to_string().into();
        let (close, closes) = mpsc::channel::<()>();
        let (closed, is_closed) = mpsc::channel();
        // A thread of its own, so that the test can wait for it and hold up its own event loop.
        let service = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut count = 0;
            let mut accept = || {
                let mut stream = listener.accept().unwrap().0;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                stream.write_all(OK.as_bytes()).unwrap();
                count += 1;
                stream
            };
            let mut stream = accept();
            while closes.recv().is_ok() {
                drop(stream);
                closed.send(()).unwrap();
                stream = accept();
            }
            drop(stream);
            count
        });
        let client = UpstreamClient::new();
        ask(&client, &authority, Method::GET).await;
        for method in [Method::GET, Method::POST, Method::POST] {
            // The event loop learns of this and of the end of the connection at the same time, and this task runs first: the request is
            // sent on a connection that is closed already.
            let watched = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _caller = std::net::TcpStream::connect(watched.local_addr().unwrap()).unwrap();
            close.send(()).unwrap();
            is_closed.recv_timeout(PATIENCE).unwrap();
            watched.accept().await.unwrap();
            assert_eq!(ask(&client, &authority, method).await, "ok");
        }
        drop(close);
        assert_eq!(service.join().unwrap(), 4);
    }

    #[tokio::test]
    async fn nothing_has_been_sent_where_the_connection_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority: Arc<str> = listener.local_addr().unwrap().to_string().into();
        drop(listener);
        let error = UpstreamClient::new().send(&authority, request(Method::POST)).await.err().unwrap();
        assert!(error.is_unsent && error.reason().contains("refused"), "{error:?}");
    }

    #[tokio::test]
    async fn a_request_that_was_sent_is_not_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority: Arc<str> = listener.local_addr().unwrap().to_string().into();
        let taken = tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                assert!(read_head(&mut first).await);
                first.write_all(OK.as_bytes()).await.unwrap();
            }
            assert!(read_head(&mut first).await);
            drop(first);
            tokio::time::timeout(Duration::from_millis(200), listener.accept()).await.is_ok()
        });
        let client = UpstreamClient::new();
        for _ in 0..2 {
            assert_eq!(ask(&client, &authority, Method::POST).await, "ok");
        }
        let error = client.send(&authority, request(Method::POST)).await.err().unwrap();
        assert!(!error.is_unsent, "{error:?}");
        assert!(!taken.await.unwrap(), "it came once more");
    }

    #[tokio::test]
    async fn a_body_that_was_not_read_to_its_end_leaves_no_connection() {
        let service = Service::start("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nand so on").await;
        let client = UpstreamClient::new();
        for round in 1..=2 {
            let mut body = client.send(&service.authority, request(Method::GET)).await.unwrap().into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "and so on");
            drop(body);
            assert_eq!(service.accepted(), round);
        }
    }

    #[tokio::test]
    async fn a_connection_that_has_changed_its_protocol_is_not_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority: Arc<str> = listener.local_addr().unwrap().to_string().into();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    assert!(read_head(&mut stream).await);
                    stream
                        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
                        .await
                        .unwrap();
                    let (mut reader, mut writer) = stream.split();
                    tokio::io::copy(&mut reader, &mut writer).await.ok();
                });
            }
        });
        let client = UpstreamClient::new();
        for _ in 0..2 {
            let mut request = request(Method::GET);
            request.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(http::header::UPGRADE, http::HeaderValue::from_static("echo"));
            let mut response = client.send(&authority, request).await.unwrap();
            assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
            let upgraded = hyper::upgrade::on(&mut response);
            drop(response);
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            stream.write_all(b"hello").await.unwrap();
            let mut echo = [0; 5];
            tokio::time::timeout(PATIENCE, stream.read_exact(&mut echo)).await.expect("in time").unwrap();
            assert_eq!(&echo, b"hello");
        }
    }
}
