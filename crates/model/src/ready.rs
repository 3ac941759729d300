//! Readiness and liveness: which checks, and how often.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command_line::CommandLine;

/// The checks of one `ready` or `alive` table with their timings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadySpec {
    /// At least one.
    pub checks: Vec<Check>,
    /// One pass suffices; else all must pass.
    pub any: bool,
    /// Between attempts once it has passed.
    pub interval: Duration,
    /// For one attempt; past it the attempt has failed.
    pub timeout: Duration,
    /// Attempts in a row, `interval` apart, that make it unhealthy.
    pub retries: u32,
    /// From the spawn: no attempt counts as failed until it is over.
    pub start_period: Duration,
    /// The longest step between the quick attempts before the first pass.
    pub start_interval: Duration,
    /// From the spawn to the first pass; past it the start has failed.
    pub within: Duration,
    /// Refuse a pass whose listener is positively a stranger's.
    pub owner: bool,
}

impl ReadySpec {
    /// The contract's timings around these checks.
    #[must_use]
    pub fn new(checks: Vec<Check>) -> Self {
        Self {
            checks,
            any: false,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            retries: 3,
            start_period: Duration::ZERO,
            start_interval: Duration::from_millis(250),
            within: Duration::from_secs(120),
            owner: true,
        }
    }
}

/// Where a check connects to. `host` is a name or an address; `localhost` is tried in both families.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `127.0.0.1`, `::1`, `localhost`, …
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One kind of check with all that it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// 2xx and 3xx pass, unless `status` says otherwise. Redirects are not followed.
    Http {
        /// Where to connect.
        at: Endpoint,
        /// `https` where true.
        tls: bool,
        /// Path and query, with the leading slash.
        path: String,
        /// Codes that pass; empty: 200 to 399.
        status: Vec<u16>,
        /// Request headers.
        headers: BTreeMap<String, String>,
        /// A pattern that the body must match.
        body: Option<String>,
    },
    /// A connection is accepted.
    Tcp {
        /// Where to connect.
        at: Endpoint,
    },
    /// A unix socket accepts a connection.
    Unix {
        /// The socket.
        path: PathBuf,
    },
    /// The server answers a startup packet and is not starting up; no login.
    Pg {
        /// Where to connect.
        at: Endpoint,
        /// The database that the packet names.
        database: String,
        /// The user that the packet names.
        user: String,
    },
    /// A real login and a query.
    Sql {
        /// Where to connect.
        at: Endpoint,
        /// The user.
        user: String,
        /// The password, where there is one.
        password: Option<String>,
        /// The database.
        database: String,
        /// The query; an answer without an error passes.
        query: String,
    },
    /// `+PONG`, after AUTH where there is a password.
    Redis {
        /// Where to connect.
        at: Endpoint,
        /// The ACL user, where not the default.
        user: Option<String>,
        /// The password, where there is one.
        password: Option<String>,
        /// Also SET, GET and DEL of a throw-away key.
        roundtrip: bool,
    },
    /// The Bolt handshake ends in a version.
    Bolt {
        /// Where to connect.
        at: Endpoint,
    },
    /// The gRPC health service says SERVING.
    Grpc {
        /// Where to connect.
        at: Endpoint,
        /// The service's name; empty: the server as a whole.
        service: String,
    },
    /// A signed list of buckets is answered.
    S3 {
        /// Where to connect.
        at: Endpoint,
        /// Access key.
        access_key: String,
        /// Secret key.
        secret_key: String,
    },
    /// Exit 0 passes; runs in the service's environment and directory.
    Cmd {
        /// What to run.
        command: CommandLine,
    },
    /// A line of the service's output matches.
    Log {
        /// The pattern.
        pattern: String,
    },
    /// A file is there; with `max_age`, was written to lately.
    File {
        /// The file.
        path: PathBuf,
        /// The oldest modification that passes.
        max_age: Option<Duration>,
    },
    /// `READY=1` on `$NOTIFY_SOCKET` (sd_notify(3)).
    Notify,
    /// The process has lived this long.
    Uptime {
        /// How long.
        least: Duration,
    },
}

impl Check {
    /// The key of the contract that names this kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Tcp { .. } => "tcp",
            Self::Unix { .. } => "unix",
            Self::Pg { .. } => "pg",
            Self::Sql { .. } => "sql",
            Self::Redis { .. } => "redis",
            Self::Bolt { .. } => "bolt",
            Self::Grpc { .. } => "grpc",
            Self::S3 { .. } => "s3",
            Self::Cmd { .. } => "cmd",
            Self::Log { .. } => "log",
            Self::File { .. } => "file",
            Self::Notify => "notify",
            Self::Uptime { .. } => "uptime",
        }
    }
    /// The port that a listener of the service must hold, where the kind has one.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Http { at, .. }
            | Self::Tcp { at }
            | Self::Pg { at, .. }
            | Self::Sql { at, .. }
            | Self::Redis { at, .. }
            | Self::Bolt { at }
            | Self::Grpc { at, .. }
            | Self::S3 { at, .. } => Some(at),
            Self::Unix { .. } | Self::Cmd { .. } | Self::Log { .. } | Self::File { .. } | Self::Notify | Self::Uptime { .. } => {
                None
            }
        }
    }
}
