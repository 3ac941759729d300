//! Buckets of an S3 server without a client: PUT requests in path style. Loopback and plain HTTP only.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::sigv4::{S3Request, authorization};
use devrun_model::hex::hex;
use devrun_model::{Failure, FailureKind, ServiceSpec};

/// An admin call is repeated this long while the server starts up.
const PATIENCE: Duration = Duration::from_secs(60);

struct S3Server {
    host: String,
    port: u16,
    access_key: String,
    secret_key: String,
}

/// Makes the buckets that are missing and sets their anonymous policy.
///
/// # Errors
/// `Credentials` when the keys are refused, `Task` for every other answer.
pub(super) async fn work(on: &ServiceSpec, buckets: &[(String, String)]) -> Result<(), Failure> {
    let attribute = |name: &str| on.attributes.get(name).cloned().unwrap_or_default();
    let server = S3Server {
        host: on.bind.clone(),
        port: on.port().ok_or_else(|| Failure::new(FailureKind::Task, format!("{} has no port", on.id)))?,
        access_key: attribute("user"),
        secret_key: attribute("password"),
    };
    for (bucket, anonymous) in buckets {
        check_bucket(bucket)?;
        expect(&server, bucket, "", "", &[200, 204, 409]).await?;
        if let Some(policy) = policy(bucket, anonymous)? {
            expect(&server, bucket, "policy=", &policy, &[200, 204]).await?;
        }
    }
    Ok(())
}

fn check_bucket(bucket: &str) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    if (3..=63).contains(&bucket.len()) && bucket.bytes().all(plain) && bucket.as_bytes()[0].is_ascii_alphanumeric() {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Task, format!("invalid bucket name {bucket:?}"))
        .help("3 to 63 small letters, digits, dots and hyphens, a letter or digit first"))
}

/// The bucket policy behind a word of the contract; none for `none`.
fn policy(bucket: &str, anonymous: &str) -> Result<Option<String>, Failure> {
    let (on_bucket, on_objects): (&[&str], &[&str]) = match anonymous {
        "" | "none" => return Ok(None),
        "download" => (&["s3:GetBucketLocation", "s3:ListBucket"], &["s3:GetObject"]),
        "upload" => (&["s3:GetBucketLocation", "s3:ListBucketMultipartUploads"], &["s3:PutObject", "s3:AbortMultipartUpload"]),
        "public" => (&["s3:GetBucketLocation", "s3:ListBucket"], &["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]),
        other => {
            return Err(Failure::new(FailureKind::Task, format!("unknown anonymous policy {other:?}"))
                .help("none, download, upload or public"));
        }
    };
    let statement = |actions: &[&str], resource: String| serde_json::json!({ "Effect": "Allow", "Principal": { "AWS": ["*"] }, "Action": actions, "Resource": [resource] });
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            statement(on_bucket, format!("arn:aws:s3:::{bucket}")),
            statement(on_objects, format!("arn:aws:s3:::{bucket}/*")),
        ],
    });
    Ok(Some(policy.to_string()))
}

async fn expect(server: &S3Server, bucket: &str, query: &str, body: &str, good: &[u16]) -> Result<(), Failure> {
    let began = tokio::time::Instant::now();
    let mut step = Duration::from_millis(20);
    loop {
        let answer = tokio::time::timeout(Duration::from_secs(10), put(server, bucket, query, body)).await;
        let why = match answer {
            Ok(Ok((status, _))) if good.contains(&status) => return Ok(()),
            Ok(Ok((403, text))) => {
                return Err(Failure::new(
                    FailureKind::Credentials,
                    format!("bucket {bucket}: the keys were refused (403) {}", code_of(&text)),
                ));
            }
            // Starting up; asked again.
            Ok(Ok((status @ (500 | 502 | 503), text))) => format!("{status} {}", code_of(&text)),
            Ok(Ok((status, text))) => {
                return Err(Failure::new(
                    FailureKind::Task,
                    format!("bucket {bucket}: the server answered {status} {}", code_of(&text)),
                ));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 10s".to_owned(),
        };
        if began.elapsed() > PATIENCE {
            return Err(Failure::new(FailureKind::Task, format!("bucket {bucket}: {why}")));
        }
        tokio::time::sleep(step).await;
        step = (step * 2).min(Duration::from_secs(1));
    }
}

/// `<Code>…</Code>` of an error body.
fn code_of(text: &str) -> &str {
    text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map_or("", |(code, _)| code)
}

async fn put(server: &S3Server, bucket: &str, query: &str, body: &str) -> std::io::Result<(u16, String)> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let host = format!("{}:{}", server.host, server.port);
    let hash = hex(&Sha256::digest(body.as_bytes()));
    let path = format!("/{bucket}");
    let request = S3Request { method: "PUT", path: &path, query, host: &host, hash: &hash, stamp: &stamp, headers: &[] };
    let authorization = authorization(&request, &server.access_key, &server.secret_key);
    let target = if query.is_empty() { path } else { format!("{path}?{query}") };
    let head = format!(
        "PUT {target} HTTP/1.1\r\nHost: {host}\r\nx-amz-content-sha256: {hash}\r\nx-amz-date: {stamp}\r\nAuthorization: {authorization}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(256 * 1024).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    status.map(|status| (status, text)).ok_or_else(|| std::io::Error::other("the response is not HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_name_the_bucket_and_refuse_other_words() {
        assert_eq!(policy("b", "none").unwrap(), None);
        assert!(policy("data", "download").unwrap().unwrap().contains("arn:aws:s3:::data/*"));
        assert!(policy("b", "all").is_err());
        for bad in ["", "ab", "Upper", "a/b", "-ab", "a b"] {
            assert!(check_bucket(bad).is_err(), "{bad:?}");
        }
        assert!(check_bucket("movies.2024-x").is_ok());
    }
}
