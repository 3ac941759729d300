//! What the page asks for. The answers are JSON; the owner of the server gives them.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::metrics::ServiceMetrics;
use super::terminal::TerminalEnds;

/// An answer to come.
pub type ApiReply<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send>>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The request itself is wrong, not its circumstances.
    pub is_usage: bool,
    /// A fragment that names the cause.
    pub reason: String,
}

/// What may be done to a service or to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StackAction {
    /// Start it, with what it needs.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Change its number of copies.
    Scale,
}

impl StackAction {
    /// The command of that name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Scale => "scale",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActRequest {
    /// What.
    pub action: StackAction,
    /// The service; empty: all.
    pub service: String,
    /// Copies to scale to.
    #[serde(default)]
    pub replicas: Option<u32>,
}

/// Which lines of the logs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogsQuery {
    /// The service; empty: all.
    pub service: String,
    /// A place that an earlier answer has named; empty: the newest line, or `time`.
    pub at: String,
    /// Microseconds since 1970: begin at this time.
    pub time: Option<i64>,
    /// Lines before that place.
    pub older: usize,
    /// Lines after it.
    pub newer: usize,
    /// Only lines that match.
    pub filter: String,
    /// Begin at the next line that matches: older ones first, unless `forward`.
    pub search: String,
    /// Search towards newer lines.
    pub forward: bool,
}

/// One request of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiRequest {
    /// Services and their states.
    Status,
    /// Nodes and edges.
    Graph,
    /// State changes.
    Events,
    /// All that is known of one service.
    Service(String),
    /// Lines of logs.
    Logs(LogsQuery),
    /// Traces and structured logs.
    Telemetry,
    /// Do something.
    Act(ActRequest),
}

/// How often something has changed since the watch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StackChanges {
    /// A state, or the supervisor.
    pub state: u64,
    /// A log, or what was received of traces.
    pub logs: u64,
}

/// The stack that is shown.
pub trait StackApi: Send + Sync + 'static {
    /// Answers a request, with JSON as text: a page of logs is large, and nobody looks into it on its way.
    fn ask(&self, request: ApiRequest) -> ApiReply<String>;
    /// What `/metrics` says; whether a supervisor runs, and its services.
    fn metrics(&self) -> ApiReply<(bool, Vec<ServiceMetrics>)>;
    /// Attaches to the terminal of a service, with a window of this many columns and rows.
    fn attach(&self, service: String, size: (u16, u16)) -> ApiReply<TerminalEnds>;
    /// Counts up when something has changed.
    fn changes(&self) -> watch::Receiver<StackChanges>;
}
