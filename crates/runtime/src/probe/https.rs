//! `http` over TLS, through reqwest with rustls. A certificate on loopback is not checked: it is the service's own, made
//! for development, and what a probe asks is whether it answers. Anywhere else it is.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Instant;

use super::connect::{OwnershipGate, connect};
use super::http_reply::{HttpExpectation, HttpReply, MOST_BODY, judge};
use super::result::{ProbeError, ProbeResult, unusable};
use devrun_model::Failure;
use devrun_model::ready::Endpoint;

/// A client for one endpoint; making one reads the system's certificates, so it is kept.
pub(super) fn client(at: &Endpoint) -> Result<reqwest::Client, Failure> {
    // Whoever comes first installs it; that it is there already is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let loopback = at.host == "localhost" || at.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .tls_danger_accept_invalid_certs(loopback)
        .user_agent(concat!("devrun/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| {
            unusable(
                format!("https cannot be spoken here: {}", reason(&error)),
                "install the system's certificates (`apt install ca-certificates`)",
            )
        })
}

/// The check.
pub(super) async fn check(
    client: &reqwest::Client,
    at: &Endpoint,
    want: &HttpExpectation<'_>,
    gate: Option<&OwnershipGate>,
) -> ProbeResult {
    let began = Instant::now();
    // The cheap stage, and whose listener it is; the client makes a connection of its own.
    let note = connect(at, gate).await?.note;
    let most = if want.body.is_some() { MOST_BODY } else { 0 };
    let reply = exchange(client, at, want, most).await?;
    judge(&reply, want, began.elapsed()).map(|hit| hit.note(note))
}

/// One GET, with at most so much of the body.
pub(super) async fn exchange(
    client: &reqwest::Client,
    at: &Endpoint,
    want: &HttpExpectation<'_>,
    most: usize,
) -> Result<HttpReply, ProbeError> {
    let mut request = client.get(format!("https://{at}{}", want.path));
    for (name, value) in want.headers {
        request = request.header(name, value);
    }
    let mut response = request.send().await.map_err(|error| ProbeError::new(reason(&error)))?;
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let mut reply = HttpReply { status: response.status().as_u16(), headers, body: Vec::new() };
    while reply.body.len() < most {
        match response.chunk().await.map_err(|error| ProbeError::new(reason(&error)))? {
            Some(bytes) => reply.body.extend_from_slice(&bytes[..bytes.len().min(most - reply.body.len())]),
            None => break,
        }
    }
    Ok(reply)
}

/// The innermost cause: the outer ones only say that a request failed.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.source().is_none() { error.to_string() } else { format!("no answer over TLS: {cause}") }
}
