//! Connections and paths. Every connection is accepted; of those that wait for a request, or for the rest of one, the oldest gives way
//! when there are too many, so that clients that send nothing keep no one out.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use devrun_connections::{ActiveRequest, ClientConnection, ClientConnections, HeldBody};
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::api::{ActRequest, ApiError, ApiRequest, LogsQuery, StackAction, StackApi};
use super::assets;
use super::guard::{Access, Guard, WebRefusal};
use super::metrics;
use super::terminal::{self, TerminalMessage, Terminals};

/// Connections that wait at once; a page has at most six.
const MOST_WAITING: usize = 64;
/// Requests in progress at once, streams of events among them.
const MOST_ACTIVE: usize = 64;
/// For a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request head.
const MAX_HEAD: usize = 32 * 1024;
/// Bytes of a body.
const MAX_BODY: usize = 16 * 1024;
/// For a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A bound server.
#[derive(Debug)]
pub struct WebServer {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
}

impl WebServer {
    /// Binds a port of loopback; 0: any.
    ///
    /// # Errors
    /// As the system says.
    pub async fn bind(port: u16, token: String) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, token })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address to open. The token is behind the `#`, which browsers keep to themselves.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/#token={}", self.address, self.token)
    }
}

/// What all connections share.
struct Shared {
    guard: Guard,
    stack: Arc<dyn StackApi>,
    terminals: Arc<Terminals>,
    requests: Semaphore,
}

/// Serves until it is dropped.
pub async fn serve(server: WebServer, stack: Arc<dyn StackApi>) {
    let guard = Guard::new(server.port(), server.token.clone());
    let shared = Arc::new(Shared { guard, stack, terminals: Arc::default(), requests: Semaphore::new(MOST_ACTIVE) });
    let connections = ClientConnections::new(MOST_WAITING);
    loop {
        match server.listener.accept().await {
            Ok((stream, _)) => {
                let (shared, connection) = (Arc::clone(&shared), connections.open());
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve_connection(stream, shared, Arc::clone(&connection)) => {}
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
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>, connection: Arc<ClientConnection>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, active) = (Arc::clone(&shared), connection.begin());
        async move {
            let Ok(place) = shared.requests.try_acquire() else {
                return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once"));
            };
            place.forget();
            let place = RequestPlace { active, shared: Arc::clone(&shared) };
            let response = answer(request, &shared, &place.active).await;
            // It is in progress until its body has been taken, which of a stream is its end.
            Ok::<_, Infallible>(response.map(|body| HeldBody::new(body, place).boxed_unsync()))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off or sends what is not HTTP has had its answer.
    let _broken = connection.await;
}

/// A request's place among those in progress, until it is dropped.
struct RequestPlace {
    active: ActiveRequest,
    shared: Arc<Shared>,
}

impl Drop for RequestPlace {
    fn drop(&mut self) {
        self.shared.requests.add_permits(1);
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared, active: &ActiveRequest) -> Response<Body> {
    let head = request.method() == Method::HEAD;
    let mut response = match route(request, shared, active).await {
        Ok(response) => response,
        Err(refusal) => plain(refusal.status, refusal.reason),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("cache-control", "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if head {
        *response.body_mut() = full(Bytes::new());
    }
    response
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn route(request: Request<Incoming>, shared: &Shared, active: &ActiveRequest) -> Result<Response<Body>, WebRefusal> {
    let Shared { guard, stack, terminals, .. } = shared;
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let target = parts.uri.path_and_query().map_or(path.as_str(), http::uri::PathAndQuery::as_str);
    let access = match path.as_str() {
        "/login" => Access::Login,
        "/api/act" | "/api/keys" => Access::Change,
        "/metrics" | "/api/status" | "/api/graph" | "/api/events" | "/api/service" | "/api/logs" | "/api/telemetry"
        | "/api/stream" | "/api/terminal" => Access::Token,
        // What is not there is looked for only after the checks, so that a stranger learns nothing.
        _ => Access::Open,
    };
    // Of a request in absolute form the host is that of the target (RFC 9112, 3.2.2), whatever its Host says.
    guard.check_authority(parts.uri.authority().map(http::uri::Authority::as_str))?;
    guard.check(&parts.method, target, &parts.headers, access)?;
    let query = parts.uri.query().unwrap_or_default();
    match path.as_str() {
        "/login" => {
            let login: Login = json_body(body, active).await?;
            if !guard.is_token(&login.token) {
                return Err(WebRefusal { status: StatusCode::UNAUTHORIZED, reason: "the token is wrong" });
            }
            let mut response = plain(StatusCode::OK, "");
            let cookie = HeaderValue::from_str(&guard.cookie()).map_err(|_| WebRefusal {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                reason: "the token is not a valid header",
            })?;
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            Ok(response)
        }
        "/api/act" => {
            let act: ActRequest = json_body(body, active).await?;
            let is_scale = act.action == StackAction::Scale;
            if is_scale != act.replicas.is_some() || is_scale && act.service.is_empty() {
                return Err(WebRefusal {
                    status: StatusCode::BAD_REQUEST,
                    reason: "scale, and nothing else, needs a number of copies",
                });
            }
            Ok(json(stack.ask(ApiRequest::Act(act)).await))
        }
        "/api/keys" => {
            let message: TerminalMessage = json_body(body, active).await?;
            if !terminals.send(message).await {
                return Err(WebRefusal { status: StatusCode::GONE, reason: "this terminal is closed" });
            }
            Ok(plain(StatusCode::OK, ""))
        }
        "/api/terminal" => {
            let (service, size) = terminal_query(query)?;
            if !terminals.has_place() {
                return Err(WebRefusal { status: StatusCode::SERVICE_UNAVAILABLE, reason: "too many terminals are open" });
            }
            Ok(match stack.attach(service, size).await {
                Ok(ends) => {
                    let mut response = Response::new(StreamBody::new(terminals.updates(ends, size)).boxed_unsync());
                    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
                    response
                }
                Err(error) => json(Err(error)),
            })
        }
        "/api/status" => Ok(json(stack.ask(ApiRequest::Status).await)),
        "/api/graph" => Ok(json(stack.ask(ApiRequest::Graph).await)),
        "/api/events" => Ok(json(stack.ask(ApiRequest::Events).await)),
        "/api/service" => Ok(json(stack.ask(ApiRequest::Service(parameter(query, "name"))).await)),
        "/api/logs" => Ok(json(stack.ask(ApiRequest::Logs(logs_query(query)?)).await)),
        "/api/telemetry" => Ok(json(stack.ask(ApiRequest::Telemetry).await)),
        "/api/stream" => Ok(events(stack)),
        "/metrics" => Ok(match stack.metrics().await {
            Ok((is_up, services)) => {
                let mut response = plain(StatusCode::OK, metrics::text(is_up, &services));
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, error.reason),
        }),
        path => match assets::find(path) {
            Some(asset) => {
                let mut response = Response::new(full(Bytes::from_static(asset.bytes)));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
                Ok(response)
            }
            None => Err(WebRefusal { status: StatusCode::NOT_FOUND, reason: "unknown page" }),
        },
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

async fn json_body<T: for<'a> Deserialize<'a>>(body: Incoming, active: &ActiveRequest) -> Result<T, WebRefusal> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect());
    let bytes = match active.while_waiting(read).await {
        Ok(Ok(bytes)) => bytes.to_bytes(),
        Ok(Err(_)) => return Err(WebRefusal { status: StatusCode::PAYLOAD_TOO_LARGE, reason: "the body is too long" }),
        Err(_) => return Err(WebRefusal { status: StatusCode::REQUEST_TIMEOUT, reason: "the body did not come" }),
    };
    serde_json::from_slice(&bytes)
        .map_err(|_| WebRefusal { status: StatusCode::BAD_REQUEST, reason: "the body is not understood" })
}

/// The pairs of a query, decoded.
fn pairs(query: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| decode(&text.replace('+', " "));
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            pair.split_once('=').map_or_else(|| (decoded(pair), String::new()), |(name, value)| (decoded(name), decoded(value)))
        })
        .collect()
}

/// Percent-decoded; what is not an escape stays.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match escape.filter(|_| *byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn parameter(query: &str, name: &str) -> String {
    pairs(query).into_iter().find(|(given, _)| given == name).map(|(_, value)| value).unwrap_or_default()
}

fn logs_query(query: &str) -> Result<LogsQuery, WebRefusal> {
    let bad = |_| WebRefusal { status: StatusCode::BAD_REQUEST, reason: "a number is needed" };
    let mut found = LogsQuery::default();
    for (name, value) in pairs(query) {
        match name.as_str() {
            "service" => found.service = value,
            "at" => found.at = value,
            "time" => found.time = Some(value.parse().map_err(bad)?),
            "older" => found.older = value.parse().map_err(bad)?,
            "newer" => found.newer = value.parse().map_err(bad)?,
            "filter" => found.filter = value,
            "search" => found.search = value,
            "forward" => found.forward = value == "true",
            _ => return Err(WebRefusal { status: StatusCode::BAD_REQUEST, reason: "an unknown parameter" }),
        }
    }
    Ok(found)
}

/// The service and the size of a window.
fn terminal_query(query: &str) -> Result<(String, (u16, u16)), WebRefusal> {
    let bad = |_| WebRefusal { status: StatusCode::BAD_REQUEST, reason: "a number is needed" };
    let (mut service, mut columns, mut rows) = (String::new(), 80, 24);
    for (name, value) in pairs(query) {
        match name.as_str() {
            "service" => service = value,
            "columns" => columns = value.parse().map_err(bad)?,
            "rows" => rows = value.parse().map_err(bad)?,
            _ => return Err(WebRefusal { status: StatusCode::BAD_REQUEST, reason: "an unknown parameter" }),
        }
    }
    Ok((service, terminal::fitting((columns, rows))))
}

/// Server-sent events: numbers that count up. A slow browser gets the last one, and nothing waits for it.
fn events(stack: &Arc<dyn StackApi>) -> Response<Body> {
    let changes = stack.changes();
    let first = *changes.borrow();
    let notices = stream::unfold((changes, Some(first)), |(mut changes, first)| async move {
        let counts = match first {
            Some(counts) => counts,
            None => {
                changes.changed().await.ok()?;
                *changes.borrow_and_update()
            }
        };
        let counts = serde_json::to_string(&counts).unwrap_or_default();
        let frame = Frame::data(Bytes::from(format!("data: {counts}\n\n")));
        Some((Ok::<_, Infallible>(frame), (changes, None)))
    });
    let mut response = Response::new(StreamBody::new(notices).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed_unsync()
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut text = text.into();
    text.push('\n');
    let mut response = Response::new(full(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(found: Result<String, ApiError>) -> Response<Body> {
    let (status, text) = match found {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => {
            let status = if error.is_usage { StatusCode::BAD_REQUEST } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, serde_json::json!({ "error": error.reason }).to_string())
        }
    };
    let mut response = plain(status, text);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let found = logs_query("service=api&older=10&filter=a%26b+c%2&search=%C3%A9&forward=true&time=-5").unwrap();
        let expected = LogsQuery {
            service: "api".to_owned(),
            older: 10,
            filter: "a&b c%2".to_owned(),
            search: "é".to_owned(),
            forward: true,
            time: Some(-5),
            ..LogsQuery::default()
        };
        assert_eq!(found, expected);
        assert!(logs_query("older=many").is_err() && logs_query("file=/etc/passwd").is_err());
    }
}
