//! Work against servers that take JSON over HTTP: collections of Qdrant and indexes of Meilisearch; and the calls that
//! `models` makes too.
//!
//! Each thing is looked for first and made only where it is missing, so a task may run at every start. A server that is
//! starting up is asked again; every other refusal ends the task with the server's own words.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use devrun_model::{Failure, FailureKind, ServiceSpec};

/// A call is repeated this long while the server starts up.
const PATIENCE: Duration = Duration::from_secs(60);
/// One call.
const CALL: Duration = Duration::from_secs(30);

pub(super) struct JsonApi {
    client: Client,
    base: String,
    /// Header and value.
    login: Option<(&'static str, String)>,
}

pub(super) struct JsonResponse {
    pub status: StatusCode,
    pub body: Value,
}

impl JsonApi {
    pub(crate) fn of(on: &ServiceSpec, login: impl Fn(&str) -> (&'static str, String)) -> Result<Self, Failure> {
        devrun_store::client::install_crypto_provider();
        let client =
            Client::builder().no_proxy().connect_timeout(Duration::from_secs(5)).redirect(reqwest::redirect::Policy::none());
        let client = client.build().map_err(|error| Failure::new(FailureKind::Internal, format!("no HTTP client: {error}")))?;
        let host = on.attribute("host").unwrap_or_else(|| on.bind.clone());
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = on.port().ok_or_else(|| Failure::new(FailureKind::Task, format!("{} has no port", on.id)))?;
        Ok(Self {
            client,
            base: format!("http://{host}:{port}"),
            login: on.attribute("password").map(|password| login(&password)),
        })
    }

    pub(crate) fn request(&self, method: &Method, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        if let Some((name, value)) = &self.login {
            request = request.header(*name, value);
        }
        match body {
            Some(body) => request.json(body),
            None => request,
        }
    }

    /// One call, repeated while nobody answers or the server says that it is not ready.
    pub(crate) async fn call(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<JsonResponse, Failure> {
        let began = tokio::time::Instant::now();
        loop {
            let why = match self.request(&method, path, body).timeout(CALL).send().await {
                Ok(response) => {
                    let status = response.status();
                    let text = response.text().await.unwrap_or_default();
                    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
                    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                        return Err(Failure::new(
                            FailureKind::Credentials,
                            format!("{what}: the key was refused: {}", error_text(status, &body)),
                        )
                        .help("check the `password` of the service"));
                    }
                    if !matches!(status.as_u16(), 502..=504) {
                        return Ok(JsonResponse { status, body });
                    }
                    error_text(status, &body)
                }
                Err(error) => devrun_store::client::root_cause(&error),
            };
            if began.elapsed() > PATIENCE {
                return Err(Failure::new(FailureKind::Task, format!("{what}: {why}")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Status, and what the body says of it.
pub(super) fn error_text(status: StatusCode, body: &Value) -> String {
    let text = [&body["status"]["error"], &body["error"], &body["message"], body]
        .into_iter()
        .find_map(Value::as_str)
        .map(|text| text.chars().filter(|char| !char.is_control()).take(300).collect::<String>())
        .unwrap_or_default();
    format!("{} {text}", status.as_u16()).trim_end().to_owned()
}

pub(super) fn refused(what: &str, answer: &JsonResponse) -> Failure {
    Failure::new(FailureKind::Task, format!("{what}: the server answered {}", error_text(answer.status, &answer.body)))
}

/// A name that goes into a path as it is.
fn check_path_name(what: &str, name: &str) -> Result<(), Failure> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if !name.is_empty() && !name.starts_with('.') && name.bytes().all(good) {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Task, format!("invalid name {name:?} for {what}")).help("letters, digits, _ and -"))
}

/// Makes the collections that are missing.
///
/// # Errors
/// `Credentials`, or `Task` with the server's words.
pub(super) async fn collections(on: &ServiceSpec, collections: &[(String, String)]) -> Result<(), Failure> {
    let server = JsonApi::of(on, |key| ("api-key", key.to_owned()))?;
    for (name, body) in collections {
        check_path_name("a collection", name)?;
        let (what, path) = (format!("collection {name}"), format!("/collections/{name}"));
        let body: Value = serde_json::from_str(body)
            .map_err(|error| Failure::new(FailureKind::Task, format!("{what}: the body is not JSON: {error}")))?;
        if server.call(&what, Method::GET, &path, None).await?.status.is_success() {
            continue;
        }
        let made = server.call(&what, Method::PUT, &path, Some(&body)).await?;
        // Somebody else was quicker.
        if !made.status.is_success() && made.status != StatusCode::CONFLICT {
            return Err(refused(&what, &made));
        }
    }
    Ok(())
}

/// Makes the indexes that are missing, and waits until each is there.
///
/// # Errors
/// `Credentials`, or `Task` with the server's words.
pub(super) async fn indexes(on: &ServiceSpec, indexes: &[(String, Option<String>)]) -> Result<(), Failure> {
    let server = JsonApi::of(on, |key| ("Authorization", format!("Bearer {key}")))?;
    for (uid, primary_key) in indexes {
        check_path_name("an index", uid)?;
        let what = format!("index {uid}");
        if server.call(&what, Method::GET, &format!("/indexes/{uid}"), None).await?.status.is_success() {
            continue;
        }
        let made = server.call(&what, Method::POST, "/indexes", Some(&json!({ "uid": uid, "primaryKey": primary_key }))).await?;
        let Some(task) = made.body["taskUid"].as_u64().filter(|_| made.status.is_success()) else {
            return Err(refused(&what, &made));
        };
        let began = tokio::time::Instant::now();
        loop {
            let state = server.call(&what, Method::GET, &format!("/tasks/{task}"), None).await?;
            match state.body["status"].as_str().unwrap_or_default() {
                "succeeded" => break,
                "failed" | "canceled" if state.body["error"]["code"] == "index_already_exists" => break,
                "failed" | "canceled" => {
                    let why = state.body["error"]["message"].as_str().unwrap_or("it does not say why");
                    return Err(Failure::new(FailureKind::Task, format!("{what}: {why}")));
                }
                other if began.elapsed() > PATIENCE => {
                    return Err(Failure::new(FailureKind::Task, format!("{what}: its task {task} is still {other:?}")));
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_are_refused() {
        for bad in ["", "a/b", "..", "a b", "a?b"] {
            assert!(check_path_name("an index", bad).is_err(), "{bad:?}");
        }
        assert!(check_path_name("an index", "movies_2024-x").is_ok());
    }
}
