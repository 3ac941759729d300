//! The gateway over real connections: HTTP/2 and gRPC, connections that send nothing, and copies that break off.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use devrun_model::{GatewaySpec, Route, RoutePattern, RouteTarget, ServiceName};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::access_log::AccessLog;
use super::gateway::Gateway;
use super::server::{ConnectionLimits, serve_with};
use super::upstreams::{Availability, Upstream, Upstreams};

/// The longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A gateway with the service `api` behind `/`, on a port of its own.
async fn gateway(copies: &[SocketAddr], limits: ConnectionLimits) -> SocketAddr {
    gateway_with(copies, limits, PATIENCE).await
}

async fn gateway_with(copies: &[SocketAddr], limits: ConnectionLimits, body_pause: Duration) -> SocketAddr {
    let service = ServiceName::new("api").unwrap();
    let route = Route {
        path: RoutePattern::parse("/").unwrap(),
        target: RouteTarget::Service { service, port: "main".to_owned(), strip: None },
        max_body: None,
    };
    let upstreams = Arc::new(Upstreams::new());
    let copies = copies.iter().enumerate().map(|(at, address)| Upstream {
        pid: None,
        name: format!("api.{}", at + 1),
        host: address.ip().to_string(),
        ports: BTreeMap::from([("main".to_owned(), address.port())]),
        availability: Availability::Ready,
        state: "running".to_owned(),
        reason: None,
    });
    upstreams.replace(BTreeMap::from([("api".to_owned(), copies.collect())]));
    let (log, _writer) = AccessLog::start(None).unwrap();
    let spec = GatewaySpec { routes: vec![route], ..GatewaySpec::default() };
    let mut gateway = Gateway::new(spec.clone(), upstreams, log, std::sync::Arc::new(crate::RouteCounts::new(&spec))).unwrap();
    gateway.body_pause = body_pause;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_with(listener, gateway, std::future::pending(), limits));
    address
}

/// A service that answers with `answer`, in HTTP/1.1 or 2.
async fn service<F, A>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answered = answer(request);
                    async move { Ok::<_, Infallible>(answered.await) }
                });
                Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
    address
}

fn text(body: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(body.into()).boxed_unsync())
}

/// gRPC is HTTP/2 to the end, with trailers, and both sides speak at the same time.
#[tokio::test]
async fn grpc_streams_both_ways_and_keeps_its_trailers() {
    let upstream = service(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.headers()["te"], "trailers");
        // Each message is answered before the next is sent.
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, Infallible>>();
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data() {
                    sender.send(Ok(Frame::data(data))).unwrap();
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            sender.send(Ok(Frame::trailers(trailers))).unwrap();
        });
        let body = StreamBody::new(futures(receiver));
        Response::builder().header("content-type", "application/grpc").body(BodyExt::boxed_unsync(body)).unwrap()
    })
    .await;
    let address = gateway(&[upstream], ConnectionLimits::default()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (messages, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, Infallible>>();
    let request = Request::post(format!("http://{address}/shop.Cart/Watch"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(futures(receiver)))
        .unwrap();
    let mut body = client.send_request(request).await.unwrap().into_body();
    for message in ["one", "two", "three"] {
        messages.send(Ok(Frame::data(Bytes::from(message)))).unwrap();
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time").unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message);
    }
    drop(messages);
    let last = tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time").unwrap().unwrap();
    assert_eq!(last.into_trailers().unwrap()["grpc-status"], "0");
}

/// A stream of what a channel receives.
fn futures<T>(mut receiver: tokio::sync::mpsc::UnboundedReceiver<T>) -> impl futures_util::Stream<Item = T> {
    struct Received<F>(F);
    impl<T, F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin> futures_util::Stream for Received<F> {
        type Item = T;
        fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<T>> {
            (self.0)(context)
        }
    }
    Received(move |context: &mut std::task::Context<'_>| receiver.poll_recv(context))
}

/// An HTTP/2 client of a service that speaks HTTP/1.1: the host is kept and cookies are one header.
#[tokio::test]
async fn http2_in_front_of_http1() {
    let upstream = service(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_11);
        let header =
            |name: &str| request.headers().get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join("|");
        text(format!("{} {} {} {}", request.uri(), header("host"), header("cookie"), header("x-forwarded-host")))
    })
    .await;
    let address = gateway(&[upstream], ConnectionLimits::default()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://shop.test:81/a?b")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::<Bytes>::default())
        .unwrap();
    let body = client.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "/a?b shop.test:81 a=1; b=2 shop.test:81");
}

/// Whoever connects and does not ask in time is let go: with nothing, with the beginning of HTTP/2, of a head, and of a
/// second head.
#[tokio::test]
async fn a_connection_without_a_whole_head_is_closed() {
    let upstream = service(|_| async { text("ok") }).await;
    let address =
        gateway(&[upstream], ConnectionLimits { head_timeout: Duration::from_millis(300), ..ConnectionLimits::default() }).await;
    for sent in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTT"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{sent:?} is kept");
    }
}

/// Those that wait give way to newer ones; one whose response is still being sent does not wait.
#[tokio::test]
async fn connections_that_send_nothing_keep_no_one_out() {
    let upstream = service(|request: Request<Incoming>| async move {
        if request.uri() != "/stream" {
            return text("ok");
        }
        // The first piece now, the next one never.
        let pieces = futures_util::stream::iter([Ok(Frame::data(Bytes::from("first\n")))]);
        let pieces = futures_util::StreamExt::chain(pieces, futures_util::stream::pending());
        Response::new(StreamBody::new(pieces).boxed_unsync())
    })
    .await;
    let limits = ConnectionLimits { head_timeout: PATIENCE, most_waiting: 8 };
    let address = gateway(&[upstream], limits).await;
    let mut streaming = TcpStream::connect(address).await.unwrap();
    streaming.write_all(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut begun = Vec::new();
    while !String::from_utf8_lossy(&begun).contains("first") {
        assert_ne!(streaming.read_buf(&mut begun).await.unwrap(), 0);
    }
    let mut idle = Vec::new();
    for number in 0..40 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 1 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await.unwrap();
        }
        idle.push(stream);
    }
    let mut asking = TcpStream::connect(address).await.unwrap();
    asking.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, asking.read_to_string(&mut answer)).await.expect("in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The oldest ones are closed, long before their time is over.
    for stream in idle.iter_mut().take(30) {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "it is kept");
    }
    let mut rest = [0; 1];
    let more = tokio::time::timeout(Duration::from_millis(100), streaming.read(&mut rest)).await;
    assert!(more.is_err(), "the stream was cut: {more:?}");
}

/// What is not a body, or ends too early, is the client's fault and not the service's.
#[tokio::test]
async fn a_malformed_body_is_answered_with_400() {
    let upstream = service(|request: Request<Incoming>| async move {
        match request.into_body().collect().await {
            Ok(body) => text(format!("{} bytes", body.to_bytes().len())),
            Err(_) => text("broken"),
        }
    })
    .await;
    let address = gateway_with(&[upstream], ConnectionLimits::default(), Duration::from_secs(30)).await;
    for body in [
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef",
        "Content-Length: 5\r\n\r\nhel",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{body:?}: {answer}");
    }
}

/// A body whose client has stopped sending is given up; one that the service is slow to read is not, nor is a gRPC stream.
#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let pause = Duration::from_millis(300);
    let upstream = service(move |request: Request<Incoming>| async move {
        if request.uri() == "/later" {
            // It begins to read after several pauses.
            let mut pauses = tokio::time::interval(pause);
            for _ in 0..4 {
                pauses.tick().await;
            }
        }
        match request.into_body().collect().await {
            Ok(body) => text(format!("{} bytes", body.to_bytes().len())),
            Err(_) => text("broken"),
        }
    })
    .await;
    let address = gateway_with(&[upstream], ConnectionLimits::default(), pause).await;
    for framing in ["Content-Length: 5\r\n\r\nhel", "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", "Content-Length: 5\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "{framing:?}: {answer}");
        assert!(answer.contains("the client sent nothing more of the request body for 300ms"), "{framing:?}: {answer}");
    }
    // More than all buffers on the way take: the client has sent what it may, and waits for the service.
    let length = 16 << 20;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST /later HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let sent = tokio::spawn(async move { writer.write_all(&vec![b'x'; length]).await.map(|()| writer) });
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, reader.read_to_string(&mut answer)).await.expect("in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("{length} bytes")), "{answer}");
    drop(sent.await.unwrap().unwrap());
}

/// A copy that takes a request and breaks off: what only asks is asked again, what brings something is not.
#[tokio::test]
async fn a_request_that_may_be_repeated_is_and_another_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broken = listener.local_addr().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let count = stream.read(&mut head).await.unwrap_or(0);
            counted.fetch_add(usize::from(count > 0), Ordering::SeqCst);
        }
    });
    let address = gateway(&[broken], ConnectionLimits::default()).await;
    let ask = async |request: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").unwrap();
        answer
    };
    let answer = ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("service `api` broke the connection"), "{answer}");
    assert_eq!(taken.swap(0, Ordering::SeqCst), 2, "once more");
    let answer = ask("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(taken.load(Ordering::SeqCst), 1, "never twice");
}

/// A copy that refuses the connection is passed over, whatever the method: nothing of the request has reached it.
#[tokio::test]
async fn a_copy_that_refuses_is_passed_over() {
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let upstream =
        service(|request: Request<Incoming>| async move { text(request.into_body().collect().await.unwrap().to_bytes()) }).await;
    let address = gateway(&[gone, upstream], ConnectionLimits::default()).await;
    for _ in 0..6 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    }
}
