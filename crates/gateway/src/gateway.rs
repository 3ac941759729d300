//! What requests share, and the way of each: checked, normalised, routed, followed. `gateway_client` answers them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use devrun_model::{GatewaySpec, Route, RoutePattern, RouteTarget};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::access_log::{AccessLine, AccessLog};
use super::certificates::{self, Certificates};
use super::client_peer::Peer;
use super::own_response::{Problem, redirect, reply};
use super::proxy::{self, Destination};
use super::proxy_headers::Sender;
use super::request_path;
use super::response_body::ResponseBody;
use super::route_counts::RouteCounts;
use super::route_table::RouteTable;
use super::static_files::{self, FileRequest};
use super::upstream_client::UpstreamClient;
use super::upstreams::{CopyAddress, Lease, Upstreams};

/// How long a request waits for a service that is starting.
const WAIT: Duration = Duration::from_secs(10);
/// How long a client may send nothing in the middle of a request body.
const BODY_PAUSE: Duration = Duration::from_secs(60);

/// Everything that requests share.
pub struct Gateway {
    spec: GatewaySpec,
    routes: RouteTable,
    /// By host, in lower case: the whole of a service.
    names: BTreeMap<Arc<str>, Route>,
    /// Set on every response; `None` removes.
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
    upstreams: Arc<Upstreams>,
    log: AccessLog,
    counts: Arc<RouteCounts>,
    in_progress: InProgress,
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

impl InProgress {
    pub(crate) fn begin(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }
    pub(crate) fn end(&self) {
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.none.notify_waiters();
        }
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

/// Where a request goes.
pub(crate) struct Routed<'g, 'r> {
    route: &'g Route,
    /// What the log calls the route: its path, or the host that stands for a service.
    pub label: &'g Arc<str>,
    host: Option<Authority>,
    /// As routes see it.
    path: Cow<'r, str>,
}

/// A response and what is written down about it.
pub(crate) struct Answered {
    pub response: Response<ResponseBody>,
    pub upstream: Option<Arc<CopyAddress>>,
    pub lease: Option<Lease>,
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
            (Arc::from(host.as_str()), Route { path: everything.clone(), target, max_body: None })
        });
        Ok(Self {
            names: names.collect(),
            routes: RouteTable::new(spec.routes.iter().cloned()),
            spec,
            headers,
            upstreams,
            log,
            counts,
            in_progress: InProgress::default(),
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

    /// Sets the headers of every response.
    pub(crate) fn set_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(name),
            };
        }
    }

    pub(crate) fn log(&self) -> &AccessLog {
        &self.log
    }

    pub(crate) fn counts(&self) -> &RouteCounts {
        &self.counts
    }

    /// The route of a request.
    pub(crate) fn route<'r>(&self, peer: &Peer, request: &Request<Incoming>, path: &'r str) -> Result<Routed<'_, 'r>, Problem> {
        let host = super::request_check::check(request).map_err(|refusal| Problem::new(refusal.status, refusal.reason))?;
        if self.tls.is_some() && !peer.is_secure {
            return Err(wrong_protocol(request, host.as_ref().map(Authority::as_str)));
        }
        let path = request_path::normalize(path).map_err(|bad| Problem::new(StatusCode::BAD_REQUEST, bad.reason()))?;
        // To others a name would open services that no route leads to.
        let name = host.as_ref().filter(|_| peer.is_local).map(|host| name_of(host.as_str()));
        if let Some((label, route)) = name.and_then(|name| self.names.get_key_value(&*name)) {
            return Ok(Routed { route, label, host, path });
        }
        match self.routes.find(&path) {
            Some((route, label)) => Ok(Routed { route, label, host, path }),
            None => Err(Problem {
                command: Some("devrun routes".into()),
                ..Problem::new(StatusCode::NOT_FOUND, format!("no route leads to {path}"))
            }),
        }
    }

    /// The response of what a route leads to.
    pub(crate) async fn follow(
        &self,
        client: &UpstreamClient,
        routed: &Routed<'_, '_>,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> Result<Answered, Problem> {
        let own = |response| Answered { response, upstream: None, lease: None };
        let Routed { route, path, .. } = routed;
        match &route.target {
            RouteTarget::Reply { status } => Ok(own(reply(*status))),
            RouteTarget::Redirect { to } => {
                let rest = path.strip_prefix(route.path.base()).unwrap_or(&**path);
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
                // On the heap: it would make the future of every request larger.
                Box::pin(static_files::serve(root, fallback.as_deref(), &asked)).await.map(own)
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
                let host = routed.host.as_ref().map(Authority::as_str);
                let sender = Sender { peer, host, stripped: strip.as_deref() };
                let proxied = proxy::forward(&self.upstreams, client, &destination, &sender, request).await?;
                Ok(Answered { response: proxied.response, upstream: Some(proxied.address), lease: proxied.lease })
            }
        }
    }

    /// The response to a request that cannot be followed.
    pub(crate) fn refuse(&self, problem: &Problem, is_json: bool, line: &AccessLine) -> Answered {
        if problem.status.is_server_error() {
            let (status, reason) = (problem.status.as_u16(), problem.line());
            self.log.error(format!("{} {}: {status}: {reason}", line.method, line.path));
        }
        let mut response = problem.response(is_json);
        if problem.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(location) = problem.location.as_deref().and_then(|location| HeaderValue::from_str(location).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Answered { response, upstream: None, lease: None }
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

/// A host without its port, as names are kept.
fn name_of(host: &str) -> Cow<'_, str> {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host, |(name, _)| name);
    let name = name.trim_end_matches('.');
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
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
