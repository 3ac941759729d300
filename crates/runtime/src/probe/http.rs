//! `http`: a request by hand over HTTP/1.1 (RFC 9112). No redirects, no proxies, no pool: what a probe wants is one
//! honest answer from one server, with a bound on everything that is read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connect::{OwnershipGate, connect};
pub use super::http_reply::HttpReply;
use super::http_reply::{HttpExpectation, MOST_BODY, judge};
use super::https;
use super::result::{ProbeError, ProbeResult, excerpt, unusable};
use devrun_model::Failure;
use devrun_model::ready::Endpoint;

/// More header than this is no answer to a probe.
const MOST_HEADER: usize = 64 * 1024;
/// An answer with what is worth telling about it.
#[derive(Debug, Clone)]
pub struct HttpFetch {
    /// The answer.
    pub reply: HttpReply,
    /// From the connect to the end of the body.
    pub took: Duration,
}

/// One GET for `wait URL`, with the first 64 KiB of the body.
///
/// # Errors
/// When there is no answer in time.
pub async fn fetch(
    at: &Endpoint,
    tls: bool,
    path: &str,
    headers: &BTreeMap<String, String>,
    timeout: Duration,
) -> Result<HttpFetch, ProbeError> {
    check_request(path, headers).map_err(ProbeError::fatal)?;
    let began = Instant::now();
    let want = HttpExpectation { path, status: &[], headers, body: None };
    let ask = async {
        if tls {
            let client = https::client(at).map_err(ProbeError::fatal)?;
            https::exchange(&client, at, &want, 64 * 1024).await
        } else {
            let mut stream = connect(at, None).await?.stream;
            exchange(&mut stream, "GET", at, &want, Some(64 * 1024)).await
        }
    };
    match tokio::time::timeout(timeout, ask).await {
        Ok(reply) => Ok(HttpFetch { reply: reply?, took: began.elapsed() }),
        Err(_) => Err(ProbeError::new(format!("timed out after {}", devrun_model::duration::format(timeout)))),
    }
}

/// Whether path and headers can stand in a request.
pub(super) fn check_request(path: &str, headers: &BTreeMap<String, String>) -> Result<(), Failure> {
    if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(unusable(
            format!("{path:?} cannot be requested"),
            "write a path that begins with / and holds no blanks: `http = \"/health\"`",
        ));
    }
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    for (name, value) in headers {
        if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(unusable(format!("{name:?} is no header that can be sent"), "use letters, digits and `-`, on one line"));
        }
    }
    Ok(())
}

/// The check.
pub(super) async fn check(at: &Endpoint, want: &HttpExpectation<'_>, gate: Option<&OwnershipGate>) -> ProbeResult {
    let began = Instant::now();
    let mut dialled = connect(at, gate).await?;
    let reply = exchange(&mut dialled.stream, "GET", at, want, want.body.map(|_| MOST_BODY)).await?;
    judge(&reply, want, began.elapsed()).map(|hit| hit.note(dialled.note))
}

/// Sends a request and reads the answer. The body is read only where `body` says how much of it is wanted.
pub(super) async fn exchange(
    stream: &mut TcpStream,
    method: &str,
    at: &Endpoint,
    want: &HttpExpectation<'_>,
    body: Option<usize>,
) -> Result<HttpReply, ProbeError> {
    let mut request = format!("{method} {} HTTP/1.1\r\n", want.path);
    let has = |name: &str| want.headers.keys().any(|key| key.eq_ignore_ascii_case(name));
    if !has("host") {
        request.push_str(&format!("Host: {at}\r\n"));
    }
    if !has("user-agent") {
        request.push_str(concat!("User-Agent: devrun/", env!("CARGO_PKG_VERSION"), "\r\n"));
    }
    if !has("accept") {
        request.push_str("Accept: */*\r\n");
    }
    for (name, value) in want.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| ProbeError::broken(&error))?;

    let mut buffer = Vec::with_capacity(4096);
    let (mut reply, rest) = loop {
        let length = header_length(stream, &mut buffer).await?;
        let reply = parse_head(&buffer[..length])?;
        buffer.drain(..length);
        // Early hints and the like come before the answer.
        if !(100..200).contains(&reply.status) || reply.status == 101 {
            break (reply, buffer);
        }
    };
    if let Some(most) = body {
        reply.body = read_body(stream, &reply, rest, most).await?;
    }
    Ok(reply)
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<usize, ProbeError> {
    stream.read_buf(buffer).await.map_err(|error| ProbeError::broken(&error))
}

async fn header_length(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<usize, ProbeError> {
    let mut searched = 0usize;
    loop {
        // A bare line feed ends a line as well (RFC 9112 2.2); small servers write it.
        let ends = [b"\r\n\r\n".as_slice(), b"\n\n"].map(|end| find(&buffer[searched..], end).map(|at| at + end.len()));
        if let Some(end) = ends.into_iter().flatten().min() {
            return Ok(searched + end);
        }
        if !looks_like_http(buffer) {
            return Err(ProbeError::new(format!("it answers, but not with HTTP: {:?}", excerpt(buffer))));
        }
        if buffer.len() > MOST_HEADER {
            return Err(ProbeError::new("it answers with more than 64 KiB of headers"));
        }
        searched = buffer.len().saturating_sub(3);
        if read_more(stream, buffer).await? == 0 {
            return Err(ProbeError::new(if buffer.is_empty() {
                "the connection was closed without an answer".to_owned()
            } else {
                format!("the connection was closed in the middle of the headers: {:?}", excerpt(buffer))
            }));
        }
    }
}

fn looks_like_http(buffer: &[u8]) -> bool {
    let known = buffer.len().min(5);
    buffer[..known] == b"HTTP/"[..known]
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse_head(bytes: &[u8]) -> Result<HttpReply, ProbeError> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_once(' '))
        .and_then(|(_, rest)| rest.get(..3))
        .and_then(|code| code.parse::<u16>().ok())
        .filter(|code| (100..1000).contains(code))
        .ok_or_else(|| ProbeError::new(format!("it answers, but not with HTTP: {:?}", excerpt(first.as_bytes()))))?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(HttpReply { status, headers, body: Vec::new() })
}

async fn read_body(stream: &mut TcpStream, reply: &HttpReply, mut got: Vec<u8>, most: usize) -> Result<Vec<u8>, ProbeError> {
    if matches!(reply.status, 204 | 304) {
        return Ok(Vec::new());
    }
    if reply.header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked")) {
        return chunked(stream, got, most).await;
    }
    let end = match reply.header("content-length").map(str::parse::<usize>) {
        Some(Ok(length)) => length.min(most),
        Some(Err(_)) => return Err(ProbeError::new("it answers with a Content-Length that is no number")),
        None => most,
    };
    while got.len() < end {
        if read_more(stream, &mut got).await? == 0 {
            break;
        }
    }
    got.truncate(end);
    Ok(got)
}

/// The chunked coding (RFC 9112 7.1), up to `most` bytes of content.
async fn chunked(stream: &mut TcpStream, mut got: Vec<u8>, most: usize) -> Result<Vec<u8>, ProbeError> {
    let mut body = Vec::new();
    let bad = || ProbeError::new("it answers with chunks that cannot be read");
    loop {
        let line = loop {
            if let Some(end) = find(&got, b"\r\n") {
                break end;
            }
            // A size line of this length is none.
            if got.len() > 4096 || read_more(stream, &mut got).await? == 0 {
                return Err(bad());
            }
        };
        let size = std::str::from_utf8(&got[..line]).ok().and_then(|text| text.split(';').next()).map(str::trim);
        let mut left = size.and_then(|text| usize::from_str_radix(text, 16).ok()).ok_or_else(bad)?;
        got.drain(..line + 2);
        if left == 0 {
            return Ok(body);
        }
        while left > 0 {
            if got.is_empty() && read_more(stream, &mut got).await? == 0 {
                return Err(bad());
            }
            let part = got.len().min(left).min(most - body.len());
            body.extend(got.drain(..part));
            left -= part;
            if body.len() >= most {
                return Ok(body);
            }
        }
        while got.len() < 2 {
            if read_more(stream, &mut got).await? == 0 {
                return Err(bad());
            }
        }
        got.drain(..2);
    }
}
