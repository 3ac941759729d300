//! Connections and requests. Programs on this machine may send; a page in a browser may not: its requests say where they come from,
//! or come under another host's name, or with a type that needs no permission, and each of these is refused.

use std::convert::Infallible;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use devrun_connections::{ActiveRequest, ClientConnection, ClientConnections};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::decode::{Encoding, TelemetrySignal, decode};
use super::otlp_messages::RpcStatus;
use super::segments::SegmentWriter;

/// Connections that wait for a request, or for the rest of one, at once; the oldest gives way to a newer one.
const MOST_WAITING: usize = 256;
/// Requests that are read at once: each may take [`MAX_BODY`] bytes. Further ones are told to come again.
const MAX_REQUESTS: usize = 16;
/// Bytes of a body, also once it is unpacked.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// For a head, and for a body.
const TIMEOUT: Duration = Duration::from_secs(10);

struct Receiver {
    writer: Mutex<SegmentWriter>,
    requests: Semaphore,
}

/// A request that is not taken: a status and a fragment that says why.
type Refusal = (StatusCode, String);

/// Serves until `ended`. Records go to files in `dir`.
///
/// # Errors
/// When the directory cannot be made.
pub async fn serve(listener: TcpListener, dir: PathBuf, ended: impl Future<Output = ()>) -> std::io::Result<()> {
    let receiver = Arc::new(Receiver { writer: Mutex::new(SegmentWriter::new(&dir)?), requests: Semaphore::new(MAX_REQUESTS) });
    let connections = ClientConnections::new(MOST_WAITING);
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (receiver, connection) = (Arc::clone(&receiver), connections.open());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = serve_connection(stream, receiver, Arc::clone(&connection)) => {}
                            () = connection.closing() => {}
                        }
                    });
                }
                // Out of descriptors, most likely: the backlog keeps senders waiting meanwhile.
                Err(_) => {
                    connections.close_oldest();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = ended => {}
    }
    Ok(())
}

async fn serve_connection(stream: TcpStream, receiver: Arc<Receiver>, connection: Arc<ClientConnection>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (receiver, active) = (Arc::clone(&receiver), connection.begin());
        async move { Ok::<_, Infallible>(answer(request, receiver, &active).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // A sender that breaks off sends again or does not; neither is a matter of ours.
    let _broken = connection.await;
}

async fn answer(request: Request<Incoming>, receiver: Arc<Receiver>, active: &ActiveRequest) -> Response<Full<Bytes>> {
    let encoding = encoding(request.headers());
    let result = take(request, encoding, receiver, active).await;
    let (status, reason) = match result {
        Ok(()) => (StatusCode::OK, String::new()),
        Err(refusal) => refusal,
    };
    let is_json = encoding != Some(Encoding::Protobuf);
    // An empty message is the answer to a request that was taken whole.
    let body = match (status, is_json) {
        (StatusCode::OK, true) => b"{}".to_vec(),
        (StatusCode::OK, false) => Vec::new(),
        (_, true) => serde_json::json!({ "message": reason }).to_string().into_bytes(),
        (_, false) => RpcStatus { code: 0, message: reason }.encode_to_vec(),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = if is_json { "application/json" } else { "application/x-protobuf" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Some(Encoding::Protobuf),
        "application/json" => Some(Encoding::Json),
        _ => None,
    }
}

async fn take(
    request: Request<Incoming>,
    encoding: Option<Encoding>,
    receiver: Arc<Receiver>,
    active: &ActiveRequest,
) -> Result<(), Refusal> {
    let refuse = |status: StatusCode, reason: &str| Err((status, reason.to_owned()));
    check_sender(request.headers())?;
    let signal = match request.uri().path() {
        "/v1/traces" => TelemetrySignal::Traces,
        "/v1/logs" => TelemetrySignal::Logs,
        "/v1/metrics" => TelemetrySignal::Metrics,
        _ => return refuse(StatusCode::NOT_FOUND, "unknown path; /v1/traces, /v1/logs and /v1/metrics are taken"),
    };
    if *request.method() != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST is taken");
    }
    let Some(encoding) = encoding else {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the type must be application/x-protobuf or application/json");
    };
    let packed = match request.headers().get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity" | b"") => false,
        Some(b"gzip") => true,
        Some(_) => return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the only content encoding that is taken is gzip"),
    };
    let Ok(_place) = receiver.requests.try_acquire() else {
        return refuse(StatusCode::TOO_MANY_REQUESTS, "too many requests at once");
    };
    let read = tokio::time::timeout(TIMEOUT, Limited::new(request.into_body(), MAX_BODY).collect());
    let body = match active.while_waiting(read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"),
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come"),
    };
    let kept = Arc::clone(&receiver);
    let work = move || {
        let body = if packed { unpack(&body)? } else { body.to_vec() };
        let decoded = decode(signal, encoding, &body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        // A panic elsewhere leaves the files as they are.
        let mut writer = kept.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer
            .append(&decoded.records)
            .map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, format!("the records cannot be written: {error}")))
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err((StatusCode::INTERNAL_SERVER_ERROR, "the request could not be handled".to_owned())))
}

/// Refuses what a browser sends for a page.
fn check_sender(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if !matches!(name, "127.0.0.1" | "localhost" | "[::1]") {
        return Err((StatusCode::FORBIDDEN, "the host must be 127.0.0.1 or localhost".to_owned()));
    }
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return Err((StatusCode::FORBIDDEN, "pages in a browser cannot send here".to_owned()));
    }
    Ok(())
}

fn unpack(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let most = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(body)
        .take(most + 1)
        .read_to_end(&mut out)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("invalid gzip: {error}")))?;
    if out.len() > MAX_BODY {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "the unpacked body is too long".to_owned()));
    }
    Ok(out)
}
