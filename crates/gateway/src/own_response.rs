//! What the gateway answers by itself: replies, redirects, and why a request could not be served; the last as JSON for whoever
//! asks for JSON.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;

use super::response_body::{ResponseBody, empty, full};

/// Why a request could not be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub status: StatusCode,
    /// One line.
    pub message: String,
    /// The service that is missing.
    pub service: Option<Box<str>>,
    /// Its state.
    pub state: Option<Box<str>>,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// What to type next.
    pub command: Option<Box<str>>,
    /// Where to ask instead.
    pub location: Option<Box<str>>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), service: None, state: None, reason: None, command: None, location: None }
    }

    /// Nothing of a service can be had.
    pub(crate) fn of_service(status: StatusCode, service: &str, state: &str, reason: Option<String>) -> Self {
        let command = match state {
            "stopped" => format!("devrun start {service}"),
            "waiting" | "blocked" | "starting" | "unknown" => "devrun ps".to_owned(),
            _ => format!("devrun logs {service}"),
        };
        Self {
            status,
            message: format!("service `{service}` is {state}"),
            service: Some(service.into()),
            state: Some(state.into()),
            reason,
            command: Some(command.into()),
            location: None,
        }
    }

    /// The whole of it on one line, for the log.
    pub(crate) fn line(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{}: {reason}", self.message),
            None => self.message.clone(),
        }
    }

    /// The response, in the form that the request asks for.
    pub(crate) fn response(&self, is_json: bool) -> Response<ResponseBody> {
        let (kind, body) = if is_json {
            let body = json!({
                "status": self.status.as_u16(),
                "error": self.message,
                "service": self.service,
                "state": self.state,
                "reason": self.reason,
                "command": self.command,
            });
            ("application/json", format!("{body}\n"))
        } else {
            let mut text = format!("{}\n{}\n", self.status, self.line());
            if let Some(command) = &self.command {
                text.push_str(&format!("see: {command}\n"));
            }
            ("text/plain; charset=utf-8", text)
        };
        let mut response = Response::new(full(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Whether JSON is asked for before HTML and text.
pub(crate) fn wants_json(headers: &HeaderMap) -> bool {
    let kinds = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for kind in kinds.flat_map(|text| text.split(',')) {
        let (class, kind) = kind.split(';').next().unwrap_or_default().trim().split_once('/').unwrap_or_default();
        let is_json = class.eq_ignore_ascii_case("application") && kind.eq_ignore_ascii_case("json");
        if is_json || kind.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json")) {
            return true;
        }
        if class.eq_ignore_ascii_case("text") {
            return false;
        }
    }
    false
}

/// A fixed status with its name as the body.
pub(crate) fn reply(status: u16) -> Response<ResponseBody> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let has_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    let mut response =
        Response::new(if has_body { full(format!("{}\n", status.canonical_reason().unwrap_or("OK"))) } else { empty() });
    *response.status_mut() = status;
    if has_body {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    response
}

/// To another address, with the request's method; `rest` is what the pattern's `/*` matched.
pub(crate) fn redirect(to: &str, rest: &str, query: Option<&str>) -> Response<ResponseBody> {
    let mut location = match to.strip_suffix("/*") {
        // Without its own first slashes the rest cannot become another host: `//evil.test`.
        Some(base) => format!("{base}/{}", rest.trim_start_matches(['/', '\\'])),
        None => to.to_owned(),
    };
    if let (Some(query), false) = (query, location.contains('?')) {
        location.push('?');
        location.push_str(query);
    }
    match HeaderValue::from_str(&location) {
        Ok(value) => {
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            response.headers_mut().insert(header::LOCATION, value);
            response
        }
        Err(_) => reply(StatusCode::BAD_REQUEST.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(to: &str, rest: &str, query: Option<&str>) -> String {
        redirect(to, rest, query).headers()[header::LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_redirect_stays_where_the_procfile_says() {
        assert_eq!(location("/new", "/a/b", None), "/new");
        assert_eq!(location("/new", "", Some("q=1")), "/new?q=1");
        assert_eq!(location("/new/*", "/a/b", Some("q=1")), "/new/a/b?q=1");
        assert_eq!(location("/*", "//evil.test/x", None), "/evil.test/x");
        assert_eq!(location("/*", "/\\evil.test", None), "/evil.test");
        assert_eq!(location("https://other.test/*", "/x", None), "https://other.test/x");
    }

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        let asks = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wants_json(&headers)
        };
        assert!(asks("application/json") && asks("application/problem+json, */*") && asks("*/*, application/json;q=0.9"));
        assert!(!asks("text/html, application/json") && !asks("*/*") && !wants_json(&HeaderMap::new()));
    }

    #[test]
    fn a_problem_names_service_state_and_command() {
        let problem = Problem::of_service(StatusCode::BAD_GATEWAY, "api", "failed", Some("exit code 3".to_owned()));
        assert_eq!(problem.line(), "service `api` is failed: exit code 3");
        assert_eq!(problem.command.as_deref(), Some("devrun logs api"));
        assert_eq!(problem.response(false).status(), StatusCode::BAD_GATEWAY);
    }
}
