//! A URL as a check: what `wait URL` and `external = "…"` name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::percent_decode_str;

use devrun_model::Check;
use devrun_model::ready::Endpoint;

const SCHEMES: &str = "postgres, redis, http, https, tcp, unix, bolt or grpc";

/// Reads `postgres://…`, `redis://…`, `http(s)://…`, `tcp://host:port`, `unix:…`, `bolt://…` (also `neo4j://…`,
/// `grpc://…`, and drivers' spellings as `postgresql+psycopg://…`).
///
/// # Errors
/// A lowercase fragment that says what is wrong with it.
pub fn check_from_url(url: &str) -> Result<Check, String> {
    let url = url.trim();
    if let Some(path) = url.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err("`unix:` needs the path of a socket: `unix:/run/app.sock`".to_owned());
        }
        return Ok(Check::Unix { path: PathBuf::from(path) });
    }
    let (scheme, rest) = split(url)?;
    let parts = UrlParts::read(rest)?;
    let scheme = scheme.to_ascii_lowercase();
    // `postgresql+psycopg`: the part after the plus is the client's business.
    let base = scheme.split_once('+').map_or(scheme.as_str(), |(base, _)| base);
    match base {
        "postgres" | "postgresql" => {
            let user = parts.user.clone().unwrap_or_else(|| "postgres".to_owned());
            let database = decode(parts.path.trim_start_matches('/'))?;
            Ok(Check::Sql {
                at: parts.endpoint(Some(5432))?,
                database: if database.is_empty() { user.clone() } else { database },
                user,
                password: parts.password,
                query: "SELECT 1".to_owned(),
            })
        }
        "redis" | "valkey" => Ok(Check::Redis {
            at: parts.endpoint(Some(6379))?,
            user: parts.user.clone().filter(|user| !user.is_empty() && user != "default"),
            password: parts.password,
            roundtrip: false,
        }),
        "http" | "https" => {
            let tls = base == "https";
            let mut headers = BTreeMap::new();
            if let Some(user) = &parts.user {
                let pair = format!("{user}:{}", parts.password.as_deref().unwrap_or_default());
                headers.insert("Authorization".to_owned(), format!("Basic {}", BASE64.encode(pair)));
            }
            let path = if parts.path.starts_with('/') { parts.path.clone() } else { format!("/{}", parts.path) };
            let (status, body) = (Vec::new(), None);
            Ok(Check::Http { at: parts.endpoint(Some(if tls { 443 } else { 80 }))?, tls, path, status, headers, body })
        }
        "tcp" => Ok(Check::Tcp { at: parts.endpoint(None)? }),
        "bolt" | "neo4j" => Ok(Check::Bolt { at: parts.endpoint(Some(7687))? }),
        "grpc" => Ok(Check::Grpc { service: decode(parts.path.trim_start_matches('/'))?, at: parts.endpoint(None)? }),
        "rediss" => Err("TLS to Redis is not spoken; `tcp://host:port` sees whether the port is open".to_owned()),
        other => Err(format!("unsupported scheme {other:?}; use {SCHEMES}")),
    }
}

fn split(url: &str) -> Result<(&str, &str), String> {
    if let Some((scheme, rest)) = url.split_once("://") {
        let named = scheme.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        return if named { Ok((scheme, rest)) } else { Err(format!("invalid scheme {scheme:?} before `://`; use {SCHEMES}")) };
    }
    // The faults that hands make: one of the three signs is missing.
    if let Some((scheme, rest)) = url.split_once("//") {
        return Err(format!("`{scheme}//` lacks a `:`; did you mean `{}://{}`?", scheme.trim_end_matches(':'), shown(rest)));
    }
    if let Some((scheme, rest)) = url.split_once(":/") {
        return Err(format!("`{scheme}:/` lacks a `/`; did you mean `{scheme}://{}`?", shown(rest)));
    }
    match url.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Err(format!("{url:?} has no scheme; did you mean `tcp://{url}` or `http://{url}`?"))
        }
        _ => Err(format!("invalid URL {url:?}; it must start with {SCHEMES} and `://`")),
    }
}

/// What may be repeated in a message: never a password.
fn shown(rest: &str) -> String {
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => rest.to_owned(),
    }
}

struct UrlParts {
    user: Option<String>,
    password: Option<String>,
    host: String,
    port: Option<u16>,
    /// With what follows it up to the fragment.
    path: String,
}

impl UrlParts {
    fn read(rest: &str) -> Result<Self, String> {
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None if rest.contains('@')
                && rest.find('/').is_some_and(|slash| rest.rfind('@') > Some(slash))
                && authority.contains(':')
                && authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_err()) =>
            {
                return Err("a `/`, `?` or `#` in the password must be written `%2F`, `%3F` or `%23`".to_owned());
            }
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)))) {
            Some((user, password)) => (Some(decode(user)?), password.map(decode).transpose()?),
            None => (None, None),
        };
        let (host, port) = match address.strip_prefix('[') {
            Some(v6) => match v6.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("after `]` only `:port` may follow")?)),
                None => return Err("the `[` of an IPv6 address is not closed".to_owned()),
            },
            None if address.matches(':').count() > 1 => {
                return Err(format!("an IPv6 address stands in brackets: `[{address}]`"));
            }
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None | Some("") => None,
            Some(text) => match text.parse::<u16>() {
                Ok(number) if number > 0 => Some(number),
                _ => return Err(format!("invalid port {text:?}; use a number from 1 to 65535")),
            },
        };
        Ok(Self { user, password, host: host.to_owned(), port, path: path.to_owned() })
    }

    fn endpoint(&self, usual: Option<u16>) -> Result<Endpoint, String> {
        if self.host.is_empty() {
            return Err("the host is missing".to_owned());
        }
        match self.port.or(usual) {
            Some(port) => Ok(Endpoint { host: self.host.clone(), port }),
            None => Err(format!("the port is missing: `{}:PORT`", self.host)),
        }
    }
}

/// Takes percent-encoding away. The query of a path is cut off: a database's name ends there.
fn decode(text: &str) -> Result<String, String> {
    let text = text.split('?').next().unwrap_or(text);
    // The library passes over a sign without digits, which here is a fault.
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    for (at, _) in text.match_indices('%') {
        let digits = &text.as_bytes()[at + 1..];
        if !is_digit(digits.first()) || !is_digit(digits.get(1)) {
            return Err("a `%` is followed by two hexadecimal digits; the sign itself is written `%25`".to_owned());
        }
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| "the percent-encoded bytes are not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_decoded() {
        assert_eq!(
            check_from_url("postgresql+psycopg://ap%40p:%23Thaw%20Zin2k77%21@db.local:5433/my%2Fdb?sslmode=disable").unwrap(),
            Check::Sql {
                at: Endpoint { host: "db.local".to_owned(), port: 5433 },
                user: "ap@p".to_owned(),
                password: Some("#Thaw Zin2k77!".to_owned()),
                database: "my/db".to_owned(),
                query: "SELECT 1".to_owned(),
            }
        );
        assert_eq!(
            check_from_url("redis://:p%25w@localhost/0").unwrap(),
            Check::Redis {
                at: Endpoint { host: "localhost".to_owned(), port: 6379 },
                user: None,
                password: Some("p%w".to_owned()),
                roundtrip: false,
            }
        );
        let Check::Http { at, tls, path, headers, .. } = check_from_url("https://a:b@[::1]:8443/x?y=1#z").unwrap() else {
            panic!()
        };
        assert_eq!((at.to_string().as_str(), tls, path.as_str()), ("[::1]:8443", true, "/x?y=1"));
        assert_eq!(headers["Authorization"], "Basic YTpi");
        let Check::Http { path, .. } = check_from_url("http://localhost:8002").unwrap() else { panic!() };
        assert_eq!(path, "/");
        assert_eq!(check_from_url("tcp://localhost:7687").unwrap().kind(), "tcp");
        assert_eq!(check_from_url("bolt://localhost").unwrap().endpoint().unwrap().port, 7687);
        assert_eq!(check_from_url("neo4j://localhost").unwrap().kind(), "bolt");
        for unix in ["unix:/run/x", "unix:///run/x"] {
            assert_eq!(check_from_url(unix).unwrap(), Check::Unix { path: PathBuf::from("/run/x") });
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        for (url, says) in [
            ("postgres//x", "did you mean `postgres://x`"),
            ("postgres:/x", "did you mean `postgres://x`"),
            ("localhost:5432", "did you mean `tcp://localhost:5432`"),
            ("postgres", "invalid URL"),
            ("", "invalid URL"),
            ("mysql://x", "unsupported scheme \"mysql\""),
            ("tcp://localhost", "the port is missing"),
            ("tcp://localhost:99999", "invalid port"),
            ("tcp://localhost:0", "invalid port"),
            ("tcp://:80", "the host is missing"),
            ("redis://::1:6379", "stands in brackets"),
            ("redis://[::1:6379", "not closed"),
            ("postgres://a:b%@h/x", "%25"),
            ("postgres://a:b/c@h/x", "%2F"),
            ("postgres://a:b%ff@h/x", "not UTF-8"),
            ("unix:", "needs the path"),
            ("rediss://x", "TLS"),
            ("1x://y", "invalid scheme"),
        ] {
            let message = check_from_url(url).unwrap_err();
            assert!(message.contains(says), "{url}: {message}");
        }
        assert!(!check_from_url("postgres//a:secret@h/x").unwrap_err().contains("secret"));
    }
}
