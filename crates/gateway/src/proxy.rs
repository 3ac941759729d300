//! One request to a service: it waits for one that is starting, goes to another copy where the first refuses the connection, and
//! is streamed in both directions.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::connection_pool::UpstreamBody;
use super::own_response::Problem;
use super::proxy_headers::{self, Sender};
use super::request_body::{BodyLimits, RequestBody};
use super::request_path;
use super::response_body::{ResponseBody, empty};
use super::tunnel;
use super::upstream_client::{SendError, UpstreamClient};
use super::upstreams::{Choice, CopyAddress, Lease, Unavailable, Upstreams};

/// A service that is up and refuses connections has just died, or does not listen yet: its state is known in a moment.
const REFUSED_FOR: Duration = Duration::from_secs(1);
const REFUSED_RETRY: Duration = Duration::from_millis(50);
/// What a client still sends after it was refused is read for this long, so that it reads the response.
const DRAIN: Duration = Duration::from_secs(5);

/// Where a request goes.
pub(crate) struct Destination<'a> {
    pub service: &'a str,
    pub port: &'a str,
    pub strip: Option<&'a str>,
    pub max_body: Option<u64>,
    /// How long it waits for a service that is starting.
    pub wait: Duration,
    /// How long its client may send nothing in the middle of the body.
    pub body_pause: Duration,
}

/// A response from a service, and the copy that gave it; the copy is busy until its body has ended.
pub(crate) struct Proxied {
    pub response: Response<ResponseBody>,
    pub address: Arc<CopyAddress>,
    /// Absent after a change of protocol, where the tunnel has it.
    pub lease: Option<Lease>,
}

/// What an attempt is made of; each gets its own copy.
struct Outgoing {
    method: Method,
    path: PathAndQuery,
    version: Version,
    headers: HeaderMap,
    body: RequestBody,
}

impl Outgoing {
    fn request(&self, authority: &str) -> Result<Request<RequestBody>, http::Error> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone().into();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        if self.version == Version::HTTP_11 && !self.headers.contains_key(header::HOST) {
            request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority)?);
        }
        Ok(request)
    }
    /// Whether it may be sent a second time after a service got it: it asks for something and brings nothing.
    fn is_repeatable(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS) && self.body.is_end_stream()
    }
}

/// Sends a request to a service.
pub(crate) async fn forward(
    upstreams: &Upstreams,
    client: &UpstreamClient,
    destination: &Destination<'_>,
    sender: &Sender<'_>,
    mut request: Request<Incoming>,
) -> Result<Proxied, Problem> {
    let length = request.body().size_hint().lower();
    if destination.max_body.is_some_and(|limit| length > limit) {
        let body = RequestBody::new(request.into_body(), BodyLimits::default());
        return Err(too_large(destination, body));
    }
    let protocol = proxy_headers::upgrade_of(request.headers()).filter(|_| request.version() == Version::HTTP_11);
    let upgrade = protocol.is_some().then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let is_grpc = is_grpc(&parts.headers, parts.version);
    // A gRPC stream is a conversation, in which one side may have nothing to say for hours.
    let limits = BodyLimits { size: destination.max_body, pause: (!is_grpc).then_some(destination.body_pause) };
    let outgoing = Outgoing {
        path: path_of(&parts.uri, destination.strip)?,
        version: if is_grpc { Version::HTTP_2 } else { Version::HTTP_11 },
        method: parts.method,
        headers: outgoing_headers(parts.headers, parts.version, sender, protocol.as_ref()),
        body: RequestBody::new(body, limits),
    };
    let (response, lease) = attempts(upstreams, client, destination, &outgoing).await?;
    finish(response, lease, protocol, upgrade, destination)
}

async fn attempts(
    upstreams: &Upstreams,
    client: &UpstreamClient,
    destination: &Destination<'_>,
    outgoing: &Outgoing,
) -> Result<(Response<UpstreamBody>, Lease), Problem> {
    let service = destination.service;
    // Asked for when there is something to wait for; what was chosen before that is chosen once more.
    let mut changes = None;
    let deadline = Instant::now() + destination.wait;
    let mut refused_until = None;
    let mut tried: Vec<Arc<str>> = Vec::new();
    let mut is_repeated = false;
    loop {
        let why = match upstreams.choose(service, destination.port, &tried) {
            Choice::Use(lease) => {
                let request = outgoing.request(&lease.address.authority).map_err(|error| Problem {
                    reason: Some(error.to_string()),
                    ..Problem::new(StatusCode::BAD_REQUEST, "the request cannot be sent on")
                })?;
                let error = match client.send(&lease.address.authority, request).await {
                    Ok(response) => return Ok((response, lease)),
                    Err(error) => error,
                };
                if outgoing.body.is_too_large() {
                    return Err(too_large(destination, outgoing.body.clone()));
                }
                if outgoing.body.is_too_slow() {
                    let pause = devrun_model::duration::format(destination.body_pause);
                    let message = format!("the client sent nothing more of the request body for {pause}");
                    return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, message));
                }
                if outgoing.body.is_broken() {
                    let message = "the request body is malformed, or the client closed the connection before its end";
                    return Err(Problem::new(StatusCode::BAD_REQUEST, message));
                }
                // Nothing of it has reached anybody.
                if error.is_unsent && !outgoing.body.is_touched() {
                    tried.push(Arc::clone(&lease.address.authority));
                    continue;
                }
                if !is_repeated && outgoing.is_repeatable() {
                    is_repeated = true;
                    // Another copy first: this one may be dying.
                    tried.push(Arc::clone(&lease.address.authority));
                    continue;
                }
                return Err(broken(service, &error));
            }
            Choice::Exhausted(why) => {
                let until = *refused_until.get_or_insert_with(|| (Instant::now() + REFUSED_FOR).min(deadline));
                if Instant::now() >= until {
                    let reason = why.reason.unwrap_or_else(|| "it refuses connections".to_owned());
                    return Err(Problem::of_service(StatusCode::BAD_GATEWAY, service, &why.state, Some(reason)));
                }
                tried.clear();
                tokio::select! {
                    () = changes.get_or_insert_with(|| upstreams.changes()).next() => {}
                    () = tokio::time::sleep(REFUSED_RETRY) => {}
                }
                continue;
            }
            Choice::Wait(why) => why,
            Choice::Down(Unavailable { state, reason }) => {
                return Err(Problem::of_service(StatusCode::BAD_GATEWAY, service, &state, reason));
            }
            Choice::Unknown => {
                return Err(Problem::of_service(StatusCode::BAD_GATEWAY, service, "not part of this run", None));
            }
        };
        // A copy that starts anew is asked anew.
        tried.clear();
        refused_until = None;
        let Some(changes) = &mut changes else {
            changes = Some(upstreams.changes());
            continue;
        };
        tokio::select! {
            () = changes.next() => {}
            () = tokio::time::sleep_until(deadline) => {
                let waited = format!("it was not ready within {}s", destination.wait.as_secs());
                let reason = Some(why.reason.map_or(waited.clone(), |reason| format!("{waited}: {reason}")));
                return Err(Problem::of_service(StatusCode::SERVICE_UNAVAILABLE, service, &why.state, reason));
            }
        }
    }
}

fn finish(
    mut response: Response<UpstreamBody>,
    mut lease: Lease,
    protocol: Option<HeaderValue>,
    client: Option<OnUpgrade>,
    destination: &Destination<'_>,
) -> Result<Proxied, Problem> {
    let address = Arc::clone(&lease.address);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(asked), Some(client)) = (protocol, client) else {
            return Err(Problem::new(
                StatusCode::BAD_GATEWAY,
                format!("service `{}` changed the protocol without being asked", destination.service),
            ));
        };
        let upstream = hyper::upgrade::on(&mut response);
        let protocol = response.headers().get(header::UPGRADE).cloned().unwrap_or(asked);
        proxy_headers::remove_hop_by_hop(response.headers_mut(), Some(&protocol));
        lease.without_end();
        tunnel::join(client, upstream, lease);
        return Ok(Proxied { response: response.map(|_| empty()), address, lease: None });
    }
    proxy_headers::remove_hop_by_hop(response.headers_mut(), None);
    // Each side has a version of its own.
    *response.version_mut() = Version::default();
    Ok(Proxied { response: response.map(ResponseBody::Upstream), address, lease: Some(lease) })
}

/// A body over the limit. What the client still sends is read for a while: to one that finds its connection reset while it is
/// writing the response is lost (RFC 9112, 9.6).
fn too_large(destination: &Destination<'_>, mut body: RequestBody) -> Problem {
    body.lift_limit();
    tokio::spawn(async move {
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        // A client that goes on for longer has its connection closed.
        let _late = tokio::time::timeout(DRAIN, rest).await;
    });
    let limit = devrun_model::ByteSize(destination.max_body.unwrap_or_default());
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request body is larger than max_body, {limit}"))
}

fn broken(service: &str, error: &SendError) -> Problem {
    Problem {
        message: format!("service `{service}` broke the connection"),
        ..Problem::of_service(StatusCode::BAD_GATEWAY, service, "running", Some(error.reason()))
    }
}

fn is_grpc(headers: &HeaderMap, version: Version) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    version == Version::HTTP_2 && kind.starts_with("application/grpc")
}

fn path_of(uri: &Uri, strip: Option<&str>) -> Result<PathAndQuery, Problem> {
    let whole = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let Some(strip) = strip else { return Ok(whole) };
    let rest = match whole.as_str().strip_prefix(strip) {
        Some(rest) => rest.to_owned(),
        // The route was chosen by the normalized path, where `/%76%31/x` and `//v1/x` are `/v1/x`. As with the `proxy_pass` of nginx the
        // service then gets the rest of that one.
        None => {
            let normalized = request_path::normalize(whole.path()).unwrap_or_else(|_| whole.path().into());
            let Some(rest) = normalized.strip_prefix(strip) else { return Ok(whole) };
            whole.query().map_or_else(|| rest.to_owned(), |query| format!("{rest}?{query}"))
        }
    };
    let text = if rest.starts_with('/') { rest } else { format!("/{rest}") };
    text.parse().map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "invalid path after the prefix"))
}

fn outgoing_headers(mut headers: HeaderMap, version: Version, sender: &Sender<'_>, protocol: Option<&HeaderValue>) -> HeaderMap {
    let is_grpc = is_grpc(&headers, version);
    proxy_headers::for_upstream(&mut headers, sender, protocol);
    if is_grpc {
        // `:authority` is the service's own; two hosts that differ would be refused.
        headers.remove(header::HOST);
    } else if let Some(host) = sender.host_header(&headers) {
        headers.insert(header::HOST, host);
    }
    // HTTP/2 may split a cookie, HTTP/1.1 must not (RFC 9113, 8.2.3).
    if headers.get_all(header::COOKIE).iter().nth(1).is_some() {
        let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
            headers.insert(header::COOKIE, joined);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_stripped_and_the_query_kept() {
        for (uri, strip, sent) in [
            ("/api/x?q=1", None, "/api/x?q=1"),
            ("/api/x?q=1", Some("/api"), "/x?q=1"),
            ("/api", Some("/api"), "/"),
            ("/api?q", Some("/api"), "/?q"),
            ("/api//evil", Some("/api"), "//evil"),
            ("/other", Some("/api"), "/other"),
            ("/%61p%69/x%20y?q=%61", Some("/api"), "/x%20y?q=%61"),
            ("//api/x", Some("/api"), "/x"),
            ("/%61pi", Some("/api"), "/"),
            ("/api%2fx", Some("/api/"), "/api%2fx"),
        ] {
            assert_eq!(path_of(&uri.parse().unwrap(), strip).unwrap().as_str(), sent, "{uri} {strip:?}");
        }
    }
}
