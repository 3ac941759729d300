//! Directories and files that the gateway serves itself. Ranges, ETags, conditional requests and types are `tower-http`'s; here is
//! where a path leads, what is never served, and what answers for the paths of a single-page application.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use tower_http::services::fs::ServeFileSystemResponseBody;
use tower_http::services::{ServeDir, ServeFile};

use super::own_response::{Problem, redirect};
use super::request_path::{decode, is_hidden};
use super::response_body::ResponseBody;

/// A request for a file.
pub(crate) struct FileRequest<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    /// The path as it is compared with routes.
    pub path: &'a str,
    /// The route's own part of the path.
    pub base: &'a str,
}

/// Serves from `root`, a directory or a single file.
pub(crate) async fn serve(
    root: &Path,
    fallback: Option<&str>,
    asked: &FileRequest<'_>,
) -> Result<Response<ResponseBody>, Problem> {
    if asked.method != Method::GET && asked.method != Method::HEAD {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "files are read with GET and HEAD"));
    }
    let rest = asked.path.strip_prefix(asked.base).unwrap_or(asked.path);
    if is_hidden(rest) {
        return Err(missing());
    }
    let is_file = match tokio::fs::metadata(root).await {
        Ok(meta) => meta.is_file(),
        Err(error) => {
            return Err(Problem {
                reason: Some(error.to_string()),
                ..Problem::new(StatusCode::NOT_FOUND, format!("{} cannot be served", root.display()))
            });
        }
    };
    if is_file {
        return if rest.is_empty() { file(root, asked).await } else { Err(missing()) };
    }
    if rest.is_empty() && !asked.base.is_empty() {
        // Without the slash the links of the index page would lead beside the directory.
        return Ok(redirect(&format!("{}/", asked.base), "", asked.uri.query()));
    }
    if is_special(root, rest).await {
        return Err(missing());
    }
    let mut directory = ServeDir::new(root).redirect_path_prefix(asked.base);
    match served(directory.try_call(request(asked, rest)?).await) {
        Err(problem) if problem.status == StatusCode::NOT_FOUND => match fallback.filter(|_| is_page(rest, asked.headers)) {
            Some(name) => {
                let mut response = file(&root.join(name), asked).await?;
                // It stands for many addresses, and names files that change with each build.
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                Ok(response)
            }
            None => Err(problem),
        },
        other => other,
    }
}

/// Whether there is something else than a file or a directory: to open a named pipe takes a thread for as long as nothing writes to it.
async fn is_special(root: &Path, rest: &str) -> bool {
    let path = root.join(OsStr::from_bytes(&decode(rest.trim_start_matches('/').as_bytes(), |_| true)));
    for path in [path.join("index.html"), path] {
        if tokio::fs::metadata(&path).await.is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
            return true;
        }
    }
    false
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "file not found")
}

/// A file that may not be read is as good as none, for whoever asks.
fn served(result: std::io::Result<Response<ServeFileSystemResponseBody>>) -> Result<Response<ResponseBody>, Problem> {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match result {
        Ok(response) if response.status() == StatusCode::NOT_FOUND => Err(missing()),
        Ok(response) => Ok(response.map(|body| ResponseBody::File(body.map_err(Into::into).boxed_unsync()))),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | PermissionDenied) => Err(missing()),
        Err(error) => Err(Problem {
            reason: Some(error.to_string()),
            ..Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read")
        }),
    }
}

/// Whether a page of an application is asked for, and not a file that is missing.
fn is_page(path: &str, headers: &HeaderMap) -> bool {
    let accepts_html = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("text/html"));
    accepts_html || !path.rsplit('/').next().unwrap_or_default().contains('.')
}

async fn file(path: &Path, asked: &FileRequest<'_>) -> Result<Response<ResponseBody>, Problem> {
    served(ServeFile::new(path).try_call(request(asked, "/")?).await)
}

fn request(asked: &FileRequest<'_>, path: &str) -> Result<Request<Empty<bytes::Bytes>>, Problem> {
    let path_and_query = match asked.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut request = Request::new(Empty::new());
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = path_and_query.parse().map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "invalid file path"))?;
    *request.headers_mut() = asked.headers.clone();
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(root: &Path, fallback: Option<&str>, base: &str, uri: &str, headers: &[(&str, &str)]) -> Response<ResponseBody> {
        let uri: Uri = uri.parse().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let path = crate::request_path::normalize(uri.path()).map_or(uri.path().to_owned(), |path| path.into_owned());
        let asked = FileRequest { method: &Method::GET, uri: &uri, headers: &map, path: &path, base };
        serve(root, fallback, &asked).await.unwrap_or_else(|problem| problem.response(false))
    }

    async fn text(response: Response<ResponseBody>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn site() -> tempfile::TempDir {
        let site = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = site.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("index.html", "home");
        write("a b.txt", "blank");
        write("docs/index.html", "docs");
        write("app.js", "0123456789");
        write(".env", "SECRET=1");
        write("docs/.git/config", "url");
        site
    }

    #[tokio::test]
    async fn files_directories_ranges_and_etags() {
        let site = site();
        let root = site.path();
        assert_eq!(text(get(root, None, "", "/", &[]).await).await, "home");
        assert_eq!(text(get(root, None, "", "/a%20b.txt", &[]).await).await, "blank");
        assert_eq!(text(get(root, None, "/site", "/site/docs/", &[]).await).await, "docs");
        let moved = get(root, None, "/site", "/site/docs", &[]).await;
        assert!(moved.status().is_redirection());
        assert_eq!(moved.headers()["location"], "/site/docs/");
        let moved = get(root, None, "/site", "/site", &[]).await;
        assert_eq!((moved.status().as_u16(), &moved.headers()["location"]), (307, &"/site/".parse().unwrap()));
        let part = get(root, None, "", "/app.js", &[("range", "bytes=2-4")]).await;
        assert_eq!((part.status().as_u16(), text(part).await.as_str()), (206, "234"));
        let whole = get(root, None, "", "/app.js", &[]).await;
        let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
        assert!(whole.headers()["content-type"].to_str().unwrap().contains("javascript"));
        let again = get(root, None, "", "/app.js", &[("if-none-match", &etag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }

    #[tokio::test]
    async fn nothing_outside_and_nothing_hidden_is_served() {
        let site = site();
        let root = site.path().join("docs");
        for path in ["/../app.js", "/..%2fapp.js", "/%2e%2e/app.js", "/.git/config", "/%2egit/config", "//etc/passwd", "/x%00"] {
            let response = get(&root, None, "", path, &[]).await;
            assert!(response.status().is_client_error(), "{path}: {}", response.status());
        }
        assert_eq!(get(site.path(), None, "", "/.env", &[]).await.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_named_pipe_holds_up_nothing() {
        let site = site();
        for name in ["ff", "docs/p q", "docs/pipe/index.html"] {
            let path = site.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        }
        for path in ["/ff", "/docs/p%20q", "/docs/pipe/"] {
            assert_eq!(get(site.path(), None, "", path, &[]).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
        std::os::unix::fs::symlink("app.js", site.path().join("link")).unwrap();
        assert_eq!(text(get(site.path(), None, "", "/link", &[]).await).await, "0123456789");
    }

    #[tokio::test]
    async fn the_fallback_answers_for_pages_only() {
        let site = site();
        let root = site.path();
        let page = get(root, Some("index.html"), "", "/users/7", &[]).await;
        assert_eq!(page.headers()["cache-control"], "no-cache");
        assert_eq!((page.status().as_u16(), text(page).await.as_str()), (200, "home"));
        let named = get(root, Some("index.html"), "", "/users/john.doe", &[("accept", "text/html,*/*")]).await;
        assert_eq!(named.status(), StatusCode::OK);
        assert_eq!(get(root, Some("index.html"), "", "/assets/gone.js", &[]).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(get(root, None, "", "/users/7", &[]).await.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_single_file_and_a_missing_directory() {
        let site = site();
        let one = site.path().join("app.js");
        assert_eq!(text(get(&one, None, "/robots.txt", "/robots.txt", &[]).await).await, "0123456789");
        assert_eq!(get(&one, None, "/robots.txt", "/robots.txt/x", &[]).await.status(), StatusCode::NOT_FOUND);
        let gone = get(&site.path().join("nowhere"), None, "", "/", &[]).await;
        assert_eq!(gone.status(), StatusCode::NOT_FOUND);
        assert!(text(gone).await.contains("nowhere cannot be served"));
    }
}
