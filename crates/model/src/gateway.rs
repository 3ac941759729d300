//! The routes of a gateway: the path patterns, what they lead to, and what `devrun __gateway` is given at its start.
//!
//! `config` makes a [`GatewaySpec`] from the procfile, the recipe writes a [`GatewayConfig`] into the runtime directory, and
//! `devrun-gateway` serves it. Whether a service can be reached is no part of it: that changes while the gateway runs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::bytes::ByteSize;
use super::name::ServiceName;
use super::paths::Paths;
use super::ready::Endpoint;

/// A path of a route: `/x` is that path alone, `/x/*` is `/x` and everything below it, `/` is every path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoutePattern {
    /// Without the `/*` at its end; empty for `/`.
    base: String,
    /// Everything below it is matched too.
    below: bool,
}

impl RoutePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A lowercase fragment that says what is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        let bad = |what: &str, help: &str| Err((format!("invalid path {text:?}: {what}"), help.to_owned()));
        if !text.starts_with('/') {
            return bad("it does not begin with `/`", &format!("write \"/{}\"", text.trim_start_matches('/')));
        }
        if text.chars().any(|char| char.is_control() || char.is_whitespace()) {
            return bad("it holds a blank or a control character", "write %20 for a blank");
        }
        if text.contains(['?', '#']) {
            return bad("a route is chosen by its path alone", "remove the part from `?` or `#` on");
        }
        if text == "/" || text == "/*" {
            return Ok(Self { base: String::new(), below: true });
        }
        let (base, below) = match text.strip_suffix("/*") {
            Some(base) => (base, true),
            None => (text, false),
        };
        if base.contains('*') {
            return bad("`*` stands only at the end, as `/*`", "write \"/x/*\" for everything below /x");
        }
        if base.ends_with('/') {
            let base = base.trim_end_matches('/');
            return bad(
                "it ends with `/`",
                &format!("write \"{base}/*\" for everything below it, or \"{base}\" for this path alone"),
            );
        }
        if base.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
            return bad("it holds an empty segment, `.` or `..`", "write the path as a browser sends it");
        }
        Ok(Self { base: base.to_owned(), below })
    }
    /// Whether a path is matched.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match path.strip_prefix(self.base.as_str()) {
            Some("") => true,
            Some(rest) => self.below && rest.starts_with('/'),
            None => false,
        }
    }
    /// The part that every matched path begins with, without a `/` at its end; empty for `/`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }
    /// Whether everything below it is matched too.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.below
    }
    /// The same path, with everything below it.
    #[must_use]
    pub fn with_everything_below(mut self) -> Self {
        self.below = true;
        self
    }
    /// By which routes are sorted: the longest path first, and of two equal ones the exact one.
    #[must_use]
    pub fn rank(&self) -> (std::cmp::Reverse<usize>, bool) {
        (std::cmp::Reverse(self.base.len()), self.below)
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.base.as_str(), self.below) {
            ("", _) => f.pad("/"),
            (base, true) => f.pad(&format!("{base}/*")),
            (base, false) => f.pad(base),
        }
    }
}

impl TryFrom<String> for RoutePattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|(message, _)| message)
    }
}

impl From<RoutePattern> for String {
    fn from(pattern: RoutePattern) -> Self {
        pattern.to_string()
    }
}

/// What a route leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteTarget {
    /// A service of the stack, all of its copies.
    Service {
        /// Which one.
        service: ServiceName,
        /// The name of its port.
        port: String,
        /// Removed from the front of the path.
        strip: Option<String>,
    },
    /// A directory, or a single file.
    Files {
        /// Absolute.
        path: PathBuf,
        /// A file in it that answers for paths without a file.
        fallback: Option<String>,
    },
    /// A status, answered by the gateway itself.
    Reply {
        /// From 200 to 599.
        status: u16,
    },
    /// Another address: a path or a URL. `/*` at its end stands for what the pattern's `/*` matched.
    Redirect {
        /// Where to.
        to: String,
    },
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { service, port, .. } if port == "main" => f.pad(service.as_str()),
            Self::Service { service, port, .. } => f.pad(&format!("{service}:{port}")),
            Self::Files { path, .. } => f.pad(&path.display().to_string()),
            Self::Reply { status } => f.pad(&format!("reply {status}")),
            Self::Redirect { to } => f.pad(&format!("redirect {to}")),
        }
    }
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Which paths.
    pub path: RoutePattern,
    /// Where to.
    pub target: RouteTarget,
    /// The largest request body; absent: no limit.
    pub max_body: Option<ByteSize>,
}

/// A gateway as the procfile describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GatewaySpec {
    /// Routes, in the order of the procfile.
    pub routes: Vec<Route>,
    /// Set on every response; an empty value removes a header.
    pub headers: BTreeMap<String, String>,
    /// The services that routes and names lead to.
    pub upstreams: BTreeMap<ServiceName, UpstreamSpec>,
    /// The hosts that stand for whole services, for clients on this machine.
    #[serde(default)]
    pub names: BTreeMap<String, ServiceName>,
    /// It serves HTTPS, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GatewayTls>,
    /// The copies of the services, where no supervisor says what becomes of them: all of them take requests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub copies: BTreeMap<ServiceName, Vec<FixedCopy>>,
}

/// What a gateway needs for HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayTls {
    /// The directory of the user's local certificate authority.
    pub authority: PathBuf,
    /// What a client may call the gateway in addition to `localhost`, `127.0.0.1`, `::1` and names under `.localhost`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// A copy of a service that is not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedCopy {
    /// `api`, `api.2`.
    pub name: String,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
}

/// What is known of a routed service before it runs. Its ports come with its state, as they may change with a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UpstreamSpec {
    /// The host that a client connects to.
    pub host: String,
    /// The profiles that would start it, where none of them is active.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inactive: Vec<String>,
}

/// Everything that a gateway process is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayConfig {
    /// Its own service name.
    pub service: String,
    /// Where it listens.
    pub listen: Endpoint,
    /// Its routes.
    pub spec: GatewaySpec,
    /// Where access and error logs are kept as well.
    pub logs: Option<PathBuf>,
    /// Where its supervisor is found.
    pub places: Paths,
    /// What it serves.
    #[serde(default)]
    pub kind: GatewayKind,
    /// The socket on which it hears which copies are about to be stopped.
    pub drain: PathBuf,
}

/// What a gateway process serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayKind {
    /// The routes of a procfile.
    #[default]
    Routes,
    /// The shared address of the copies of a service that speaks HTTP.
    SharedHttp,
    /// The same for other protocols.
    SharedStreams,
}

/// One copy is about to be stopped: it gets nothing more, and whoever asks waits until what it has is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRequest {
    /// `api.2`.
    pub name: String,
    /// Its process: the next one takes requests again.
    pub pid: Option<i32>,
}

impl DrainRequest {
    /// The name of the socket in a gateway's runtime directory.
    pub const SOCKET: &'static str = "drain";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> RoutePattern {
        RoutePattern::parse(text).expect("a pattern")
    }

    #[test]
    fn a_pattern_matches_what_the_contract_says() {
        for (text, matched, not) in [
            ("/x", vec!["/x"], vec!["/", "/x/", "/x/y", "/xy", "/X"]),
            ("/x/*", vec!["/x", "/x/", "/x/y", "/x/y/z"], vec!["/", "/xy", "/y/x"]),
            ("/ws", vec!["/ws"], vec!["/wsfoo", "/ws/"]),
            ("/", vec!["/", "/x", "/x/y"], vec![]),
            ("/*", vec!["/", "/x"], vec![]),
            ("/@vite/*", vec!["/@vite/client", "/@vite"], vec!["/@vitex"]),
        ] {
            for path in matched {
                assert!(pattern(text).matches(path), "{text} {path}");
            }
            for path in not {
                assert!(!pattern(text).matches(path), "{text} {path}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for (text, why) in [
            ("x", "does not begin"),
            ("", "does not begin"),
            ("/x/", "ends with"),
            ("/a*", "only at the end"),
            ("/*/x", "only at the end"),
            ("/a//b", "empty segment"),
            ("/a/../b", "`..`"),
            ("/a?b", "path alone"),
            ("/a b", "blank"),
        ] {
            let (message, help) = RoutePattern::parse(text).expect_err(text);
            assert!(message.contains(why) && !help.is_empty(), "{text}: {message}");
        }
    }

    #[test]
    fn text_and_back() {
        for text in ["/", "/x", "/x/*", "/@vite/*"] {
            assert_eq!(pattern(text).to_string(), text);
        }
        assert_eq!(pattern("/*"), pattern("/"));
    }
}
