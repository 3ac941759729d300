//! A request is answered, and written down when its response has ended.

use std::sync::Arc;

use http::header::{self, HeaderMap};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::client_peer::Peer;
use super::gateway::Gateway;
use super::own_response::wants_json;
use super::request_record::{RecordedBody, RequestRecord};
use super::route_check;
use super::upstream_client::UpstreamClient;

/// The client of one connection, and what its requests use: the gateway with all others, the upstream connections of its thread.
pub(crate) struct GatewayClient {
    pub gateway: Arc<Gateway>,
    pub client: Arc<UpstreamClient>,
    pub peer: Peer,
}

impl GatewayClient {
    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<RecordedBody> {
        let Self { gateway, client, peer } = self;
        let mut record = RequestRecord::begin(Arc::clone(gateway), &request);
        let is_check = peer.is_local && request.headers().contains_key(route_check::ASKED);
        let is_json = wants_json(request.headers());
        let uri = request.uri().clone();
        let mut route = None;
        let answered = match gateway.route(peer, &request, uri.path()) {
            Ok(routed) => {
                route = Some(routed.label);
                gateway.follow(client, &routed, peer, request).await
            }
            Err(problem) => Err(problem),
        };
        let answered = answered.unwrap_or_else(|problem| gateway.refuse(&problem, is_json, &record.line));
        let mut response = answered.response;
        let headers = response.headers_mut();
        gateway.set_headers(headers);
        if is_check {
            let name = answered.upstream.as_ref().map(|copy| copy.name.as_str());
            route_check::mark(headers, route.map(|route| &**route), name);
        }
        record.line.route = route.cloned();
        record.line.upstream = answered.upstream;
        record.line.status = response.status().as_u16();
        record.lease = answered.lease;
        if is_event_stream(response.headers()) {
            record.without_end();
        } else if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            record.count();
        }
        response.map(|body| RecordedBody::new(body, record))
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let event_stream = "text/event-stream";
    kind.trim_start().get(..event_stream.len()).is_some_and(|start| start.eq_ignore_ascii_case(event_stream))
}
