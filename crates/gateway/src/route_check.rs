//! Asks a running gateway for a path and learns which service answered: the gateway says so to callers on its own machine that
//! send a header of ours.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devrun_model::ready::Endpoint;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Sent by who asks.
pub(crate) const ASKED: HeaderName = HeaderName::from_static("x-devrun-check");
/// The route that was taken.
const ROUTE: HeaderName = HeaderName::from_static("x-devrun-route");
/// The copy that answered; absent when the gateway did.
const SERVICE: HeaderName = HeaderName::from_static("x-devrun-service");

/// A request waits 10 s for a service that is starting.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What came of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRoute {
    /// The status of the response.
    pub status: u16,
    /// The route that was taken.
    pub route: Option<String>,
    /// The copy that answered; `None`: the gateway itself.
    pub service: Option<String>,
    /// Until the response began.
    pub took: Duration,
}

/// What the gateway says of a response to who asked for it. A service cannot say it in its place.
pub(crate) fn mark(headers: &mut HeaderMap, route: Option<&str>, service: Option<&str>) {
    for (name, value) in [(ROUTE, route), (SERVICE, service)] {
        match value.and_then(|value| HeaderValue::from_str(value).ok()) {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
}

/// Asks for one path, of a `host` that stands for a service or of the gateway itself; by HTTPS where it is given the certificate
/// of the authority that is trusted.
///
/// # Errors
/// A sentence's fragment, when the gateway does not answer.
pub async fn check_route(
    gateway: &Endpoint,
    authority: Option<&Path>,
    host: Option<&str>,
    path: &str,
) -> Result<CheckedRoute, String> {
    let began = Instant::now();
    match tokio::time::timeout(TIMEOUT, ask(gateway, authority, host, path)).await {
        Ok(Ok((status, headers))) => {
            let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            Ok(CheckedRoute { status: status.as_u16(), route: text(ROUTE), service: text(SERVICE), took: began.elapsed() })
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("no answer within {}s", TIMEOUT.as_secs())),
    }
}

async fn ask(
    gateway: &Endpoint,
    authority: Option<&Path>,
    host: Option<&str>,
    path: &str,
) -> Result<(StatusCode, HeaderMap), String> {
    let stream = TcpStream::connect((gateway.host.as_str(), gateway.port))
        .await
        .map_err(|error| format!("cannot connect to {gateway}: {error}"))?;
    let Some(authority) = authority else { return exchange(stream, gateway, host, path).await };
    let name = host.unwrap_or(&gateway.host).trim_matches(['[', ']']).to_owned();
    let secured = async {
        let config = client_config(authority)?;
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| error.to_string())
    };
    let stream = secured.await.map_err(|reason| format!("no TLS with {gateway}: {reason}"))?;
    exchange(stream, gateway, host, path).await
}

/// Trusts one authority and no other.
fn client_config(authority: &Path) -> Result<ClientConfig, String> {
    let certificate =
        CertificateDer::from_pem_file(authority).map_err(|error| format!("cannot read {}: {error}", authority.display()))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|error| error.to_string())?;
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|error| error.to_string())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    gateway: &Endpoint,
    host: Option<&str>,
    path: &str,
) -> Result<(StatusCode, HeaderMap), String> {
    let broken = |error: hyper::Error| format!("{gateway} broke the connection: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, host.map_or_else(|| gateway.to_string(), |host| format!("{host}:{}", gateway.port)))
        .header(header::ACCEPT, "*/*")
        .header(ASKED, "1")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| format!("cannot ask for {path}: {error}"))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let (parts, _) = response.into_parts();
    driver.abort();
    Ok((parts.status, parts.headers))
}
