//! Models of Ollama: pulled, or made from a file of the project. One that is there is left alone, so a task may run at
//! every start. Both take minutes, so what the server says of them is passed on, a line for every tenth of a download.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::json_api::{JsonApi, error_text, refused};
use crate::init;
use devrun_model::{Failure, FailureKind, ServiceSpec};

/// Hears how far a task's own work is.
pub type ProgressReporter<'a> = dyn Fn(String) + Send + Sync + 'a;

/// The longest silence between two lines; the whole has the task's own `timeout`.
const SILENCE: Duration = Duration::from_secs(120);
/// The longest line.
const LONGEST: usize = 1 << 20;

/// Pulls or makes the models that are missing.
///
/// # Errors
/// `Task` with the server's words, or when a stream ends before it says that it succeeded.
pub(super) async fn work(
    on: &ServiceSpec,
    models: &[(String, Option<PathBuf>)],
    say: &ProgressReporter<'_>,
) -> Result<(), Failure> {
    let server = JsonApi::of(on, |key| ("Authorization", format!("Bearer {key}")))?;
    let tags = server.call("list of models", Method::GET, "/api/tags", None).await?;
    if !tags.status.is_success() {
        return Err(refused("list of models", &tags));
    }
    let there: Vec<&str> =
        tags.body["models"].as_array().into_iter().flatten().filter_map(|model| model["name"].as_str()).collect();
    for (model, from) in models {
        if there.iter().any(|name| name == model || name.strip_suffix(":latest") == Some(model)) {
            continue;
        }
        match from {
            Some(file) => make(&server, model, file, say).await?,
            None => pull(&server, model, say).await?,
        }
    }
    Ok(())
}

async fn pull(server: &JsonApi, model: &str, say: &ProgressReporter<'_>) -> Result<(), Failure> {
    let body = json!({ "model": model, "stream": true });
    follow(server, "/api/pull", &body, model, say).await.map_err(|why| {
        Failure::new(FailureKind::Task, format!("model {model}: {why}"))
            .help("a pull needs the network; `optional = true` lets the stack start without it")
    })
}

/// The file is handed over under its hash, and then named.
async fn make(server: &JsonApi, model: &str, file: &Path, say: &ProgressReporter<'_>) -> Result<(), Failure> {
    let failed = |why: String| {
        Failure::new(FailureKind::Task, format!("model {model}: {}: {why}", file.display()))
            .help("`from` names a GGUF file, relative to the procfile")
    };
    let path = file.to_owned();
    let hash = tokio::task::spawn_blocking(move || init::hash_file(&path))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))?;
    let opened = tokio::fs::File::open(file).await.map_err(|error| failed(error.to_string()))?;
    let length = opened.metadata().await.map_err(|error| failed(error.to_string()))?.len();
    let digest = format!("sha256:{hash}");
    let request = server.request(&Method::POST, &format!("/api/blobs/{digest}"), None);
    let sent = request.header(reqwest::header::CONTENT_LENGTH, length).body(opened).send().await;
    let sent = sent.map_err(|error| failed(devrun_store::client::root_cause(&error)))?;
    if !sent.status().is_success() {
        return Err(failed(refusal(sent).await));
    }
    let name = file.file_name().map_or_else(|| "model.gguf".to_owned(), |name| name.to_string_lossy().into_owned());
    let body = json!({ "model": model, "files": { name: digest }, "stream": true });
    follow(server, "/api/create", &body, model, say).await.map_err(failed)
}

async fn refusal(response: Response) -> String {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    error_text(status, &serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Asks for something long and reads the lines that say how far it is, until it succeeded.
async fn follow(server: &JsonApi, path: &str, body: &Value, model: &str, say: &ProgressReporter<'_>) -> Result<(), String> {
    let response = server.request(&Method::POST, path, Some(body)).send().await;
    let response = response.map_err(|error| devrun_store::client::root_cause(&error))?;
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let mut stream = response.bytes_stream();
    let mut pending = Vec::new();
    let mut heard = PullProgress::default();
    let tell = |line: &[u8], heard: &mut PullProgress| -> Result<(), String> {
        if let Some(text) = heard.line(line)? {
            say(format!("{model}: {text}"));
        }
        Ok(())
    };
    loop {
        let next = tokio::time::timeout(SILENCE, stream.next()).await;
        let next = next.map_err(|_| format!("no data for {}s after {:?}", SILENCE.as_secs(), heard.state))?;
        let Some(bytes) = next else { break };
        let broke = |error| format!("the stream broke off after {:?}: {}", heard.state, devrun_store::client::root_cause(&error));
        pending.extend(bytes.map_err(broke)?);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            tell(&line, &mut heard)?;
        }
        if pending.len() > LONGEST {
            return Err("a line that does not end".to_owned());
        }
    }
    tell(&pending, &mut heard)?;
    if heard.state == "success" { Ok(()) } else { Err(format!("the stream broke off after {:?}", heard.state)) }
}

/// What the lines said so far.
#[derive(Debug, Default)]
struct PullProgress {
    state: String,
    tenths: u64,
}

impl PullProgress {
    /// Takes a line in; what of it is worth telling; its error is an error.
    fn line(&mut self, line: &[u8]) -> Result<Option<String>, String> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let line: Value = serde_json::from_slice(line).map_err(|error| format!("a line that is not JSON: {error}"))?;
        if let Some(error) = line["error"].as_str() {
            return Err(error.to_owned());
        }
        let Some(state) = line["status"].as_str() else { return Ok(None) };
        let part = |key: &str| line[key].as_u64();
        let share = part("total").filter(|total| *total > 0).zip(part("completed"));
        let tenths = share.map_or(0, |(total, completed)| completed.min(total).saturating_mul(10) / total);
        if self.state == state && self.tenths == tenths {
            return Ok(None);
        }
        (self.state, self.tenths) = (state.to_owned(), tenths);
        let state: String = state.chars().filter(|char| !char.is_control()).take(200).collect();
        Ok(Some(match share {
            Some((total, _)) => format!("{state}, {} % of {}", tenths * 10, devrun_model::bytes::ByteSize(total)),
            None => state,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_pull() {
        let mut heard = PullProgress::default();
        let mut line_of = |line: &str| heard.line(line.as_bytes());
        assert_eq!(line_of("{\"status\":\"pulling manifest\"}\n"), Ok(Some("pulling manifest".to_owned())));
        assert_eq!(line_of("{\"status\":\"pulling manifest\"}\n"), Ok(None));
        let part = |completed: u64| format!("{{\"status\":\"pulling abc\",\"total\":1048576,\"completed\":{completed}}}");
        assert_eq!(line_of("{\"status\":\"pulling abc\"}"), Ok(Some("pulling abc".to_owned())));
        assert_eq!(line_of(&part(10_000)), Ok(None));
        assert!(line_of(&part(524_288)).is_ok_and(|text| text.is_some_and(|text| text.starts_with("pulling abc, 50 % of 1"))));
        assert_eq!(line_of(&part(530_000)), Ok(None));
        assert!(line_of(&part(u64::MAX)).is_ok_and(|text| text.is_some_and(|text| text.contains("100 %"))));
        assert_eq!(line_of("{\"error\":\"file does not exist\"}"), Err("file does not exist".to_owned()));
        assert_eq!(line_of("\n"), Ok(None));
        assert!(line_of("{\"stat").is_err());
    }
}
