//! `s3`: a signed list of buckets is answered. The signature is SigV4 by hand (sha2, and HMAC in ten lines of RFC 2104):
//! one request, no body, no query.

use std::collections::BTreeMap;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::connect::{OwnershipGate, connect};
use super::http::{HttpExpectation, exchange};
use super::result::{ProbeError, ProbeOk, ProbeResult};
use super::spent;
use devrun_model::ready::Endpoint;

const REGION: &str = "us-east-1";
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

fn signed(host: &str, access_key: &str, secret_key: &str, stamp: &str) -> BTreeMap<String, String> {
    let day = &stamp[..stamp.len().min(8)];
    let names = "host;x-amz-content-sha256;x-amz-date";
    let canonical = format!("GET\n/\n\nhost:{host}\nx-amz-content-sha256:{EMPTY}\nx-amz-date:{stamp}\n\n{names}\n{EMPTY}");
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut key = hmac(format!("AWS4{secret_key}").as_bytes(), day.as_bytes());
    for part in [REGION, "s3", "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    let signature = hex(&hmac(&key, text.as_bytes()));
    let credential = format!("AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}");
    BTreeMap::from([
        ("Host".to_owned(), host.to_owned()),
        ("X-Amz-Content-Sha256".to_owned(), EMPTY.to_owned()),
        ("X-Amz-Date".to_owned(), stamp.to_owned()),
        ("Authorization".to_owned(), credential),
    ])
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        let short = Sha256::digest(key);
        block[..short.len()].copy_from_slice(&short);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_matches_rfc_4231() {
        let cases: [(&[u8], &[u8], &str); 2] = [
            (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, message, expected) in cases {
            assert_eq!(hex(&hmac(key, message)), expected);
        }
        assert_eq!(hex(&Sha256::digest(b"")), EMPTY);
    }

    #[test]
    fn the_signing_key_matches_the_published_example() {
        // From the vendor's documentation of the signing key (20150830, us-east-1, iam).
        let mut key = hmac(b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", b"20150830");
        for part in ["us-east-1", "iam", "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn a_request_is_signed_over_host_and_date() {
        let headers = signed("127.0.0.1:9000", "key", "secret", "20261121T010203Z");
        let authorization = &headers["Authorization"];
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=key/20261121/us-east-1/s3/aws4_request, "));
        assert_ne!(authorization, &signed("127.0.0.1:9001", "key", "secret", "20261121T010203Z")["Authorization"]);
        assert_ne!(authorization, &signed("127.0.0.1:9000", "key", "other", "20261121T010203Z")["Authorization"]);
    }
}
