//! One artifact from a vendor's host into a file.
//!
//! Owns: redirects, resuming, retries, and the caps on size and time. The sum is taken while the bytes come in. Redirects are
//! followed here and not by the client, because each hop's address has to be looked at first (`client`): a vendor's page that
//! redirects into the local network must not make us ask there.

use super::transfer::{FetchError, TransferLimits};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_RANGE, LOCATION, RANGE};
use reqwest::{StatusCode, Url};
use sha2::{Digest, Sha256};

use devrun_model::hex::hex;
use devrun_model::{Failure, FailureKind};

use super::client;
use super::download_progress::DownloadProgress;
use super::fetch_options::FetchOptions;
use super::pin::Pin;

/// Where this URL is really asked for: at the mirror, by host and path and then by the file's bare name, or at itself.
#[must_use]
pub fn candidate_urls(url: &str, mirror: Option<&str>) -> Vec<String> {
    let Some(mirror) = mirror.filter(|mirror| !mirror.is_empty()) else { return vec![url.to_owned()] };
    let base = mirror.trim_end_matches('/');
    let bare = url.split_once("://").map_or(url, |(_, rest)| rest);
    let mut places = vec![format!("{base}/{bare}")];
    if let Some(name) = bare.rsplit('/').next() {
        places.push(format!("{base}/{name}"));
    }
    places
}

/// Fetches `url` into `target` and gives back its pin.
///
/// # Errors
/// See [`FetchError`]. The file is gone then.
pub async fn download(
    url: &str,
    target: &Path,
    pin: Option<&Pin>,
    what: &str,
    options: &FetchOptions,
) -> Result<Pin, FetchError> {
    within(url, target, pin, what, options, TransferLimits::in_force(&options.env)).await
}

async fn within(
    url: &str,
    target: &Path,
    pin: Option<&Pin>,
    what: &str,
    options: &FetchOptions,
    limits: TransferLimits,
) -> Result<Pin, FetchError> {
    let places = candidate_urls(url, options.mirror.as_deref());
    let mut reasons = Vec::new();
    for place in &places {
        options.progress.begin(&format!("downloading {what}"), pin.map(|pin| pin.size));
        let got = if let Some(path) = place.strip_prefix("file://") {
            copy_file(Path::new(path), target, pin, &limits, options.progress.as_ref())
        } else if options.offline {
            Err(FetchError::TryNextSource("offline".to_owned()))
        } else {
            match tokio::time::timeout(limits.whole, download_with_retries(place, target, pin, &limits, options)).await {
                Ok(got) => got,
                Err(_) => Err(FetchError::TryNextSource(format!("it took longer than {}s", limits.whole.as_secs()))),
            }
        };
        options.progress.end(if got.is_ok() { "done" } else { "failed" });
        match got {
            Ok(found) => return Ok(found),
            Err(missed) => {
                // A stage is thrown away as a whole; nothing half-fetched stays even until then.
                let _gone = std::fs::remove_file(target);
                match missed {
                    FetchError::TryNextSource(reason) if !reasons.contains(&reason) => reasons.push(reason),
                    FetchError::TryNextSource(_) => {}
                    fatal @ FetchError::Fatal(_) => return Err(fatal),
                }
            }
        }
    }
    Err(FetchError::TryNextSource(reasons.join("; ")))
}

/// A short text, such as a file of sums.
///
/// # Errors
/// See [`FetchError`].
pub async fn text(url: &str, scratch: &Path, options: &FetchOptions) -> Result<String, FetchError> {
    let limits = TransferLimits { bytes: 1 << 20, ..TransferLimits::in_force(&options.env) };
    let name = file_name(url);
    within(url, scratch, None, &name, options, limits).await?;
    let read = std::fs::read_to_string(scratch);
    let _gone = std::fs::remove_file(scratch);
    read.map_err(|error| FetchError::TryNextSource(format!("{url}: {error}")))
}

fn copy_file(
    from: &Path,
    target: &Path,
    pin: Option<&Pin>,
    limits: &TransferLimits,
    progress: &dyn DownloadProgress,
) -> Result<Pin, FetchError> {
    let away = |error: std::io::Error| FetchError::TryNextSource(format!("{}: {error}", from.display()));
    let mut source = File::open(from).map_err(away)?;
    let mut sink = DownloadFile::new(target, pin, limits).map_err(away)?;
    let mut buffer = vec![0_u8; 128 * 1024];
    loop {
        let count = std::io::Read::read(&mut source, &mut buffer).map_err(away)?;
        if count == 0 {
            return sink.finish();
        }
        sink.take(&buffer[..count])?;
        progress.advance(sink.size);
    }
}

/// The file as far as it is there, with its sum.
struct DownloadFile {
    file: File,
    hash: Sha256,
    size: u64,
    pin: Option<Pin>,
    cap: u64,
}

impl DownloadFile {
    fn new(target: &Path, pin: Option<&Pin>, limits: &TransferLimits) -> std::io::Result<Self> {
        Ok(Self {
            file: File::create(target)?,
            hash: Sha256::new(),
            size: 0,
            pin: pin.cloned(),
            cap: pin.map_or(limits.bytes, |pin| pin.size),
        })
    }
    fn restart(&mut self) -> Result<(), FetchError> {
        self.hash = Sha256::new();
        self.size = 0;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)).map(drop))
            .map_err(|error| FetchError::TryNextSource(error.to_string()))
    }
    fn take(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.size += bytes.len() as u64;
        if self.size > self.cap {
            let of = if self.pin.is_some() { "are pinned" } else { "are the most that is taken" };
            return Err(FetchError::integrity(format!("the server sends more than the {} bytes that {of}", self.cap)));
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|error| {
            FetchError::Fatal(
                Failure::new(FailureKind::Binary, format!("the store cannot be written: {error}")).help(super::store::MAKE_ROOM),
            )
        })
    }
    fn finish(self) -> Result<Pin, FetchError> {
        let found = Pin { size: self.size, sha256: hex(&self.hash.finalize()) };
        match self.pin.as_ref().and_then(|pin| pin.differs(&found)) {
            None => Ok(found),
            Some(how) => Err(FetchError::integrity(format!("what was downloaded is not what is pinned: {how}"))),
        }
    }
}

/// What one try came to, short of the whole file.
enum TransferError {
    /// Worth another try.
    Again(String),
    /// Not.
    Missed(FetchError),
}

async fn download_with_retries(
    url: &str,
    target: &Path,
    pin: Option<&Pin>,
    limits: &TransferLimits,
    options: &FetchOptions,
) -> Result<Pin, FetchError> {
    let mut sink = DownloadFile::new(target, pin, limits).map_err(|error| FetchError::TryNextSource(error.to_string()))?;
    let mut last = String::new();
    for attempt in 0..limits.tries {
        if attempt > 0 {
            tokio::time::sleep(pause(attempt)).await;
        }
        match download_once(url, &mut sink, limits, options).await {
            Ok(()) => return sink.finish(),
            Err(TransferError::Missed(missed)) => return Err(missed),
            Err(TransferError::Again(reason)) => last = reason,
        }
    }
    Err(FetchError::TryNextSource(format!("{last} ({} tries)", limits.tries)))
}

/// Half a second, doubling, and up to half of it again by chance: clients that were cut off together come back apart.
fn pause(attempt: u32) -> Duration {
    let mut random = [0_u8; 1];
    // Without chance the pause is merely the same for everybody.
    let _steady = getrandom::fill(&mut random);
    let base = 250_u64 << attempt.min(6);
    Duration::from_millis(base + base * u64::from(random[0]) / 512)
}

async fn download_once(
    url: &str,
    sink: &mut DownloadFile,
    limits: &TransferLimits,
    options: &FetchOptions,
) -> Result<(), TransferError> {
    let mut response = request(url, sink.size, limits, options).await?;
    let status = response.status();
    let resumed = status == StatusCode::PARTIAL_CONTENT
        && response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|range| range.starts_with(&format!("bytes {}-", sink.size)));
    if !resumed {
        if status == StatusCode::PARTIAL_CONTENT {
            sink.restart().map_err(TransferError::Missed)?;
            return Err(TransferError::Again("the server resumes at another place than was asked".to_owned()));
        }
        sink.restart().map_err(TransferError::Missed)?;
        if let (Some(length), Some(pin)) = (response.content_length(), &sink.pin)
            && length != pin.size
        {
            return Err(TransferError::Missed(FetchError::integrity(format!(
                "what is there has {length} bytes, {} are pinned",
                pin.size
            ))));
        }
    }
    loop {
        match tokio::time::timeout(limits.idle, response.chunk()).await {
            Err(_) => return Err(TransferError::Again(format!("no data for {}s", limits.idle.as_secs_f32()))),
            Ok(Err(error)) => {
                return Err(TransferError::Again(format!(
                    "it was cut after {} bytes: {}",
                    sink.size,
                    client::root_cause(&error)
                )));
            }
            Ok(Ok(None)) => break,
            Ok(Ok(Some(bytes))) => {
                sink.take(&bytes).map_err(TransferError::Missed)?;
                options.progress.advance(sink.size);
            }
        }
    }
    match &sink.pin {
        Some(pin) if sink.size < pin.size => {
            Err(TransferError::Again(format!("it ended after {} of {} bytes", sink.size, pin.size)))
        }
        _ => Ok(()),
    }
}

/// The answer after redirects.
async fn request(
    url: &str,
    from: u64,
    limits: &TransferLimits,
    options: &FetchOptions,
) -> Result<reqwest::Response, TransferError> {
    let mut url = Url::parse(url)
        .map_err(|error| TransferError::Missed(FetchError::TryNextSource(format!("invalid URL {url}: {error}"))))?;
    for hop in 0..=limits.redirects {
        let client = client::of_hop(&url, hop > 0, limits, options).await.map_err(TransferError::Missed)?;
        let mut request = client.get(url.clone());
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let sent = tokio::time::timeout(limits.idle.max(limits.connect), request.send()).await;
        let response = match sent {
            Err(_) => return Err(TransferError::Again(format!("{} does not answer", host(&url)))),
            Ok(Err(error)) if error.is_connect() => {
                // A host that refuses or has no address will not be there in a second; the next source may be.
                return Err(TransferError::Missed(FetchError::TryNextSource(format!(
                    "{} cannot be reached: {}",
                    host(&url),
                    client::root_cause(&error)
                ))));
            }
            Ok(Err(error)) => return Err(TransferError::Again(format!("{}: {}", host(&url), client::root_cause(&error)))),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if status.is_redirection() {
            let next =
                response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).and_then(|next| url.join(next).ok());
            let Some(next) = next else {
                return Err(TransferError::Missed(FetchError::TryNextSource(format!("{} redirects to nowhere", host(&url)))));
            };
            url = next;
            continue;
        }
        if status.is_success() {
            return Ok(response);
        }
        let said = format!("{} says {status}", host(&url));
        if status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) {
            return Err(TransferError::Again(said));
        }
        return Err(TransferError::Missed(FetchError::TryNextSource(said)));
    }
    Err(TransferError::Missed(FetchError::TryNextSource(format!("more than {} redirects", limits.redirects))))
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the host")
}

/// The sum in a `.sha256` file: alone, or `SUM  NAME` among others.
#[must_use]
pub fn sum_in(text: &str, file_name: &str) -> Option<String> {
    let is_sum = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let sums: Vec<(&str, Option<&str>)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let sum = words.next().filter(|word| is_sum(word))?;
            Some((sum, words.next().map(|name| name.trim_start_matches('*'))))
        })
        .collect();
    let named = sums.iter().find(|(_, name)| name.is_some_and(|name| name.rsplit('/').next() == Some(file_name)));
    match (named, sums.as_slice()) {
        (Some((sum, _)), _) => Some(sum.to_ascii_lowercase()),
        (None, [(sum, None)]) => Some(sum.to_ascii_lowercase()),
        _ => None,
    }
}

/// The last part of a URL's path.
#[must_use]
pub fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or("artifact");
    let safe: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-+~%".contains(*c)).collect();
    if safe.trim_matches('.').is_empty() { "artifact".to_owned() } else { safe }
}

/// Where a download goes.
#[must_use]
pub fn target(folder: &Path, url: &str) -> PathBuf {
    folder.join(file_name(url))
}

/// How long something took, for people.
#[must_use]
pub fn elapsed_text(since: Instant) -> String {
    devrun_model::duration::human(since.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_in_both_forms() {
        let sum = "ab".repeat(32);
        assert_eq!(sum_in(&format!("{sum}\n"), "x.tgz"), Some(sum.clone()));
        assert_eq!(sum_in(&format!("{sum} *x.tgz\n"), "x.tgz"), Some(sum.clone()));
        let other = "cd".repeat(32);
        assert_eq!(sum_in(&format!("{other}  y.tgz\n{sum}  dist/x.tgz\n"), "x.tgz"), Some(sum));
        assert_eq!(sum_in(&format!("{other}  y.tgz\n"), "x.tgz"), None);
        assert_eq!(sum_in("<html>not found</html>", "x.tgz"), None);
    }

    #[test]
    fn a_mirror_is_asked_by_path_and_by_name() {
        assert_eq!(candidate_urls("https://v.test/a/b.tgz", None), ["https://v.test/a/b.tgz"]);
        let mirrored = candidate_urls("https://v.test/a/b.tgz", Some("file:///srv/m/"));
        assert_eq!(mirrored, ["file:///srv/m/v.test/a/b.tgz", "file:///srv/m/b.tgz"]);
    }

    #[test]
    fn file_names_cannot_leave_the_folder() {
        assert_eq!(file_name("https://x.test/a/b.tgz?x=1"), "b.tgz");
        assert_eq!(file_name("https://x.test/a/.."), "artifact");
        assert_eq!(file_name("https://x.test/%2e%2e/"), "%2e%2e");
    }
}
