//! Who may ask. Any page that the user's browser shows can send requests to loopback, so being on this machine proves nothing.
//!
//! - `Host` must name this very server: a name that a stranger's DNS has pointed here (rebinding) is refused.
//! - `Origin`, where a browser sends one, must be this server, and `Sec-Fetch-Site` must not say that another site asks.
//! - Data needs the token, as a cookie that only requests of this page carry (`SameSite=Strict`, `HttpOnly`), or as a bearer for
//!   a scraper. The token comes to the page in the address's fragment, which is never sent.
//! - What changes something is a POST with an `Origin` and a JSON body, which no form of another site can send.

use http::{HeaderMap, Method, StatusCode, header};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebRefusal {
    /// The status.
    pub status: StatusCode,
    /// A fragment that names the cause.
    pub reason: &'static str,
}

/// What a path needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing secret: the page itself.
    Open,
    /// The token.
    Token,
    /// The token, from this page only.
    Change,
    /// This page, which brings the token.
    Login,
}

/// Checks requests to one server.
#[derive(Debug, Clone)]
pub struct Guard {
    port: u16,
    token: String,
}

/// Bytes of a path and query.
const MAX_TARGET: usize = 8 * 1024;

impl Guard {
    /// For a server on this port of loopback.
    #[must_use]
    pub fn new(port: u16, token: String) -> Self {
        Self { port, token }
    }

    /// The name of the cookie: several servers of one machine share its jar.
    #[must_use]
    pub fn cookie_name(&self) -> String {
        format!("devrun_{}", self.port)
    }

    /// The cookie that a page gets for the token.
    #[must_use]
    pub fn cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie_name(), self.token)
    }

    /// Whether this is the token; the time taken does not tell how much of it is right.
    #[must_use]
    pub fn is_token(&self, given: &str) -> bool {
        let (ours, given) = (self.token.as_bytes(), given.as_bytes());
        ours.len() == given.len() && ours.iter().zip(given).fold(0, |wrong, (a, b)| wrong | (a ^ b)) == 0
    }

    /// Looks at the host that a request's target names itself, as requests to a proxy do.
    ///
    /// # Errors
    /// The refusal.
    pub fn check_authority(&self, authority: Option<&str>) -> Result<(), WebRefusal> {
        match authority {
            Some(host) if !self.is_own_host(host) => {
                Err(WebRefusal { status: StatusCode::MISDIRECTED_REQUEST, reason: "the target is not this server" })
            }
            _ => Ok(()),
        }
    }

    /// Looks at a request.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, method: &Method, target: &str, headers: &HeaderMap, access: Access) -> Result<(), WebRefusal> {
        let refuse = |status, reason| Err(WebRefusal { status, reason });
        if target.len() > MAX_TARGET {
            return refuse(StatusCode::URI_TOO_LONG, "the address is too long");
        }
        let hosts: Vec<_> = headers.get_all(header::HOST).iter().collect();
        let [host] = hosts.as_slice() else { return refuse(StatusCode::BAD_REQUEST, "exactly one Host is needed") };
        if !host.to_str().is_ok_and(|host| self.is_own_host(host)) {
            return refuse(StatusCode::MISDIRECTED_REQUEST, "the Host is not this server");
        }
        let origins: Vec<_> = headers.get_all(header::ORIGIN).iter().collect();
        if !origins.iter().all(|origin| origin.to_str().is_ok_and(|origin| self.is_own_origin(origin))) {
            return refuse(StatusCode::FORBIDDEN, "the Origin is another site");
        }
        let fetch_site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
        if !matches!(fetch_site, None | Some(b"same-origin" | b"none")) {
            return refuse(StatusCode::FORBIDDEN, "another site asks");
        }
        let is_change = matches!(access, Access::Change | Access::Login);
        let expected: &[Method] = if is_change { &[Method::POST] } else { &[Method::GET, Method::HEAD] };
        if !expected.contains(method) {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "the method is not allowed here");
        }
        if is_change {
            if origins.len() != 1 {
                return refuse(StatusCode::FORBIDDEN, "a change needs the Origin of this page");
            }
            let json = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            if json.is_none_or(|kind| kind.split(';').next().is_none_or(|kind| kind.trim() != "application/json")) {
                return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json");
            }
        }
        if matches!(access, Access::Token | Access::Change) && !self.has_token(headers, access) {
            return refuse(StatusCode::UNAUTHORIZED, "the token is missing or wrong; open the address that `devrun web` prints");
        }
        Ok(())
    }

    fn is_own_host(&self, host: &str) -> bool {
        let Some((name, port)) = host.rsplit_once(':') else { return false };
        port.parse() == Ok(self.port) && matches!(name, "127.0.0.1" | "localhost" | "[::1]")
    }

    fn is_own_origin(&self, origin: &str) -> bool {
        origin.strip_prefix("http://").is_some_and(|host| self.is_own_host(host))
    }

    fn has_token(&self, headers: &HeaderMap, access: Access) -> bool {
        let name = self.cookie_name();
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let by_cookie = cookies
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(cookie, value)| cookie == name && self.is_token(value));
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        by_cookie || access == Access::Token && bearer.is_some_and(|given| self.is_token(given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method, target, what the page needs, headers.
    type GoodRequest<'a> = (&'a str, &'a str, Access, &'a [(&'a str, &'a str)]);
    /// The same, and the status that refuses it.
    type HostileRequest<'a> = (&'a str, &'a str, Access, &'a [(&'a str, &'a str)], u16);

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn status(method: &str, target: &str, access: Access, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let guard = Guard::new(7070, TOKEN.to_owned());
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        guard.check(&method, target, &map, access).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn thirty_hostile_requests_are_refused_and_six_good_ones_are_not() {
        let cookie = format!("devrun_7070={TOKEN}");
        let cookie = cookie.as_str();
        let host = ("host", "127.0.0.1:7070");
        let origin = ("origin", "http://127.0.0.1:7070");
        let json = ("content-type", "application/json");
        let ok = ("cookie", cookie);
        let long = format!("/{}", "x".repeat(9000));
        let other_port = format!("devrun_7071={TOKEN}");
        let upper = format!("devrun_7070={}", TOKEN.to_uppercase());
        let longer = format!("devrun_7070={TOKEN}0");
        let bearer = format!("Bearer {TOKEN}");
        let hostile: &[HostileRequest] = &[
            // Rebinding: a stranger's name that leads here.
            ("GET", "/", Access::Open, &[("host", "evil.example:7070")], 421),
            ("GET", "/", Access::Open, &[("host", "evil.example")], 421),
            ("GET", "/", Access::Open, &[("host", "127.0.0.1.evil.example:7070")], 421),
            ("GET", "/", Access::Open, &[("host", "127.0.0.1")], 421),
            ("GET", "/", Access::Open, &[("host", "127.0.0.1:7071")], 421),
            ("GET", "/", Access::Open, &[("host", "localhost:7070.evil.example")], 421),
            ("GET", "/", Access::Open, &[("host", "user@127.0.0.1:7070")], 421),
            ("GET", "/", Access::Open, &[], 400),
            ("GET", "/", Access::Open, &[host, ("host", "evil.example")], 400),
            ("GET", "/api/status", Access::Token, &[("host", "evil.example:7070"), ok], 421),
            // No token, or a wrong one.
            ("GET", "/api/status", Access::Token, &[host], 401),
            ("GET", "/api/status", Access::Token, &[host, ("cookie", "devrun_7070=")], 401),
            ("GET", "/api/status", Access::Token, &[host, ("cookie", "devrun_7070=guess")], 401),
            ("GET", "/api/status", Access::Token, &[host, ("cookie", &other_port)], 401),
            ("GET", "/api/status", Access::Token, &[host, ("cookie", &upper)], 401),
            ("GET", "/api/status", Access::Token, &[host, ("cookie", &longer)], 401),
            ("GET", "/metrics", Access::Token, &[host, ("authorization", "Bearer guess")], 401),
            ("GET", "/metrics", Access::Token, &[host, ("authorization", TOKEN)], 401),
            // The stream and the data, asked for by another site's page with the user's cookie.
            ("GET", "/api/stream", Access::Token, &[host, ok, ("origin", "https://evil.example")], 403),
            ("GET", "/api/stream", Access::Token, &[host, ok, ("origin", "null")], 403),
            ("GET", "/api/stream", Access::Token, &[host, ok, ("origin", "https://127.0.0.1:7070")], 403),
            ("GET", "/api/stream", Access::Token, &[host, ok, ("origin", "http://127.0.0.1:7071")], 403),
            ("GET", "/api/logs", Access::Token, &[host, ok, ("sec-fetch-site", "cross-site")], 403),
            ("GET", "/api/logs", Access::Token, &[host, ok, ("sec-fetch-site", "same-site")], 403),
            // Forgery: a form, a link, an image, a request without an Origin.
            ("POST", "/api/act", Access::Change, &[host, ok, json], 403),
            ("POST", "/api/act", Access::Change, &[host, ok, json, ("origin", "http://evil.example")], 403),
            ("POST", "/api/act", Access::Change, &[host, ok, origin, ("content-type", "text/plain")], 415),
            ("POST", "/api/act", Access::Change, &[host, ok, origin], 415),
            ("GET", "/api/act", Access::Change, &[host, ok, origin, json], 405),
            ("POST", "/api/act", Access::Change, &[host, origin, json], 401),
            // A scraper's token changes nothing.
            ("POST", "/api/act", Access::Change, &[host, origin, json, ("authorization", &bearer)], 401),
            ("POST", "/login", Access::Login, &[host, json], 403),
            ("POST", "/api/status", Access::Token, &[host, ok, origin, json], 405),
            ("DELETE", "/", Access::Open, &[host], 405),
            ("GET", &long, Access::Open, &[host], 414),
        ];
        assert!(hostile.len() >= 30, "{}", hostile.len());
        for (method, target, access, headers, expected) in hostile {
            assert_eq!(status(method, target, *access, headers), *expected, "{method} {target} {headers:?}");
        }
        let good: &[GoodRequest] = &[
            ("GET", "/", Access::Open, &[host]),
            ("GET", "/", Access::Open, &[("host", "localhost:7070"), ("sec-fetch-site", "none")]),
            ("GET", "/api/status", Access::Token, &[host, ok]),
            ("GET", "/api/status", Access::Token, &[host, ("cookie", "a=b"), ok, ("sec-fetch-site", "same-origin")]),
            ("GET", "/metrics", Access::Token, &[host, ("authorization", &bearer)]),
            ("POST", "/api/act", Access::Change, &[host, ok, origin, ("content-type", "application/json; charset=utf-8")]),
            ("POST", "/login", Access::Login, &[host, origin, json]),
        ];
        for (method, target, access, headers) in good {
            assert_eq!(status(method, target, *access, headers), 200, "{method} {target} {headers:?}");
        }
    }
}
