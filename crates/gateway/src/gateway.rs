//! A request's way: checked, normalised, routed, answered, and written down when its response has ended.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use devrun_model::{GatewaySpec, Route, RoutePattern, RouteTarget};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::access_log::{AccessLine, AccessLog};
use super::body::{ResponseBody, TrackedBody};
use super::certificates::{self, Certificates};
use super::own_response::{Problem, redirect, reply, wants_json};
use super::proxy::{self, Destination};
use super::proxy_headers::Sender;
use super::request_path;
use super::route_check;
use super::route_counts::RouteCounts;
use super::route_table::RouteTable;
use super::static_files::{self, FileRequest};
use super::upstream_client::UpstreamClient;
use super::upstreams::{Lease, Upstreams};

/// How long a request waits for a service that is starting.
const WAIT: Duration = Duration::from_secs(10);
/// How long a client may send nothing in the middle of a request body.
const BODY_PAUSE: Duration = Duration::from_secs(60);

/// Everything that requests share.
pub struct Gateway {
    spec: GatewaySpec,
    routes: RouteTable,
    /// By host, in lower case: the whole of a service.
    names: BTreeMap<String, Route>,
    /// Set on every response; `None` removes.
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
    upstreams: Arc<Upstreams>,
    log: AccessLog,
    counts: Arc<RouteCounts>,
    in_progress: Arc<InProgress>,
    /// Where it serves HTTPS.
    tls: Option<TlsAcceptor>,
    /// How long a client may send nothing in the middle of a request body.
    pub(crate) body_pause: Duration,
}

/// Responses that have not ended, for the orderly end.
#[derive(Debug, Default)]
pub(crate) struct InProgress {
    count: AtomicUsize,
    none: Notify,
}

struct Busy(Arc<InProgress>);

impl InProgress {
    fn begin(self: &Arc<Self>) -> Busy {
        self.count.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(self))
    }
    /// Returns when there is none.
    pub(crate) async fn over(&self) {
        loop {
            let none = self.none.notified();
            tokio::pin!(none);
            none.as_mut().enable();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

/// A request whose client left before there was a response is written down with nginx's status for it.
struct Unanswered<'l> {
    log: &'l AccessLog,
    counts: &'l RouteCounts,
    began: Instant,
    line: Option<(jiff::Timestamp, String, String)>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some((at, method, path)) = self.line.take() {
            let took = self.began.elapsed();
            self.counts.count(None, 499, took);
            self.log.access(AccessLine { at, method, path, route: None, upstream: None, status: 499, took, bytes: 0 });
        }
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub address: IpAddr,
    /// It is on this machine.
    pub is_local: bool,
    /// It speaks TLS with the gateway.
    pub is_secure: bool,
}

/// Where a request goes.
struct Routed<'g> {
    route: &'g Route,
    /// What the log calls the route: its path, or the host that stands for a service.
    label: String,
    host: Option<String>,
    /// As routes see it.
    path: String,
}

/// A response and what is written down about it.
struct Answered {
    response: Response<ResponseBody>,
    route: Option<String>,
    upstream: Option<(String, String)>,
    lease: Option<Lease>,
}

impl Gateway {
    /// A gateway with these routes.
    ///
    /// # Errors
    /// A sentence's fragment, when a header cannot be one or no certificate can be made.
    pub fn new(spec: GatewaySpec, upstreams: Arc<Upstreams>, log: AccessLog, counts: Arc<RouteCounts>) -> Result<Self, String> {
        let mut headers = Vec::new();
        for (name, value) in &spec.headers {
            let parsed = name.parse::<HeaderName>().map_err(|_| format!("invalid header name {name:?}"))?;
            let value = match value.as_str() {
                "" => None,
                text => Some(HeaderValue::from_str(text).map_err(|_| format!("invalid value of the header {name}"))?),
            };
            headers.push((parsed, value));
        }
        let everything = RoutePattern::parse("/").map_err(|(message, _)| message)?;
        let tls = spec.tls.as_ref().map(|tls| {
            let certificates = Certificates::new(tls, log.clone(), jiff::Timestamp::now)?;
            let config = certificates::server_config(certificates).map_err(|error| format!("cannot speak TLS: {error}"))?;
            Ok::<_, String>(TlsAcceptor::from(Arc::new(config)))
        });
        let tls = tls.transpose()?;
        let names = spec.names.iter().map(|(host, service)| {
            let target = RouteTarget::Service { service: service.clone(), port: "main".to_owned(), strip: None };
            (host.clone(), Route { path: everything.clone(), target, max_body: None })
        });
        Ok(Self {
            names: names.collect(),
            routes: RouteTable::new(spec.routes.iter().cloned()),
            spec,
            headers,
            upstreams,
            log,
            counts,
            in_progress: Arc::default(),
            tls,
            body_pause: BODY_PAUSE,
        })
    }

    pub(crate) fn in_progress(&self) -> &InProgress {
        &self.in_progress
    }

    pub(crate) fn tls(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref()
    }

    /// Answers one request; `client` sends it on.
    pub(crate) async fn answer(&self, client: &UpstreamClient, peer: Peer, request: Request<Incoming>) -> Response<ResponseBody> {
        let (began, at, busy) = (Instant::now(), jiff::Timestamp::now(), self.in_progress.begin());
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let is_check = peer.is_local && request.headers().contains_key(route_check::ASKED);
        let is_json = wants_json(request.headers());
        let mut unanswered =
            Unanswered { log: &self.log, counts: &self.counts, began, line: Some((at, method.clone(), path.clone())) };
        let mut answered = match self.route(peer, &request) {
            Ok(Routed { route, label, host, path }) => {
                let mut answered = match self.follow(client, route, peer, host.as_deref(), &path, request).await {
                    Ok(answered) => answered,
                    Err(problem) => self.refuse(&problem, is_json, &method, &path),
                };
                answered.route = Some(label);
                answered
            }
            Err(problem) => self.refuse(&problem, is_json, &method, &path),
        };
        unanswered.line = None;
        let headers = answered.response.headers_mut();
        for (name, value) in &self.headers {
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(name),
            };
        }
        if is_check {
            let name = answered.upstream.as_ref().map(|(name, _)| name.clone());
            route_check::mark(headers, answered.route.as_deref(), name.as_deref());
        }
        let line = AccessLine {
            at,
            method,
            path,
            route: answered.route,
            upstream: answered.upstream,
            status: answered.response.status().as_u16(),
            took: Duration::ZERO,
            bytes: 0,
        };
        // A stream of events has no end that could be waited for.
        let is_endless = is_event_stream(answered.response.headers());
        let busy = (!is_endless).then_some(busy);
        let (log, mut lease) = (self.log.clone(), answered.lease);
        // Of what has no end, the time until it began.
        if is_endless || line.status == StatusCode::SWITCHING_PROTOCOLS.as_u16() {
            self.counts.count(line.route.as_deref(), line.status, began.elapsed());
        }
        let counts = (!is_endless && line.status != StatusCode::SWITCHING_PROTOCOLS.as_u16()).then(|| Arc::clone(&self.counts));
        if is_endless && let Some(lease) = &mut lease {
            lease.without_end();
        }
        answered.response.map(|body| {
            TrackedBody::new(body, move |bytes| {
                let took = began.elapsed();
                if let Some(counts) = counts {
                    counts.count(line.route.as_deref(), line.status, took);
                }
                log.access(AccessLine { took, bytes, ..line });
                drop((lease, busy));
            })
            .boxed_unsync()
        })
    }

    /// The route of a request.
    fn route(&self, peer: Peer, request: &Request<Incoming>) -> Result<Routed<'_>, Problem> {
        let host = super::request_check::check(request).map_err(|refusal| Problem::new(refusal.status, refusal.reason))?;
        if self.tls.is_some() && !peer.is_secure {
            return Err(wrong_protocol(request, host.as_deref()));
        }
        let path = request_path::normalize(request.uri().path())
            .map_err(|bad| Problem::new(StatusCode::BAD_REQUEST, bad.reason()))?
            .into_owned();
        // To others a name would open services that no route leads to.
        let name = host.as_deref().filter(|_| peer.is_local).map(name_of);
        if let Some((name, route)) = name.and_then(|name| self.names.get_key_value(&name)) {
            return Ok(Routed { route, label: name.clone(), host, path });
        }
        match self.routes.find(&path) {
            Some(route) => Ok(Routed { route, label: route.path.to_string(), host, path }),
            None => Err(Problem {
                command: Some("devrun routes".into()),
                ..Problem::new(StatusCode::NOT_FOUND, format!("no route leads to {path}"))
            }),
        }
    }

    async fn follow(
        &self,
        client: &UpstreamClient,
        route: &Route,
        peer: Peer,
        host: Option<&str>,
        path: &str,
        request: Request<Incoming>,
    ) -> Result<Answered, Problem> {
        let own = |response| Answered { response, route: None, upstream: None, lease: None };
        match &route.target {
            RouteTarget::Reply { status } => Ok(own(reply(*status))),
            RouteTarget::Redirect { to } => {
                let rest = path.strip_prefix(route.path.base()).unwrap_or(path);
                Ok(own(redirect(to, rest, request.uri().query())))
            }
            RouteTarget::Files { path: root, fallback } => {
                let asked = FileRequest {
                    method: request.method(),
                    uri: request.uri(),
                    headers: request.headers(),
                    path,
                    base: route.path.base(),
                };
                static_files::serve(root, fallback.as_deref(), &asked).await.map(own)
            }
            RouteTarget::Service { service, port, strip } => {
                if let Some(upstream) = self.spec.upstreams.get(service)
                    && let Some(profile) = upstream.inactive.first()
                {
                    let reason = Some("its profile is not active".to_owned());
                    return Err(Problem {
                        command: Some(format!("devrun up --profile {profile}").into()),
                        ..Problem::of_service(StatusCode::BAD_GATEWAY, service.as_str(), "not started", reason)
                    });
                }
                let destination = Destination {
                    service: service.as_str(),
                    port,
                    strip: strip.as_deref(),
                    max_body: route.max_body.map(|size| size.0),
                    wait: WAIT,
                    body_pause: self.body_pause,
                };
                let sender = Sender {
                    peer: peer.address,
                    is_local: peer.is_local,
                    is_secure: peer.is_secure,
                    host,
                    stripped: strip.as_deref(),
                };
                let proxied = proxy::forward(&self.upstreams, client, &destination, &sender, request).await?;
                Ok(Answered { upstream: Some((proxied.name, proxied.authority)), lease: proxied.lease, ..own(proxied.response) })
            }
        }
    }

    fn refuse(&self, problem: &Problem, is_json: bool, method: &str, path: &str) -> Answered {
        if problem.status.is_server_error() {
            self.log.error(format!("{method} {path}: {}: {}", problem.status.as_u16(), problem.line()));
        }
        let mut response = problem.response(is_json);
        if problem.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(location) = problem.location.as_deref().and_then(|location| HeaderValue::from_str(location).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Answered { response, route: None, upstream: None, lease: None }
    }
}

/// HTTP where TLS is expected. A browser is sent to the right address; what would send its data a second time is not. Not for
/// good (308): the port may serve HTTP again tomorrow.
fn wrong_protocol(request: &Request<Incoming>, host: Option<&str>) -> Problem {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let location = host.filter(|_| path.starts_with('/')).map(|host| format!("https://{host}{path}"));
    let is_repeatable = matches!(*request.method(), Method::GET | Method::HEAD) && location.is_some();
    let status = if is_repeatable { StatusCode::TEMPORARY_REDIRECT } else { StatusCode::BAD_REQUEST };
    let message = "the client sent an HTTP request to an HTTPS port";
    Problem { location: location.filter(|_| is_repeatable).map(String::into_boxed_str), ..Problem::new(status, message) }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream")
}

/// A host without its port, as names are kept.
fn name_of(host: &str) -> String {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host, |(name, _)| name);
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_is_a_host_without_port_case_and_final_dot() {
        for (host, name) in [
            ("api.shop.localhost", "api.shop.localhost"),
            ("API.Shop.localhost:8080", "api.shop.localhost"),
            ("api.shop.localhost.:80", "api.shop.localhost"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(super::name_of(host), name, "{host}");
        }
    }
}
