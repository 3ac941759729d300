//! The calls to an S3 server, each signed. Bodies of objects are not part of the signature (`UNSIGNED-PAYLOAD`): they are sent as
//! they are read, and the connection is one of this machine.

use std::time::Duration;

use futures_util::stream;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Body, Client, Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::listing::{self, ObjectPage};
use crate::sigv4::{S3Request, authorization};
use devrun_model::hex::hex;
use devrun_model::{Failure, FailureKind, ServiceSpec};

/// What stays as it is in a query; in a path the slash does too.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// Metadata of an object, next to those that begin with [`META`].
const KEPT: &[&str] =
    &["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];
const META: &str = "x-amz-meta-";
/// The longest silence of the server in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(120);

/// A server, and the keys to it.
#[derive(Debug)]
pub struct ObjectClient {
    client: Client,
    service: String,
    host: String,
    access_key: String,
    secret_key: String,
}

/// An object that is being read.
#[derive(Debug)]
pub struct StoredObject {
    /// Its metadata: headers in lower case, sorted by name.
    pub headers: Vec<(String, String)>,
    /// Its length.
    pub bytes: u64,
    /// Whether it has tags.
    pub has_tags: bool,
    response: Response,
}

impl StoredObject {
    /// The next piece of its contents; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let chunk =
            self.response.chunk().await.map_err(|error| std::io::Error::other(devrun_store::client::root_cause(&error)))?;
        Ok(chunk.map(|bytes| bytes.to_vec()))
    }
}

struct Call<'a> {
    method: Method,
    path: String,
    query: &'a str,
    headers: &'a [(String, String)],
    hash: String,
    body: Option<Body>,
}

impl ObjectClient {
    /// A client of this service.
    ///
    /// # Errors
    /// `Config` for a service without a port, `Internal` when no client can be made.
    pub fn of(spec: &ServiceSpec) -> Result<Self, Failure> {
        devrun_store::client::install_crypto_provider();
        let builder = Client::builder().no_proxy().connect_timeout(Duration::from_secs(5)).read_timeout(SILENCE);
        let client = builder.redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| Failure::new(FailureKind::Internal, format!("no HTTP client: {error}")))?;
        let host = spec.attribute("host").unwrap_or_else(|| spec.bind.clone());
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = spec.port().ok_or_else(|| Failure::new(FailureKind::Config, format!("{} has no port", spec.id)))?;
        Ok(Self {
            client,
            service: spec.id.to_string(),
            host: format!("{host}:{port}"),
            access_key: spec.attribute("user").unwrap_or_default(),
            secret_key: spec.attribute("password").unwrap_or_default(),
        })
    }

    /// The names of all buckets.
    ///
    /// # Errors
    /// `Elsewhere` when it does not answer, `Credentials`, `Task` with its words.
    pub async fn buckets(&self) -> Result<Vec<String>, Failure> {
        let text = self.text("the list of buckets", self.get("/".to_owned(), "")).await?;
        listing::buckets(&text).map_err(|reason| self.failed("the list of buckets", &reason))
    }

    /// A part of the list of a bucket's objects.
    ///
    /// # Errors
    /// As [`Self::buckets`].
    pub async fn objects(&self, bucket: &str, next: Option<&str>) -> Result<ObjectPage, Failure> {
        let token = next.map(|token| format!("continuation-token={}&", utf8_percent_encode(token, QUERY))).unwrap_or_default();
        let (what, query) = (format!("bucket {bucket}"), format!("{token}encoding-type=url&list-type=2"));
        let text = self.text(&what, self.get(path(bucket, ""), &query)).await?;
        listing::page(&text).map_err(|reason| self.failed(&what, &reason))
    }

    /// The policy of a bucket, as JSON.
    ///
    /// # Errors
    /// As [`Self::buckets`].
    pub async fn policy(&self, bucket: &str) -> Result<Option<String>, Failure> {
        let what = format!("the policy of bucket {bucket}");
        let response = self.send(&what, self.get(path(bucket, ""), "policy=")).await?;
        match response.status() {
            // None, or a server that has no policies.
            StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => Ok(None),
            _ => self.good(&what, response).await.map(|text| Some(text).filter(|text| !text.trim().is_empty())),
        }
    }

    /// Begins to read an object; `None` where it is gone.
    ///
    /// # Errors
    /// As [`Self::buckets`].
    pub async fn read(&self, bucket: &str, key: &str) -> Result<Option<StoredObject>, Failure> {
        let what = format!("object {bucket}/{key}");
        let response = self.send(&what, self.get(path(bucket, key), "")).await?;
        match response.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            status if !status.is_success() => return Err(self.refused(&what, response).await),
            _ => {}
        }
        let mut headers = Vec::new();
        for (name, value) in response.headers() {
            let name = name.as_str();
            if name.starts_with(META) || KEPT.contains(&name) {
                let value = String::from_utf8(value.as_bytes().to_vec());
                let value = value.map_err(|_| self.failed(&what, &format!("the header {name} is not UTF-8")))?;
                headers.push((name.to_owned(), value));
            }
        }
        headers.sort();
        let has_tags = response.headers().get("x-amz-tagging-count").is_some_and(|count| count != "0");
        let bytes = response.content_length().ok_or_else(|| self.failed(&what, "it has no length"))?;
        Ok(Some(StoredObject { headers, bytes, has_tags, response }))
    }

    /// The tags of an object.
    ///
    /// # Errors
    /// As [`Self::buckets`].
    pub async fn tags(&self, bucket: &str, key: &str) -> Result<Vec<(String, String)>, Failure> {
        let what = format!("the tags of {bucket}/{key}");
        let text = self.text(&what, self.get(path(bucket, key), "tagging=")).await?;
        listing::tags(&text).map_err(|reason| self.failed(&what, &reason))
    }

    /// Makes a bucket; one that is there is left as it is.
    ///
    /// # Errors
    /// As [`Self::buckets`].
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), Failure> {
        let what = format!("bucket {bucket}");
        let response = self.send(&what, self.signed(Method::PUT, path(bucket, ""), "", b"")).await?;
        if response.status() == StatusCode::CONFLICT {
            return Ok(());
        }
        self.good(&what, response).await.map(drop)
    }

    /// Gives a bucket a policy, or takes it away.
    ///
    /// # Errors
    /// As [`Self::buckets`].
    pub async fn set_policy(&self, bucket: &str, policy: Option<&str>) -> Result<(), Failure> {
        let what = format!("the policy of bucket {bucket}");
        let path = path(bucket, "");
        let response = match policy {
            Some(policy) => self.send(&what, self.signed(Method::PUT, path, "policy=", policy.as_bytes())).await?,
            None => self.send(&what, self.signed(Method::DELETE, path, "policy=", b"")).await?,
        };
        if policy.is_none() && matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED) {
            return Ok(());
        }
        self.good(&what, response).await.map(drop)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As [`Self::buckets`].
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), Failure> {
        let what = format!("object {bucket}/{key}");
        let response = self.send(&what, self.signed(Method::DELETE, path(bucket, key), "", b"")).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.good(&what, response).await.map(drop)
    }

    /// Deletes an empty bucket.
    ///
    /// # Errors
    /// As [`Self::buckets`].
    pub async fn delete_bucket(&self, bucket: &str) -> Result<(), Failure> {
        let what = format!("bucket {bucket}");
        let response = self.send(&what, self.signed(Method::DELETE, path(bucket, ""), "", b"")).await?;
        self.good(&what, response).await.map(drop)
    }

    /// Writes an object of this length, whose contents come piece by piece.
    ///
    /// # Errors
    /// As [`Self::buckets`].
    pub async fn write(
        &self,
        bucket: &str,
        key: &str,
        headers: &[(String, String)],
        tags: &[(String, String)],
        bytes: u64,
        contents: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    ) -> Result<(), Failure> {
        let what = format!("object {bucket}/{key}");
        let mut headers = headers.to_vec();
        if !tags.is_empty() {
            let encoded = |text: &str| utf8_percent_encode(text, QUERY).to_string();
            let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
            headers.push(("x-amz-tagging".to_owned(), pairs.join("&")));
        }
        headers.push(("content-length".to_owned(), bytes.to_string()));
        let pieces = stream::unfold(contents, |mut contents| async move { contents.recv().await.map(|piece| (piece, contents)) });
        let body = if bytes == 0 { Body::from(Vec::new()) } else { Body::wrap_stream(Box::pin(pieces)) };
        let call = Call {
            method: Method::PUT,
            path: path(bucket, key),
            query: "",
            headers: &headers,
            hash: UNSIGNED.to_owned(),
            body: Some(body),
        };
        let response = self.send(&what, call).await?;
        self.good(&what, response).await.map(drop)
    }

    fn get<'a>(&self, path: String, query: &'a str) -> Call<'a> {
        self.signed(Method::GET, path, query, b"")
    }

    fn signed<'a>(&self, method: Method, path: String, query: &'a str, body: &[u8]) -> Call<'a> {
        let hash = hex(&Sha256::digest(body));
        Call { method, path, query, headers: &[], hash, body: (!body.is_empty()).then(|| Body::from(body.to_vec())) }
    }

    async fn send(&self, what: &str, call: Call<'_>) -> Result<Response, Failure> {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut signed: Vec<_> = call.headers.iter().filter(|(name, _)| name.starts_with("x-amz-")).cloned().collect();
        signed.sort();
        let request = S3Request {
            method: call.method.as_str(),
            path: &call.path,
            query: call.query,
            host: &self.host,
            hash: &call.hash,
            stamp: &stamp,
            headers: &signed,
        };
        let authorization = authorization(&request, &self.access_key, &self.secret_key);
        let question = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
        // Some servers refuse a request that does not say that it has no body.
        let is_empty = call.method == Method::PUT && call.body.is_none();
        let mut request = self.client.request(call.method, format!("http://{}{}{question}", self.host, call.path));
        request = request.header("x-amz-content-sha256", &call.hash).header("x-amz-date", &stamp);
        request = request.header("authorization", authorization);
        for (name, value) in call.headers {
            request = request.header(name.as_str(), value.as_bytes());
        }
        if is_empty {
            request = request.header("content-length", "0");
        }
        if let Some(body) = call.body {
            request = request.body(body);
        }
        request.send().await.map_err(|error| {
            let reason = devrun_store::client::root_cause(&error);
            if error.is_connect() {
                Failure::new(FailureKind::Elsewhere, format!("{} is not running: {reason}", self.service))
                    .help(format!("devrun up -d {}", self.service))
            } else {
                self.failed(what, &reason)
            }
        })
    }

    async fn text(&self, what: &str, call: Call<'_>) -> Result<String, Failure> {
        let response = self.send(what, call).await?;
        self.good(what, response).await
    }

    async fn good(&self, what: &str, response: Response) -> Result<String, Failure> {
        if !response.status().is_success() {
            return Err(self.refused(what, response).await);
        }
        response.text().await.map_err(|error| self.failed(what, &devrun_store::client::root_cause(&error)))
    }

    async fn refused(&self, what: &str, response: Response) -> Failure {
        let status = response.status();
        // Without its words the status says what there is to say.
        let text = response.text().await.unwrap_or_default();
        let code = listing::code(&text).unwrap_or_default();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Failure::new(FailureKind::Credentials, format!("{}: {what}: {} {code}", self.service, status.as_u16()))
                .help("check user (access key) and password (secret key)");
        }
        self.failed(what, format!("the server answered {} {code}", status.as_u16()).trim_end())
    }

    fn failed(&self, what: &str, reason: &str) -> Failure {
        Failure::new(FailureKind::Task, format!("{}: {what}: {reason}", self.service))
            .help(format!("devrun logs {}", self.service))
    }
}

/// The path of a bucket or an object, encoded as it is signed.
fn path(bucket: &str, key: &str) -> String {
    let bucket = utf8_percent_encode(bucket, QUERY);
    if key.is_empty() { format!("/{bucket}") } else { format!("/{bucket}/{}", utf8_percent_encode(key, PATH)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_once_and_keep_their_slashes() {
        assert_eq!(path("b", ""), "/b");
        assert_eq!(path("b", "a b/+ü~.txt"), "/b/a%20b/%2B%C3%BC~.txt");
        assert_eq!(path("b", "dir/"), "/b/dir/");
    }
}
