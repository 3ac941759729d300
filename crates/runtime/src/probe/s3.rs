//! `s3`: a signed list of buckets is answered: one request, no body, no query.

use std::collections::BTreeMap;
use std::time::Instant;

use super::connect::{OwnershipGate, connect};
use super::http::exchange;
use super::http_reply::HttpExpectation;
use super::result::{ProbeError, ProbeOk, ProbeResult, spent};
use crate::sigv4::{S3Request, authorization};
use devrun_model::ready::Endpoint;

/// sha256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The check.
pub(super) async fn check(at: &Endpoint, access_key: &str, secret_key: &str, gate: Option<&OwnershipGate>) -> ProbeResult {
    let began = Instant::now();
    let mut dialled = connect(at, gate).await?;
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let headers = signed(&at.to_string(), access_key, secret_key, &stamp);
    let want = HttpExpectation { path: "/", status: &[], headers: &headers, body: None };
    let reply = exchange(&mut dialled.stream, "GET", at, &want, Some(64 * 1024)).await?;
    let body = String::from_utf8_lossy(&reply.body);
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code.to_owned());
    match (reply.status, code.as_deref()) {
        (200..=299, _) => Ok(ProbeOk::new(format!("lists its buckets in {}", spent(began.elapsed()))).note(dialled.note)),
        // The keys are right, the clocks are not.
        (403, Some(code @ "RequestTimeTooSkewed")) => Err(ProbeError::new(format!("403 {code}: its clock is not ours"))),
        (401 | 403, code) => Err(ProbeError::credentials(
            format!("the keys were refused: {} {}", reply.status, code.unwrap_or("without a code")),
            "check user (access key) and password (secret key)",
        )),
        (status, Some(code)) => Err(ProbeError::new(format!("{status} {code}"))),
        (status, None) => Err(ProbeError::new(format!("{status} to a list of buckets"))),
    }
}

/// Every header of the request.
fn signed(host: &str, access_key: &str, secret_key: &str, stamp: &str) -> BTreeMap<String, String> {
    let request = S3Request { method: "GET", path: "/", query: "", host, hash: EMPTY, stamp, headers: &[] };
    BTreeMap::from([
        ("Host".to_owned(), host.to_owned()),
        ("X-Amz-Content-Sha256".to_owned(), EMPTY.to_owned()),
        ("X-Amz-Date".to_owned(), stamp.to_owned()),
        ("Authorization".to_owned(), authorization(&request, access_key, secret_key)),
    ])
}
