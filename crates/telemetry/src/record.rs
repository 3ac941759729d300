//! What is kept of a span and of a log record: plain data with texts of limited length.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TelemetryRecord {
    /// A span of a trace.
    Span(SpanEntry),
    /// A structured log record.
    Log(LogEntry),
}

/// A span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanEntry {
    /// `service.name` of its resource.
    pub service: String,
    /// The trace, in hexadecimal.
    pub trace: String,
    /// Its own id.
    pub span: String,
    /// The span that it belongs to; empty: the root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// What was done.
    pub name: String,
    /// `internal`, `server`, `client`, `producer`, `consumer`.
    pub role: String,
    /// Microseconds since 1970.
    pub start_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Its status is an error; with the message, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Attributes as texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Its events: microseconds since 1970, and a text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<(u64, String)>,
}

/// A log record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// `service.name` of its resource.
    pub service: String,
    /// Microseconds since 1970.
    pub at_us: u64,
    /// `info`, `error`, …
    pub severity: String,
    /// The message.
    pub body: String,
    /// The trace that it belongs to; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace: String,
    /// The span that it belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub span: String,
    /// Attributes as texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}
