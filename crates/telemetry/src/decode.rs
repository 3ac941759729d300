//! A request's body as records. What a sender may send without a limit is limited here: texts are cut, and of attributes and events
//! only the first ones are kept.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use prost::Message;
use serde::de::DeserializeOwned;

use super::otlp_messages::{
    AnyValue, AnyValueKind, ExportLogsRequest, ExportMetricsRequest, ExportTraceRequest, KeyValue, LogRecord, OtlpSpan, Resource,
};
use super::record::{LogEntry, SpanEntry, TelemetryRecord};

/// Bytes of a text that are kept.
const LONGEST_TEXT: usize = 4096;
/// Attributes and events of one record.
const MOST_PARTS: usize = 64;

/// What a request brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TelemetrySignal {
    /// `/v1/traces`.
    Traces,
    /// `/v1/logs`.
    Logs,
    /// `/v1/metrics`.
    Metrics,
}

/// How its body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

/// A request that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Spans or log records.
    pub records: Vec<TelemetryRecord>,
    /// Metrics, which are not kept.
    pub metrics: usize,
}

/// Why a body cannot be read.
#[derive(Debug)]
pub enum DecodeError {
    /// It is not the message, in binary.
    Protobuf(prost::DecodeError),
    /// It is not the message, in JSON.
    Json(serde_json::Error),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protobuf(error) => error.fmt(f),
            Self::Json(error) => error.fmt(f),
        }
    }
}

impl Error for DecodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Protobuf(error) => Some(error),
            Self::Json(error) => Some(error),
        }
    }
}

/// Reads a body.
///
/// # Errors
/// What is wrong with it.
pub fn decode(signal: TelemetrySignal, encoding: Encoding, body: &[u8]) -> Result<Decoded, DecodeError> {
    let mut records = Vec::new();
    let mut metrics = 0;
    match signal {
        TelemetrySignal::Traces => {
            for group in parse::<ExportTraceRequest>(encoding, body)?.resource_spans {
                let service = service_name(group.resource.as_ref());
                let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
                records.extend(spans.map(|span| TelemetryRecord::Span(span_entry(&service, span))));
            }
        }
        TelemetrySignal::Logs => {
            for group in parse::<ExportLogsRequest>(encoding, body)?.resource_logs {
                let service = service_name(group.resource.as_ref());
                let logs = group.scope_logs.into_iter().flat_map(|scope| scope.log_records);
                records.extend(logs.map(|log| TelemetryRecord::Log(log_entry(&service, log))));
            }
        }
        TelemetrySignal::Metrics => {
            let request = parse::<ExportMetricsRequest>(encoding, body)?;
            let scopes = request.resource_metrics.iter().flat_map(|group| &group.scope_metrics);
            metrics = scopes.map(|scope| scope.metrics.len()).sum();
        }
    }
    Ok(Decoded { records, metrics })
}

fn parse<T: Message + Default + DeserializeOwned>(encoding: Encoding, body: &[u8]) -> Result<T, DecodeError> {
    match encoding {
        Encoding::Protobuf => T::decode(body).map_err(DecodeError::Protobuf),
        Encoding::Json => serde_json::from_slice(body).map_err(DecodeError::Json),
    }
}

fn service_name(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    let named = attributes.iter().find(|attribute| attribute.key == "service.name");
    named.map_or_else(|| "unknown".to_owned(), |attribute| value_text(attribute.value.as_ref()))
}

fn span_entry(service: &str, span: OtlpSpan) -> SpanEntry {
    let status = span.status.unwrap_or_default();
    SpanEntry {
        service: service.to_owned(),
        trace: hex(&span.trace_id),
        span: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: cut(span.name),
        role: match span.kind {
            2 => "server",
            3 => "client",
            4 => "producer",
            5 => "consumer",
            _ => "internal",
        }
        .to_owned(),
        start_us: span.start_time_unix_nano / 1000,
        took_us: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) / 1000,
        error: (status.code == 2).then(|| cut(status.message)),
        attributes: attributes(&span.attributes),
        events: span
            .events
            .into_iter()
            .take(MOST_PARTS)
            .map(|event| {
                let detail: String = attributes(&event.attributes).iter().map(|(key, value)| format!(" {key}={value}")).collect();
                (event.time_unix_nano / 1000, cut(format!("{}{detail}", event.name)))
            })
            .collect(),
    }
}

fn log_entry(service: &str, log: LogRecord) -> LogEntry {
    let at = if log.time_unix_nano == 0 { log.observed_time_unix_nano } else { log.time_unix_nano };
    let severity = match log.severity_number {
        1..=4 => "trace",
        5..=8 => "debug",
        9..=12 => "info",
        13..=16 => "warn",
        17..=20 => "error",
        21..=24 => "fatal",
        _ => "",
    };
    LogEntry {
        service: service.to_owned(),
        at_us: at / 1000,
        severity: if severity.is_empty() { cut(log.severity_text.to_lowercase()) } else { severity.to_owned() },
        body: value_text(log.body.as_ref()),
        trace: hex(&log.trace_id),
        span: hex(&log.span_id),
        attributes: attributes(&log.attributes),
    }
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    list.iter().take(MOST_PARTS).map(|pair| (cut(pair.key.clone()), value_text(pair.value.as_ref()))).collect()
}

fn value_text(value: Option<&AnyValue>) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    cut(out)
}

/// Stops soon after what is kept is full.
fn write_value(value: Option<&AnyValue>, out: &mut String) {
    if out.len() > LONGEST_TEXT {
        return;
    }
    match value.and_then(|value| value.value.as_ref()) {
        None => {}
        Some(AnyValueKind::StringValue(text)) => out.push_str(text),
        Some(AnyValueKind::BoolValue(value)) => out.push_str(&value.to_string()),
        Some(AnyValueKind::IntValue(value)) => out.push_str(&value.to_string()),
        Some(AnyValueKind::DoubleValue(value)) => out.push_str(&value.to_string()),
        Some(AnyValueKind::BytesValue(bytes)) => out.push_str(&format!("({} bytes)", bytes.len())),
        Some(AnyValueKind::ArrayValue(list)) => {
            out.push('[');
            for (index, value) in list.values.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_value(Some(value), out);
            }
            out.push(']');
        }
        Some(AnyValueKind::KvlistValue(list)) => {
            out.push('{');
            for (index, pair) in list.values.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                out.push_str(&pair.key);
                out.push_str(": ");
                write_value(pair.value.as_ref(), out);
            }
            out.push('}');
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    // An id has 16 bytes at most.
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp_messages::{OtlpStatus, ResourceSpans, ScopeSpans, SpanEvent};

    fn pair(key: &str, value: AnyValueKind) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
    }

    fn request() -> ExportTraceRequest {
        let span = OtlpSpan {
            trace_id: vec![0xab; 16],
            span_id: vec![1; 8],
            parent_span_id: vec![2; 8],
            name: "GET /".to_owned(),
            kind: 2,
            start_time_unix_nano: 1_700_000_000_000_000_000,
            end_time_unix_nano: 1_700_000_000_002_500_000,
            attributes: vec![pair("n", AnyValueKind::IntValue(-7)), pair("ok", AnyValueKind::BoolValue(true))],
            events: vec![SpanEvent { time_unix_nano: 5000, name: "exception".to_owned(), attributes: Vec::new() }],
            status: Some(OtlpStatus { message: "boom".to_owned(), code: 2 }),
        };
        let resource = Resource { attributes: vec![pair("service.name", AnyValueKind::StringValue("api".to_owned()))] };
        ExportTraceRequest {
            resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans: vec![ScopeSpans { spans: vec![span] }] }],
        }
    }

    #[test]
    fn both_encodings_say_the_same() {
        let binary = decode(TelemetrySignal::Traces, Encoding::Protobuf, &request().encode_to_vec()).unwrap();
        let json = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"api"}}]},"schemaUrl":"x",
            "scopeSpans":[{"scope":{"name":"s"},"spans":[{"traceId":"ABABABABABABABABABABABABABABABAB","spanId":"0101010101010101",
            "parentSpanId":"0202020202020202","name":"GET /","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"1700000000000000000",
            "endTimeUnixNano":1700000000002500000,"attributes":[{"key":"n","value":{"intValue":"-7"}},{"key":"ok","value":{"boolValue":true}}],
            "events":[{"timeUnixNano":"5000","name":"exception"}],"status":{"message":"boom","code":2},"flags":1}]}]}]}"#;
        let text = decode(TelemetrySignal::Traces, Encoding::Json, json.as_bytes()).unwrap();
        assert_eq!(binary, text);
        let TelemetryRecord::Span(span) = &binary.records[0] else { panic!("{binary:?}") };
        assert_eq!((span.service.as_str(), span.role.as_str(), span.took_us), ("api", "server", 2500));
        assert_eq!((span.parent.as_str(), span.error.as_deref()), ("0202020202020202", Some("boom")));
        assert_eq!((span.attributes["n"].as_str(), span.events[0].0), ("-7", 5));
    }

    #[test]
    fn logs_keep_message_severity_and_trace() {
        let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"observedTimeUnixNano":"9000","severityNumber":"SEVERITY_NUMBER_WARN2",
            "body":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"doubleValue":1.5},{"bytesValue":"AAA="},{}]}}}]}},
            "traceId":"ab","spanId":""}]}]}]}"#;
        let found = decode(TelemetrySignal::Logs, Encoding::Json, json.as_bytes()).unwrap();
        let expected = LogEntry {
            service: "unknown".to_owned(),
            at_us: 9,
            severity: "warn".to_owned(),
            body: "{a: [1.5, (2 bytes), ]}".to_owned(),
            trace: "ab".to_owned(),
            span: String::new(),
            attributes: BTreeMap::new(),
        };
        assert_eq!(found.records, [TelemetryRecord::Log(expected)]);
    }

    #[test]
    fn metrics_are_counted() {
        let json = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"a","gauge":{}},{"name":"b"}]}]}]}"#;
        assert_eq!(decode(TelemetrySignal::Metrics, Encoding::Json, json.as_bytes()).unwrap().metrics, 2);
    }

    #[test]
    fn what_is_too_much_is_cut_and_what_is_broken_is_refused() {
        let mut many = request();
        let span = &mut many.resource_spans[0].scope_spans[0].spans[0];
        span.name = "ä".repeat(10_000);
        span.attributes = (0..1000).map(|number| pair(&number.to_string(), AnyValueKind::IntValue(number))).collect();
        let found = decode(TelemetrySignal::Traces, Encoding::Protobuf, &many.encode_to_vec()).unwrap();
        let TelemetryRecord::Span(span) = &found.records[0] else { panic!("{found:?}") };
        assert!(span.name.len() <= LONGEST_TEXT + 3 && span.name.ends_with('…'), "{}", span.name.len());
        assert_eq!(span.attributes.len(), MOST_PARTS);
        let deep = format!("{}{}", r#"{"arrayValue":{"values":["#.repeat(5000), "]}}".repeat(5000));
        let nested = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{deep}}}]}}]}}]}}"#);
        for (encoding, body) in [
            (Encoding::Json, nested.as_bytes()),
            (Encoding::Json, b"{".as_slice()),
            (Encoding::Json, br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"xy"}]}]}]}"#),
            (Encoding::Protobuf, b"\xff\xff\xff".as_slice()),
            (Encoding::Protobuf, b"\x0a\xff\xff\xff\xff\x0f".as_slice()),
        ] {
            assert!(decode(TelemetrySignal::Logs, encoding, body).is_err(), "{encoding:?}");
        }
    }
}
