//! AWS Signature Version 4 of a request to S3
//! (docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html). HMAC is eight lines of RFC 2104: the library's would
//! add an error that cannot happen.

use sha2::{Digest as _, Sha256};

use devrun_model::hex::hex;

const REGION: &str = "us-east-1";

/// A request that is to be signed.
pub(crate) struct S3Request<'a> {
    /// `GET`, `PUT`.
    pub method: &'a str,
    /// With the leading slash.
    pub path: &'a str,
    /// In the canonical form; empty: none.
    pub query: &'a str,
    /// With the port.
    pub host: &'a str,
    /// SHA-256 of the body, in hexadecimal.
    pub hash: &'a str,
    /// `20261121T010203Z`.
    pub stamp: &'a str,
    /// Further headers, in lower case and sorted by name.
    pub headers: &'a [(String, String)],
}

/// Returns the `Authorization` header over host, hash, time and the further headers.
pub(crate) fn authorization(request: &S3Request<'_>, access_key: &str, secret_key: &str) -> String {
    let S3Request { method, path, query, host, hash, stamp, headers } = request;
    let day = &stamp[..stamp.len().min(8)];
    let mut all = vec![("host", *host), ("x-amz-content-sha256", *hash), ("x-amz-date", *stamp)];
    all.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    all.sort_unstable();
    let names = all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = all.iter().map(|(name, value)| format!("{name}:{}\n", folded(value))).collect();
    let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{hash}");
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let signature = hex(&hmac(&signing_key(secret_key, day, REGION, "s3"), text.as_bytes()));
    format!("AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}")
}

/// A value as it is signed: no blanks around it, one in the place of several.
fn folded(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn signing_key(secret_key: &str, day: &str, region: &str, service: &str) -> [u8; 32] {
    let key = hmac(format!("AWS4{secret_key}").as_bytes(), day.as_bytes());
    [region, service, "aws4_request"].iter().fold(key, |key, part| hmac(&key, part.as_bytes()))
}

/// RFC 2104 over SHA-256.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
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
    }

    #[test]
    fn the_signing_key_matches_the_published_example() {
        // From the vendor's documentation of the signing key.
        let key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam");
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn a_request_is_signed_over_all_that_it_says() {
        let meta = [("x-amz-meta-colour".to_owned(), "dark  red".to_owned())];
        let request =
            |method, path, host| S3Request { method, path, query: "", host, hash: "00", stamp: "20261121T010203Z", headers: &[] };
        let one = authorization(&request("GET", "/", "127.0.0.1:9000"), "key", "secret");
        assert!(one.starts_with("AWS4-HMAC-SHA256 Credential=key/20261121/us-east-1/s3/aws4_request, "));
        for other in [
            authorization(&request("PUT", "/", "127.0.0.1:9000"), "key", "secret"),
            authorization(&request("GET", "/b", "127.0.0.1:9000"), "key", "secret"),
            authorization(&request("GET", "/", "127.0.0.1:9001"), "key", "secret"),
            authorization(&request("GET", "/", "127.0.0.1:9000"), "key", "other"),
            authorization(&S3Request { headers: &meta, ..request("GET", "/", "127.0.0.1:9000") }, "key", "secret"),
        ] {
            assert_ne!(one, other);
        }
        let signed = authorization(&S3Request { headers: &meta, ..request("GET", "/", "h") }, "key", "secret");
        assert!(signed.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-meta-colour,"), "{signed}");
        assert_eq!(folded(" dark  red "), "dark red");
    }
}
