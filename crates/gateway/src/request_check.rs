//! Requests that two servers could read in two ways are refused before they reach a service. Pure.
//!
//! The parser (hyper) refuses folded header lines, blanks before a colon, a wrong chunk size, two different lengths and a
//! `Transfer-Encoding` that does not end in `chunked`. Of a pair of both framings it takes the encoding and closes the connection after
//! the response; that there was a pair is known from `framing_watch`. Every request is written again for the service, so nothing
//! of the original framing reaches it.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, StatusCode, Version};

/// An extension of a request whose head has both framings; the parser has removed one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TwoFramings;

/// A request that is answered at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub reason: &'static str,
}

const fn bad(reason: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, reason }
}

/// The host that a request is for; `None` for an HTTP/1.0 request without one.
pub(crate) fn check<B>(request: &Request<B>) -> Result<Option<Authority>, Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, reason: "CONNECT is not supported" });
    }
    framing(request.headers(), request.extensions().get::<TwoFramings>().is_some())?;
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("the request has two Host headers"));
    }
    let host = host.map(host_of).transpose()?;
    match (&host, request.uri().authority()) {
        (Some(host), Some(authority)) if !host.as_str().eq_ignore_ascii_case(authority.as_str()) => {
            Err(bad("the request's address and its Host header differ"))
        }
        (None, Some(authority)) if authority.as_str().contains('@') => Err(bad("the request's address holds a login")),
        (None, Some(authority)) if request.version() >= Version::HTTP_2 => Ok(Some(authority.clone())),
        (None, _) if request.version() >= Version::HTTP_11 => Err(bad("the request has no Host header")),
        _ => Ok(host),
    }
}

fn host_of(value: &HeaderValue) -> Result<Authority, Refusal> {
    let text = value.to_str().map_err(|_| bad("the Host header is not ASCII"))?;
    let host: Authority = text.parse().map_err(|_| bad("invalid Host header"))?;
    if host.host().is_empty() || host.as_str().contains('@') {
        return Err(bad("invalid Host header"));
    }
    Ok(host)
}

fn framing(headers: &HeaderMap, has_both: bool) -> Result<(), Refusal> {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else { return Ok(()) };
    if has_both || headers.contains_key(header::CONTENT_LENGTH) {
        return Err(bad("the request has both Content-Length and Transfer-Encoding"));
    }
    if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(bad("the request has a Transfer-Encoding other than chunked"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(version: Version, method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Option<Authority>, Refusal> {
        let mut request = http::Request::builder().version(version).method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap())
    }

    #[test]
    fn hostile_requests_are_refused() {
        let v11 = Version::HTTP_11;
        for (name, version, method, uri, headers) in [
            ("no host", v11, "GET", "/", &[][..]),
            ("two hosts", v11, "GET", "/", &[("host", "a"), ("host", "b")]),
            ("two equal hosts", v11, "GET", "/", &[("host", "a"), ("host", "a")]),
            ("an empty host", v11, "GET", "/", &[("host", "")]),
            ("a host with a login", v11, "GET", "/", &[("host", "a@b")]),
            ("a host with a path", v11, "GET", "/", &[("host", "a/b")]),
            ("a host with a blank", v11, "GET", "/", &[("host", "a b")]),
            ("a list of hosts", v11, "GET", "/", &[("host", "a, b")]),
            ("absolute form of another host", v11, "GET", "http://b/", &[("host", "a")]),
            ("absolute form of another port", v11, "GET", "http://a:81/", &[("host", "a")]),
            ("absolute form without a host", v11, "GET", "http://b/", &[]),
            ("CONNECT", v11, "CONNECT", "a:443", &[("host", "a:443")]),
            ("CL and TE", v11, "POST", "/", &[("host", "a"), ("content-length", "4"), ("transfer-encoding", "chunked")]),
            ("two TE", v11, "POST", "/", &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
            ("a TE list", v11, "POST", "/", &[("host", "a"), ("transfer-encoding", "gzip, chunked")]),
            ("identity", v11, "POST", "/", &[("host", "a"), ("transfer-encoding", "identity")]),
            ("a TE with a tail", v11, "POST", "/", &[("host", "a"), ("transfer-encoding", "chunked;x=1")]),
            ("HTTP/2 with another host", Version::HTTP_2, "GET", "http://a/", &[("host", "b")]),
            ("HTTP/2 with a login", Version::HTTP_2, "GET", "http://u@a/", &[]),
        ] {
            assert!(asked(version, method, uri, headers).is_err(), "{name}");
        }
    }

    #[test]
    fn a_length_that_the_parser_has_removed_counts() {
        let request = http::Request::builder().method("POST").uri("/").header("host", "a").header("transfer-encoding", "chunked");
        let mut request = request.body(()).unwrap();
        assert!(check(&request).is_ok());
        request.extensions_mut().insert(TwoFramings);
        assert_eq!(check(&request).unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn ordinary_requests_pass() {
        for (version, uri, headers, host) in [
            (Version::HTTP_11, "/", &[("host", "localhost:8080")][..], Some("localhost:8080")),
            (Version::HTTP_11, "/", &[("host", "[::1]:8080")], Some("[::1]:8080")),
            (Version::HTTP_11, "http://a:80/x", &[("host", "A:80")], Some("A:80")),
            (Version::HTTP_11, "/", &[("host", "a"), ("transfer-encoding", "Chunked")], Some("a")),
            (Version::HTTP_10, "/", &[], None),
            (Version::HTTP_2, "http://a:80/x", &[], Some("a:80")),
        ] {
            let found = asked(version, "GET", uri, headers).unwrap();
            assert_eq!(found.as_ref().map(Authority::as_str), host, "{uri} {headers:?}");
        }
    }
}
