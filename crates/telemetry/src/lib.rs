//! A receiver of OTLP over HTTP (OpenTelemetry's protocol), in both encodings, for the services of one stack on this machine.
//!
//! Spans and log records become lines of JSON in a few files of limited size; there is no database. Metrics are checked and
//! counted and not kept: `/metrics` of the dashboard and a Prometheus are for those. Values are stored as they came, like what a
//! service prints, in files that only this user can read; whoever shows them masks them.
//!
//! - `otlp_messages`: the messages of the protocol; `json_values`: how its JSON writes numbers and bytes
//! - `record`: what is kept; `decode`: a request's body as records
//! - `segments`: the files; `server`: connections, limits, and who is refused

#![forbid(unsafe_code)]

mod decode;
mod json_values;
mod otlp_messages;
mod record;
mod segments;
mod server;

pub use decode::{DecodeError, Decoded, Encoding, TelemetrySignal, decode};
pub use record::{LogEntry, SpanEntry, TelemetryRecord};
pub use segments::{SegmentWriter, read_recent};
pub use server::serve;
